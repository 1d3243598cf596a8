"""Where tests run beside each other, each computes with one thread; none writes at home."""

import os
import tempfile
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CHIPDEMO_JOURNAL"] = str(Path(tempfile.mkdtemp(prefix="chipdemo-tests-")) / "labels.db")


def pytest_xdist_auto_num_workers(config) -> int:
    """One more than cores: some tests wait for a browser or a server."""
    return (os.cpu_count() or 1) + 1
