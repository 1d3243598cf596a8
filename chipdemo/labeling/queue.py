"""Which photograph somebody labels next.

A photograph goes to `people` annotators. Whoever is given one has a lease on it for a while, so that
two people do not label the same one by accident; a lease that ran out is as if it had never been.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from chipdemo.errors import LabelError
from chipdemo.labeling.store import Journal, Stored, stored_of

LEASE_S = 600  # a photograph is kept for the one it was given to
INFORMATIVE, PLAIN, RANDOM = "informative", "plain", "random"
ORDERS = {
    INFORMATIVE: "priority DESC, id",
    PLAIN: "id",
    RANDOM: "(id * 2654435761) % 4294967291, id",  # the same for everyone, and after a restart
}


@dataclass(frozen=True)
class Progress:
    """Of the photographs known. done: labelled by as many people as wanted. own: by this annotator.

    own_last_hour: this annotator's labels of the last hour. pending: events not yet published.
    """

    photographs: int
    done: int
    own: int
    own_last_hour: int
    pending: int


class Queue:
    """Questions to the journal. people: who are to label each photograph."""

    def __init__(self, journal: Journal, people: int = 1, lease_s: float = LEASE_S):
        self.journal, self.people, self.lease_s = journal, people, lease_s

    def next(self, annotator: str, count: int = 1, order: str = INFORMATIVE) -> list[Stored]:
        """The next photographs for this annotator, with a lease on each; fewer or none at the end.

        Given are those with too few labels, none of this annotator's, that nobody else has a lease
        on and this annotator did not skip. Asked again, it gives the same ones until they are
        labelled, skipped or released: a page that is loaded again goes on where it was.
        """
        if order not in ORDERS:
            raise LabelError(
                f"Expected an order among {', '.join(ORDERS)}; found {order[:80]!r}. Choose one."
            )
        with self.journal.write() as database:
            now = time.time_ns() // 1000
            rows = database.execute(
                f"""
                SELECT * FROM photographs AS p WHERE votes < :people
                AND NOT EXISTS (SELECT 1 FROM votes WHERE image_sha256 = p.sha256 AND annotator = :annotator)
                AND NOT EXISTS (SELECT 1 FROM skips WHERE image_sha256 = p.sha256 AND annotator = :annotator)
                AND :people - votes > (
                    SELECT COUNT(*) FROM leases
                    WHERE image_sha256 = p.sha256 AND annotator != :annotator AND until > :now
                )
                ORDER BY EXISTS (
                    SELECT 1 FROM leases
                    WHERE image_sha256 = p.sha256 AND annotator = :annotator AND until > :now
                ) DESC, {ORDERS[order]} LIMIT :count
                """,
                {"people": self.people, "annotator": annotator, "now": now, "count": count},
            ).fetchall()
            until = now + int(self.lease_s * 1_000_000)
            database.execute("DELETE FROM leases WHERE until <= ?", (now,))
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
                SELECT (SELECT COUNT(*) FROM photographs),
                (SELECT COUNT(*) FROM photographs WHERE votes >= :people),
                (SELECT COUNT(*) FROM votes WHERE annotator = :annotator),
                (SELECT COUNT(*) FROM events WHERE annotator = :annotator AND created_at > :hour_ago
                    AND retracts = ''),
                (SELECT COUNT(*) FROM events WHERE shard IS NULL)
                """,
                {"people": self.people, "annotator": annotator, "hour_ago": hour_ago},
            ).fetchone()
        return Progress(*row)
