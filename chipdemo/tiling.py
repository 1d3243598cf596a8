"""Large images in overlapping tiles, since small defects vanish when they are shrunk as a whole."""

import math
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
from PIL import Image

from chipdemo.inspection import (
    UNSTRETCHED,
    Box,
    Inspection,
    Inspector,
    ModelInfo,
    NormalPatch,
    Prepared,
    Region,
    Tiles,
    judge,
)
from chipdemo.regions import regions_of

SHRINK = 3  # times the network's input: the side of a tile where the model does not say what it learned from
OVERLAP = 0.25  # of neighboring tiles, least share of their side, so that a defect is whole in one of them
LARGE = 2  # tiles that an image is at least long before it is tiled at all
MOST = 256  # tiles; of what would have more, they are larger
BATCH = 16  # tiles at a time through the network
KNOWN = 0.5  # share of the tiles that have to be like the training images, so that they count
REGIONS = 20  # of an image, the hottest


def tiles_of(size: tuple[int, int], side: int) -> tuple[Box, ...]:
    """Square tiles of this side that cover an image of this (width, height), row by row."""

    def starts(length: int) -> list[int]:
        return [round(start) for start in np.linspace(0, max(length - side, 0), _count(length, side))]

    width, height = size
    return tuple(
        (left, top, min(left + side, width), min(top + side, height))
        for top in starts(height)
        for left in starts(width)
    )


def _count(length: int, side: int) -> int:
    """Of tiles along a side of the image."""
    return math.ceil(max(length - side, 0) / (side * (1 - OVERLAP))) + 1


class TiledInspector:
    """An Inspector that also looks at a large image piece by piece; at smaller ones as ever.

    The most abnormal tile decides, or the image as a whole if that is more and like the training
    images. What the validation part says of a threshold holds for each look: of many tiles, more
    are stopped by mistake.

    A tile has as many pixels as the images that the model learned from, since it knows chips at
    that scale: one that learned large images inspects such as a whole. Whether it does know such
    tiles is seen in each image. If BATCH of them, spread over it, or later all of them, are unlike
    the training images for the most part, as pieces of a chip are to a model of whole chips, the
    image as a whole decides alone.
    """

    def __init__(self, inner: Inspector, wanted: bool = True):
        """wanted: otherwise it is only said of a large image how many tiles it has."""
        self.inner, self.wanted = inner, wanted

    @property
    def info(self) -> ModelInfo:
        return self.inner.info

    @property
    def methods(self) -> Sequence[str]:
        return self.inner.methods

    @property
    def whole(self) -> "TiledInspector":
        return TiledInspector(self.inner, wanted=False)

    def current(self) -> "TiledInspector":
        inner = self.inner.current()
        return self if inner is self.inner else TiledInspector(inner, self.wanted)

    def tiles(self, size: tuple[int, int]) -> tuple[Box, ...]:
        """Those of an image of this (width, height); none where it is inspected as a whole alone.

        Its cost is one inspection each, and one for the whole; MOST of them at most.
        """
        info = self.info
        side = max(info.image_side or SHRINK * info.image_size, info.image_size)
        if max(size) < LARGE * side:
            return ()
        while _count(size[0], side) * _count(size[1], side) > MOST:
            side = math.ceil(1.1 * side)
        return tiles_of(size, side)

    def inspect(self, image: Image.Image, threshold: float | None = None) -> Inspection:
        """Judge an upright 8-bit RGB image; regions and heat are those of all tiles."""
        return self.inspect_batch([self.prepare(image)], threshold)[0]

    def prepare(self, image: Image.Image) -> Prepared:
        whole = self.inner.prepare(image)
        boxes = self.tiles(image.size) if self.wanted else ()
        return replace(whole, tiles=tuple((box, self.inner.prepare(image.crop(box))) for box in boxes))

    def inspect_batch(self, images: Sequence[Prepared], threshold: float | None = None) -> list[Inspection]:
        wholes = self.inner.inspect_batch(images, threshold)
        return [self._in_tiles(one, whole, threshold) for one, whole in zip(images, wholes)]

    def _in_tiles(self, image: Prepared, whole: Inspection, threshold: float | None) -> Inspection:
        if not image.tiles:
            return self._as_whole(whole)
        started = perf_counter()
        tiles, seen, unlike, decide = _spread(image.tiles), [], 0, True
        while decide and len(seen) < len(tiles):
            boxes, prepared = zip(*tiles[len(seen) : len(seen) + BATCH])
            seen += zip(boxes, self.inner.inspect_batch(prepared, threshold))
            unlike = sum(inspection.out_of_distribution for _, inspection in seen)
            decide = unlike <= (1 - KNOWN) * len(seen)
        together = _joined(whole, seen) if decide else whole
        ms = sum(prepared.prepared_ms for _, prepared in tiles) + 1000 * (perf_counter() - started)
        timing = whole.timing_ms | {f"{len(seen):,} of {len(tiles):,} tiles": ms}
        found = Tiles(len(tiles), len(seen), unlike, decide, ms, sum(whole.timing_ms.values()), whole)
        return replace(together, tiles=found, timing_ms=timing)

    def _as_whole(self, whole: Inspection) -> Inspection:
        count = len(self.tiles(whole.image_size))
        if not count:
            return whole
        preparing, *rest = whole.timing_ms.values()  # the first grows with the image, unlike a tile's
        whole_ms = preparing + sum(rest)
        return replace(whole, tiles=Tiles(count, 0, 0, False, count * sum(rest), whole_ms, None))

    def nearest_normals(
        self, image: Image.Image, regions: Sequence[Region]
    ) -> tuple[tuple[NormalPatch, ...], ...]:
        """Of each region as it is in the tile that shows most around it."""
        boxes = self.tiles(image.size) if self.wanted else ()
        if not boxes:
            return self.inner.nearest_normals(image, regions)
        found = []
        for region in regions:
            left, top, right, bottom = box = max(boxes, key=lambda box: _margin(box, region))
            x, y = max(region.x, left), max(region.y, top)
            width, height = min(region.x + region.width, right) - x, min(region.y + region.height, bottom) - y
            inside = replace(region, x=x - left, y=y - top, width=width, height=height)
            found += self.inner.nearest_normals(image.crop(box), [inside])
        return tuple(found)

    def explain(self, image: Image.Image, method: str) -> np.ndarray:
        """One heat map by the method's name: (h, w) float32, 0-1. Raises ValueError if unknown.

        Methods that stretch each map to its own maximum explain the image as a whole: such maps
        cannot be put together.
        """
        whole = self.inner.explain(image, method)
        boxes = self.tiles(image.size) if self.wanted and method in UNSTRETCHED else ()
        parts = [(box, self.inner.explain(image.crop(box), method)) for box in boxes]
        return stitched(image.size, [*parts, ((0, 0, *image.size), whole)]) if parts else whole

    def regions(self, image: Image.Image, method: str) -> tuple[Region, ...]:
        """Those of the map that is put together, where there are tiles."""
        if self.wanted and self.tiles(image.size):
            return regions_of(self.explain(image, method), image.size)[:REGIONS]
        return self.inner.regions(image, method)


