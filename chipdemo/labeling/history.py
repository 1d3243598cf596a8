"""What one annotator did last, and what annotators differ on."""

from chipdemo.labeling.agreement import DISPUTED
from chipdemo.labeling.journal import Journal, Stored, stored_of
from chipdemo.labeling.label import Label


def last_votes(journal: Journal, annotator: str, count: int) -> list[Label]:
    """This annotator's standing labels, one an image, the latest first."""
    with journal.read() as database:
        rows = database.execute(
            "SELECT event_id FROM votes JOIN events USING (seq) WHERE votes.annotator = ? "
            "ORDER BY votes.seq DESC LIMIT ?",
            (annotator, count),
        ).fetchall()
    return [journal.event(row["event_id"]) for row in rows]


def skipped(journal: Journal, annotator: str) -> list[str]:
    """The sha256 of the images that this annotator skipped and did not label since."""
    with journal.read() as database:
        rows = database.execute(
            "SELECT image_sha256 FROM skips WHERE annotator = :annotator AND NOT EXISTS ("
            "SELECT 1 FROM votes WHERE image_sha256 = skips.image_sha256 AND annotator = :annotator)",
            {"annotator": annotator},
        ).fetchall()
    return [row["image_sha256"] for row in rows]


def votes_on(journal: Journal, sha256: str) -> dict[str, str]:
    """What stands on an image: label by annotator."""
    with journal.read() as database:
        rows = database.execute(
            "SELECT annotator, label FROM votes WHERE image_sha256 = ? ORDER BY seq", (sha256,)
        ).fetchall()
    return {row["annotator"]: row["label"] for row in rows}


def scored(journal: Journal, sha256: str, revision: str) -> float | None:
    """The abnormal_probability, 0-1, that this revision of the model gave it for the queue; or None."""
    with journal.read() as database:
        row = database.execute(
            "SELECT abnormal_probability FROM scores WHERE image_sha256 = ? AND revision = ?",
            (sha256, revision),
        ).fetchone()
    return row["abnormal_probability"] if row else None


def disputed(journal: Journal, people: int, annotator: str, count: int = -1) -> list[Stored]:
    """Images that enough people labeled, without a majority and not decided; oldest first.

    Not those that this annotator skipped.
    """
    with journal.read() as database:
        rows = database.execute(
            "SELECT * FROM images AS p WHERE consensus = ? AND votes >= ? AND NOT EXISTS "
            "(SELECT 1 FROM skips WHERE image_sha256 = p.sha256 AND annotator = ?) ORDER BY id LIMIT ?",
            (DISPUTED, people, annotator, count),
        ).fetchall()
    return [stored_of(row) for row in rows]
