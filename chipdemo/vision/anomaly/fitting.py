"""Fit a memory bank to good images, score each of them as if it were not in it, and set the limits.

features = extract_features(images, starting_backbone())    # reads them and runs the network, once
fitted = fit(features)
fitted.outliers                                             # rows to look at
fitted = fitted.without(fitted.outliers)                    # if they are to be left out
limits = limits_of(fitted, false_positive_rate=0.02)
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression

from chipdemo.errors import DataError
from chipdemo.teaching import MIN_IMAGES, Progress, silent, within
from chipdemo.vision.anomaly.anomaly_model import FittedBank, NormalLimits
from chipdemo.vision.anomaly.descriptor import PatchDescriptor
from chipdemo.vision.anomaly.features import DESCRIPTOR, ImageFeatures, first_unusable
from chipdemo.vision.anomaly.matching import score_of
from chipdemo.vision.anomaly.memory_bank import MemoryBank
from chipdemo.vision.anomaly.patches import fit_statistics

PATCHES = 20_000  # in the memory bank, of all images together ...
FEATURE_BYTES = 12_000_000  # ... and what they may take: the file stays below 20 MB with the thumbnails
STATISTICS_IMAGES = 300  # about as many the statistics of the features come from
HOT_RATE = 0.02  # share of normal images that may have a patch at half heat
TYPICAL = 0.05  # probability of abnormal of the median normal image
FAR_OUT = 3.0  # interquartile ranges above the upper quartile: Tukey's "far out"
NO_DEFECTS = np.empty(0)


@dataclass(frozen=True)
class Fit:
    """A memory bank fitted to images, and the scores of these images when each is held out.

    scores: (N,) anomaly score of each image. highest: (N,) anomaly of its hottest patch.
    outliers: rows of images that are unlike the others, the furthest first.
    """

    features: ImageFeatures
    bank: FittedBank
    scores: np.ndarray
    highest: np.ndarray
    outliers: tuple[int, ...]

    @property
    def independent(self) -> np.ndarray:
        """(G,) scores of images that differ: of near-duplicates, the one with the highest score."""
        highest = {}
        for group, score in zip(self.features.groups, self.scores):
            highest[group] = max(score, highest.get(group, score))
        return np.array(list(highest.values()))

    def without(self, rows: Collection[int], progress: Progress = silent) -> "Fit":
        """Fitted anew to all images but some; the same where there are none. Raises DataError."""
        return fit(self.features.without(rows), progress=progress) if rows else self


def fit(features: ImageFeatures, patches: int = PATCHES, progress: Progress = silent) -> Fit:
    """Fill a memory bank with so many patches and score each image against those of the others.

    Raises DataError for fewer than MIN_IMAGES images.
    """
    if (count := len(set(features.groups))) < MIN_IMAGES:
        near = " Near-duplicates count as one." if count < len(features.names) else ""
        raise DataError(
            f"{count} good images are too few: {MIN_IMAGES} that differ are needed.{near}"
            + first_unusable(features.unusable)
        )
    bank = fit_bank(features, DESCRIPTOR, patches, within(progress, 0, 0.3))
    scores, highest = hold_out(bank, features, within(progress, 0.3, 1))
    return Fit(features, bank, scores, highest, outliers_of(scores))


def fit_bank(
    features: ImageFeatures,
    descriptor: PatchDescriptor = DESCRIPTOR,
    patches: int = PATCHES,
    progress: Progress = silent,
) -> FittedBank:
    """A memory bank of so many patches, drawn at random from all images, the same every time."""
    count = len(features.names)
    step = max(count // STATISTICS_IMAGES, 1)
    statistics = fit_statistics([layer[::step] for layer in features.intermediates])
    height, width, dimensions = features.patches(0, statistics, descriptor).shape
    most = min(patches, FEATURE_BYTES // (2 * dimensions))
    chosen = np.sort(np.random.default_rng(0).permutation(count * height * width)[:most])
    image, position = chosen // (height * width), chosen % (height * width)
    kept = []
    for row in range(count):
        progress(row / count, "filling the memory bank")
        vectors = features.patches(row, statistics, descriptor).reshape(-1, dimensions)
        kept.append(vectors[position[image == row]].astype(np.float16))  # rounded as it is stored
    rounded = np.concatenate(kept).astype(np.float32)
    bank = MemoryBank(rounded, position, image, (height, width), descriptor.reach)
    return FittedBank(descriptor, statistics, bank, features.black.mean(0) > 0.5)


def anomaly_map(
    bank: FittedBank, features: ImageFeatures, row: int, without: Collection[int] = ()
) -> np.ndarray:
    """(h, w) float32, 0-1, of one image. without: as in MemoryBank.search."""
    patches = features.patches(row, bank.statistics, bank.descriptor)
    return bank.anomaly_map(patches, features.black[row], without)


def hold_out(
    bank: FittedBank, features: ImageFeatures, progress: Progress = silent
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) score and (N,) hottest patch of each fitted image, the patches of its group ignored."""
    scores, highest = [], []
    for row in range(len(features.names)):
        progress(row / len(features.names), "holding out each image in turn")
        anomaly = anomaly_map(bank, features, row, without=features.like(row))
        scores.append(score_of(anomaly))
        highest.append(anomaly.max())
    return np.array(scores), np.array(highest)


