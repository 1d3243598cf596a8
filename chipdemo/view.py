"""How an image lies in the network's square input, and the way back for what is found there.

Both are unit squares, x to the right and y down; a (2, 3) matrix takes a point of one to one of the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

FINER = 2  # times as many patches as the network's has the longer side of a heatmap that was turned

SEEN = 3 / 32  # of the side, how far a patch sees around itself

SQUEEZED = np.eye(2, 3)


@dataclass(frozen=True, eq=False)
class View:
    """An image as the network gets it.

    pixels: (S, S, 3) uint8. to_image: (2, 3), from the unit square of the pixels to that of the image.
    image_size: (width, height) of the image, pixels. moved: it was turned or shifted, as other views are not.
    """

    pixels: np.ndarray
    to_image: np.ndarray
    image_size: tuple[int, int]
    moved: bool = False

    def inside(self, grid: tuple[int, int]) -> np.ndarray:
        """(h, w) bool on a grid of patches: those that show the image; in a moved view, nothing but it.

        Of an image thinner than a patch, those nearest to it: some patch shows every image.
        """
        height, width = grid
        y, x = (np.indices(grid).reshape(2, -1) + 0.5) / [[height], [width]]
        points = self.to_image @ np.stack((x, y, np.ones_like(x)))  # (2, h w)
        outside = np.maximum(-points, points - 1).max(0)  # how far, in sides of the image
        inside = (outside <= max(outside.min() + 1e-9, 0)).reshape(grid).astype(np.uint8)
        if self.moved:
            side = 2 * round(SEEN * max(grid)) + 1
            border = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 1}
            only = cv2.erode(inside, np.ones((side, side)), **border)
            inside = only if only.any() else inside
        return inside > 0

    def on_image(self, heatmap: np.ndarray) -> np.ndarray:
        """(h, w) heat of the view -> (h', w') float32 on the image; 0 where the view does not reach."""
        if self.to_image is SQUEEZED:
            return heatmap
        width, height = self.image_size
        longer = FINER * max(heatmap.shape)
        scale = longer / max(width, height)
        across, down = max(round(width * scale), 1), max(round(height * scale), 1)
        matrix = _between(self.to_image, heatmap.shape[::-1], (across, down))
        return cv2.warpAffine(heatmap.astype(np.float32), matrix, (across, down), flags=cv2.INTER_LINEAR)

    def picture(self, size: tuple[int, int]) -> Image.Image:
        """What the view shows of the image, laid back on it. size: (width, height) of the result, pixels."""
        if self.to_image is SQUEEZED:
            return Image.fromarray(self.pixels).resize(size)
        matrix = _between(self.to_image, self.pixels.shape[1::-1], size)
        return Image.fromarray(cv2.warpAffine(self.pixels, matrix, size, flags=cv2.INTER_LINEAR))

    def from_image(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in the unit square of the image -> of the box around it in the view's."""
        left, top, right, bottom = box
        corners = np.array([[left, right, left, right], [top, top, bottom, bottom], [1, 1, 1, 1]])
        points = inverse(self.to_image) @ corners
        return (*points.min(1).tolist(), *points.max(1).tolist())

    def pasted(self, pixels: np.ndarray, moved: np.ndarray, part: tuple[int, int, int, int]) -> Image.Image:
        """Pixels of another view, laid on the image: the part (left, top, width, height) of it, in pixels.

        pixels: (H, W, 3) uint8. moved: (2, 3), from the unit square of this view to that of the pixels.
        """
        left, top, width, height = part
        on_part = np.array(
            [[width / self.image_size[0], 0, left / self.image_size[0]]]
            + [[0, height / self.image_size[1], top / self.image_size[1]]]
        )
        matrix = compose(moved, compose(inverse(self.to_image), on_part))  # of the part -> of the pixels
        shown = cv2.warpAffine(
            pixels,
            _between(matrix, (width, height), pixels.shape[1::-1]),
            (width, height),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return Image.fromarray(shown)


def turned(view: View, pose: np.ndarray) -> View:
    """The view seen from another pose. pose: (2, 3), from the new unit square to the view's."""
    size = view.pixels.shape[1], view.pixels.shape[0]
    pixels = cv2.warpAffine(
        view.pixels,
        _between(pose, size, size),
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return View(pixels, compose(view.to_image, pose), view.image_size, moved=True)


def reduced(view: View, side: int) -> View:
    """The view with fewer pixels: side x side."""
    if len(view.pixels) == side:
        return view
    pixels = cv2.resize(view.pixels, (side, side), interpolation=cv2.INTER_AREA)
    return replace(view, pixels=pixels)


def inverse(matrix: np.ndarray) -> np.ndarray:
    """The (2, 3) matrix that undoes another."""
    return np.linalg.inv(np.vstack((matrix, (0, 0, 1))))[:2]


def compose(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The (2, 3) matrix that does what `before` does, then `after`."""
    return after @ np.vstack((before, (0, 0, 1)))


def _between(matrix: np.ndarray, source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """A matrix of unit squares -> of pixels as OpenCV counts them, from their centers.

    source, target: (width, height), pixels.
    """
    to_pixels = np.array([[target[0], 0, -0.5], [0, target[1], -0.5]])
    from_pixels = np.array([[1 / source[0], 0, 0.5 / source[0]], [0, 1 / source[1], 0.5 / source[1]]])
    return compose(compose(to_pixels, matrix), from_pixels)
