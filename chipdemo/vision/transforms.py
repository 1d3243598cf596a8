"""Pixels -> tensor: the only such code, shared by training and serving."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def pixels_of(image: Image.Image, size: int, interpolation: str) -> np.ndarray:
    """An upright RGB photograph -> (size, size, 3) uint8.

    The whole photograph is kept: its sides are scaled to the square, nothing is cropped, so
    that a defect at the edge is seen and the network's grid covers the photograph.
    """
    return np.array(image.resize((size, size), RESAMPLING[interpolation]))


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(N, H, W, 3) pixels, uint8 or float 0-255 -> (N, 3, H, W) float32 in channels-last memory."""
    scale = 1 / (255 * torch.tensor(std, device=pixels.device))
    shift = torch.tensor(mean, device=pixels.device) / torch.tensor(std, device=pixels.device)
    return (pixels.float() * scale - shift).permute(0, 3, 1, 2)
