"""The journal of labels: a SQLite file in which an acknowledged label stays.

It uses write-ahead logging with full synchronization: when append returns, the event is on the disk.
Several threads and processes may write at once; each waits for the other's few milliseconds.
Events are only added, never changed. Votes, consensus and tallies are derived from them in the same
transaction, so that no query has to read all events.
"""

import math
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path

from chipdemo.errors import JournalError, LabelError
from chipdemo.images import MAX_MEGAPIXELS, DecodedImage, read_image
from chipdemo.labeling.connections import Connections
from chipdemo.labeling.events import insert_event, label_of
from chipdemo.labeling.label import Label
from chipdemo.labeling.schema import migrate

BUSY_S = 30  # waited for another process before giving up


@dataclass(frozen=True)
class JournalImage:
    """An image in the journal. path: its file where its content is not kept in the journal; or None."""

    sha256: str
    name: str
    path: Path | None
    width: int
    height: int
    votes: int
    reason: str

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> "JournalImage":
        """row: of the table images."""
        path = Path(row["path"]) if row["path"] else None
        return cls(row["sha256"], row["name"], path, row["width"], row["height"], row["votes"], row["reason"])


@dataclass(frozen=True)
class NewImage:
    """An image to be added. size: (width, height), pixels, upright. name: shown to the annotators.

    content: its file, to be kept in the journal; without it, path is where the file is, and its content is
    copied into the journal when the image is first labeled.
    """

    sha256: str
    size: tuple[int, int]
    name: str
    content: bytes = b""
    path: Path | None = None


@dataclass(frozen=True)
class Counts:
    """images: in the journal. labeled: with a standing label. events: all. pending: not yet published."""

    images: int
    labeled: int
    events: int
    pending: int


