"""How far the labelling is, and what a next model could learn from it."""

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from chipdemo.inspection import CLASSES
from chipdemo.labeling.agreement import DISAGREEMENT, current_truth
from chipdemo.labeling.label import LABELS
from chipdemo.labeling.store import Journal


@dataclass(frozen=True)
class Status:
    """photographs: known. labelled: with a standing label. pending: events not yet published.

    agreed: photographs by what holds of them. disagreements: photographs on which votes are tied.
    new: normal and abnormal ones that the model has not seen; None where that is not known.
    """

    photographs: int
    labelled: int
    agreed: dict[str, int]
    disagreements: int
    pending: int
    new: int | None


def status_of(journal: Journal, seen: Collection[str] | None = None) -> Status:
    """seen: sha256 of the photographs that the model was trained and measured on; None for unknown."""
    counts = journal.counts()
    labels, new = Counter(), 0
    with journal.read() as database:
        rows = database.execute(
            "SELECT image_sha256, MIN(label), COUNT(DISTINCT label) FROM votes GROUP BY image_sha256"
        )
        for sha256, label, different in rows:
            if different > 1:
                label = current_truth(event for _, event in journal.events(sha256))[sha256].label
            labels[label] += 1
            new += seen is not None and label in CLASSES and sha256 not in seen
    return Status(
        counts.photographs,
        counts.labelled,
        {label: labels[label] for label in LABELS},
        labels[DISAGREEMENT],
        counts.pending,
        None if seen is None else new,
    )


def photographs_seen(checkpoint: str) -> frozenset[str] | None:
    """The sha256 in the split.json of a checkpoint folder; None where there is none that can be read."""
    try:
        split = json.loads((Path(checkpoint).expanduser() / "split.json").read_bytes())
        return frozenset(sha256 for part in ("train", "val", "test") for sha256 in split[part])
    except (OSError, ValueError, KeyError, TypeError):
        return None
