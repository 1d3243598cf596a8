"""The memory bank of normal patches that inverse feature matching compares with, and its search."""

import math
from collections.abc import Collection, Iterator

import numpy as np

ROWS = 2  # of the grid, searched at a time


class MemoryBank:
    """Patches of normal images, searched for those that are most like an image's patches.

    features: (M, D) float32 unit vectors, from describe_patches. position: (M,) int64, row * w + column on
    the grid (h, w). image: (M,) int64, the number of the image that each patch is from.
    reach: PatchDescriptor's.

    The similarity of two patches is their cosine minus the squared distance between their positions in
    units of reach, and at least 0. Patches further apart than reach need no comparison: the bank is kept
    in the order of its rows, and a band around the searched rows is enough.
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
        center = (np.indices(grid).reshape(2, -1).T + 0.5) / grid - 0.5  # (h w, 2), sides of the image
        far = np.square(center).sum(1, keepdims=True) / reach**2
        one, near = np.ones_like(far), center * math.sqrt(2) / reach
        # -|p - q|^2 = 2 p.q - |p|^2 - |q|^2: the distance is part of the same product
        self._query = np.hstack((near, one, -far)).astype(np.float32)  # (h w, 4), appended to an image's
        self._keys = np.hstack((self.features, np.hstack((near, -far, one))[self.position])).astype(
            np.float32
        )
        self._starts = np.searchsorted(self.position, np.arange(grid[0] + 1) * grid[1]).tolist()

    def search(self, patches: np.ndarray, without: Collection[int] = ()) -> np.ndarray:
        """The anomaly of each patch: (h, w, D) from describe_patches -> (h, w), 0-1.

        1 - the best similarity, by exact search. without: numbers of images whose patches are ignored.
        """
        anomaly = [1 - similarity.max(1) for similarity, _ in self._compared(patches, without)]
        return np.concatenate(anomaly).clip(0, 1).reshape(self.grid)

    def nearest(self, patches: np.ndarray) -> np.ndarray:
        """The patch of the bank that is most like each: (h, w, D) -> (h, w), rows of features."""
        index = [first + similarity.argmax(1) for similarity, first in self._compared(patches, ())]
        return np.concatenate(index).reshape(self.grid)

    def _compared(self, patches: np.ndarray, without: Collection[int]) -> Iterator[tuple[np.ndarray, int]]:
        """For r rows at a time: (r w, m) similarity to a band of the bank, and the row where it begins."""
        height, width = self.grid
        ignored = np.isin(self.image, list(without))
        query = np.hstack((patches.reshape(height * width, -1), self._query))
        margin = math.ceil(min(self.reach * height, height))
        for top in range(0, height, ROWS):
            first = self._starts[max(top - margin, 0)]
            last = self._starts[min(top + ROWS + margin, height)]
            if first == last:  # no patch was kept so near; all others are out of reach, or nearly so
                first, last = 0, len(self.position)
            similarity = query[top * width : (top + ROWS) * width] @ self._keys[first:last].T
            similarity[:, ignored[first:last]] = 0
            yield similarity, first
