"""Where tests run beside each other, each computes with one thread; none writes at home."""

import os
import tempfile
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CHIPDEMO_JOURNAL"] = str(Path(tempfile.mkdtemp(prefix="chipdemo-tests-")) / "labels.db")


@pytest.fixture
def journal(tmp_path):
    """An empty one."""
    from chipdemo.labeling.store import Journal  # brings numpy, which reads the variable above

    with Journal(tmp_path / "labels.db") as journal:
        yield journal


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """Seconds that would have been waited for, here and in clients."""
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited
