"""Tests beside each other compute with one thread each; none writes at home or leaves files behind."""

import os
import tempfile
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
FOLDER = tempfile.TemporaryDirectory(prefix="chipdemo-tests-")  # the client of gradio tidies nothing away
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # tmp_path stays for a look
os.environ["TMPDIR"] = tempfile.tempdir = FOLDER.name
os.environ["CHIPDEMO_JOURNAL"] = str(Path(FOLDER.name) / "labels.db")


@pytest.fixture
def journal(tmp_path):
    """An empty one."""
    from chipdemo.labeling.journal import Journal  # brings numpy, which reads the variable above

    with Journal(tmp_path / "labels.db") as journal:
        yield journal


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """Seconds that would have been waited for, here and in clients."""
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited
