"""Where tests run beside each other, each computes with one thread; none writes at home."""

import os
import tempfile
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CHIPDEMO_JOURNAL"] = str(Path(tempfile.mkdtemp(prefix="chipdemo-tests-")) / "labels.db")
