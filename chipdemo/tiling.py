"""Tiles of a large image, since small defects vanish when the whole is scaled down."""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from chipdemo.grids import SCALE, cells_of
from chipdemo.images import DecodedImage
from chipdemo.inspection import Box, ModelInfo, Region

SHRINK = 3  # times the network's input: the side of a tile where the training images' size is not known
OVERLAP = 0.25  # of neighboring tiles, least share of their side, so that a defect is whole in one of them
LARGE = 2  # an image is tiled when its longer side is at least this many tiles
MOST = 256  # tiles of an image; where there would be more, they are larger
BATCH = 16  # tiles in one forward pass

Item = TypeVar("Item")


class Layout(NamedTuple):
    """The tiles of an image. cells: they are the cells of a grid, side by side; other tiles overlap."""

    boxes: tuple[Box, ...]
    cells: bool = False


def is_large(size: tuple[int, int], info: ModelInfo) -> bool:
    """Whether an image of this (width, height) has tiles for a model."""
    return max(size) >= LARGE * _side(info)


def tiles_for(image: DecodedImage, info: ModelInfo) -> Layout:
    """The tiles of an image for a model; none where it is inspected as a whole. There are MOST at most.

    Where the image shows a grid of cells about as large as the images that the model was trained on, they
    are the tiles. Otherwise a tile has as many pixels as these images, since the model knows chips at that
    scale.
    """
    size, side = image.size, _side(info)
    if not is_large(size, info):
        return Layout(())
    if info.image_side and size[0] * size[1] <= MOST * (SCALE * info.image_side) ** 2:
        cells = cells_of(image.image, info.image_side, size)
        if 0 < len(cells) <= MOST:
            return Layout(cells, cells=True)
    while _count(size[0], side) * _count(size[1], side) > MOST:
        side = math.ceil(1.1 * side)
    return Layout(tiles_of(size, side))


def _side(info: ModelInfo) -> int:
    """Of a tile, pixels."""
    return max(info.image_side or SHRINK * info.image_size, info.image_size)


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
    """Tiles along one side of the image."""
    return math.ceil(max(length - side, 0) / (side * (1 - OVERLAP))) + 1


def spread(tiles: Sequence[Item]) -> list[Item]:
    """All tiles, in an order in which the first BATCH are spread over the image."""
    step = math.ceil(len(tiles) / BATCH)
    return [tile for start in range(step) for tile in tiles[start::step]]


def stitch(size: tuple[int, int], parts: Sequence[tuple[Box, np.ndarray]]) -> np.ndarray:
    """The heatmaps of parts of an image of this (width, height) as one, (h, w): the highest value wins.

    Its patches are as fine as those of the first part.
    """
    width, height = size
    (left, top, right, bottom), first = parts[0]
    across, down = first.shape[1] / (right - left), first.shape[0] / (bottom - top)  # patches a pixel
    canvas = np.zeros((math.ceil(height * down), math.ceil(width * across)), np.float32)
    for (left, top, right, bottom), heatmap in parts:
        x, y = math.floor(left * across), math.floor(top * down)
        x_end, y_end = math.ceil(right * across), math.ceil(bottom * down)
        fitted = Image.fromarray(heatmap).resize((x_end - x, y_end - y), Image.Resampling.BILINEAR)
        part = canvas[y:y_end, x:x_end]
        np.maximum(part, np.asarray(fitted), out=part)
    return canvas


def tile_around(tiles: Sequence[Box], region: Region) -> Box:
    """The tile that shows most around a region."""
    x, y = region.x + region.width / 2, region.y + region.height / 2
    return max(tiles, key=lambda box: min(x - box[0], box[2] - x, y - box[1], box[3] - y))
