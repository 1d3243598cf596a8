"""What one annotator did last, and which images are disputed."""

import json

from chipdemo.labeling.agreement import DISPUTED
from chipdemo.labeling.events import label_of
from chipdemo.labeling.journal import Journal, JournalImage
from chipdemo.labeling.label import Label, ModelPrediction


def last_votes(journal: Journal, annotator: str, count: int, page: str | None = None) -> list[Label]:
    """This annotator's standing labels, one an image, the latest first.

    page: only those given on this page, "" being a client without pages; None for all.
    """
    if page is None:
        question, more = "SELECT events.* FROM votes JOIN events USING (seq) WHERE votes.annotator = ?", ()
    else:
        question = (
            "SELECT events.* FROM events WHERE annotator = ? AND page = ? AND EXISTS (SELECT 1 FROM votes "
            "WHERE votes.image_sha256 = events.image_sha256 AND votes.annotator = events.annotator "
            "AND votes.seq = events.seq)"
        )
        more = (page,)
    with journal.read() as database:
        rows = database.execute(f"{question} ORDER BY seq DESC LIMIT ?", (annotator, *more, count))
        return [label_of(row) for row in rows]


def skipped(journal: Journal, annotator: str) -> list[str]:
    """The sha256 of the images that this annotator skipped and has not labeled since."""
    with journal.read() as database:
        rows = database.execute(
            "SELECT image_sha256 FROM skips WHERE annotator = :annotator AND NOT EXISTS ("
            "SELECT 1 FROM votes WHERE image_sha256 = skips.image_sha256 AND annotator = :annotator)",
            {"annotator": annotator},
        ).fetchall()
    return [row["image_sha256"] for row in rows]


def votes_on(journal: Journal, sha256: str) -> dict[str, str]:
    """The standing labels of an image, by annotator."""
    with journal.read() as database:
        rows = database.execute(
            "SELECT annotator, label FROM votes WHERE image_sha256 = ? ORDER BY seq", (sha256,)
        ).fetchall()
    return {row["annotator"]: row["label"] for row in rows}


def scored(journal: Journal, sha256: str, revision: str) -> ModelPrediction | None:
    """What the models said when they scored the image; None where they did not yet.

    revision: of all of them together.
    """
    with journal.read() as database:
        row = database.execute(
            "SELECT prediction FROM scores WHERE image_sha256 = ? AND revision = ?",
            (sha256, revision),
        ).fetchone()
    return ModelPrediction(*json.loads(row["prediction"])) if row else None


def disputed(
    journal: Journal, annotators_per_image: int, annotator: str, count: int = -1
) -> list[JournalImage]:
    """Images with as many labels as wanted, no majority and no decision; oldest first.

    Without those that this annotator skipped.
    """
    with journal.read() as database:
        rows = database.execute(
            "SELECT * FROM images AS p WHERE consensus = ? AND votes >= ? AND NOT deleted AND NOT EXISTS "
            "(SELECT 1 FROM skips WHERE image_sha256 = p.sha256 AND annotator = ?) ORDER BY id LIMIT ?",
            (DISPUTED, annotators_per_image, annotator, count),
        ).fetchall()
    return [JournalImage.from_row(row) for row in rows]
