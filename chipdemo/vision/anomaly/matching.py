"""Two ways of finding where a chip is abnormal by matching features.

Ullah et al., *Industrial defective chips detection using deep CNN with inverse feature matching
mechanism* (JCDE 2024), localize by "inverse feature matching" and masking. The text of the paper was
not available to us, so there are two methods here:
    class-weight matching   what the paper's public code does, for any network with a pooled linear
                            head: the weights of the class "abnormal" are matched with the last
                            convolutional features; peaks of that map are the defects.
    inverse matching        our interpretation of the name: each patch is matched with a memory bank
                            of normal patches, and the best similarity is inverted.
Both keep to a fixed scale of heat, on which normal images hardly ever reach 0.5.
"""

import cv2
import numpy as np
from PIL import Image

from chipdemo.regions import HALF
from chipdemo.vision.cam import fixed_scale_heatmap
from chipdemo.vision.runtimes.engine import EngineOutput

BLACK = 16  # 0-255; a patch is background where no channel of any pixel is as bright
SMALLEST = 2  # patches of the grid that a region has
HOTTEST = 10  # patches that give the score of an image; a small defect has as many, however large the image
BLUR = 1.0  # standard deviation of the smoothing, patches of a view of one window ...
MOST_BLUR = 2.0  # ... and of a larger one, where as many patches show less of the image
WINDOW = 32  # patches along a side of one window


def black_patches(pixels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Where an image is black throughout: (H, W, 3) uint8 -> (h, w) bool."""
    lit = Image.fromarray((np.maximum.reduce(cv2.split(pixels)) >= BLACK).astype(np.float32))
    return np.asarray(lit.resize(grid[::-1], Image.Resampling.BOX)) == 0


def class_weight_heatmap(output: EngineOutput, pixels: np.ndarray, heat_scale: float) -> np.ndarray:
    """(h, w) float32, 0-1, of one image that is judged abnormal; 0 where the image is black.

    output: of one image. pixels: (H, W, 3) uint8 that the engine got. heat_scale: ModelSpec's, of the
    difference of both classes. Trained by cross entropy, the weights of the two classes move by the same
    amount in opposite directions, so that the map of one class is half as high as that of the difference.
    """
    heatmap = fixed_scale_heatmap(output.abnormal_map[0], heat_scale / 2)
    return np.where(black_patches(pixels, heatmap.shape), np.float32(0), heatmap)


def inverse_heatmap(anomaly: np.ndarray, limit: float, cam: np.ndarray | None = None) -> np.ndarray:
    """(h, w) anomaly -> (h, w) float32, 0-1; `limit` shows as 0.5.

    cam: (h', w') heatmap to multiply by, as a geometric mean, which keeps 0.5 what it is.
    """
    heatmap = fixed_scale_heatmap(anomaly, limit)
    if cam is not None:
        enlarged = Image.fromarray(cam).resize(heatmap.shape[::-1], Image.Resampling.BILINEAR)
        heatmap = np.sqrt(heatmap * np.asarray(enlarged))
    return without_small(heatmap)


def smoothed(anomaly: np.ndarray) -> np.ndarray:
    """(..., h, w) anomaly, smoothed within each image: the neighbors of a defect see it too."""
    from scipy import ndimage  # here, since importing it takes half a second

    blur = min(BLUR * max(anomaly.shape[-1] / WINDOW, 1), MOST_BLUR)
    deviation = (0,) * (anomaly.ndim - 2) + (blur, blur)
    return ndimage.gaussian_filter(anomaly, deviation).astype(np.float32)


def score_of(anomaly: np.ndarray) -> float:
    """How abnormal an image is: the mean over its hottest patches, which one outlier hardly moves."""
    return float(np.sort(anomaly, axis=None)[-HOTTEST:].mean())


def without_small(heatmap: np.ndarray) -> np.ndarray:
    """(h, w) heat in which what would be a region of too few patches stays just below half heat."""
    from scipy import ndimage

    labels, _ = ndimage.label(heatmap >= HALF, np.ones((3, 3)))
    small = np.bincount(labels.ravel()) < SMALLEST
    small[0] = False
    return np.where(small[labels], np.minimum(heatmap, np.float32(HALF - 1e-3)), heatmap)
