"""The patches of normal images that a region was compared with: how it should have looked."""

import numpy as np
from PIL import Image

from chipdemo.inspection import NormalPatch, Region
from chipdemo.view import View
from chipdemo.vision.anomaly.anomaly_model import AnomalyModel


def nearest_patches(
    model: AnomalyModel, image: np.ndarray, position: np.ndarray, region: Region, view: View
) -> tuple[NormalPatch, ...]:
    """Patches of normal images that match a region best; that of the image with most matches first.

    image, position: (h, w) of each patch of the view, the image and the position of its nearest one in the
    memory bank. region: in pixels of the upright image.
    """
    height, width = image.shape
    box = np.array((region.x, region.y, region.x + region.width, region.y + region.height), float)
    left, top, right, bottom = view.from_image(tuple(box / (*view.image_size, *view.image_size)))
    first, last = (int(np.clip(round(y * height), 0, height - 1)) for y in (top, bottom - 1 / height))
    begin, end = (int(np.clip(round(x * width), 0, width - 1)) for x in (left, right - 1 / width))
    inside = np.s_[first : max(last, first) + 1, begin : max(end, begin) + 1]
    rows, columns = np.mgrid[inside]
    numbers, votes = np.unique(image[inside], return_counts=True)
    patches = []
    for number in numbers[np.argsort(-votes, kind="stable")]:
        its = image[inside] == number
        # The match may lie a little further on; the patch shown moves with it
        across = float(np.median(position[inside][its] % width - columns[its])) / width
        down = float(np.median(position[inside][its] // width - rows[its])) / height
        x, y = np.clip((left + across, top + down), 0, 1 - np.minimum((right - left, bottom - top), 1))
        moved = np.array([[1, 0, x - left], [0, 1, y - top]])
        share = float(its.mean())
        shown = _shown(model.thumbnail(int(number)), view, moved, region)
        size = min(right - left, 1.0), min(bottom - top, 1.0)
        patches.append(NormalPatch(model.images[number], float(x), float(y), *size, share, shown))
    return tuple(patches)


def _shown(
    thumbnail: Image.Image | None, view: View, moved: np.ndarray, region: Region
) -> Image.Image | None:
    """The part of a small copy that belongs at a region, turned as the image is.

    moved: (2, 3), from the unit square of the view to that of the small copy.
    """
    if thumbnail is None:
        return None
    return view.pasted(np.asarray(thumbnail), moved, (region.x, region.y, region.width, region.height))
