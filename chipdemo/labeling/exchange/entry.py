"""What holds of one photograph, with all that a file of labels says of it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chipdemo.errors import ImageError
from chipdemo.images import file_suffix, read_photograph
from chipdemo.labeling.agreement import Truth, current_truth
from chipdemo.labeling.label import LABELS, Box, Label
from chipdemo.labeling.store import Journal, Stored


@dataclass(frozen=True)
class Entry:
    """A labelled photograph. content: its file.

    boxes, mask, note: each as whoever last gave one said it, among those whose label is what holds.
    """

    photograph: Stored
    truth: Truth
    boxes: tuple[Box, ...]
    mask: bytes
    note: str
    content: bytes

    @cached_property
    def file_name(self) -> str:
        return self.photograph.sha256 + file_suffix(self.content)

    @property
    def mask_name(self) -> str:
        """ "" where there is none."""
        return f"{self.photograph.sha256}.png" if self.mask else ""

    @property
    def said(self) -> dict[str, Any]:
        """What every format says of it in its own way."""
        return {
            "label": self.truth.label,
            "defect_type": self.truth.defect_type,
            "probability": self.truth.probability,
            "votes": {label: self.truth.votes.get(label, 0) for label in LABELS},
            "note": self.note,
            "name": self.photograph.name,
            "sha256": self.photograph.sha256,
            "width": self.photograph.width,
            "height": self.photograph.height,
        }


def entries_of(journal: Journal, left_out: Counter) -> Iterator[Entry]:
    """Every labelled photograph, one at a time, in the order of their sha256.

    left_out: counts the masks that are none, or of another size than their photograph.
    """
    for votes in journal.votes():
        sha256 = votes[0].image_sha256
        truth = current_truth(votes)[sha256]
        votes.sort(key=lambda vote: (vote.created_at, vote.event_id), reverse=True)
        agreed = [vote for vote in votes if vote.label == truth.label]
        photograph, mask = journal.photograph(sha256), _latest(agreed, "mask") or b""
        if mask and not _fits(mask, photograph):
            left_out["damaged mask"] += 1
            mask = b""
        yield Entry(
            photograph,
            truth,
            _latest(agreed, "boxes") or (),
            mask,
            _latest(agreed, "note") or "",
            journal.content(sha256),
        )


def _fits(mask: bytes, photograph: Stored) -> bool:
    try:
        return read_photograph(mask).image.size == (photograph.width, photograph.height)
    except ImageError:
        return False


def _latest(votes: Sequence[Label], what: str) -> Any:
    return next((found for vote in votes if (found := getattr(vote, what))), None)
