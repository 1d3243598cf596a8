"""A labeled image with everything that an export writes of it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chipdemo.errors import ImageError
from chipdemo.images import file_suffix, read_image
from chipdemo.labeling.agreement import Consensus, consensus_of
from chipdemo.labeling.journal import Journal, JournalImage
from chipdemo.labeling.label import LABELS, Box, Label


@dataclass(frozen=True)
class Entry:
    """A labeled image. content: its file.

    boxes, mask, note: each the latest that was given with a standing label that agrees with the consensus.
    """

    image: JournalImage
    consensus: Consensus
    boxes: tuple[Box, ...]
    mask: bytes
    note: str
    content: bytes

    @cached_property
    def file_name(self) -> str:
        return self.image.sha256 + file_suffix(self.content)

    @property
    def mask_name(self) -> str:
        """ "" where there is none."""
        return f"{self.image.sha256}.png" if self.mask else ""

    @property
    def fields(self) -> dict[str, Any]:
        """What every format writes, each in its own way."""
        return {
            "label": self.consensus.label,
            "defect_type": self.consensus.defect_type,
            "probability": self.consensus.probability,
            "votes": {label: self.consensus.votes.get(label, 0) for label in LABELS},
            "note": self.note,
            "name": self.image.name,
            "sha256": self.image.sha256,
            "width": self.image.width,
            "height": self.image.height,
        }


def entries_of(journal: Journal, left_out: Counter) -> Iterator[Entry]:
    """Every labeled image, one at a time, in the order of their sha256.

    left_out: gets the number of masks that cannot be read, or have another size than their image.
    """
    for votes in journal.votes():
        sha256 = votes[0].image_sha256
        consensus = consensus_of(votes)[sha256]
        votes.sort(key=lambda vote: (vote.created_at, vote.event_id), reverse=True)
        agreed = [vote for vote in votes if vote.label == consensus.label]
        image, mask = journal.image(sha256), _latest(agreed, "mask") or b""
        if mask and not _fits(mask, image):
            left_out["damaged mask"] += 1
            mask = b""
        yield Entry(
            image,
            consensus,
            _latest(agreed, "boxes") or (),
            mask,
            _latest(agreed, "note") or "",
            journal.content(sha256),
        )


def _fits(mask: bytes, image: JournalImage) -> bool:
    try:
        return read_image(mask).image.size == (image.width, image.height)
    except ImageError:
        return False


def _latest(votes: Sequence[Label], what: str) -> Any:
    return next((found for vote in votes if (found := getattr(vote, what))), None)
