"""The memory of normal features that inverse feature matching compares with, and its search."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ROWS = 2  # of places that are searched for at a time


@dataclass(frozen=True)
class Description:
    """How a place of an image becomes a vector, and how two of them compare.

    strides: of the backbone's layers that are joined, finest first; the finest has the grid.
    window: a place is averaged with its neighbors over so many places, side of a square, odd.
    reach: how far apart two places can lie and still be alike, in sides of the image; inf
        for chips that lie anywhere.
    """

    strides: tuple[int, ...] = (8, 16)
    window: int = 3
    reach: float = 0.1


@dataclass(frozen=True)
class Scale:
    """The statistics of normal features, a row a layer: mean and deviation (C,) of each channel."""

    mean: tuple[np.ndarray, ...]
    deviation: tuple[np.ndarray, ...]


class Memory:
    """Places of normal chips, searched for those that are like an image's.

    features: (M, D) float32, from describe. place: (M,) row * w + column on the grid (h, w).
    image: (M,) the number of the image that each is from. reach: Description's.

    The similarity of two places is the cosine less the squared distance between them in units of
    reach, and at least 0. So places further apart than reach need not be compared, and of the
    memory, which is kept in the order of its rows, a band around the searched rows is enough.
    """

    def __init__(
        self,
        features: np.ndarray,
        position: np.ndarray,
        image: np.ndarray,
        grid: tuple[int, int],
        reach: float,
    ):
        order = position.argsort(kind="stable")
        self.features, self.position, self.image = features[order], position[order], image[order]
        self.grid, self.reach = grid, reach
        middle = (np.indices(grid).reshape(2, -1).T + 0.5) / grid - 0.5  # (h w, 2), sides of the image
        far = np.square(middle).sum(1, keepdims=True) / reach**2
        one, near = np.ones_like(far), middle * math.sqrt(2) / reach
        # -|p - q|^2 = 2 p.q - |p|^2 - |q|^2: the distance is part of the same product
        self._asked = np.hstack((near, one, -far)).astype(np.float32)  # (h w, 4), appended to an image's
        self._keys = np.hstack((self.features, np.hstack((near, -far, one))[self.position])).astype(
            np.float32
        )
        self._starts = np.searchsorted(self.position, np.arange(grid[0] + 1) * grid[1]).tolist()

    def search(self, patches: np.ndarray, without: int = -1) -> np.ndarray:
        """How little each place is like any normal one: (h, w, D) from describe -> (h, w), 0-1.

        1 - the best similarity; exact. without: an image whose own places do not count.
        """
        anomaly = [1 - similarity.max(1) for similarity, _ in self._compared(patches, without)]
        return np.concatenate(anomaly).clip(0, 1).reshape(self.grid)

    def nearest(self, patches: np.ndarray) -> np.ndarray:
        """The place of the memory that is most like each: (h, w, D) -> (h, w), rows of features."""
        index = [first + similarity.argmax(1) for similarity, first in self._compared(patches, -1)]
        return np.concatenate(index).reshape(self.grid)

    def _compared(self, patches: np.ndarray, without: int) -> Iterator[tuple[np.ndarray, int]]:
        """A few rows at a time: their similarity (r w, m) to a band of the memory, and where that begins."""
        height, width = self.grid
        asked = np.hstack((patches.reshape(height * width, -1), self._asked))
        margin = math.ceil(min(self.reach * height, height))
        for top in range(0, height, ROWS):
            first = self._starts[max(top - margin, 0)]
            last = self._starts[min(top + ROWS + margin, height)]
            if first == last:  # nothing was kept so near; everything else is out of reach, or nearly so
                first, last = 0, len(self.position)
            similarity = asked[top * width : (top + ROWS) * width] @ self._keys[first:last].T
            if without >= 0:
                similarity[:, self.image[first:last] == without] = 0
            yield similarity, first
