"""The patches of normal images that a region was compared with: how it should have looked."""

import numpy as np
from PIL import Image

from chipdemo.inspection import NormalPatch, Region
from chipdemo.vision.anomaly.anomaly_model import AnomalyModel


def nearest_patches(
    model: AnomalyModel, image: np.ndarray, position: np.ndarray, region: Region, size: tuple[int, int]
) -> tuple[NormalPatch, ...]:
    """Patches of normal images that match a region best; that of the image with most matches first.

    image, position: (h, w) of each patch, the image and the position of its nearest one in the memory bank.
    region: in pixels of an image of this size, (width, height).
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
        # The match may lie a little further on; the patch shown moves with it
        across = np.median(position[inside][its] % width - columns[its]) / width
        down = np.median(position[inside][its] // width - rows[its]) / height
        patches.append(_patch(model, int(number), across, down, float(its.mean()), region, size))
    return tuple(patches)


def _patch(
    model: AnomalyModel,
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
    image = model.thumbnail(number)
    if image is not None:
        box = (x * image.width, y * image.height, (x + width) * image.width, (y + height) * image.height)
        image = image.resize((region.width, region.height), Image.Resampling.BICUBIC, box)
    return NormalPatch(model.images[number], x, y, width, height, share, image)
