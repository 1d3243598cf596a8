"""Disagreements that were settled: the decision, and the votes that led to it."""

from collections.abc import Iterable
from dataclasses import dataclass

from chipdemo.labeling.agreement import standing
from chipdemo.labeling.events import label_of
from chipdemo.labeling.journal import Journal, JournalImage
from chipdemo.labeling.label import Label


@dataclass(frozen=True)
class Settled:
    """votes: the labels that stood when the decision was given, one an annotator, oldest first; the deciding
    annotator's own earlier label is among them."""

    image: JournalImage
    decision: Label
    votes: tuple[Label, ...]


def settled(journal: Journal, limit: int, decided_by: str = "") -> list[Settled]:
    """The latest decisions that stand, one an image, the latest first. decided_by: only this annotator's."""
    with journal.read() as database:
        rows = database.execute(
            "SELECT events.*, MAX(seq) FROM votes JOIN events USING (seq) WHERE votes.decides "
            "AND (? = '' OR votes.annotator = ?) GROUP BY votes.image_sha256 ORDER BY seq DESC LIMIT ?",
            (decided_by, decided_by, limit),
        ).fetchall()
        return [
            Settled(
                journal.image(row["image_sha256"]),
                label_of(row),
                _votes(label for seq, label in journal.events(row["image_sha256"]) if seq < row["seq"]),
            )
            for row in rows
        ]


def _votes(events: Iterable[Label]) -> tuple[Label, ...]:
    """The latest standing label of each annotator, without earlier decisions."""
    labels = (event for event in standing(events) if not event.retracts and not event.decides)
    latest = {event.annotator: event for event in sorted(labels, key=lambda event: event.created_at)}
    return tuple(sorted(latest.values(), key=lambda event: event.created_at))
