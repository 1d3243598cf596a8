"""The size at which images are compared, found out with good images and small defects drawn into them.

Scaled down to the network's input, a large image loses small defects. So it can be compared at a larger size,
at which it passes through the network in windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from chipdemo.teaching import Progress, silent
from chipdemo.view import View, reduced
from chipdemo.vision.anomaly.alignment import FINER, REGISTERED, Alignment
from chipdemo.vision.anomaly.choice import SURE, auroc_of, judged_halves, standard_error, wins_of
from chipdemo.vision.anomaly.drawn_defects import KINDS, draw_defect
from chipdemo.vision.anomaly.features import Backbone
from chipdemo.vision.anomaly.windows import Windows

COUNTS = (1, 2, 4, 8)  # of windows along a side
IMAGES = 20  # that are judged; of images larger than DRAWN_AT, half as many
DRAWN_AT = 1_024  # pixels of the original, side of the part in which a defect is drawn: it is 40 to 140 long
FOUND = 0.02  # share of good images whose score a drawn defect has to exceed to be found


@dataclass(frozen=True)
class Scale:
    """What was found out. side: of the view, pixels; auroc: of each side that was tried.

    smallest, largest: of the drawn defects, pixels of the original. found: how many of `drawn` are.
    """

    side: int
    auroc: dict[int, float]
    smallest: int
    largest: int
    found: int
    drawn: int

    @property
    def text(self) -> str:
        """In sentences."""
        tried = ", ".join(f"{value:.3f} at {side} px" for side, value in self.auroc.items())
        return (
            f"Images are compared at {self.side:,} px (AUROC of small drawn defects: {tried}). Of "
            f"{self.drawn} drawn defects, {self.smallest} to {self.largest} px long in the original, "
            f"{self.found} are found."
        )


def largest_windows(backbone: Backbone, sizes: Sequence[tuple[int, int]]) -> Windows | None:
    """The most that images of these sizes, (width, height), fill; None where one input is enough."""
    side = float(np.median([max(size) for size in sizes]))
    counts = [count for count in COUNTS if backbone.windows(count).side <= side]
    return backbone.windows(counts[-1]) if len(counts) > 1 else None


def choose_scale(
    views: Sequence[View], alignment: Alignment, backbone: Backbone, progress: Progress = silent
) -> tuple[Alignment, Scale]:
    """The alignment at the smallest size that a larger one is not clearly better than.

    views: of good images as they are, at least 4, FINER times as large as the largest size that is tried.
    """
    largest = len(views[0].pixels) // FINER
    drawn, lengths = zip(*(_with_defect(view, number) for number, view in enumerate(views)))
    counts = [count for count in COUNTS if backbone.windows(count).side <= largest]
    auroc, chosen = {}, None
    for number, count in enumerate(counts):
        progress(number / len(counts), "trying sizes")
        windows = backbone.windows(count)
        tried = replace(alignment, windows=windows if count > 1 else None)
        laid = [_laid(each, windows.side, tried) for each in (views, drawn)]
        good, bad = judged_halves(*laid, tried, backbone)
        wins = wins_of(good, bad)
        auroc[windows.side] = auroc_of(wins)
        if chosen and auroc_of(wins - chosen[1]) <= SURE * standard_error(wins - chosen[1]):
            break
        found = int((bad > np.quantile(good, 1 - FOUND)).sum())
        chosen = tried, wins, Scale(windows.side, auroc, min(lengths), max(lengths), found, len(views))
    return chosen[0], chosen[2]


def _laid(views: Sequence[View], side: int, alignment: Alignment) -> list[View]:
    """Views of this size, registered where the alignment asks for it."""
    if alignment.kind == REGISTERED:
        return [alignment.registered(reduced(view, FINER * side), side) for view in views]
    return [reduced(view, side) for view in views]


def _with_defect(view: View, number: int) -> tuple[View, int]:
    """A view with a defect, and how long that is, in pixels of the original."""
    longer, whole = max(view.image_size), len(view.pixels)
    side = round(whole * min(1, DRAWN_AT / longer))
    generator = np.random.default_rng(number)
    left, top = _corner(view, side, generator)
    part = Image.fromarray(view.pixels[top : top + side, left : left + side])
    changed, mask = draw_defect(part, KINDS[number % len(KINDS)], seed=number)
    pixels = view.pixels.copy()
    pixels[top : top + side, left : left + side] = np.asarray(changed)
    rows, columns = np.nonzero(mask)
    return replace(view, pixels=pixels), round(max(np.ptp(rows), np.ptp(columns)) * longer / whole)


def _corner(view: View, side: int, generator: np.random.Generator) -> tuple[int, int]:
    """Left and top of a part of the view whose middle shows the image, pixels."""
    most, inside = len(view.pixels) - side, view.inside((64, 64))
    while True:
        left, top = (int(value) for value in generator.integers(0, most + 1, 2))
        row, column = (int((value + side / 2) * 64 / len(view.pixels)) for value in (top, left))
        if inside[row, column]:
            return left, top
