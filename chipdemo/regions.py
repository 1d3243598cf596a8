"""The regions of a heatmap. No torch, no gradio."""

import cv2
import numpy as np
from PIL import Image

from chipdemo.inspection import CLASS_WEIGHTS, FIXED_SCALE, MATCHINGS, Region

HALF = 0.5  # heat from which a patch belongs to a region; held-out normal images hardly ever reach it
FINE = 8  # patches are divided by this when regions are outlined
MOST, MOST_MATCHED = 20, 5  # regions of an image, the hottest; of a matching
PEAK_SHARE, PEAK_DISTANCE, PEAK_GRID = 0.5, 10, 224  # of the highest peak; pixels, of a square of this side


def find_regions(
    heatmap: np.ndarray, method: str, image_size: tuple[int, int], in_tiles: bool = False
) -> tuple[Region, ...]:
    """What a method's heatmap shows: at most MOST regions, hottest first; none without a fixed scale.

    heatmap: (h, w), 0-1. image_size: (width, height), pixels. in_tiles: the heatmap is stitched from tiles.
    """
    if method not in FIXED_SCALE:
        return ()
    if in_tiles:
        return regions_of(heatmap, image_size)[:MOST]
    if method == CLASS_WEIGHTS:
        return peaks_of(heatmap, image_size)
    return regions_of(heatmap, image_size)[: MOST_MATCHED if method in MATCHINGS else MOST]


def regions_of(heatmap: np.ndarray, image_size: tuple[int, int]) -> tuple[Region, ...]:
    """Connected parts at or above half heat, hottest first.

    heatmap: (h, w), 0-1, covering the whole image. image_size: (width, height), pixels.
    """
    if heatmap.max() < HALF:
        return ()
    rows, columns = heatmap.shape
    size = (columns * FINE, rows * FINE)
    fine = cv2.resize(heatmap.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    hot = (fine >= HALF).astype(np.uint8)
    _, labels, parts, _ = cv2.connectedComponentsWithStats(hot, connectivity=4)
    across, down = image_size[0] / fine.shape[1], image_size[1] / fine.shape[0]  # pixels of a fine patch
    regions = []
    for index, (x, y, columns, rows, patches) in enumerate(parts[1:].tolist(), 1):  # the first is the rest
        inside = np.s_[y : y + rows, x : x + columns]
        score = float(fine[inside][labels[inside] == index].max())
        left, top = round(x * across), round(y * down)
        width, height = max(round((x + columns) * across) - left, 1), max(round((y + rows) * down) - top, 1)
        area = min(max(round(patches * across * down), 1), width * height)
        regions.append(Region(left, top, width, height, score, area))
    return tuple(sorted(regions, key=lambda region: region.score, reverse=True))


def peaks_of(heatmap: np.ndarray, image_size: tuple[int, int]) -> tuple[Region, ...]:
    """At most MOST_MATCHED peaks of (h, w) heat, as squares around them in pixels of the image."""
    from skimage.feature import peak_local_max  # here, since importing it takes most of a second

    fine = np.asarray(Image.fromarray(heatmap).resize((PEAK_GRID, PEAK_GRID), Image.Resampling.BILINEAR))
    if not fine.any():
        return ()
    peaks = peak_local_max(
        fine,
        min_distance=PEAK_DISTANCE,
        threshold_rel=PEAK_SHARE,
        num_peaks=MOST_MATCHED,
        exclude_border=False,
    )
    across, down = image_size[0] / PEAK_GRID, image_size[1] / PEAK_GRID
    regions = []
    for y, x in peaks:
        top, left = max(y - PEAK_DISTANCE, 0), max(x - PEAK_DISTANCE, 0)
        around = fine[top : y + PEAK_DISTANCE + 1, left : x + PEAK_DISTANCE + 1]
        width, height = (max(round(n * scale), 1) for n, scale in zip(around.shape[::-1], (across, down)))
        area = max(round((around >= PEAK_SHARE * fine.max()).sum() * across * down), 1)
        regions.append(
            Region(
                round(left * across),
                round(top * down),
                width,
                height,
                float(fine[y, x]),
                min(area, width * height),
            )
        )
    return tuple(sorted(regions, key=lambda region: region.score, reverse=True))