class Journal:
    """The journal in one file, which open creates where there is none. Thread-safe.

    Every method raises JournalError where the file cannot be read or written: another program's
    file, a newer version, a full disk, a folder without permission to write.
    """

    def __init__(self, path: Path):
        self.path = path
        self._connections = Connections(self._connect)

    def __enter__(self) -> "Journal":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Create the file, or migrate it to this version."""
        with self._described_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.write() as database:
                migrate(database, self.path)

    def close(self) -> None:
        """Close the file after the running calls of other threads. A later call opens it again."""
        self._connections.close()

    # Transactions

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for queries, whose rows have column names."""
        with self._described_errors(), self._connections.read() as database:
            yield database

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on the disk when the block has ended, or none of it."""
        with self._described_errors(), self._connections.write() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise

    # Images

    def add_image(
        self, sha256: str, size: tuple[int, int], name: str, content: bytes = b"", path: Path | None = None
    ) -> bool:
        """Add one image; False where it was there, under whatever name. See NewImage."""
        return self.add_images(NewImage(sha256, size, name, content, path))[0]

    def add_images(self, *images: NewImage) -> list[bool]:
        """Add images, all or none; False for each that was there, under whatever name.

        The path of one that was there is updated.
        """
        with self.write() as database:
            return [_insert_image(database, image) for image in images]

    def image(self, sha256: str) -> JournalImage:
        """Raises LabelError where the journal has no such image."""
        with self.read() as database:
            row = database.execute("SELECT * FROM images WHERE sha256 = ?", (sha256,)).fetchone()
        if row is None:
            raise LabelError(f"The journal has no image with sha256 {sha256[:80]!r}. Add the image first.")
        return JournalImage.from_row(row)

    def content(self, sha256: str) -> bytes:
        """The image's file. Raises LabelError where it is not in the journal or its file is gone."""
        with self.read() as database:
            row = database.execute("SELECT bytes FROM contents WHERE sha256 = ?", (sha256,)).fetchone()
        if row:
            return row["bytes"]
        image = self.image(sha256)
        try:
            return image.path.read_bytes()
        except OSError as error:
            raise LabelError(
                f"The file of {image.name} cannot be read ({error.strerror}): {image.path}. Put it back, or "
                "skip this image."
            ) from error

    def picture(self, sha256: str, max_megapixels: float = MAX_MEGAPIXELS) -> DecodedImage:
        """The image decoded. Raises ImageError where it cannot be decoded, and LabelError where it is not in
        the journal, or its file is gone or holds another image now."""
        return self._decode(sha256, self.content(sha256), max_megapixels)

    # Events

    def append(self, *labels: Label, page: str | None = None, replaces: str = "") -> list[bool]:
        """Add events, all or none; False for each that was there. On the disk when it returns.

        page: the browser page that they were given on, or "" for a client without pages. An annotator's label
        of an image that they have labeled on another page is refused with LabelError, unless `replaces` is
        the event_id of that standing label. None for labels given elsewhere (imports): the latest counts.

        Raises LabelError also where an image is not in the journal, where its file is gone or holds another
        image, and where an event retracts one of another annotator or image.
        """
        contents = {label.image_sha256: self._content_to_keep(label.image_sha256) for label in labels}
        with self.write() as database:
            for sha256, content in contents.items():
                if content:
                    insert_content(database, sha256, content)
            return [insert_event(database, label, page, replaces) for label in labels]

    def events(
        self,
        image_sha256: str = "",
        after: int = 0,
        annotator: str = "",
        unpublished: bool = False,
        limit: int = -1,
    ) -> list[tuple[int, Label]]:
        """Events with their numbers, oldest first. after: a number. limit: at most so many; -1 for all."""
        wanted = [("seq > ?", after)]
        wanted += [("image_sha256 = ?", image_sha256)] if image_sha256 else []
        wanted += [("annotator = ?", annotator)] if annotator else []
        where = " AND ".join([clause for clause, _ in wanted] + ["shard IS NULL"] * unpublished)
        with self.read() as database:
            rows = database.execute(
                f"SELECT * FROM events WHERE {where} ORDER BY seq LIMIT ?",
                (*(value for _, value in wanted), limit),
            )
            return [(row["seq"], label_of(row)) for row in rows]

    def event(self, event_id: str) -> Label | None:
        with self.read() as database:
            row = database.execute("SELECT * FROM events WHERE event_id = ?", (event_id,)).fetchone()
        return label_of(row) if row else None

    def vote(self, image_sha256: str, annotator: str) -> Label | None:
        """The standing label of this annotator, if there is one."""
        with self.read() as database:
            row = database.execute(
                "SELECT events.* FROM votes JOIN events USING (seq) "
                "WHERE votes.image_sha256 = ? AND votes.annotator = ?",
                (image_sha256, annotator),
            ).fetchone()
        return label_of(row) if row else None

    def votes(self) -> Iterator[list[Label]]:
        """The standing labels of every labeled image, one an annotator, image by image.

        In the order of sha256, with one image in memory at a time, all as of the moment of the first,
        whatever other threads and processes add meanwhile.
        """
        with self.read() as database:
            rows = database.execute(
                "SELECT events.* FROM votes JOIN events USING (seq) "
                "ORDER BY votes.image_sha256, votes.annotator"
            )
            for _, of_image in groupby(rows, key=lambda row: row["image_sha256"]):
                yield [label_of(row) for row in of_image]

    # Publishing

    def batch(self, shard: str, most: int, most_bytes: int) -> tuple[str, list[Label]]:
        """The name of the next file to publish, and its events; no events where all are published.

        These are the oldest: at most `most`, and at most most_bytes of images and masks, but at least one.
        A batch once formed stays the same until it is published, under the name it was first given, for
        every caller and after a crash. shard: the name for a batch that is formed now.
        """
        with self.write() as database:
            chosen = database.execute(
                "SELECT batch FROM events WHERE shard IS NULL AND batch IS NOT NULL LIMIT 1"
            ).fetchone()
            if chosen is None:
                rows = database.execute(
                    "SELECT seq, COALESCE(LENGTH(bytes), 0) + LENGTH(mask) AS size FROM events "
                    "LEFT JOIN contents ON sha256 = image_sha256 "
                    "WHERE shard IS NULL ORDER BY seq LIMIT ?",
                    (most,),
                ).fetchall()
                sizes = accumulate(row["size"] for row in rows)
                fitting = sum(size <= most_bytes for size in sizes)
                database.executemany(
                    "UPDATE events SET batch = ? WHERE seq = ?",
                    [(shard, row["seq"]) for row in rows[: max(1, fitting)]],
                )
            name = chosen["batch"] if chosen else shard
            rows = database.execute(
                "SELECT * FROM events WHERE shard IS NULL AND batch = ? ORDER BY seq", (name,)
            )
            return name, [label_of(row) for row in rows]

    def mark_published(self, event_ids: Iterable[str], shard: str) -> int:
        """Note which file of the dataset holds these events; returns for how many this was new."""
        with self.write() as database:
            return database.executemany(
                "UPDATE events SET shard = ? WHERE event_id = ? AND shard IS NULL",
                ((shard, event_id) for event_id in event_ids),
            ).rowcount

    def counts(self) -> Counts:
        with self.read() as database:
            row = database.execute(
                """
                SELECT TOTAL(count) FILTER (WHERE what = 'images'),
                TOTAL(count) FILTER (WHERE what = 'images' AND of > 0),
                TOTAL(count) FILTER (WHERE what = 'events'),
                TOTAL(count) FILTER (WHERE what = 'events' AND of = 0)
                FROM tallies WHERE what IN ('images', 'events')
                """
            ).fetchone()
        return Counts(*map(int, row))

    def _content_to_keep(self, sha256: str) -> bytes:
        """The content of an image that the journal has only a path of; b"" where it has the content."""
        with self.read() as database:
            kept = database.execute("SELECT 1 FROM contents WHERE sha256 = ?", (sha256,)).fetchone()
        if kept:
            return b""
        content = self.content(sha256)
        self._decode(sha256, content, math.inf)  # its size was checked when it was added
        return content

    def _decode(self, sha256: str, content: bytes, max_megapixels: float) -> DecodedImage:
        decoded = read_image(content, max_megapixels)
        if decoded.sha256 != sha256:
            raise LabelError(
                f"The file of {self.image(sha256).name} holds another image than when it was added. Put the "
                "first one back, or skip it and add the new one."
            )
        return decoded

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(
            self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        return database

    @contextmanager
    def _described_errors(self) -> Iterator[None]:
        """Turns errors of SQLite and of the file system into JournalError."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalError(
                f"The journal {self.path} cannot be read or written: {error}. Check that the file is a "
                "journal, that its folder allows writing, and that the disk has room."
            ) from error


def _insert_image(database: sqlite3.Connection, image: NewImage) -> bool:
    path = "" if image.content else str(image.path)
    new = database.execute(
        "INSERT INTO images (sha256, name, path, width, height, added_at) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (image.sha256, image.name, path, *image.size, time.time_ns() // 1000),
    ).rowcount
    if not new and path:
        database.execute("UPDATE images SET path = ? WHERE sha256 = ? AND path != ''", (path, image.sha256))
    if image.content:
        insert_content(database, image.sha256, image.content)
    return bool(new)


def insert_content(database: sqlite3.Connection, sha256: str, content: bytes) -> None:
    """Keep the file of an image, unless one with the same pixels is kept."""
    database.execute("INSERT INTO contents VALUES (?, ?) ON CONFLICT DO NOTHING", (sha256, content))
