"""The cells of an image that shows a regular grid of them: a module of solar cells, a panel, a tray.

Cells are parted by dark lines that cross the whole image. No torch, no gradio.
"""

import math
from itertools import product

import cv2
import numpy as np
from PIL import Image

from chipdemo.inspection import Box

CELL = 60  # pixels; the image is scaled so that a cell of the expected side has as many
LINE = 9  # pixels of that; a dark line is narrower
SCALE = 1.5  # cells are at most so many times larger or smaller than expected
MARGIN = 0.5  # of a cell, at most, lies outside the grid, on both sides together
CONTRAST = 3  # times as dark as what lies between is every line between cells ...
BETWEEN = 80  # ... of which this percentile counts: busbars cross whole rows of cells too


def cells_of(image: Image.Image, side: int, size: tuple[int, int]) -> tuple[Box, ...]:
    """The cells, row by row, or none where the image shows no grid of at least two of them.

    side: the expected one of a cell, pixels; it may be wrong by a factor of SCALE. size: (width, height) in
    which side and cells are counted; the image may have fewer pixels.
    """
    scale = CELL / side
    width, height = (max(round(length * scale), 1) for length in size)
    gray = np.asarray(image.convert("L").resize((width, height), Image.Resampling.BOX))
    along_x, along_y = (_divisions(_darkness(levels)) for levels in (gray, gray.T))
    grids = [
        (darkness_x + darkness_y, x, y)
        for (darkness_x, x), (darkness_y, y) in product(along_x, along_y)
        if len(x) + len(y) > 4  # more than one cell
    ]
    if not grids:
        return ()

    def squareness(x: np.ndarray, y: np.ndarray) -> float:
        sides = x[1] - x[0], y[1] - y[0]
        return min(sides) / max(sides)

    # Busbars are as dark as lines between cells, but would make cells that are no squares
    _, x, y = max(grids, key=lambda grid: grid[0] * squareness(*grid[1:]))
    x = np.rint(x * size[0] / width).astype(int).tolist()
    y = np.rint(y * size[1] / height).astype(int).tolist()
    return tuple((left, top, right, bottom) for top, bottom in zip(y, y[1:]) for left, right in zip(x, x[1:]))


def _darkness(gray: np.ndarray) -> np.ndarray:
    """(h, w) uint8 -> (w,) how much darker each column is than those beside it, median of its pixels.

    A black top-hat: of lines that cross the whole image, it leaves hardly anything else.
    """
    top_hat = cv2.morphologyEx(np.ascontiguousarray(gray), cv2.MORPH_BLACKHAT, np.ones((1, LINE), np.uint8))
    return np.median(top_hat, axis=0)


def _divisions(darkness: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """The divisions of one side into n cells by lines that are all dark: how dark on average, (n + 1,) edges.

    A side too short for two cells is one cell.
    """
    from scipy import ndimage  # here, since importing it takes half a second

    length = len(darkness)
    if length < CELL * SCALE:
        return [(0.0, np.array([0, length]))]
    smooth, wide = ndimage.gaussian_filter1d(darkness, 1), ndimage.maximum_filter1d(darkness, 3)
    fewest, most = max(math.ceil(length / (CELL * SCALE)), 2), math.floor(length * SCALE / CELL)
    # Lines cannot be darker than their limit where not even this bound of all limits is reached
    least = np.sort(darkness)[max(int(BETWEEN / 100 * (length - 5 * (most - 1) - 1)), 0)]
    if np.count_nonzero(wide > CONTRAST * (least + 1)) < fewest - 1:
        return []
    found = []
    for count in range(fewest, most + 1):
        fits = []
        for margin in range(round(MARGIN * length / (count + MARGIN)) + 1):
            edges = np.linspace(0, length - margin, count + 1)
            starts = np.arange(margin + 1)[:, None]
            lines = np.rint(edges[1:-1] + starts).astype(int)  # (starts, count - 1)
            mean = smooth[lines].mean(1)
            fits.append((mean.max(), edges + mean.argmax()))
        darkest, edges = max(fits, key=lambda fit: fit[0])
        lines = np.rint(edges[1:-1]).astype(int)
        between = np.ones(length, bool)
        between[np.clip(lines + np.arange(-2, 3)[:, None], 0, length - 1)] = False
        limit = CONTRAST * (np.percentile(darkness[between], BETWEEN) + 1)  # a gray level of noise
        if wide[lines].min() > limit:
            found.append((darkest, edges))
    return found
