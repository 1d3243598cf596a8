"""Nearest normal: what a region should have looked like."""

import numpy as np
from PIL import Image

from chipdemo.inspection import NormalPatch, Region
from chipdemo.vision.anomaly.stored import Normals, thumbnail_of


def patches_of(
    normals: Normals, image: np.ndarray, position: np.ndarray, region: Region, size: tuple[int, int]
) -> tuple[NormalPatch, ...]:
    """The patches that a region was compared with, that of the image with most matches first.

    image, place: (h, w), what each place is most like: Memory.nearest. region: in pixels of a
    image of this size, (width, height).
    """
    height, width = image.shape
    left, right = (round(x * width / size[0]) for x in (region.x, region.x + region.width))
    top, bottom = (round(y * height / size[1]) for y in (region.y, region.y + region.height))
    top, left = min(top, height - 1), min(left, width - 1)
    inside = np.s_[top : max(bottom, top + 1), left : max(right, left + 1)]
    rows, columns = np.mgrid[inside]
    numbers, votes = np.unique(image[inside], return_counts=True)
    patches = []
    for number in numbers[np.argsort(-votes, kind="stable")]:
        its = image[inside] == number
        # What it matches may lie a little further; the patch moves along
        across = np.median(position[inside][its] % width - columns[its]) / width
        down = np.median(position[inside][its] // width - rows[its]) / height
        patches.append(_patch(normals, int(number), across, down, float(its.mean()), region, size))
    return tuple(patches)


def _patch(
    normals: Normals,
    number: int,
    across: float,
    down: float,
    share: float,
    region: Region,
    size: tuple[int, int],
) -> NormalPatch:
    width, height = region.width / size[0], region.height / size[1]
    x = float(np.clip(region.x / size[0] + across, 0, 1 - width))
    y = float(np.clip(region.y / size[1] + down, 0, 1 - height))
    image = thumbnail_of(normals, number)
    if image is not None:
        box = (x * image.width, y * image.height, (x + width) * image.width, (y + height) * image.height)
        image = image.resize((region.width, region.height), Image.Resampling.BICUBIC, box)
    return NormalPatch(normals.images[number], x, y, width, height, share, image)