def _spread(tiles: Sequence[tuple[Box, Prepared]]) -> list[tuple[Box, Prepared]]:
    """All of them, in an order in which the first BATCH are spread over the image."""
    step = math.ceil(len(tiles) / BATCH)
    return [tile for start in range(step) for tile in tiles[start::step]]


def _joined(whole: Inspection, parts: Sequence[tuple[Box, Inspection]]) -> Inspection:
    """What the tiles show, and the whole where it is like the training images."""
    coarse = [] if whole.out_of_distribution else [((0, 0, *whole.image_size), whole)]
    looks = [*parts, *coarse]
    worst = max((look for _, look in looks), key=lambda look: look.abnormal_probability)
    heat = {
        name: stitched(whole.image_size, [(box, look.heat[name]) for box, look in looks])
        for name in whole.heat
    }
    return replace(
        whole,
        verdict=judge(worst.abnormal_probability, whole.threshold),
        abnormal_probability=worst.abnormal_probability,
        log_odds=worst.log_odds,
        out_of_distribution=worst.out_of_distribution,
        distance=worst.distance,
        regions=regions_of(next(iter(heat.values())), whole.image_size)[:REGIONS],
        heat=heat,
    )


def stitched(size: tuple[int, int], parts: Sequence[tuple[Box, np.ndarray]]) -> np.ndarray:
    """The maps of parts of an image of this (width, height) as one: each place the highest of them.

    (h, w); its places are as fine as those of the first part.
    """
    width, height = size
    (left, top, right, bottom), first = parts[0]
    across, down = first.shape[1] / (right - left), first.shape[0] / (bottom - top)  # places a pixel
    canvas = np.zeros((math.ceil(height * down), math.ceil(width * across)), np.float32)
    for (left, top, right, bottom), heat in parts:
        x, y = math.floor(left * across), math.floor(top * down)
        x_end, y_end = math.ceil(right * across), math.ceil(bottom * down)
        fitted = Image.fromarray(heat).resize((x_end - x, y_end - y), Image.Resampling.BILINEAR)
        part = canvas[y:y_end, x:x_end]
        np.maximum(part, np.asarray(fitted), out=part)
    return canvas


def _margin(box: Box, region: Region) -> float:
    """How far the middle of a region is from the nearest edge of a box; below 0 where it is outside."""
    x, y = region.x + region.width / 2, region.y + region.height / 2
    return min(x - box[0], box[2] - x, y - box[1], box[3] - y)
