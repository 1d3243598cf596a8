"""A view larger than the network's input: it passes through the network in overlapping windows.

Each window gives the patches of its middle, so that the patches of the view are as those of one input and
every patch has its position in the view.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from chipdemo.view import View

BATCH = 16  # windows in one pass


@dataclass(frozen=True)
class Windows:
    """count: of windows along a side. size: of one, pixels. margin: the edge of one that another window
    shows too, pixels; a multiple of the strides of the features."""

    count: int
    size: int
    margin: int

    @property
    def side(self) -> int:
        """Pixels of the view."""
        return self.count * (self.size - 2 * self.margin) + 2 * self.margin

    def run(
        self, view: View, network: Callable[[np.ndarray], Sequence[np.ndarray]]
    ) -> tuple[np.ndarray, ...]:
        """The layers of a view, each (H, W, C); 0 where a window shows nothing of the image.

        network: (N, size, size, 3) uint8 -> layers, each (N, h, w, C).
        """
        step = self.size - 2 * self.margin
        wanted = [
            (row, column)
            for row in range(self.count)
            for column in range(self.count)
            if self.count == 1 or self._shows_image(view, row, column)
        ]
        joined: tuple[np.ndarray, ...] = ()
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            pixels = [view.pixels[r * step :, c * step :][: self.size, : self.size] for r, c in batch]
            layers = network(np.stack(pixels))
            if self.count == 1:
                return tuple(layer[0] for layer in layers)
            joined = joined or tuple(np.zeros(self._joined_shape(layer), layer.dtype) for layer in layers)
            for whole, layer in zip(joined, layers):
                for (row, column), part in zip(batch, layer):
                    self._put(whole, part, row, column)
        return joined

    def _shows_image(self, view: View, row: int, column: int) -> bool:
        cells = view.inside((self.side // self.margin,) * 2)
        step, size = (self.size - 2 * self.margin) // self.margin, self.size // self.margin
        return bool(cells[row * step :, column * step :][:size, :size].any())

    def _joined_shape(self, layer: np.ndarray) -> tuple[int, int, int]:
        cells = layer.shape[1]
        edge = cells * self.margin // self.size
        side = self.count * (cells - 2 * edge) + 2 * edge
        return side, side, layer.shape[3]

    def _put(self, whole: np.ndarray, part: np.ndarray, row: int, column: int) -> None:
        """Write the middle of a window's layer; at the edge of the view, all of it."""
        cells = len(part)
        edge = cells * self.margin // self.size
        step, last = cells - 2 * edge, self.count - 1

        def kept(index: int) -> slice:
            return slice(edge if index else 0, cells - edge if index < last else cells)

        rows, columns = kept(row), kept(column)
        top, left = row * step, column * step
        whole[top + rows.start : top + rows.stop, left + columns.start : left + columns.stop] = part[
            rows, columns
        ]
