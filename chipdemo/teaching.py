"""Teaching a new chip from good images: what the Teach tab and the network share. No torch, no gradio."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from chipdemo.files import Found, Limits
from chipdemo.inspection import Model
from chipdemo.threshold import OperatingPoint

MIN_IMAGES = 10  # good ones that differ
FALSE_POSITIVE_RATE = 0.02  # share of normal images that may be flagged, unless another is chosen

Progress = Callable[[float, str], None]  # is called with the fraction done and the step; may raise to stop


def silent(done: float, step: str) -> None:
    """A Progress that nobody follows."""


def within(progress: Progress, start: float, end: float) -> Progress:
    """The progress of a part of the work that takes from start to end of the whole, 0-1."""
    return lambda done, step: progress(start + (end - start) * done, step)


@dataclass(frozen=True)
class Outlier:
    """A good image that is unlike the other good ones.

    row: its number in the draft. times_median: its anomaly score, in units of the median score.
    image: a small copy as it was compared, JPEG. overlay: the same with the heat of what no other good image
        has.
    """

    row: int
    name: str
    times_median: float
    image: bytes
    overlay: bytes


@dataclass(frozen=True)
class Kind:
    """A clearly different kind of good images. names: of these. size: (width, height), their medians, pixels.

    pictures: small copies of some, JPEG.
    """

    name: str
    names: tuple[str, ...]
    size: tuple[int, int]
    pictures: tuple[bytes, ...]

    @property
    def text(self) -> str:
        """Such as "landscape: 40 images of about 640 × 480 px"; what is missing to teach it."""
        width, height = self.size
        missing = MIN_IMAGES - len(self.names)
        more = f"; {missing} more are needed to teach it" if missing > 0 else ""
        return f"{self.name}: {len(self.names):,} images of about {width:,} × {height:,} px{more}"


@dataclass(frozen=True, eq=False)
class Draft:
    """What was computed from the images, before the outliers are dropped or kept.

    kinds: where there is more than one, nothing is fitted yet: draft the images of one kind, or all together.
    images: how many good ones can be used. unusable: why others cannot, a line each.
    alignment: sentences on how the parts lie and how they are therefore compared.
    warnings: sentences on what makes the result worse. outliers: the furthest first.
    """

    images: int
    unusable: tuple[str, ...]
    alignment: str
    warnings: tuple[str, ...]
    outliers: tuple[Outlier, ...]
    seconds: float
    kinds: tuple[Kind, ...] = ()


@dataclass(frozen=True)
class Taught:
    """A model that was made from good images.

    archive: a zip of its checkpoint, one folder of the chip's name. patches: in its memory bank, whose file
    has memory_bytes. false_positive_rate_wanted: the one that was chosen. point: of the good images, each
    held out, and of the known defects.
    dropped: names of outliers that were left out. kept: of images that were used though they are outliers.
    warnings: as in Draft.
    """

    model: Model
    archive: bytes
    images: int
    patches: int
    memory_bytes: int
    false_positive_rate_wanted: float
    point: OperatingPoint
    dropped: tuple[str, ...]
    kept: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float


class Teacher(Protocol):
    """The seam between the Teach tab and the network."""

    def draft(
        self,
        goods: Sequence[Found],
        defects: Sequence[Found],
        limits: Limits,
        progress: Progress,
        together: bool = False,
    ) -> Draft:
        """Fit good images and find the outliers among them. defects: known ones, if any. Raises DataError.

        together: fit clearly different kinds of images to one model.
        """

    def finish(
        self,
        draft: Draft,
        without: Collection[int],
        false_positive_rate: float,
        name: str,
        progress: Progress,
    ) -> Taught:
        """Make a model of a draft without some rows. name: of the chip, fit for a file. Raises DataError."""
