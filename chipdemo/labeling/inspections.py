"""The history of inspections: what each user inspected last, in the file of the journal.

An image in the history is in no queue. Its file is kept once, beside those of the queue, and goes with the
last entry that needs it. The oldest entries go when a history is too long, too large or too old.
"""

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chipdemo.labeling.journal import Journal, insert_content

LISTED = 50  # entries of a list at first
BATCH = 100  # entries that are deleted in a transaction
DAY_US, MB = 86_400_000_000, 1_000_000  # microseconds, bytes
CHOICES = ("model", "revision", "asked", "threshold", "method", "in_tiles", "outcome", "abnormal_probability")
COLUMNS = ("sha256", "name", "inspected_at", *CHOICES, "small")


@dataclass(frozen=True)
class Entry:
    """An inspection in the history: what is listed of it, and what it takes to show it again.

    inspected_at: microseconds since 1970, UTC. model, revision: of the one that judged. asked: the name of
    the one that was to judge, "*" for the one that knows the image best. threshold: 0-1, None for the model's
    own. method: the explanation that was shown. outcome: at that threshold. small: a small picture, JPEG.
    """

    sha256: str
    name: str
    inspected_at: int
    model: str
    revision: str
    asked: str
    threshold: float | None
    method: str
    in_tiles: bool
    outcome: str
    abnormal_probability: float
    small: bytes


@dataclass(frozen=True)
class Listed:
    """The last entries of one owner. counts: of all of theirs, by (model, outcome)."""

    entries: tuple[Entry, ...]
    counts: Mapping[tuple[str, str], int]


class History(Protocol):
    """Of one owner."""

    def keep(self, entry: Entry, path: Path) -> None:
        """Add an inspection in front, in place of an earlier one of the same image. path: of its file."""

    def change(self, entry: Entry) -> bool:
        """Give the entry of this inspection other CHOICES, where it is still there.

        Returns whether the list shows it in another way.
        """

    def last(self, count: int = LISTED, outcome: str = "", model: str = "") -> Listed:
        """The latest first. outcome, model: only such entries; "" for all."""

    def find(self, sha256: str) -> tuple[Entry, bytes] | None:
        """The entry with the image's file; None where there is none, or it is another owner's."""

    def delete(self, sha256: str = "") -> None:
        """Delete one entry, or all, and the files that nothing else needs."""


@dataclass(frozen=True)
class Limits:
    """entries: of each owner. mb: of the files of all owners. days: after which an entry goes."""

    entries: int
    mb: int
    days: int


@dataclass(frozen=True)
class KeptHistory:
    """A History in the file of the journal. Methods raise JournalError."""

    journal: Journal
    owner: str
    limits: Limits

    def keep(self, entry: Entry, path: Path) -> None:
        content = path.read_bytes()
        if len(content) > self.limits.mb * MB:
            return
        with self.journal.write() as database:
            insert_content(database, entry.sha256, content)
            database.execute(
                f"INSERT OR REPLACE INTO inspections (owner, size, {', '.join(COLUMNS)}) "
                f"VALUES (?, ?{', ?' * len(COLUMNS)})",
                (self.owner, len(content), *(getattr(entry, name) for name in COLUMNS)),
            )
            _drop(database, self._overdue(database))

    def change(self, entry: Entry) -> bool:
        before = self._entry(entry.sha256)
        if before is None or before.inspected_at != entry.inspected_at or before == entry:
            return False
        changes = ", ".join(f"{name} = ?" for name in CHOICES)
        with self.journal.write() as database:
            database.execute(
                f"UPDATE inspections SET {changes} WHERE owner = ? AND sha256 = ?",
                (*(getattr(entry, name) for name in CHOICES), self.owner, entry.sha256),
            )
        return _looks(before) != _looks(entry)

    def last(self, count: int = LISTED, outcome: str = "", model: str = "") -> Listed:
        with self.journal.read() as database:
            counts = database.execute(
                "SELECT model, outcome, COUNT(*) FROM inspections WHERE owner = ? AND inspected_at >= ? "
                "GROUP BY model, outcome",
                (self.owner, self._oldest),
            ).fetchall()
            rows = database.execute(
                f"SELECT {', '.join(COLUMNS)} FROM inspections WHERE owner = ? AND inspected_at >= ? "
                "AND ? IN ('', outcome) AND ? IN ('', model) ORDER BY inspected_at DESC LIMIT ?",
                (self.owner, self._oldest, outcome, model, count),
            ).fetchall()
        return Listed(tuple(map(_entry_of, rows)), {(row[0], row[1]): row[2] for row in counts})

    def find(self, sha256: str) -> tuple[Entry, bytes] | None:
        entry = self._entry(sha256)
        if entry is None:
            return None
        with self.journal.read() as database:
            content = database.execute("SELECT bytes FROM contents WHERE sha256 = ?", (sha256,)).fetchone()
        return (entry, content["bytes"]) if content else None

    def delete(self, sha256: str = "") -> None:
        rows = True
        while rows:  # in small transactions: others write labels meanwhile
            with self.journal.write() as database:
                rows = database.execute(
                    "SELECT rowid, sha256 FROM inspections WHERE owner = ? AND ? IN ('', sha256) LIMIT ?",
                    (self.owner, sha256, BATCH),
                ).fetchall()
                _drop(database, rows)

    @property
    def _oldest(self) -> int:
        """The moment before which everything is too old, microseconds since 1970."""
        return time.time_ns() // 1000 - self.limits.days * DAY_US

    def _entry(self, sha256: str) -> Entry | None:
        with self.journal.read() as database:
            row = database.execute(
                f"SELECT {', '.join(COLUMNS)} FROM inspections WHERE owner = ? AND sha256 = ? "
                "AND inspected_at >= ?",
                (self.owner, sha256, self._oldest),
            ).fetchone()
        return _entry_of(row) if row else None

    def _overdue(self, database: sqlite3.Connection) -> list[sqlite3.Row]:
        """What has to go: too old, too many of this owner, too many bytes of whoever keeps the most."""
        rows = database.execute(
            "SELECT rowid, sha256 FROM inspections WHERE inspected_at < ?", (self._oldest,)
        ).fetchall()
        rows += database.execute(
            "SELECT rowid, sha256 FROM inspections WHERE owner = ? "
            "ORDER BY inspected_at DESC LIMIT -1 OFFSET ?",
            (self.owner, self.limits.entries),
        ).fetchall()
        sizes = database.execute("SELECT owner, SUM(size) AS size FROM inspections GROUP BY owner").fetchall()
        over = sum(row["size"] for row in sizes) - self.limits.mb * MB
        if over > 0:
            largest = max(sizes, key=lambda row: row["size"])["owner"]
            oldest = database.execute(
                "SELECT rowid, sha256, size FROM inspections WHERE owner = ? ORDER BY inspected_at",
                (largest,),
            )
            while over > 0 and (row := oldest.fetchone()):
                rows.append(row)
                over -= row["size"]
        return rows


