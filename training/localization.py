"""Metrics of heatmaps: how well they find defects, given masks, and how well they explain a verdict."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from sklearn.metrics import roc_auc_score

FPR_LIMIT = 0.3  # false positive rate of pixels up to which AUPRO is integrated, as for MVTec AD
SHARES = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1)  # of the pixels; denser at the size of defects
BLUR = 1 / 20  # of an image's side, standard deviation of the blur that replaces removed pixels


def pixel_auroc(heat: np.ndarray, masks: np.ndarray) -> float:
    """Area under the ROC curve over all pixels of all images, 0-1.

    heat: (N, H, W), on one scale for all images. masks: (N, H, W) bool, the defects.
    """
    return float(roc_auc_score(masks.ravel(), heat.ravel()))


def aupro(heat: np.ndarray, masks: np.ndarray, limit: float = FPR_LIMIT) -> float:
    """Area under the per-region overlap curve up to a false positive rate, as a fraction of the maximum, 0-1.

    Bergmann et al., CVPR 2020: the overlap at a threshold is the share of a defect's pixels that reach it,
    averaged over all defects (connected regions of all masks), so that a small defect counts as much as
    a large one. Exact: every value of the heat is a threshold. Arguments as for pixel_auroc.
    """
    shares = np.zeros(masks.shape)  # what each pixel of a defect adds to the sum of the overlaps
    count = 0
    for mask, share in zip(masks, shares):
        regions, found = ndimage.label(mask)
        sizes = np.bincount(regions.ravel(), minlength=found + 1)
        share[mask] = 1 / sizes[regions[mask]]
        count += found
    order = np.argsort(-heat.ravel(), kind="stable")
    values, defect = heat.ravel()[order], masks.ravel()[order]
    overlap = np.cumsum(shares.ravel()[order]) / count
    false_rate = np.cumsum(~defect) / (~defect).sum()
    last = np.append(values[1:] != values[:-1], True)  # pixels of equal heat reach a threshold together
    overlap, false_rate = np.append(0, overlap[last]), np.append(0, false_rate[last])
    kept = false_rate < limit
    ending = np.interp(limit, false_rate, overlap)
    area = np.trapezoid(np.append(overlap[kept], ending), np.append(false_rate[kept], limit))
    return float(area / limit)


def pointing_game(heat: np.ndarray, masks: np.ndarray) -> float:
    """How often the hottest pixel of an image belongs to a defect, 0-1 (Zhang et al., IJCV 2018).

    Of several hottest pixels, the share that does: a constant map gets the score of chance.
    heat: (N, H, W). masks: (N, H, W) bool, none of them empty.
    """
    hottest = heat == heat.max((1, 2), keepdims=True)
    return float(((hottest & masks).sum((1, 2)) / hottest.sum((1, 2))).mean())


def energy_inside(heat: np.ndarray, masks: np.ndarray) -> float:
    """The share of an image's heat that lies on defects, 0-1, mean over images; without heat, 0.

    The energy-based pointing game (Wang et al., Score-CAM, 2020). heat: (N, H, W), 0 or more.
    """
    inside, whole = (heat * masks).sum((1, 2)), heat.sum((1, 2))
    return float(np.divide(inside, whole, out=np.zeros(len(heat)), where=whole > 0).mean())


def removal_curves(
    predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray, heat: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Deletion and insertion, each (len(SHARES),) probabilities (Petsiuk et al., RISE, 2018).

    Deletion blurs the hottest share of the pixels; insertion blurs all others. Pixels of equal heat are in
    a random order, the same in every call.

    predict: (n, H, W, 3) uint8 -> (n,) probability of the explained class. image: (H, W, 3) uint8.
    heat: (H, W).
    """
    side = BLUR * len(image)
    blurred = ndimage.gaussian_filter(image, (side, side, 0), mode="nearest")
    noise = np.random.default_rng(0).random(heat.size)
    rank = np.empty(heat.size)
    rank[np.lexsort((noise, -heat.ravel()))] = np.arange(heat.size) / heat.size
    chosen = [(rank.reshape(heat.shape) < share)[..., None] for share in SHARES]
    deleted = [np.where(one, blurred, image) for one in chosen]
    inserted = [np.where(one, image, blurred) for one in chosen]
    deletion, insertion = np.split(predict(np.stack(deleted + inserted)), 2)
    return deletion, insertion


def area_under(curve: np.ndarray) -> float:
    """The mean of a curve of removal_curves over the share of the pixels, 0-1."""
    return float(np.trapezoid(curve, SHARES))
