"""The journal of labels: SQLite, where an acknowledged label stays.

Write-ahead logging with full synchronization: when append returns, the event is on the disk.
Several threads and processes may write at once; each waits for the other's few milliseconds.
Events are only ever added. What they add up to (votes, consensus, tallies) is kept beside them, in the
same transaction, so that no question reads them all.
"""

import json
import math
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from datetime import datetime, timezone
from itertools import accumulate, groupby
from pathlib import Path
from types import SimpleNamespace

from chipdemo.errors import JournalError, LabelError
from chipdemo.images import MAX_MEGAPIXELS, DecodedImage, read_image
from chipdemo.labeling.agreement import consensus_of, standing
from chipdemo.labeling.label import Box, Label, ModelPrediction

BUSY_S = 30  # waited for another process before giving up
TRIES = 999  # parameters of one statement

# Each step brings a journal from the version of its index to the next. Never change one that was released.
MIGRATIONS = (
    """
    CREATE TABLE photographs (
        id INTEGER PRIMARY KEY,
        sha256 TEXT NOT NULL UNIQUE,  -- images.content_sha256
        name TEXT NOT NULL,           -- as it was first called, for people
        path TEXT NOT NULL,           -- its file where it is not kept in contents; '' where it is
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        added_at INTEGER NOT NULL,    -- microseconds since 1970, UTC, like every time here
        votes INTEGER NOT NULL DEFAULT 0,  -- annotators whose label stands
        panel INTEGER NOT NULL DEFAULT 1 REFERENCES panels (id),  -- who they are
        truth TEXT NOT NULL DEFAULT '',    -- agreement.Truth's label; '' where nobody labelled it
        priority REAL NOT NULL DEFAULT 0,  -- the highest comes first; ranking.py sets it
        reason TEXT NOT NULL DEFAULT ''    -- why it comes when it does, for people
    );
    -- As queue.ORDERS has them: the first of each panel is found without a look at the others
    CREATE INDEX photographs_informative ON photographs (panel, -priority, id);
    CREATE INDEX photographs_plain ON photographs (panel, id);
    CREATE INDEX photographs_random ON photographs (panel, (id * 2654435761) % 4294967291, id);
    CREATE INDEX photographs_by_truth ON photographs (truth, votes, id);
    CREATE TABLE panels (             -- those who labelled a photograph; there are few of them
        id INTEGER PRIMARY KEY,
        annotators TEXT NOT NULL UNIQUE,  -- JSON, sorted
        votes INTEGER NOT NULL        -- how many they are
    );
    INSERT INTO panels VALUES (1, '[]', 0);
    CREATE TABLE contents (
        sha256 TEXT PRIMARY KEY,
        bytes BLOB NOT NULL           -- the file as it came
    );
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        image_sha256 TEXT NOT NULL REFERENCES photographs (sha256),
        label TEXT NOT NULL,
        annotator TEXT NOT NULL,
        defect_type TEXT NOT NULL,
        boxes TEXT NOT NULL,          -- JSON: [[x, y, width, height], ...]
        said TEXT NOT NULL,           -- JSON: [name, revision, abnormal_probability]; '' for nothing
        retracts TEXT NOT NULL,
        decides INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        batch TEXT,                   -- the file that it is to be published in; NULL until chosen
        shard TEXT,                   -- the file of the data set that holds it; NULL until published
        note TEXT NOT NULL,           -- what may be long comes last: the rest is read without it
        mask BLOB NOT NULL
    );
    CREATE INDEX events_by_image ON events (image_sha256, annotator, seq);
    CREATE INDEX events_by_annotator ON events (annotator, seq);
    CREATE INDEX events_by_time ON events (annotator, created_at) WHERE retracts = '';
    CREATE INDEX events_unpublished ON events (seq) WHERE shard IS NULL;
    CREATE INDEX events_by_batch ON events (batch, seq) WHERE shard IS NULL;
    CREATE TABLE votes (
        image_sha256 TEXT NOT NULL,
        annotator TEXT NOT NULL,
        seq INTEGER NOT NULL REFERENCES events (seq),
        label TEXT NOT NULL,
        decides INTEGER NOT NULL,
        said REAL,                    -- abnormal_probability of the model at that time; NULL for none
        PRIMARY KEY (image_sha256, annotator)
    ) WITHOUT ROWID;
    CREATE INDEX votes_by_annotator ON votes (annotator, seq);
    CREATE TABLE skips (              -- who does not want to label what
        image_sha256 TEXT NOT NULL,
        annotator TEXT NOT NULL,
        PRIMARY KEY (image_sha256, annotator)
    ) WITHOUT ROWID;
    CREATE TABLE leases (             -- who is labelling what just now
        image_sha256 TEXT NOT NULL,
        annotator TEXT NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (image_sha256, annotator)
    ) WITHOUT ROWID;
    CREATE TABLE scores (             -- what a model says of it, for the order of the queue
        image_sha256 TEXT PRIMARY KEY,
        revision TEXT NOT NULL,
        abnormal_probability REAL NOT NULL,
        embedding BLOB NOT NULL       -- float32, little-endian, of unit length; x'' for none
    ) WITHOUT ROWID;
    -- Counted as they come, so that no question counts a million rows
    CREATE TABLE tallies (
        what TEXT NOT NULL,           -- 'photographs' by votes, 'events' by being published, 'votes' by whom
        of BLOB NOT NULL,             -- any type
        count INTEGER NOT NULL,
        PRIMARY KEY (what, of)
    ) WITHOUT ROWID;
    CREATE TRIGGER photograph_added AFTER INSERT ON photographs BEGIN
        INSERT INTO tallies VALUES ('photographs', new.votes, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER photograph_labelled AFTER UPDATE OF votes ON photographs WHEN old.votes != new.votes BEGIN
        UPDATE tallies SET count = count - 1 WHERE what = 'photographs' AND of = old.votes;
        INSERT INTO tallies VALUES ('photographs', new.votes, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER event_added AFTER INSERT ON events BEGIN
        INSERT INTO tallies VALUES ('events', new.shard IS NOT NULL, 1)
            ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER event_published AFTER UPDATE OF shard ON events
    WHEN (old.shard IS NULL) != (new.shard IS NULL) BEGIN
        UPDATE tallies SET count = count - 1 WHERE what = 'events' AND of = (old.shard IS NOT NULL);
        INSERT INTO tallies VALUES ('events', new.shard IS NOT NULL, 1)
            ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER vote_added AFTER INSERT ON votes BEGIN
        INSERT INTO tallies VALUES ('votes', new.annotator, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER vote_removed AFTER DELETE ON votes BEGIN
        UPDATE tallies SET count = count - 1 WHERE what = 'votes' AND of = old.annotator;
    END;
    """,
    """
    -- The words of version 2: image, consensus, disputed, prediction. What a model scored before is scored
    -- anew: large images were then scored as a whole alone.
    DROP TRIGGER photograph_added;
    DROP TRIGGER photograph_labelled;
    ALTER TABLE photographs RENAME TO images;
    ALTER TABLE images RENAME COLUMN truth TO consensus;
    ALTER TABLE events RENAME COLUMN said TO prediction;
    ALTER TABLE votes RENAME COLUMN said TO prediction;
    UPDATE images SET consensus = 'disputed' WHERE consensus = 'disagreement';
    UPDATE images SET priority = 0, reason = '';
    UPDATE tallies SET what = 'images' WHERE what = 'photographs';
    DELETE FROM scores;
    CREATE TRIGGER image_added AFTER INSERT ON images BEGIN
        INSERT INTO tallies VALUES ('images', new.votes, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER image_labeled AFTER UPDATE OF votes ON images WHEN old.votes != new.votes BEGIN
        UPDATE tallies SET count = count - 1 WHERE what = 'images' AND of = old.votes;
        INSERT INTO tallies VALUES ('images', new.votes, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    """,
)


