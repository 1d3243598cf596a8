"""The memory bank of normal patches that inverse feature matching compares with, and its search."""

import math
from collections.abc import Iterator

import numpy as np

ROWS = 2  # of the grid, searched at a time ...
AT_ONCE = 1_024  # ... or so many patches, where they lie anywhere
CELLS = 32  # along a side, in which positions are compared
TOO_FAR = -2.0  # is added to the similarity of patches that lie too far apart; the least is -1


class MemoryBank:
    """Patches of normal images, searched for those that are most like an image's patches.

    features: (M, D) float32 unit vectors, from describe_patches. position: (M,) int64, row * w + column on
    the grid (h, w). image: (M,) int64, the number of the image that each patch is from.
    reach: PatchDescriptor's.

    The similarity of two patches is their cosine, or nothing if their positions differ by more than reach
    along a side. The bank is kept in the order of its rows, so that a band around the searched rows is
    enough; which columns are near enough is part of the same product.
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
        height, width = grid
        rows, columns = np.divmod(self.position, width)
        self._far = [_far(side, reach) for side in grid]  # (side, cells): 0 or TOO_FAR
        one_hot = [_cells(side)[index] for side, index in ((height, rows), (width, columns))]
        bound = math.isfinite(reach)
        self._keys = np.hstack((self.features, *one_hot)).astype(np.float32) if bound else self.features
        self._starts = np.searchsorted(rows, np.arange(height + 1)).tolist()

    def search(self, patches: np.ndarray) -> np.ndarray:
        """The anomaly of each patch: (h, w, D) from describe_patches -> (h, w), 0-1.

        1 - the best similarity, by exact search.
        """
        anomaly = [1 - similarity.max(1) for similarity, _ in self._compared(patches)]
        return np.concatenate(anomaly).clip(0, 1).reshape(self.grid)

    def nearest(self, patches: np.ndarray) -> np.ndarray:
        """The patch of the bank that is most like each: (h, w, D) -> (h, w), rows of features."""
        index = [first + similarity.argmax(1) for similarity, first in self._compared(patches)]
        return np.concatenate(index).reshape(self.grid)

    def _compared(self, patches: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """For r rows at a time: (r w, m) similarity to a band of the bank, and the row where it begins."""
        height, width = self.grid
        if not math.isfinite(self.reach):
            every = patches.reshape(height * width, -1)
            for start in range(0, len(every), AT_ONCE):
                yield every[start : start + AT_ONCE] @ self._keys.T, 0
            return
        by_row, by_column = self._far
        margin = math.floor(self.reach * height)
        for top in range(0, height, ROWS):
            first = self._starts[max(top - margin, 0)]
            last = self._starts[min(top + ROWS + margin, height)]
            if first == last:  # no patch was kept so near
                first, last = 0, len(self.position)
            rows = patches[top : top + ROWS]
            far = np.concatenate(
                (
                    np.broadcast_to(by_row[top : top + ROWS, None], (len(rows), width, by_row.shape[1])),
                    np.broadcast_to(by_column, (len(rows), *by_column.shape)),
                ),
                2,
            )
            query = np.concatenate((rows, far), 2).reshape(len(rows) * width, -1)
            yield query @ self._keys[first:last].T, first


def _cells(side: int) -> np.ndarray:
    """(side, cells) float32: one in the cell that each row or column of the grid is in."""
    cells = min(side, CELLS)
    return np.eye(cells, dtype=np.float32)[np.arange(side) * cells // side]


def _far(side: int, reach: float) -> np.ndarray:
    """(side, cells) float32: 0 or TOO_FAR, of each row or column of the grid and each cell."""
    cells = min(side, CELLS)
    apart = np.abs((np.arange(side) * cells // side)[:, None] - np.arange(cells))
    return np.where(apart <= reach * cells, 0, TOO_FAR).astype(np.float32)