class PageHistory:
    """A History of a visitor whom nobody knows, for as long as the page is open. It lives in gr.State.

    It remembers where the uploads are, and writes nothing.
    """

    def __init__(self) -> None:
        self._entries: dict[str, tuple[Entry, Path]] = {}  # by sha256, the oldest first
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, object]) -> "PageHistory":
        """For another visitor, who has inspected nothing; a lock could not be copied."""
        return PageHistory()

    def keep(self, entry: Entry, path: Path) -> None:
        with self._lock:
            self._entries.pop(entry.sha256, None)
            self._entries[entry.sha256] = entry, path
            while len(self._entries) > LISTED:
                del self._entries[next(iter(self._entries))]

    def change(self, entry: Entry) -> bool:
        with self._lock:
            before, path = self._entries.get(entry.sha256, (None, None))
            if before is None or before.inspected_at != entry.inspected_at:
                return False
            self._entries[entry.sha256] = entry, path
        return _looks(before) != _looks(entry)

    def last(self, count: int = LISTED, outcome: str = "", model: str = "") -> Listed:
        with self._lock:
            every = [entry for entry, _ in reversed(self._entries.values())]
        found = [one for one in every if outcome in ("", one.outcome) and model in ("", one.model)]
        return Listed(tuple(found[:count]), Counter(map(_looks, every)))

    def find(self, sha256: str) -> tuple[Entry, bytes] | None:
        with self._lock:
            entry, path = self._entries.get(sha256, (None, None))
        try:
            return (entry, path.read_bytes()) if entry else None
        except OSError:  # uploads go after a while
            return None

    def delete(self, sha256: str = "") -> None:
        with self._lock:
            if sha256:
                self._entries.pop(sha256, None)
            else:
                self._entries.clear()


def _looks(entry: Entry) -> tuple[str, str]:
    """What a list shows and counts of it."""
    return entry.model, entry.outcome


def _entry_of(row: sqlite3.Row) -> Entry:
    values = {name: row[name] for name in COLUMNS}
    return Entry(**values | {"in_tiles": bool(row["in_tiles"])})


def _drop(database: sqlite3.Connection, rows: Iterable[sqlite3.Row]) -> None:
    """Delete entries, and the files that neither another entry nor the queue needs."""
    for row in rows:
        database.execute("DELETE FROM inspections WHERE rowid = ?", (row["rowid"],))
        database.execute(
            "DELETE FROM contents WHERE sha256 = :sha256 "
            "AND NOT EXISTS (SELECT 1 FROM inspections WHERE sha256 = :sha256) "
            "AND NOT EXISTS (SELECT 1 FROM images WHERE sha256 = :sha256)",
            {"sha256": row["sha256"]},
        )