@dataclass(frozen=True)
class Stored:
    """An image that the journal knows. path: its file where its content is not kept; or None."""

    sha256: str
    name: str
    path: Path | None
    width: int
    height: int
    votes: int
    reason: str


@dataclass(frozen=True)
class NewImage:
    """An image to be made known. size: (width, height), pixels, upright. name: for people.

    content: its file, to be kept; without it, path is where it lies, and its content is kept when it
    is first labeled.
    """

    sha256: str
    size: tuple[int, int]
    name: str
    content: bytes = b""
    path: Path | None = None


@dataclass(frozen=True)
class Counts:
    """images: known. labeled: with a standing label. events: ever. pending: not yet published."""

    images: int
    labeled: int
    events: int
    pending: int


class Journal:
    """The journal in one file, made where there is none. Its methods may be called from any thread.

    Every method raises JournalError where the file cannot be read or written: another program's
    file, a newer version, a full disk, a folder that may not be written to.
    """

    def __init__(self, path: Path):
        self.path = path
        self._local = threading.local()
        self._connections: list[tuple[sqlite3.Connection, threading.RLock]] = []
        self._writing = threading.Lock()  # SQLite's own waiting is a poll; in one process, a queue is faster

    def __enter__(self) -> "Journal":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Make the file, or bring it to this version."""
        with self._told():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.write() as database:
                version = database.execute("PRAGMA user_version").fetchone()[0]
                if version > len(MIGRATIONS):
                    raise JournalError(
                        f"Expected a journal of version {len(MIGRATIONS)} or older in {self.path}; found "
                        f"version {version}. Update Chip Inspector."
                    )
                for step in MIGRATIONS[version:]:
                    for statement in _statements(step):
                        database.execute(statement)
                database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def close(self) -> None:
        """End the connections of all threads; a later call opens one again.

        A thread that is asking just now has its answer first: SQLite would crash under it.
        """
        while self._connections:
            database, busy = self._connections.pop()
            with busy:
                database.close()
        self._local = threading.local()

    # The ways in

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for questions. Rows can be asked by column name."""
        with self._told(), self._connection() as database:
            yield database

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on the disk when the block has ended, or none of it."""
        with self._told(), self._writing, self._connection() as database:
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
        """Make an image known; False where it was, under whatever name. See NewImage."""
        return self.add_images(NewImage(sha256, size, name, content, path))[0]

    def add_images(self, *images: NewImage) -> list[bool]:
        """Make images known, all or none; False for each that was, under whatever name.

        Of one that is known and lies elsewhere than before, the path is corrected.
        """
        with self.write() as database:
            return [_add(database, image) for image in images]

    def image(self, sha256: str) -> Stored:
        """Raises LabelError where it is not known."""
        with self.read() as database:
            row = database.execute("SELECT * FROM images WHERE sha256 = ?", (sha256,)).fetchone()
        if row is None:
            raise LabelError(
                f"Expected an image of the queue; found none of sha256 {sha256[:80]!r}. Add it first."
            )
        return stored_of(row)

    def content(self, sha256: str) -> bytes:
        """The image's file. Raises LabelError where it is not known or its file is gone."""
        with self.read() as database:
            row = database.execute("SELECT bytes FROM contents WHERE sha256 = ?", (sha256,)).fetchone()
        if row:
            return row["bytes"]
        image = self.image(sha256)
        try:
            return image.path.read_bytes()
        except OSError as error:
            raise LabelError(
                f"Expected the image {image.name} where it was when it was added; it cannot be "
                f"read ({error.strerror}). Put it back, or skip it."
            ) from error

    def picture(self, sha256: str, max_megapixels: float = MAX_MEGAPIXELS) -> DecodedImage:
        """The image decoded. Raises ImageError where it cannot be read, and LabelError where it is
        not known, its file is gone, or holds another one now."""
        return self._itself(sha256, self.content(sha256), max_megapixels)

    # Events

    def append(self, *labels: Label) -> list[bool]:
        """Keep events, all or none; False for each that was kept before. On the disk when it returns.

        Raises LabelError where an image is not known, where its file is gone or holds another one, and
        where an event retracts one that is not the same annotator's on the same image.
        """
        contents = {label.image_sha256: self._unkept(label.image_sha256) for label in labels}
        with self.write() as database:
            for sha256, content in contents.items():
                if content:
                    _keep(database, sha256, content)
            return [_append(database, label) for label in labels]

    def events(
        self,
        image_sha256: str = "",
        after: int = 0,
        annotator: str = "",
        unpublished: bool = False,
        limit: int = -1,
    ) -> list[tuple[int, Label]]:
        """Events with their numbers, oldest first. limit: at most so many; -1 for all."""
        wanted = [("seq > ?", after)]
        wanted += [("image_sha256 = ?", image_sha256)] if image_sha256 else []
        wanted += [("annotator = ?", annotator)] if annotator else []
        where = " AND ".join([clause for clause, _ in wanted] + ["shard IS NULL"] * unpublished)
        with self.read() as database:
            rows = database.execute(
                f"SELECT * FROM events WHERE {where} ORDER BY seq LIMIT ?",
                (*(value for _, value in wanted), limit),
            )
            return [(row["seq"], _label_of(row)) for row in rows]

    def event(self, event_id: str) -> Label | None:
        with self.read() as database:
            row = database.execute("SELECT * FROM events WHERE event_id = ?", (event_id,)).fetchone()
        return _label_of(row) if row else None

    def vote(self, image_sha256: str, annotator: str) -> Label | None:
        """The label of this annotator that stands, if there is one."""
        with self.read() as database:
            row = database.execute(
                "SELECT events.* FROM votes JOIN events USING (seq) "
                "WHERE votes.image_sha256 = ? AND votes.annotator = ?",
                (image_sha256, annotator),
            ).fetchone()
        return _label_of(row) if row else None

    def votes(self) -> Iterator[list[Label]]:
        """What stands of every labeled image: a label an annotator, image by image.

        In the order of their sha256, one image in memory at a time, all as of one moment, whatever
        other threads and processes add meanwhile.
        """
        with self.read() as database:
            rows = database.execute(
                "SELECT events.* FROM votes JOIN events USING (seq) "
                "ORDER BY votes.image_sha256, votes.annotator"
            )
            for _, of_image in groupby(rows, key=lambda row: row["image_sha256"]):
                yield [_label_of(row) for row in of_image]

    def batch(self, shard: str, most: int, most_bytes: int) -> tuple[str, list[Label]]:
        """The events to be published next, together, and in which file; none where all are published.

        They are the oldest, at most `most`, of at most most_bytes of images and masks, but one at
        least. What was once put together stays so until it is published, under the name it then got:
        whoever asks, and after a crash too. shard: the name if it is put together now.
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
            return name, [_label_of(row) for row in rows]

    def mark_published(self, event_ids: Iterable[str], shard: str) -> int:
        """Note in which file of the dataset events are; gives how many of them were not known to be."""
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

    # Under them

    def _unkept(self, sha256: str) -> bytes:
        """The content of an image that is labeled for the first time and lies elsewhere; or b""."""
        with self.read() as database:
            kept = database.execute("SELECT 1 FROM contents WHERE sha256 = ?", (sha256,)).fetchone()
        if kept:
            return b""
        content = self.content(sha256)
        self._itself(sha256, content, math.inf)  # its size was looked at when it was added
        return content

    def _itself(self, sha256: str, content: bytes, max_megapixels: float) -> DecodedImage:
        decoded = read_image(content, max_megapixels)
        if decoded.sha256 != sha256:
            raise LabelError(
                f"Expected the image {self.image(sha256).name} as it was when it was added; its "
                "file holds another one now. Put the first one back, or skip it and add the new one."
            )
        return decoded

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """This thread's own, which close leaves open for as long."""
        local = self._local  # once: close may put another one in its place
        if not hasattr(local, "database"):
            database = sqlite3.connect(
                self.path,
                timeout=BUSY_S,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA foreign_keys = ON")
            local.database, local.busy = database, threading.RLock()
            self._connections.append((local.database, local.busy))
        with local.busy:
            yield local.database

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors, and those of the folder, in our words."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalError(
                f"The journal {self.path} cannot be read or written ({error}). Check that the disk has room, "
                "that its folder may be written to, and that the file is a journal; then try again."
            ) from error


