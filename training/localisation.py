"""How well heat finds defects: pixel AUROC and AUPRO, against masks that people drew."""

import numpy as np
from scipy import ndimage
from sklearn.metrics import roc_auc_score

FPR_LIMIT = 0.3  # AUPRO is integrated up to this rate of false pixels, as MVTec AD has it


def pixel_auroc(heat: np.ndarray, masks: np.ndarray) -> float:
    """Area under the ROC curve over all pixels of all photographs, 0-1.

    heat: (N, H, W), on one scale for all photographs. masks: (N, H, W) bool, the defects.
    """
    return float(roc_auc_score(masks.ravel(), heat.ravel()))


def aupro(heat: np.ndarray, masks: np.ndarray, limit: float = FPR_LIMIT) -> float:
    """Area under the per-region overlap curve up to a rate of false pixels, as a fraction of its best, 0-1.

    Bergmann et al., CVPR 2020: a threshold's overlap is the share of a defect's pixels that reach it,
    averaged over all defects (connected regions of all masks), so that a small defect counts as much as
    a large one. Exact: every value of the heat is a threshold. Arguments as for pixel_auroc.
    """
    shares = np.zeros(masks.shape)  # of the average overlap, that each pixel of a defect stands for
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
    last = np.append(values[1:] != values[:-1], True)  # pixels of equal heat are passed together
    overlap, false_rate = np.append(0, overlap[last]), np.append(0, false_rate[last])
    kept = false_rate < limit
    ending = np.interp(limit, false_rate, overlap)
    area = np.trapezoid(np.append(overlap[kept], ending), np.append(false_rate[kept], limit))
    return float(area / limit)
