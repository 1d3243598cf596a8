"""A file turned into a pipe: it can be read, and not mapped into memory."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def piped(path: Path) -> Iterator[None]:
    """The same content, once. A file that is mapped while it is written over ends the whole process."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes in folders on this system")
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(content,), daemon=True)
    writer.start()
    yield
    writer.join(60)
