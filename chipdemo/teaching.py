"""Teaching a new chip: what the Teach tab and the network share. No torch, no gradio."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from chipdemo.files import Found, Limits
from chipdemo.inspection import Model

FEWEST = 10  # good images
FALSE_ALARMS = 0.02  # of normal images may be stopped, unless told otherwise

Progress = Callable[[float, str], None]  # is told the fraction done and of what; may raise to stop


@dataclass(frozen=True)
class Standout:
    """A good image that is unlike the other good ones.

    row: its number in the draft. times: its score, in those of the median image.
    picture: it as a small JPEG. marked: the same with the places in red that none of the others shows.
    """

    row: int
    name: str
    times: float
    picture: bytes
    marked: bytes


@dataclass(frozen=True, eq=False)
class Draft:
    """What was seen of the images. Nothing is learned from the standouts yet.

    images: good ones that can be learned. left_out: why others cannot, a line each.
    warnings: sentences on what makes the result worse. standouts: the furthest first.
    """

    images: int
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]
    standouts: tuple[Standout, ...]
    seconds: float


@dataclass(frozen=True)
class Taught:
    """A model that was made from good images.

    archive: a zip of its checkpoint, one folder of the chip's name. places: of the images, that
    are remembered, in memory_bytes. false_alarms: the share that was asked for;
    false_positive_rate: of the learned images, each judged by the others. defects: that were
    given, of which recall is caught. left_out: names of standouts that
    were not learned. kept: of images that were, though they stand out. warnings: as in Draft.
    """

    model: Model
    archive: bytes
    images: int
    places: int
    memory_bytes: int
    false_alarms: float
    false_positive_rate: float
    defects: int
    recall: float | None
    left_out: tuple[str, ...]
    kept: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float


class Teacher(Protocol):
    """The seam between the Teach tab and the network."""

    def look(
        self, goods: Sequence[Found], defects: Sequence[Found], limits: Limits, progress: Progress
    ) -> Draft:
        """Look at good images and at known defects, if any. Raises DataError."""

    def finish(
        self, draft: Draft, without: Collection[int], false_alarms: float, name: str, progress: Progress
    ) -> Taught:
        """Learn a draft but for some rows. name: of the chip, fit for a file. Raises DataError."""
