"""Rates of images, each with its counts and its uncertainty."""

from dataclasses import dataclass

import numpy as np

OUTSIDE = 0.05  # what a 95 % interval leaves outside, half of it at each end


@dataclass(frozen=True)
class Rate:
    """So many of so many images: a measured rate. A mean over several runs may have a fraction of an image.

    value: 0-1; nan for no images. interval: 95 %, 0-1, by Clopper and Pearson (Biometrika, 1934). It is
    exact: however few the images, it misses the true rate in at most 5 % of samples.
    """

    count: float
    total: float

    @property
    def value(self) -> float:
        return self.count / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        return _bound_below(self.count, self.total), 1 - _bound_below(self.total - self.count, self.total)

    def __str__(self) -> str:
        """ "138 of 151"."""
        return f"{self.count:,.0f} of {self.total:,.0f}"

    @property
    def uncertainty(self) -> str:
        """ "91 %, 95 % interval 86–95 %", with decimals where the interval is narrow; "no images"."""
        if not self.total:
            return "no images"
        low, high = self.interval
        decimals = sum(high - low < width for width in (0.05, 0.005))
        value, low, high = (f"{round(100 * share, decimals):g}" for share in (self.value, low, high))
        return f"{value} %, 95 % interval {low}–{high} %"

    def of(self, images: str) -> str:
        """ "138 of 151 abnormal images (91 %, 95 % interval 86–95 %)"."""
        return f"{self} {images} ({self.uncertainty})"


def _bound_below(count: float, total: float) -> float:
    from scipy import special  # here, since importing it takes a second

    return float(special.betaincinv(count, total - count + 1, OUTSIDE / 2)) if count else 0.0


def auroc_interval(probabilities: np.ndarray, abnormal: np.ndarray) -> tuple[float, float, float] | None:
    """The area under the ROC curve and its 95 % interval: (value, low, high), 0-1.

    probabilities: (N,). abnormal: (N,) bool. The variance is that of DeLong et al. (Biometrics, 1988), the
    interval is symmetric in the log-odds of the area. None for a class of fewer than two images, or where
    the classes do not overlap: the method then has no interval.
    """
    from scipy import special

    positive, negative = np.sort(probabilities[abnormal]), np.sort(probabilities[~abnormal])
    if min(len(positive), len(negative)) < 2:
        return None
    below, above = _shares_below(positive, negative), 1 - _shares_below(negative, positive)
    area = float(below.mean())
    variance = below.var(ddof=1) / len(positive) + above.var(ddof=1) / len(negative)
    if not variance:
        return None
    half = special.ndtri(1 - OUTSIDE / 2) * np.sqrt(variance) / (area * (1 - area))
    low, high = special.expit(special.logit(area) + np.array((-half, half)))
    return area, float(low), float(high)


def _shares_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) the share of the others, sorted, that is below each value; equal ones count half."""
    ranks = np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")
    return ranks / 2 / len(others)
