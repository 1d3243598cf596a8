"""The memory of normal features that inverse feature matching compares with: describe, fill, search."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS = 2  # of places that are searched for at a time
CONTRAST = 0.5  # see Description


@dataclass(frozen=True)
class Description:
    """How a place of a photograph becomes a vector, and how two of them compare.

    strides: of the backbone's layers that are joined, finest first; the finest has the grid.
    window: a place is averaged with its neighbours over so many places, side of a square, odd.
    reach: how far apart two places can lie and still be alike, in sides of the photograph; inf
        for chips that lie anywhere.
    """

    strides: tuple[int, ...] = (8, 16)
    window: int = 3
    reach: float = 0.1


@dataclass(frozen=True)
class Scale:
    """The statistics of normal features, a row a layer: mean and deviation (C,) of each channel."""

    mean: tuple[Tensor, ...]
    deviation: tuple[Tensor, ...]

    def to(self, device: torch.device) -> "Scale":
        return Scale(tuple(t.to(device) for t in self.mean), tuple(t.to(device) for t in self.deviation))


def fit_scale(middle: Sequence[Tensor]) -> Scale:
    """middle: the layers of N normal photographs, each (N, C, h, w)."""
    floor = 1e-3
    return Scale(
        tuple(layer.float().mean((0, 2, 3)) for layer in middle),
        tuple(layer.float().std((0, 2, 3)).clamp_min(floor) for layer in middle),
    )


def describe(middle: Sequence[Tensor], scale: Scale, description: Description) -> Tensor:
    """The layers of N photographs, each (N, C, h, w) -> their places (N, h, w, D), unit vectors.

    Each layer is standardised by channel, enlarged to the finest grid and averaged over the
    window. It then has the same weight as the others: all are scaled to unit length, together
    with a constant, so that a place without contrast does not become loud noise.
    """
    size, window = middle[0].shape[2:], description.window
    layers = []
    for layer, mean, deviation in zip(middle, scale.mean, scale.deviation):
        layer = (layer.float() - mean[:, None, None]) / deviation[:, None, None]
        if layer.shape[2:] != size:
            layer = F.interpolate(layer, size, mode="bilinear")
        layer = F.avg_pool2d(layer, window, 1, window // 2, count_include_pad=False)
        constant = torch.full_like(layer[:, :1], CONTRAST * math.sqrt(len(mean)))
        layers.append(F.normalize(torch.cat((layer, constant), 1), dim=1))
    return torch.cat(layers, 1).permute(0, 2, 3, 1) / math.sqrt(len(layers))  # (N, D, h, w) -> (N, h, w, D)


class Memory:
    """Places of normal chips, searched for those that are like a photograph's.

    features: (M, D), from describe. place: (M,) row * w + column on the grid (h, w).
    photograph: (M,) the number of the photograph that each is from. reach: Description's.

    The similarity of two places is the cosine less the squared distance between them in units of
    reach, and at least 0. So places further apart than reach need not be compared, and of the
    memory, which is kept in the order of its rows, a band around the searched rows is enough.
    """

    def __init__(
        self, features: Tensor, place: Tensor, photograph: Tensor, grid: tuple[int, int], reach: float
    ):
        order = place.argsort(stable=True)
        self.features, self.place, self.photograph = features[order], place[order], photograph[order]
        self.grid, self.reach = grid, reach
        middle = (torch.cartesian_prod(*(torch.arange(n) + 0.5 for n in grid)) / torch.tensor(grid)).to(
            features.device
        ) - 0.5  # (h w, 2), in sides of the photograph
        far = middle.square().sum(1, keepdim=True) / reach**2
        one, near = torch.ones_like(far), middle * math.sqrt(2) / reach
        # -|p - q|^2 = 2 p.q - |p|^2 - |q|^2: the distance is part of the same product
        self._asked = torch.cat((near, one, -far), 1)  # (h w, 4), what is appended to a photograph's places
        self._keys = torch.cat((self.features.float(), torch.cat((near, -far, one), 1)[self.place]), 1)
        self._starts = torch.searchsorted(self.place, torch.arange(grid[0] + 1) * grid[1]).tolist()

    def to(self, device: torch.device) -> "Memory":
        features, place, photograph = (t.to(device) for t in (self.features, self.place, self.photograph))
        return Memory(features, place, photograph, self.grid, self.reach)

    def search(self, places: Tensor, without: int = -1) -> Tensor:
        """How little each place is like any normal one: (h, w, D) from describe -> (h, w), 0-1.

        1 - the best similarity; exact. without: a photograph whose own places do not count.
        """
        anomaly = [1 - similarity.amax(1) for similarity, _ in self._compared(places, without)]
        return torch.cat(anomaly).clamp(0, 1).reshape(self.grid)

    def nearest(self, places: Tensor) -> Tensor:
        """The place of the memory that is most like each: (h, w, D) -> (h, w), rows of features."""
        index = [first + similarity.argmax(1) for similarity, first in self._compared(places, -1)]
        return torch.cat(index).reshape(self.grid)

    def _compared(self, places: Tensor, without: int) -> Iterator[tuple[Tensor, int]]:
        """A few rows at a time: their similarity (r w, m) to a band of the memory, and where that begins."""
        height, width = self.grid
        asked = torch.cat((places.flatten(0, 1), self._asked), 1)
        margin = math.ceil(min(self.reach * height, height))
        for top in range(0, height, ROWS):
            first = self._starts[max(top - margin, 0)]
            last = self._starts[min(top + ROWS + margin, height)]
            if first == last:  # nothing was kept so near; everything else is out of reach, or nearly so
                first, last = 0, len(self.place)
            similarity = asked[top * width : (top + ROWS) * width] @ self._keys[first:last].T
            if without >= 0:
                similarity[:, self.photograph[first:last] == without] = 0
            yield similarity, first
