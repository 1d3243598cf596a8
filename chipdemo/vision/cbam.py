"""CBAM: convolutional block attention module (Woo et al., ECCV 2018, arXiv:1807.06521)."""

import torch
from torch import Tensor, nn


class ChannelAttention(nn.Module):
    """Which channels matter: sigmoid(MLP(mean) + MLP(max)) with one shared MLP (eq. 2)."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) features -> (N, C) weights, 0-1."""
        pooled = torch.stack((features.mean((2, 3)), features.amax((2, 3))))  # (N, C, h, w) -> (2, N, C)
        return torch.sigmoid(self.mlp(pooled).sum(0))


class SpatialAttention(nn.Module):
    """Which patches matter: sigmoid of a 7x7 convolution over the channels' mean and max (eq. 3)."""

    def __init__(self, kernel: int = 7):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) features -> (N, h, w) weights, 0-1."""
        pooled = torch.stack((features.mean(1), features.amax(1)), 1)  # (N, C, h, w) -> (N, 2, h, w)
        return torch.sigmoid(self.conv(pooled))[:, 0]  # (N, 1, h, w) -> (N, h, w)


class CBAM(nn.Module):
    """Channel attention, then spatial attention; both maps are handed out.

    The features are weighed by channel alone. What pools or sums them up weighs by patch afterwards, which
    is the same and touches each of them once less.

    channels: C of the features. reduction: of the channel MLP. kernel: of the spatial convolution.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7):
        super().__init__()
        self.channel = ChannelAttention(channels, reduction)
        self.spatial = SpatialAttention(kernel)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, h, w) -> F' (N, C, h, w), channel weights (N, C), spatial weights (N, h, w).

        F'' = M_s(F') * F' is F' times the spatial weights.
        """
        channel = self.channel(features)
        features = features * channel[:, :, None, None]  # F' = M_c(F) * F
        return features, channel, self.spatial(features)
