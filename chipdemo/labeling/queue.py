"""Which image an annotator labels next.

Each image goes to `annotators_per_image` annotators. An image that is given to a page of the browser is
leased to that page for a while, so that two people, or two tabs of one person, do not label it at the same
time. An expired lease has no effect.

Images are searched by panel, that is by the set of annotators who labeled them. So the search does not
walk past the tens of thousands that an annotator has labeled and that wait for others.
"""

import heapq
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from chipdemo.errors import LabelError
from chipdemo.labeling.journal import Journal, JournalImage

LEASE_S = 600
INFORMATIVE, PLAIN, RANDOM = "informative", "plain", "random"
ORDERS = {  # the lowest value comes first; the journal has an index of each
    INFORMATIVE: "-priority",
    PLAIN: "id",
    RANDOM: "(id * 2654435761) % 4294967291",  # the same for everyone, and after a restart
}
WANTED = """
    images.deleted = 0 AND images.votes < :annotators_per_image
    AND NOT EXISTS (SELECT 1 FROM skips WHERE image_sha256 = sha256 AND annotator = :annotator)
    AND NOT EXISTS (
        SELECT 1 FROM leases WHERE image_sha256 = sha256 AND annotator = :annotator AND page != :page
    )
    AND :annotators_per_image - images.votes > (
        SELECT COUNT(*) FROM leases WHERE image_sha256 = sha256 AND annotator != :annotator
    )
"""


@dataclass(frozen=True)
class Progress:
    """images: in the journal. done: labeled by as many annotators as wanted. own: labeled by this annotator.

    own_last_hour: this annotator's labels of the last hour. pending: events not yet published.
    """

    images: int
    done: int
    own: int
    own_last_hour: int
    pending: int


class Queue:
    """The images of a journal that still need labels."""

    def __init__(self, journal: Journal, annotators_per_image: int = 1, lease_s: float = LEASE_S):
        self.journal, self.annotators_per_image, self.lease_s = journal, annotators_per_image, lease_s

    def next(
        self, annotator: str, count: int = 1, order: str = INFORMATIVE, page: str = ""
    ) -> list[JournalImage]:
        """The next images for a page of this annotator, each with a lease; fewer or none at the end.

        These are images with too few labels, none of them this annotator's, that this annotator has not
        skipped and that are not leased to another page, be it of another annotator or of the same.
        Asked again, the same page gets the same images until they are labeled, skipped or released.
        page: an id that the page makes for itself; "" for a client without pages.
        """
        if order not in ORDERS:
            raise LabelError(f"There is no order {order[:80]!r}. Choose one of {', '.join(ORDERS)}.")
        asked = {
            "annotators_per_image": self.annotators_per_image,
            "annotator": annotator,
            "page": page,
            "count": count,
        }
        with self.journal.write() as database:
            now = time.time_ns() // 1000
            database.execute("DELETE FROM leases WHERE until <= ?", (now,))
            rows = _leased(database, ORDERS[order], asked)
            if len(rows) < count:
                rows += _free(database, ORDERS[order], asked | {"count": count - len(rows)})
            until = now + int(self.lease_s * 1_000_000)
            database.executemany(
                "INSERT INTO leases (image_sha256, annotator, page, until) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET until = excluded.until",
                [(row["sha256"], annotator, page, until) for row in rows],
            )
        return [JournalImage.from_row(row) for row in rows]

    def skip(self, sha256: str, annotator: str) -> None:
        """Do not give this image to this annotator again, until unskip."""
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

    def release(self, sha256s: Sequence[str], annotator: str, page: str = "") -> None:
        """End this page's leases on these images before they expire."""
        with self.journal.write() as database:
            database.executemany(
                "DELETE FROM leases WHERE image_sha256 = ? AND annotator = ? AND page = ?",
                [(sha256, annotator, page) for sha256 in sha256s],
            )

    def progress(self, annotator: str) -> Progress:
        hour_ago = time.time_ns() // 1000 - 3_600_000_000
        with self.journal.read() as database:
            row = database.execute(
                """
                SELECT TOTAL(count) FILTER (WHERE what = 'images'),
                TOTAL(count) FILTER (WHERE what = 'images' AND of >= :annotators_per_image),
                (SELECT count FROM tallies WHERE what = 'votes' AND of = :annotator),
                (SELECT COUNT(*) FROM events WHERE annotator = :annotator AND created_at > :hour_ago
                    AND retracts = ''),
                TOTAL(count) FILTER (WHERE what = 'events' AND of = 0)
                FROM tallies WHERE what IN ('images', 'events')
                """,
                {
                    "annotators_per_image": self.annotators_per_image,
                    "annotator": annotator,
                    "hour_ago": hour_ago,
                },
            ).fetchone()
        return Progress(*(int(count or 0) for count in row))


def _leased(database: sqlite3.Connection, order: str, asked: dict) -> list[sqlite3.Row]:
    """The images that this page was given before and still has."""
    return database.execute(
        f"""
        SELECT images.* FROM leases CROSS JOIN images ON sha256 = image_sha256
        WHERE annotator = :annotator AND page = :page AND {WANTED} ORDER BY {order}, id LIMIT :count
        """,  # CROSS: the few leases first, not the images in their order
        asked,
    ).fetchall()


def _free(database: sqlite3.Connection, order: str, asked: dict) -> list[sqlite3.Row]:
    """Images that this annotator has neither labeled nor been given: the first of each panel without them."""
    panels = database.execute(
        "SELECT id FROM panels WHERE votes < :annotators_per_image "
        "AND :annotator NOT IN (SELECT value FROM json_each(annotators))",
        asked,
    ).fetchall()
    rows = (
        row
        for panel in panels
        for row in database.execute(
            f"""
            SELECT *, {order} AS rank FROM images WHERE panel = :panel AND {WANTED}
            AND NOT EXISTS (SELECT 1 FROM leases WHERE image_sha256 = sha256 AND annotator = :annotator)
            ORDER BY {order}, id LIMIT :count
            """,
            asked | {"panel": panel["id"]},
        )
    )
    return heapq.nsmallest(asked["count"], rows, key=lambda row: (row["rank"], row["id"]))
