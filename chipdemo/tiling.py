"""Large photographs in overlapping tiles, since small defects vanish when they are shrunk as a whole."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from chipdemo.inspection import Inspection, Inspector, ModelInfo, NormalPatch, Region, judge

SHRINK = 3  # a tile is so many times as large as the network's input: what is lost there is noise
OVERLAP = 0.25  # of neighbouring tiles, least share of their side, so that a defect is whole in one of them
LARGE = 2  # tiles that a photograph is at least long before it is tiled at all
SAME = 0.5  # of the smaller of two regions; where they share so much they are one

Box = tuple[int, int, int, int]  # left, top, right, bottom, pixels


def tiles_of(size: tuple[int, int], side: int) -> tuple[Box, ...]:
    """Square tiles of this side that cover a photograph of this (width, height), row by row."""

    def starts(length: int) -> list[int]:
        count = math.ceil(max(length - side, 0) / (side * (1 - OVERLAP))) + 1
        return [round(start) for start in np.linspace(0, max(length - side, 0), count)]

    width, height = size
    return tuple(
        (left, top, min(left + side, width), min(top + side, height))
        for top in starts(height)
        for left in starts(width)
    )


class TiledInspector:
    """An Inspector that also looks at a large photograph piece by piece; smaller ones as ever.

    The most abnormal tile, or the photograph as a whole if that is more, decides. So what the
    validation part says of a threshold holds for each tile: of many tiles, more are stopped by
    mistake. It is for models that know such tiles: trained or taught on photographs of that scale.
    """

    def __init__(self, inner: Inspector):
        self.inner = inner

    @property
    def info(self) -> ModelInfo:
        return self.inner.info

    @property
    def methods(self) -> Sequence[str]:
        return self.inner.methods

    @property
    def side(self) -> int:
        """Of a tile, pixels."""
        return SHRINK * self.info.image_size

    def current(self) -> "TiledInspector":
        inner = self.inner.current()
        return self if inner is self.inner else TiledInspector(inner)

    def tiles(self, size: tuple[int, int]) -> tuple[Box, ...]:
        """Those of a photograph of this (width, height); none where it is inspected as a whole alone.

        Its cost is one inspection each, and one for the whole.
        """
        return tiles_of(size, self.side) if max(size) >= LARGE * self.side else ()

    def inspect(self, image: Image.Image, threshold: float | None = None) -> Inspection:
        """Judge an upright 8-bit RGB photograph; regions and heat are those of all tiles."""
        whole = self.inner.inspect(image, threshold)
        boxes = self.tiles(image.size)
        if not boxes:
            return whole
        parts = [self.inner.inspect(image.crop(box), threshold) for box in boxes]
        worst = max((whole, *parts), key=lambda one: one.abnormal_probability)
        regions = [
            replace(region, x=region.x + box[0], y=region.y + box[1])
            for box, part in zip(boxes, parts)
            for region in part.regions
        ]
        heat = {
            name: stitched(
                [(box, part.heat[name]) for box, part in zip(boxes, parts)],
                ((0, 0, *image.size), whole.heat[name]),
            )
            for name in whole.heat
        }
        return replace(
            whole,
            verdict=judge(worst.abnormal_probability, whole.threshold),
            abnormal_probability=worst.abnormal_probability,
            log_odds=worst.log_odds,
            regions=merged([*whole.regions, *regions]),
            heat=heat,
            timing_ms=_summed([whole, *parts]),
        )

    def nearest_normals(
        self, image: Image.Image, regions: Sequence[Region]
    ) -> tuple[tuple[NormalPatch, ...], ...]:
        return self.inner.nearest_normals(image, regions)

    def explain(self, image: Image.Image, method: str) -> np.ndarray:
        """One heat map by the method's name: (h, w) float32, 0-1. Raises ValueError if unknown."""
        whole = self.inner.explain(image, method)
        boxes = self.tiles(image.size)
        parts = [(box, self.inner.explain(image.crop(box), method)) for box in boxes]
        return stitched(parts, ((0, 0, *image.size), whole)) if parts else whole


def stitched(parts: Sequence[tuple[Box, np.ndarray]], whole: tuple[Box, np.ndarray]) -> np.ndarray:
    """The maps of tiles and of the whole photograph as one: (h, w), each place the highest of them.

    Its places are as fine as those of the tiles.
    """
    (_, _, width, height), _ = whole
    (left, top, right, bottom), first = parts[0]
    across, down = first.shape[1] / (right - left), first.shape[0] / (bottom - top)  # places a pixel
    canvas = np.zeros((math.ceil(height * down), math.ceil(width * across)), np.float32)
    for (left, top, right, bottom), heat in (whole, *parts):
        x, y = math.floor(left * across), math.floor(top * down)
        x_end, y_end = math.ceil(right * across), math.ceil(bottom * down)
        fitted = Image.fromarray(heat).resize((x_end - x, y_end - y), Image.Resampling.BILINEAR)
        part = canvas[y:y_end, x:x_end]
        np.maximum(part, np.asarray(fitted), out=part)
    return canvas


def merged(regions: Sequence[Region]) -> tuple[Region, ...]:
    """Regions of several tiles, hottest first; of those that overlap for the most part, the hottest."""
    kept: list[Region] = []
    for region in sorted(regions, key=lambda region: region.score, reverse=True):
        if all(_shared(region, other) < SAME for other in kept):
            kept.append(region)
    return tuple(kept)


def _shared(one: Region, other: Region) -> float:
    """The overlap of two boxes, as a share of the smaller one."""
    across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    smaller = min(one.width * one.height, other.width * other.height)
    return max(across, 0) * max(down, 0) / smaller


def _summed(inspections: Sequence[Inspection]) -> Mapping[str, float]:
    """The time of each step over all of them, and how many there were in its name."""
    return {
        f"{step}, {len(inspections)} times": sum(one.timing_ms[step] for one in inspections)
        for step in inspections[0].timing_ms
    }
