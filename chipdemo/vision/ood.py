"""How far an image is from the training images: out-of-distribution detection."""

import torch
from torch import Tensor, nn

AXES = 64  # principal directions that are kept; the rest share one variance


class OODDetector(nn.Module):
    """Mahalanobis distance under a Gaussian of the training embeddings (probabilistic PCA).

    Tipping and Bishop, J. R. Stat. Soc. B 61 (1999): the covariance is its AXES strongest
    directions plus one variance for all others, which is well determined by a few hundred
    images where a full covariance of 1,280 channels is not. Lee et al., NeurIPS 2018,
    use such a distance to detect images that are out of distribution.
    Before fit() every image is at distance 0.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("axes", torch.zeros(channels, AXES))  # orthonormal columns
        self.register_buffer("precision", torch.zeros(AXES))  # of each axis
        self.register_buffer("rest_precision", torch.zeros(()))  # of every direction off the axes

    def fit(self, embeddings: Tensor) -> None:
        """Learn from (N, C) training embeddings, N above AXES + 1 unless C is small."""
        embeddings = embeddings.double()
        self.mean.copy_(embeddings.mean(0))
        _, spread, directions = torch.linalg.svd(embeddings - embeddings.mean(0), full_matrices=False)
        variance = spread.square() / max(len(embeddings) - 1, 1)
        count = min(AXES, len(variance) - 1)
        floor = variance.mean() * 1e-6 + 1e-12
        self.axes.zero_()[:, :count] = directions[:count].T
        self.precision.zero_()[:count] = 1 / (variance[:count] + floor)
        rest = variance[count:].sum() / max(embeddings.shape[1] - count, 1)
        self.rest_precision.copy_(1 / (rest + floor))

    def forward(self, embeddings: Tensor) -> Tensor:
        """(N, C) embeddings -> (N,) distances, 0 and up; about sqrt(C) for a training image."""
        centered = embeddings - self.mean
        along = centered @ self.axes  # (N, C) -> (N, AXES)
        off = (centered.square().sum(1) - along.square().sum(1)).clamp_min(0)
        return (along.square() @ self.precision + off * self.rest_precision).sqrt()
