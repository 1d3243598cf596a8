"""Augmentation for images of chips, a batch at a time."""

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_SHIFT = 0.04  # of the side
MAX_BRIGHTNESS = MAX_CONTRAST = 0.2


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """(N, S, S, 3) uint8 pixels -> (N, S, S, 3) float32, 0-255.

    Each image gets one of the eight flips and right-angle turns, a shift by whole pixels
    (mirrored at the edge) and its own brightness and contrast. Nothing is interpolated: the
    network trains on images as sharp as those that it will inspect.
    """
    count, side = pixels.shape[:2]

    def uniform(*shape: int) -> Tensor:  # -1 to 1; drawn on the CPU, where the generator is
        return (torch.rand(*shape, generator=generator) * 2 - 1).to(pixels.device)

    flips = uniform(count, 2).sign()
    turn = (uniform(count) > 0).float()
    matrix = torch.zeros(count, 2, 3, device=pixels.device)
    matrix[:, 0, 0] = flips[:, 0] * (1 - turn)
    matrix[:, 0, 1] = flips[:, 0] * turn
    matrix[:, 1, 0] = flips[:, 1] * turn
    matrix[:, 1, 1] = flips[:, 1] * (1 - turn)
    matrix[:, :, 2] = (uniform(count, 2) * MAX_SHIFT * side).round() * 2 / side
    images = pixels.permute(0, 3, 1, 2).float()  # (N, S, S, 3) -> (N, 3, S, S)
    grid = F.affine_grid(matrix, images.shape, align_corners=False)
    images = F.grid_sample(images, grid, "nearest", padding_mode="reflection", align_corners=False)
    mean = images.mean((1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
    contrast = 1 + MAX_CONTRAST * uniform(count, 1, 1, 1)
    brightness = 1 + MAX_BRIGHTNESS * uniform(count, 1, 1, 1)
    images = ((images - mean) * contrast + mean * brightness).clamp(0, 255)
    return images.permute(0, 2, 3, 1)
