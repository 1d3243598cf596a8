"""Which image somebody labels next.

An image goes to `people` annotators. Whoever is given one has a lease on it for a while, so that
two people do not label the same one by accident; a lease that ran out is as if it had never been.

Images are asked for by panel, that is by who has labeled them: whoever has labeled tens of
thousands that still wait for others is never led past them again.
"""

import heapq
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from chipdemo.errors import LabelError
from chipdemo.labeling.journal import Journal, Stored, stored_of

LEASE_S = 600  # an image is kept for the one it was given to
INFORMATIVE, PLAIN, RANDOM = "informative", "plain", "random"
ORDERS = {  # the lowest comes first; the journal has an index of each
    INFORMATIVE: "-priority",
    PLAIN: "id",
    RANDOM: "(id * 2654435761) % 4294967291",  # the same for everyone, and after a restart
}
WANTED = """
    images.votes < :people
    AND NOT EXISTS (SELECT 1 FROM skips WHERE image_sha256 = sha256 AND annotator = :annotator)
    AND :people - images.votes > (
        SELECT COUNT(*) FROM leases WHERE image_sha256 = sha256 AND annotator != :annotator
    )
"""


@dataclass(frozen=True)
class Progress:
    """Of the images known. done: labeled by as many people as wanted. own: by this annotator.

    own_last_hour: this annotator's labels of the last hour. pending: events not yet published.
    """

    images: int
    done: int
    own: int
    own_last_hour: int
    pending: int


class Queue:
    """Questions to the journal. people: who are to label each image."""

    def __init__(self, journal: Journal, people: int = 1, lease_s: float = LEASE_S):
        self.journal, self.people, self.lease_s = journal, people, lease_s

    def next(self, annotator: str, count: int = 1, order: str = INFORMATIVE) -> list[Stored]:
        """The next images for this annotator, with a lease on each; fewer or none at the end.

        Given are those with too few labels, none of this annotator's, that nobody else has a lease
        on and this annotator did not skip. Asked again, it gives the same ones until they are
        labeled, skipped or released: a page that is loaded again goes on where it was.
        """
        if order not in ORDERS:
            raise LabelError(
                f"Expected an order among {', '.join(ORDERS)}; found {order[:80]!r}. Choose one."
            )
        asked = {"people": self.people, "annotator": annotator, "count": count}
        with self.journal.write() as database:
            now = time.time_ns() // 1000
            database.execute("DELETE FROM leases WHERE until <= ?", (now,))
            rows = _leased(database, ORDERS[order], asked)
            if len(rows) < count:
                rows += _open(database, ORDERS[order], asked | {"count": count - len(rows)})
            until = now + int(self.lease_s * 1_000_000)
            database.executemany(
                "INSERT INTO leases VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET until = excluded.until",
                [(row["sha256"], annotator, until) for row in rows],
            )
        return [stored_of(row) for row in rows]

    def skip(self, sha256: str, annotator: str) -> None:
        """Do not give it to this annotator again, until unskip."""
        with self.journal.write() as database:
            database.execute("INSERT INTO skips VALUES (?, ?) ON CONFLICT DO NOTHING", (sha256, annotator))
            database.execute(
                "DELETE FROM leases WHERE image_sha256 = ? AND annotator = ?", (sha256, annotator)
            )

    def unskip(self, sha256: str, annotator: str) -> None:
        with self.journal.write() as database:
            database.execute(
                "DELETE FROM skips WHERE image_sha256 = ? AND annotator = ?", (sha256, annotator)
            )

    def release(self, sha256s: Sequence[str], annotator: str) -> None:
        """Give leases back before their time."""
        with self.journal.write() as database:
            database.executemany(
                "DELETE FROM leases WHERE image_sha256 = ? AND annotator = ?",
                [(sha256, annotator) for sha256 in sha256s],
            )

    def progress(self, annotator: str) -> Progress:
        hour_ago = time.time_ns() // 1000 - 3_600_000_000
        with self.journal.read() as database:
            row = database.execute(
                """
                SELECT TOTAL(count) FILTER (WHERE what = 'images'),
                TOTAL(count) FILTER (WHERE what = 'images' AND of >= :people),
                (SELECT count FROM tallies WHERE what = 'votes' AND of = :annotator),
                (SELECT COUNT(*) FROM events WHERE annotator = :annotator AND created_at > :hour_ago
                    AND retracts = ''),
                TOTAL(count) FILTER (WHERE what = 'events' AND of = 0)
                FROM tallies WHERE what IN ('images', 'events')
                """,
                {"people": self.people, "annotator": annotator, "hour_ago": hour_ago},
            ).fetchone()
        return Progress(*(int(count or 0) for count in row))


def _leased(database: sqlite3.Connection, order: str, asked: dict) -> list[sqlite3.Row]:
    """What this annotator was given before and still has."""
    return database.execute(
        f"""
        SELECT images.* FROM leases CROSS JOIN images ON sha256 = image_sha256
        WHERE annotator = :annotator AND {WANTED} ORDER BY {order}, id LIMIT :count
        """,  # CROSS: the few leases first, not the images in their order
        asked,
    ).fetchall()


def _open(database: sqlite3.Connection, order: str, asked: dict) -> list[sqlite3.Row]:
    """What this annotator has neither labeled nor been given: the first of each panel without them."""
    panels = database.execute(
        "SELECT id FROM panels WHERE votes < :people "
        "AND :annotator NOT IN (SELECT value FROM json_each(annotators))",
        asked,
    ).fetchall()
    rows = (
        row
        for panel in panels
        for row in database.execute(
            f"""
            SELECT *, {order} AS place FROM images WHERE panel = :panel AND {WANTED}
            AND NOT EXISTS (SELECT 1 FROM leases WHERE image_sha256 = sha256 AND annotator = :annotator)
            ORDER BY {order}, id LIMIT :count
            """,
            asked | {"panel": panel["id"]},
        )
    )
    return heapq.nsmallest(asked["count"], rows, key=lambda row: (row["place"], row["id"]))
