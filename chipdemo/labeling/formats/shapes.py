"""Boxes, polygons and masks, between the pixels of a label and what other programs write."""

import math
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from chipdemo.errors import LabelError
from chipdemo.images import MAX_MEGAPIXELS, content_sha256, read_image
from chipdemo.labeling.label import Box, Polygon

NO_TYPE = "defect"  # what a defect without a type is called where each must have one

Points = Sequence[tuple[float, float]]  # (x, y), pixels
Size = tuple[int, int]  # width, height


def box_in(x: float, y: float, width: float, height: float, defect_type: str, size: Size) -> Box:
    """The box in whole pixels inside the image. Raises LabelError if it is all outside."""
    left, top = max(round(x), 0), max(round(y), 0)
    right, bottom = min(round(x + width), size[0]), min(round(y + height), size[1])
    if left >= right or top >= bottom:
        raise LabelError(
            f"The box {(x, y, width, height)} is outside the image, which has {size[0]} x {size[1]} pixels."
        )
    return Box(left, top, right - left, bottom - top, defect_type)


def polygon_in(points: Points, defect_type: str, size: Size) -> Polygon | Box:
    """The polygon in whole pixels inside the image; the box around one that is too small for that.

    Raises LabelError if it is all outside.
    """
    inside = [tuple(min(max(round(at), 0), most) for at, most in zip(point, size)) for point in points]
    kept = [point for point, before in zip(inside, [None, *inside]) if point != before]
    polygon = Polygon(tuple(kept), defect_type)
    if polygon.has_area:
        return polygon
    (left, right), (top, bottom) = ((min(along), max(along)) for along in zip(*points))
    left, top = math.floor(left), math.floor(top)
    return box_in(
        left, top, max(math.ceil(right) - left, 1), max(math.ceil(bottom) - top, 1), defect_type, size
    )


def filled(points: Points, size: Size) -> np.ndarray:
    """(height, width) bool: the pixels whose center is inside the polygon, as pycocotools has them.

    OpenCV and Pillow fill the outline too: of a defect of 3 x 3 pixels they would make 4 x 4.
    """
    pixels = np.zeros((size[1], size[0]), bool)
    x, y = np.array(points, float).T
    to_x, to_y = np.roll(x, -1), np.roll(y, -1)
    for row in range(max(math.floor(y.min()), 0), min(math.ceil(y.max()), size[1])):
        middle = row + 0.5
        sides = (y < middle) != (to_y < middle)
        slope = (to_x - x)[sides] / (to_y - y)[sides]
        crossed = np.sort(x[sides] + (middle - y[sides]) * slope)
        for left, right in np.ceil(crossed - 0.5).astype(int).clip(0).reshape(-1, 2):
            pixels[row, left:right] = True
    return pixels


def checked_size(width: int, height: int) -> Size:
    """Raises LabelError if no image may be so large."""
    if not 0 < width * height <= MAX_MEGAPIXELS * 1e6:
        raise LabelError(
            f"An image of {width} x {height} pixels is too large; the limit is {MAX_MEGAPIXELS:g} megapixels."
        )
    return width, height


def mask_in(source: object, size: Size) -> tuple[bytes, str]:
    """The mask as PNG of 0 and 255, and the hash of its pixels. source: as for read_image.

    Raises LabelError, ImageError.
    """
    mask = read_image(source).image.convert("L").point(lambda value: 255 * (value > 0))
    if mask.size != size:
        raise LabelError(f"The mask has another size than the image: {mask.size} and {size} pixels.")
    return png_of(mask), content_sha256(mask.convert("RGB"))


def png_of(mask: Image.Image) -> bytes:
    file = BytesIO()
    mask.save(file, "PNG")
    return file.getvalue()


def pixels_of(mask: bytes) -> np.ndarray:
    """The PNG of a mask -> (height, width) bool."""
    return np.asarray(Image.open(BytesIO(mask)).convert("L")) > 0


def merged_masks(masks: Sequence[tuple[str, np.ndarray]]) -> tuple[bytes, str, tuple[str, ...]]:
    """One mask as PNG, its defect type, and what is lost, in words: a label has one mask of one type.

    masks: defect type, (height, width) bool; at least one, all of one size.
    """
    types = [defect_type for defect_type, _ in masks]
    most = max(sorted(types), key=types.count)
    others = sorted({one or "(that of the label)" for one in types if one != most})
    lost = f"the defect types of masks, {', '.join(others)}, as the masks were merged into one"
    pixels = np.logical_or.reduce([mask for _, mask in masks])
    return png_of(Image.fromarray(pixels)), most, (lost,) if others else ()


def most_frequent(types: Sequence[str]) -> str:
    """The defect type of a label whose defects have these types, NO_TYPE for none; "" where there is none."""
    most = max(sorted(types), key=list(types).count, default="")
    return "" if most == NO_TYPE else most


def own_type(written: str, label_type: str) -> str:
    """The defect type of a box, polygon or mask: "" where it is that of its label."""
    return "" if written == (label_type or NO_TYPE) else written
