"""Intermediate features of the network -> patch vectors, which a memory bank holds and is searched for."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from chipdemo.vision.anomaly.descriptor import FeatureStatistics, PatchDescriptor

CONSTANT = 0.5  # of the appended constant, relative to a channel's standard deviation
MIN_DEVIATION = 1e-3
CHANNELS = 192  # of a layer that are compared, at most


def some_channels(layer: Tensor, count: int) -> Tensor:
    """(N, C, h, w) -> (N, count, h, w), evenly spaced channels.

    With fewer channels a memory bank of the same size holds more patches, and its search takes less time
    (Defard et al., PaDiM, ICPR 2020, who draw the channels at random).
    """
    channels = layer.shape[1]
    return layer if channels == count else layer[:, torch.linspace(0, channels - 1, count).round().long()]


def compared_channels(layer: Tensor) -> Tensor:
    """The channels of a layer (N, C, h, w) that are compared."""
    return some_channels(layer, min(CHANNELS, layer.shape[1]))


def fit_statistics(intermediates: Sequence[Tensor]) -> FeatureStatistics:
    """Of the channels that are compared. intermediates: the layers of N normal images, each (N, C, h, w)."""
    intermediates = [compared_channels(layer) for layer in intermediates]
    return FeatureStatistics(
        tuple(layer.float().mean((0, 2, 3)).cpu().numpy() for layer in intermediates),
        tuple(layer.float().std((0, 2, 3)).clamp_min(MIN_DEVIATION).cpu().numpy() for layer in intermediates),
    )


def describe_patches(
    intermediates: Sequence[Tensor], statistics: FeatureStatistics, descriptor: PatchDescriptor
) -> Tensor:
    """The layers of N images, each (N, C, h, w) -> their patches (N, h, w, D), unit vectors.

    Of each layer the channels that the statistics are of are standardized, enlarged to the finest grid and
    averaged over the window. A constant is appended before the layer is scaled to unit length, so that every
    layer has the same weight and a patch without contrast is not amplified to noise.
    """
    size, window = intermediates[0].shape[2:], descriptor.window
    layers = []
    for layer, *values in zip(intermediates, statistics.mean, statistics.deviation):
        mean, deviation = (torch.from_numpy(value).to(layer.device) for value in values)
        layer = some_channels(layer, len(mean))
        layer = layer.contiguous(memory_format=torch.channels_last)  # in which averages are fast
        layer = (layer.float() - mean[:, None, None]) / deviation[:, None, None]
        if layer.shape[2:] != size:
            layer = F.interpolate(layer, size, mode="bilinear")
        layer = F.avg_pool2d(layer, window, 1, window // 2, count_include_pad=False)
        constant = torch.full_like(layer[:, :1], CONSTANT * math.sqrt(len(mean)))
        layers.append(F.normalize(torch.cat((layer, constant), 1), dim=1))
    return torch.cat(layers, 1).permute(0, 2, 3, 1) / math.sqrt(len(layers))  # (N, D, h, w) -> (N, h, w, D)