def stored_of(row: sqlite3.Row) -> Stored:
    """A row of images."""
    return Stored(
        row["sha256"],
        row["name"],
        Path(row["path"]) if row["path"] else None,
        row["width"],
        row["height"],
        row["votes"],
        row["reason"],
    )


def _add(database: sqlite3.Connection, image: NewImage) -> bool:
    sha256, path = image.sha256, "" if image.content else str(image.path)
    new = database.execute(
        "INSERT INTO images (sha256, name, path, width, height, added_at) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (sha256, image.name, path, *image.size, _now()),
    ).rowcount
    if not new and path:
        database.execute("UPDATE images SET path = ? WHERE sha256 = ? AND path != ''", (path, sha256))
    if image.content:
        _keep(database, sha256, image.content)
    return bool(new)


def _append(database: sqlite3.Connection, label: Label) -> bool:
    new = database.execute(
        "INSERT INTO events (event_id, image_sha256, label, annotator, defect_type, boxes, mask, note, "
        "prediction, retracts, decides, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            label.event_id,
            label.image_sha256,
            label.label,
            label.annotator,
            label.defect_type,
            json.dumps([astuple(box) for box in label.boxes]),
            label.mask,
            label.note,
            json.dumps(list(asdict(label.prediction).values())) if label.prediction else "",
            label.retracts,
            label.decides,
            _microseconds(label.created_at),
        ),
    ).rowcount
    if not new:
        return False
    if (
        label.retracts
        and not database.execute(
            "SELECT 1 FROM events WHERE event_id = ? AND image_sha256 = ? AND annotator = ?",
            (label.retracts, label.image_sha256, label.annotator),
        ).fetchone()
    ):
        raise LabelError(
            f"Expected an own event on the same image to retract; found {label.retracts}, which is none "
            f"of {label.annotator!r}. Nothing was kept."
        )
    _count_vote(database, label.image_sha256, label.annotator)
    database.execute(
        "DELETE FROM leases WHERE image_sha256 = ? AND annotator = ?", (label.image_sha256, label.annotator)
    )
    return True


