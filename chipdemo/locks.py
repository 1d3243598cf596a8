"""A lock that one process holds, and that ends with it on every system, also by kill -9."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def held(lock: Path, wait_s: float = 0) -> Iterator[None]:
    """Hold the lock, a file that is created if needed: an exclusive transaction of SQLite.

    Raises sqlite3.OperationalError where another process still holds it after wait_s.
    """
    with closing(sqlite3.connect(lock, timeout=wait_s, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield
