"""Pixels -> tensor: the only such code, shared by training and serving."""

from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from chipdemo.images import REDUCING_GAP
from chipdemo.view import SQUEEZED, View

if TYPE_CHECKING:
    from torch import Tensor

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def pixels_of(image: Image.Image, size: int, interpolation: str) -> np.ndarray:
    """An upright RGB image -> (size, size, 3) uint8.

    The whole image is kept: its sides are scaled to the square, nothing is cropped, so
    that a defect at the edge is seen and the network's grid covers the image.
    """
    return _scaled(image, (size, size), interpolation)


def _scaled(image: Image.Image, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """To (width, height) pixels: (H, W, 3) uint8.

    Of a large image, averages of its pixels are scaled, as Pillow's reducing_gap has it: a JPEG that is
    reduced while it is decoded gives nearly the same.
    """
    across, down = (max(side // (REDUCING_GAP * wanted), 1) for side, wanted in zip(image.size, size))
    box = 0, 0, image.width / across, image.height / down
    if across > 1 or down > 1:
        image = image.reduce((across, down))
    red, green, blue = image.split()
    if red == green == blue:  # most are gray: scaled once instead of three times, to the same pixels
        gray = np.asarray(red.resize(size, RESAMPLING[interpolation], box))
        return cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)
    return np.array(image.resize(size, RESAMPLING[interpolation], box))


def squeezed(image: Image.Image, size: int, interpolation: str) -> View:
    """The sides of an upright RGB image scaled to a square of `size` px."""
    return View(pixels_of(image, size, interpolation), SQUEEZED, image.size)


def letterboxed(image: Image.Image, size: int, interpolation: str) -> View:
    """An upright RGB image scaled to fit into a square of `size` px, in its middle.

    Its border pixels go on to the edges of the square, so that there is no edge where there was none.
    """
    width, height = image.size
    scale = size / max(width, height)
    across, down = max(round(width * scale), 1), max(round(height * scale), 1)
    if across == down:
        return squeezed(image, size, interpolation)
    fitted = _scaled(image, (across, down), interpolation)
    left, top = (size - across) // 2, (size - down) // 2
    margins = (top, size - down - top), (left, size - across - left), (0, 0)
    to_image = np.array([[size / across, 0, -left / across], [0, size / down, -top / down]])
    return View(np.pad(fitted, margins, "edge"), to_image, image.size)


def normalize(pixels: "Tensor", mean: tuple[float, ...], std: tuple[float, ...]) -> "Tensor":
    """(N, H, W, 3) pixels, uint8 or float 0-255 -> (N, 3, H, W) float32 in channels-last memory.

    By whole rows: runtimes are slow at vectors of three.
    """
    width, rows = pixels.shape[2], pixels.float().flatten(2)  # (N, H, 3 W)
    mean, std = (rows.new_tensor(values).repeat(width) for values in (mean, std))
    normalized = rows * (1 / (255 * std)) - mean / std
    return normalized.reshape(pixels.shape).permute(0, 3, 1, 2)
