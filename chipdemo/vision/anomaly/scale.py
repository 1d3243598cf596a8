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
from chipdemo.vision.anomaly.choice import auroc_of, judged_halves, standard_error, wins_of
from chipdemo.vision.anomaly.drawn_defects import KINDS, draw_defect
from chipdemo.vision.anomaly.features import Backbone

COUNTS = (1, 2, 4, 8)  # of windows along a side
IMAGES = 40  # that are judged; half as many where they are larger than LARGE
LARGE = 1_024  # pixels, longer side
# Pixels of the original, side of the part in which a defect is drawn: most are 20 to 100 long, or 40 to 200
DRAWN_AT = (256, 768)
STRENGTHS = (1.0, 0.5, 0.25)  # of drawn defects: 1 is clearly visible. Real ones are often faint
FOUND = 0.02  # share of good images whose score a drawn defect has to exceed to be found


@dataclass(frozen=True)
class Scale:
    """What was found out. side: of the view, pixels; auroc: of each side that was tried.

    smallest, largest: of the drawn defects that are clearly visible, pixels of the original. found: how many
    of these `drawn` are.
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
        tried = ", ".join(f"{value:.3f} at {side:,} px" for side, value in self.auroc.items())
        found = f"{self.found} of {self.drawn}"
        return (
            f"Images are compared at {self.side:,} px (AUROC of small and faint drawn defects: {tried}). Of "
            f"the clearly visible ones, {self.smallest} to {self.largest} px long in the original, {found} "
            "are found."
        )


def sides_of(backbone: Backbone) -> dict[int, int]:
    """The sizes at which images can be compared, pixels -> windows along a side."""
    return {backbone.windows(count).side: count for count in COUNTS}


def _strength(number: int) -> float:
    """Of the drawn defect of an image; kinds, sizes and strengths take turns."""
    return STRENGTHS[number // (len(KINDS) * len(DRAWN_AT)) % len(STRENGTHS)]


def largest_side(backbone: Backbone, sizes: Sequence[tuple[int, int]]) -> int:
    """The largest of sides_of that images of these sizes, (width, height), fill; else the smallest."""
    longer = float(np.median([max(size) for size in sizes]))
    sides = list(sides_of(backbone))
    return max((side for side in sides if side <= longer), default=sides[0])


def choose_scale(
    views: Sequence[View],
    alignment: Alignment,
    backbone: Backbone,
    progress: Progress = silent,
    side: int = 0,
) -> tuple[Alignment, Scale]:
    """The alignment at the smallest size that no larger one is clearly better than.

    views: of good images as they are, at least 4, FINER times as large as the largest size that is tried.
    side: the only size to try, one of sides_of.
    """
    largest = len(views[0].pixels) // FINER
    drawn, lengths = zip(*(_with_defect(view, number) for number, view in enumerate(views)))
    clear = np.array([_strength(number) == STRENGTHS[0] for number in range(len(views))])
    lengths = np.array(lengths)[clear]
    sides = [each for each in sides_of(backbone) if each <= largest and side in (0, each)]
    wins, scales, alignments = {}, {}, {}
    for number, each in enumerate(sides):
        progress(number / len(sides), f"trying {each:,} px")
        count = sides_of(backbone)[each]
        alignments[each] = replace(alignment, windows=backbone.windows(count) if count > 1 else None)
        laid = [_laid(some, each, alignments[each]) for some in (views, drawn)]
        good, bad = judged_halves(*laid, alignments[each], backbone)
        wins[each] = wins_of(good, bad)
        found = int((bad[clear] > np.quantile(good, 1 - FOUND)).sum())
        scales[each] = Scale(each, {}, int(min(lengths)), int(max(lengths)), found, len(lengths))
    auroc = {each: auroc_of(one) for each, one in wins.items()}
    chosen = sides[0]
    for each in sides[1:]:
        if auroc[each] - auroc[chosen] > standard_error(wins[each] - wins[chosen]):
            chosen = each
    return alignments[chosen], replace(scales[chosen], auroc=auroc)


def _laid(views: Sequence[View], side: int, alignment: Alignment) -> list[View]:
    """Views of this size, registered where the alignment asks for it."""
    if alignment.kind == REGISTERED:
        return [alignment.registered(reduced(view, FINER * side), side) for view in views]
    return [reduced(view, side) for view in views]


def _with_defect(view: View, number: int) -> tuple[View, int]:
    """A view with a defect, and how long that is, in pixels of the original."""
    longer, whole = max(view.image_size), len(view.pixels)
    side = round(whole * min(1, DRAWN_AT[number // len(KINDS) % len(DRAWN_AT)] / longer))
    generator = np.random.default_rng(number)
    left, top = _corner(view, side, generator)
    part = Image.fromarray(view.pixels[top : top + side, left : left + side])
    changed, mask = draw_defect(part, KINDS[number % len(KINDS)], seed=number)
    pixels = view.pixels.copy()
    pixels[top : top + side, left : left + side] = Image.blend(part, changed, _strength(number))
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