def _count_vote(database: sqlite3.Connection, sha256: str, annotator: str) -> None:
    """Set what of this annotator stands on this image, and what holds of it now."""
    columns = "seq, event_id, image_sha256, label, annotator, created_at, defect_type, retracts, decides"
    own = database.execute(
        f"SELECT {columns}, prediction FROM events WHERE image_sha256 = ? AND annotator = ? ORDER BY seq",
        (sha256, annotator),
    )
    latest = max(
        (event for event in standing(map(_event_of, own)) if not event.retracts),
        key=lambda event: (event.created_at, event.event_id),
        default=None,
    )
    database.execute("DELETE FROM votes WHERE image_sha256 = ? AND annotator = ?", (sha256, annotator))
    if latest:
        prediction = json.loads(latest.prediction)[2] if latest.prediction else None
        database.execute(
            "INSERT INTO votes VALUES (?, ?, ?, ?, ?, ?)",
            (sha256, annotator, latest.seq, latest.label, latest.decides, prediction),
        )
    everyones = (
        f"SELECT {columns}, prediction FROM events "
        "WHERE seq IN (SELECT seq FROM votes WHERE image_sha256 = ?)"
    )
    votes = [_event_of(row) for row in database.execute(everyones, (sha256,))]
    consensus = consensus_of(votes)[sha256].label if votes else ""
    panel = json.dumps(sorted(vote.annotator for vote in votes))
    database.execute(
        "INSERT INTO panels (annotators, votes) VALUES (?, ?) ON CONFLICT DO NOTHING", (panel, len(votes))
    )
    database.execute(
        "UPDATE images SET votes = ?, consensus = ?, panel = (SELECT id FROM panels WHERE annotators = ?) "
        "WHERE sha256 = ?",
        (len(votes), consensus, panel, sha256),
    )


