"""Middle features of the network -> places, the vectors that a memory of normal chips is made of."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from chipdemo.vision.anomaly.memory_bank import Description, Scale

CONTRAST = 0.5  # see describe


def fit_scale(intermediates: Sequence[Tensor]) -> Scale:
    """middle: the layers of N normal images, each (N, C, h, w)."""
    floor = 1e-3
    return Scale(
        tuple(layer.float().mean((0, 2, 3)).cpu().numpy() for layer in intermediates),
        tuple(layer.float().std((0, 2, 3)).clamp_min(floor).cpu().numpy() for layer in intermediates),
    )


def describe_patches(intermediates: Sequence[Tensor], scale: Scale, description: Description) -> Tensor:
    """The layers of N images, each (N, C, h, w) -> their places (N, h, w, D), unit vectors.

    Each layer is standardized by channel, enlarged to the finest grid and averaged over the
    window. It then has the same weight as the others: all are scaled to unit length, together
    with a constant, so that a place without contrast does not become loud noise.
    """
    size, window = intermediates[0].shape[2:], description.window
    layers = []
    for layer, *statistics in zip(intermediates, scale.mean, scale.deviation):
        mean, deviation = (torch.from_numpy(values).to(layer.device) for values in statistics)
        layer = (layer.float() - mean[:, None, None]) / deviation[:, None, None]
        if layer.shape[2:] != size:
            layer = F.interpolate(layer, size, mode="bilinear")
        layer = F.avg_pool2d(layer, window, 1, window // 2, count_include_pad=False)
        constant = torch.full_like(layer[:, :1], CONTRAST * math.sqrt(len(mean)))
        layers.append(F.normalize(torch.cat((layer, constant), 1), dim=1))
    return torch.cat(layers, 1).permute(0, 2, 3, 1) / math.sqrt(len(layers))  # (N, D, h, w) -> (N, h, w, D)
