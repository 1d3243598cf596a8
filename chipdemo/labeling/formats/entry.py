"""A labeled image with everything that an export writes of it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from chipdemo.errors import ImageError
from chipdemo.images import file_suffix, read_image
from chipdemo.labeling.agreement import Consensus, consensus_of
from chipdemo.labeling.formats.shapes import NO_TYPE
from chipdemo.labeling.journal import Journal, JournalImage
from chipdemo.labeling.label import LABELS, Box, Label, Polygon

Shape = TypeVar("Shape", Box, Polygon)


@dataclass(frozen=True)
class Entry:
    """A labeled image. content: its file.

    boxes, polygons, mask, note: each the latest that was given with a standing label that agrees with the
    consensus. The defect type of a box, polygon or mask is "" where it is that of the consensus.
    """

    image: JournalImage
    consensus: Consensus
    boxes: tuple[Box, ...]
    polygons: tuple[Polygon, ...]
    mask: bytes
    mask_type: str
    note: str
    content: bytes

    @cached_property
    def file_name(self) -> str:
        return self.image.sha256 + file_suffix(self.content)

    @property
    def mask_name(self) -> str:
        """ "" where there is none."""
        return f"{self.image.sha256}.png" if self.mask else ""

    def type_of(self, own: str) -> str:
        """The defect type of a box, polygon or mask, for formats in which each has one. own: its own."""
        return own or self.consensus.defect_type or NO_TYPE

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
        image, mask = journal.image(sha256), _latest(agreed, "mask")
        if mask and not _fits(mask.mask, image):
            left_out["damaged mask"] += 1
            mask = None
        boxes, polygons, note = (_latest(agreed, what) for what in ("boxes", "polygons", "note"))
        yield Entry(
            image,
            consensus,
            _typed(boxes.boxes, boxes, consensus) if boxes else (),
            _typed(polygons.polygons, polygons, consensus) if polygons else (),
            mask.mask if mask else b"",
            _own_type(mask.mask_type, mask, consensus) if mask else "",
            note.note if note else "",
            journal.content(sha256),
        )


def _typed(shapes: Sequence[Shape], vote: Label, consensus: Consensus) -> tuple[Shape, ...]:
    return tuple(replace(one, defect_type=_own_type(one.defect_type, vote, consensus)) for one in shapes)


def _own_type(own: str, vote: Label, consensus: Consensus) -> str:
    """The defect type of what has its own or that of the label it was given with, if not the consensus."""
    found = own or vote.defect_type
    return "" if found == consensus.defect_type else found


def _fits(mask: bytes, image: JournalImage) -> bool:
    try:
        return read_image(mask).image.size == (image.width, image.height)
    except ImageError:
        return False


def _latest(votes: Sequence[Label], what: str) -> Label | None:
    """The first of these labels that has boxes, polygons, a mask or a note."""
    return next((vote for vote in votes if getattr(vote, what)), None)