def _event_of(row: sqlite3.Row) -> SimpleNamespace:
    """An agreement.LabelEvent; its time in microseconds."""
    return SimpleNamespace(**dict(row))


def _keep(database: sqlite3.Connection, sha256: str, content: bytes) -> None:
    database.execute("INSERT INTO contents VALUES (?, ?) ON CONFLICT DO NOTHING", (sha256, content))


def _label_of(row: sqlite3.Row) -> Label:
    return Label(
        image_sha256=row["image_sha256"],
        label=row["label"],
        annotator=row["annotator"],
        defect_type=row["defect_type"],
        boxes=tuple(Box(*box) for box in json.loads(row["boxes"])),
        mask=row["mask"],
        note=row["note"],
        prediction=ModelPrediction(*json.loads(row["prediction"])) if row["prediction"] else None,
        retracts=row["retracts"],
        decides=bool(row["decides"]),
        event_id=row["event_id"],
        created_at=datetime.fromtimestamp(row["created_at"] // 1_000_000, timezone.utc).replace(
            microsecond=row["created_at"] % 1_000_000
        ),
    )


def _microseconds(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000 + time.microsecond


def _now() -> int:
    return _microseconds(datetime.now(timezone.utc))


def _statements(script: str) -> Iterator[str]:
    """Its statements; executescript would commit the transaction that they belong to."""
    statement = ""
    for piece in re.sub("--.*", "", script).split(";")[:-1]:
        statement += piece + ";"
        if sqlite3.complete_statement(statement):  # the body of a trigger has semicolons of its own
            yield statement
            statement = ""