def scores_of(bank: FittedBank, features: ImageFeatures) -> np.ndarray:
    """(N,) anomaly scores of further images."""
    return np.array([score_of(anomaly_map(bank, features, row)) for row in range(len(features.names))])


def outliers_of(scores: np.ndarray) -> tuple[int, ...]:
    """(N,) scores of good images -> the rows of outliers, the furthest first.

    The search is repeated without those that were found, until there are none: the worst hide the others.
    """
    order = np.argsort(-scores)
    found = 0
    while True:
        low, high = np.quantile(scores[order[found:]], (0.25, 0.75))
        further = int((scores[order[found:]] > high + FAR_OUT * (high - low)).sum())
        if not further:
            return tuple(int(row) for row in order[:found])
        found += further


def upper_limit(values: np.ndarray, rate: float) -> float:
    """The value that a further normal image exceeds at this rate, 0-1. values: (N,) of held-out images.

    Their quantile; where they are too few to have one (N times the rate below 1), the upper bound of
    prediction under Student's distribution, or the highest of them if that is more.
    """
    if len(values) * rate >= 1:
        return float(np.quantile(values, 1 - rate))
    width = values.std(ddof=1) * math.sqrt(1 + 1 / len(values))
    bound = values.mean() + stats.t.ppf(1 - rate, len(values) - 1) * width
    return float(max(bound, values.max()))


def heat_limit(highest: np.ndarray) -> float:
    """The anomaly that shows as half heat. highest: (N,) hottest patches of held-out images."""
    return max(upper_limit(highest, HOT_RATE), 1e-6)


def limits_of(fitted: Fit, false_positive_rate: float, defects: np.ndarray = NO_DEFECTS) -> NormalLimits:
    """The limits of normal. defects: (K,) scores of known defects, if any.

    The wanted false positive rate of held-out images sets the limit. Known defects can raise it, to where
    a logistic fit to both is undecided, never lower it: the rate is not exceeded because of them.
    """
    good = fitted.independent
    limit, typical = upper_limit(good, false_positive_rate), float(np.median(good))
    if len(defects):
        unit = max(limit - typical, 1e-6)
        scores = (np.concatenate((good, defects)) - typical) / unit
        logistic = LogisticRegression(C=100.0, class_weight="balanced").fit(
            scores[:, None], np.arange(len(scores)) >= len(good)
        )
        if logistic.coef_[0, 0] > 0:
            crossing = typical + unit * float(-logistic.intercept_[0] / logistic.coef_[0, 0])
            limit = max(limit, crossing)
    spread = max(limit - typical, 1e-6) / math.log((1 - TYPICAL) / TYPICAL)
    return NormalLimits(heat_limit(fitted.highest), limit, spread)
