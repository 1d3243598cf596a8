"""Where a heat map is red: its regions. No torch, no gradio."""

import numpy as np
from PIL import Image
from scipy import ndimage

from chipdemo.inspection import Region

HALF = 0.5  # heat from which a place is a region; held-out normals hardly ever reach it
FINE = 8  # places are divided by this when regions are outlined


def regions_of(heat: np.ndarray, image_size: tuple[int, int]) -> tuple[Region, ...]:
    """Connected places at or above half heat, hottest first.

    heat: (h, w), 0-1, covering the whole image. image_size: (width, height), pixels.
    """
    if heat.max() < HALF:
        return ()
    rows, columns = heat.shape
    size = (columns * FINE, rows * FINE)
    fine = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    labels, count = ndimage.label(fine >= HALF)
    across, down = image_size[0] / fine.shape[1], image_size[1] / fine.shape[0]  # pixels a fine place
    regions = []
    for index, (y, x) in enumerate(ndimage.find_objects(labels), 1):
        inside = labels[y, x] == index
        left, top = round(x.start * across), round(y.start * down)
        regions.append(
            Region(
                x=left,
                y=top,
                width=max(round(x.stop * across) - left, 1),
                height=max(round(y.stop * down) - top, 1),
                score=float(fine[y, x][inside].max()),
                area=max(round(inside.sum() * across * down), 1),
            )
        )
    return tuple(sorted(regions, key=lambda region: region.score, reverse=True))
