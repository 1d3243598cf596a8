"""Pixels -> tensor: the only such code, shared by training and serving."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def pixels_of(image: Image.Image, size: int, interpolation: str) -> np.ndarray:
    """An upright RGB image -> (size, size, 3) uint8.

    The whole image is kept: its sides are scaled to the square, nothing is cropped, so
    that a defect at the edge is seen and the network's grid covers the image.
    """
    red, green, blue = image.split()
    if red == green == blue:  # most are gray: scaled once instead of three times, to the same pixels
        return np.array(_scaled(red, size, interpolation).convert("RGB"))
    return np.array(_scaled(image, size, interpolation))


def _scaled(image: Image.Image, size: int, interpolation: str) -> Image.Image:
    return image.resize((size, size), RESAMPLING[interpolation])


def normalize(pixels: "Tensor", mean: tuple[float, ...], std: tuple[float, ...]) -> "Tensor":
    """(N, H, W, 3) pixels, uint8 or float 0-255 -> (N, 3, H, W) float32 in channels-last memory."""
    pixels = pixels.permute(0, 3, 1, 2).float()
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in (mean, std))
    return pixels * (1 / (255 * std)) - mean / std
