"""Fit a memory bank to good images, score each of them as if it were not in it, and set the limits.

features = extract_features(images, starting_backbone())    # reads them and runs the network, once
fitted = fit(features)
fitted.outliers                                             # rows to look at
fitted = fitted.without(fitted.outliers)                    # if they are to be left out
limits = limits_of(fitted.independent, fitted.highest, false_positive_rate=0.02)

Images are held out in parts, near-duplicates together: each is scored by a bank of those of the other parts.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, stats
from sklearn.linear_model import LogisticRegression

from chipdemo.errors import DataError
from chipdemo.teaching import MIN_IMAGES, Progress, silent, within
from chipdemo.vision.anomaly.alignment import Alignment
from chipdemo.vision.anomaly.anomaly_model import FittedBank, NormalAnomaly, NormalLimits
from chipdemo.vision.anomaly.coreset import DIMENSIONS, coreset
from chipdemo.vision.anomaly.descriptor import FeatureStatistics, PatchDescriptor
from chipdemo.vision.anomaly.features import ImageFeatures, first_unusable
from chipdemo.vision.anomaly.matching import score_of, smoothed
from chipdemo.vision.anomaly.memory_bank import MemoryBank
from chipdemo.vision.anomaly.patches import fit_statistics

PATCHES = 4_000  # in the memory bank
CANDIDATES = 60_000  # patches that it is chosen from, of all images together
STATISTICS_IMAGES = 300  # about as many the statistics of the features come from
PARTS = 5  # in which images are held out
CONSENSUS_PATCHES = 8_000  # of all parts together, that a patch is compared with for its consensus
HOT_RATE = 0.02  # share of normal images that may have a patch at half heat
TYPICAL = 0.05  # probability of abnormal of the median normal image
OUTLYING = 1.5  # interquartile ranges above the upper quartile: Tukey's fence
SPREAD = 1.5  # patches, standard deviation of the smoothing of what is normal at a position
PRIOR = 30  # images that the deviation over all positions counts as, beside that at one position
NO_DEFECTS = np.empty(0)


@dataclass(frozen=True)
class Fit:
    """A memory bank fitted to images, and the scores of these images when each is held out.

    scores: (N,) anomaly score of each image. highest: (N,) anomaly of its hottest patch.
    maps: (N, h, w) float32 anomaly of each image. outliers: rows of images that are unlike the others, the
    furthest first.
    """

    features: ImageFeatures
    bank: FittedBank
    maps: np.ndarray
    scores: np.ndarray
    highest: np.ndarray
    outliers: tuple[int, ...]

    @property
    def independent(self) -> np.ndarray:
        """(G,) scores of images that differ."""
        return independent(self.scores, self.features.groups)

    def without(self, rows: Collection[int], progress: Progress = silent) -> "Fit":
        """Fitted anew to all images but some; the same where there are none. Raises DataError."""
        if not rows:
            return self
        return fit(self.features.without(rows), len(self.bank.memory_bank.features), progress)


def fit(features: ImageFeatures, patches: int | None = None, progress: Progress = silent) -> Fit:
    """Fill a memory bank, and score each image by a bank of others.

    patches: in the bank; unless given, PATCHES for one window and more for a larger view.

    Raises DataError for fewer than MIN_IMAGES images.
    """
    if (count := len(set(features.groups))) < MIN_IMAGES:
        near = " Near-duplicates count as one." if count < len(features.names) else ""
        raise DataError(
            f"{count} good images are too few: {MIN_IMAGES} that differ are needed.{near}"
            + first_unusable(features.unusable)
        )
    patches = patches or patches_for(features.alignment)
    candidates = candidates_of(features, within(progress, 0, 0.2))
    typical = candidates.of(typical_rows(candidates, features, within(progress, 0.2, 0.5)))
    parts = parts_of(features.groups)
    banks = [typical.of(parts[typical.image] != part).bank(patches) for part in range(parts.max() + 1)]
    progress(0.7, "filling the memory bank")
    anomaly = np.stack(
        [
            smoothed(banks[parts[row]].search(candidates.patches(features, row)))
            for row in _followed(len(features.names), within(progress, 0.7, 1), "holding out each image")
        ]
    )
    normal = normal_anomaly(anomaly, features.inside)
    held_out = held_out_anomaly(anomaly, features.inside, parts)
    maps = _shown(held_out, features, background := features.black.mean(0) > 0.5)
    bank = FittedBank(
        candidates.descriptor,
        candidates.statistics,
        typical.bank(patches),
        background,
        normal,
        features.alignment,
    )
    scores = np.array([score_of(one) for one in maps])
    return Fit(features, bank, maps, scores, maps.max((1, 2)), outliers_of(scores))


def patches_for(alignment: Alignment, of_one: int = PATCHES) -> int:
    """In a memory bank. of_one: for a view of one window; for a view of twice the area, half as many more."""
    return round(of_one * math.sqrt(alignment.windows.count)) if alignment.windows else of_one


@dataclass(frozen=True, eq=False)
class Candidates:
    """Patches that a memory bank can be filled with, as it stores them: (M, D), (M,) and (M,)."""

    descriptor: PatchDescriptor
    statistics: FeatureStatistics
    grid: tuple[int, int]
    vectors: np.ndarray
    position: np.ndarray
    image: np.ndarray

    def of(self, rows: np.ndarray) -> "Candidates":
        """These alone."""
        return Candidates(
            self.descriptor,
            self.statistics,
            self.grid,
            self.vectors[rows],
            self.position[rows],
            self.image[rows],
        )

    def patches(self, features: ImageFeatures, row: int) -> np.ndarray:
        """(h, w, D) of one image."""
        return features.patches(row, self.statistics, self.descriptor)

    def bank(self, patches: int) -> MemoryBank:
        """A coreset of so many; one of positions too, where patches match near their own alone."""
        points, reach = self.vectors, self.descriptor.reach
        if math.isfinite(reach):
            places = np.stack(np.divmod(self.position, self.grid[1]), 1) / self.grid / reach
            points = np.hstack((points, places.astype(np.float32)))
        rows = coreset(points, patches)
        kept = self.vectors[rows], self.position[rows], self.image[rows]
        return MemoryBank(*kept, self.grid, reach)


def candidates_of(features: ImageFeatures, progress: Progress = silent) -> Candidates:
    """Patches drawn at random from all images, the same every time; none from beside an image."""
    count, descriptor = len(features.names), features.descriptor
    step = max(count // STATISTICS_IMAGES, 1)
    statistics = fit_statistics([layer[::step] for layer in features.intermediates])
    grid = features.inside.shape[1:]
    drawn = np.sort(np.random.default_rng(0).permutation(count * grid[0] * grid[1])[:CANDIDATES])
    drawn = drawn[features.inside.reshape(-1)[drawn]]
    image, position = np.divmod(drawn, grid[0] * grid[1])
    vectors = []
    for row in _followed(count, progress, "collecting patches"):
        patches = features.patches(row, statistics, descriptor)
        vectors.append(patches.reshape(-1, patches.shape[2])[position[image == row]].astype(np.float16))
    rounded = np.concatenate(vectors).astype(np.float32)  # as they are stored
    return Candidates(descriptor, statistics, grid, rounded, position, image)


def typical_rows(candidates: Candidates, features: ImageFeatures, progress: Progress = silent) -> np.ndarray:
    """(M,) bool: the candidates that other images have too, so that a defect among the images is not learned.

    Each patch is compared with patches of every part of the images but its own, in a random projection. Its
    consensus is the median over the parts: what is seen in few images only is far from most parts. A patch
    goes if it stands out further than the worst one of the upper quarter of images does (after SoftPatch,
    Jiang et al., NeurIPS 2022, which compares patches at one position by their local outlier factor).
    """
    parts, generator = parts_of(features.groups), np.random.default_rng(0)
    shape = candidates.vectors.shape[1], DIMENSIONS
    projection = generator.normal(size=shape).astype(np.float32)
    banks = []
    for part in range(parts.max() + 1):
        rows = generator.permutation(np.flatnonzero(parts[candidates.image] == part))
        some = candidates.of(np.sort(rows[: CONSENSUS_PATCHES // (parts.max() + 1)]))
        vectors = _projected(some.vectors, projection)
        banks.append(
            MemoryBank(vectors, some.position, some.image, candidates.grid, candidates.descriptor.reach)
        )
    consensus = []
    for row in _followed(len(features.names), progress, "comparing the images with each other"):
        patches = _projected(candidates.patches(features, row), projection)
        others = [bank.search(patches) for part, bank in enumerate(banks) if part != parts[row]]
        consensus.append(smoothed(np.median(others, 0)))
    consensus = np.stack(consensus)
    above = consensus - ndimage.gaussian_filter(np.median(consensus, 0), SPREAD)
    above = np.where(features.inside, above, 0)
    limit = np.quantile(above.max((1, 2)), 0.75)
    return above.reshape(len(above), -1)[candidates.image, candidates.position] <= limit


def _projected(vectors: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """(..., D) -> (..., DIMENSIONS) unit vectors."""
    projected = vectors @ projection
    return projected / np.linalg.norm(projected, axis=-1, keepdims=True)


def independent(scores: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """(N,) scores -> (G,): of near-duplicates, which have the same group, the highest one."""
    highest = {}
    for group, score in zip(groups, scores):
        highest[group] = max(score, highest.get(group, score))
    return np.array(list(highest.values()))


def parts_of(groups: Sequence[int]) -> np.ndarray:
    """(N,) numbers of groups -> (N,) the part in which each image is held out; groups stay together."""
    numbers, index = np.unique(groups, return_inverse=True)
    return (np.random.default_rng(0).permutation(len(numbers)) % PARTS)[index]


def normal_anomaly(
    anomaly: np.ndarray, inside: np.ndarray, earlier: NormalAnomaly | None = None
) -> NormalAnomaly:
    """What is normal at each position, from the smoothed anomaly of held-out images, (N, h, w).

    inside: (N, h, w) bool, where they show something. Outliers are left out. The deviation at a position is
    drawn towards that over all positions, or the earlier one there, the more the fewer images there are.
    """
    rows = np.ones(len(anomaly), bool)
    for _ in range(2):  # without outliers the second time
        normal = _normal_of(anomaly[rows], inside[rows], earlier)
        shown = np.where(inside, normal.standardized(anomaly), 0)
        scores = np.array([score_of(one) for one in shown])
        rows[list(outliers_of(scores))] = False
    return normal


def held_out_anomaly(
    anomaly: np.ndarray, inside: np.ndarray, parts: np.ndarray, earlier: NormalAnomaly | None = None
) -> np.ndarray:
    """(N, h, w) in standard deviations above what is normal in the other parts, as for a new image.

    By what is normal in all of them, an image would score lower than a new one does: it is among them.
    anomaly, inside, earlier: as normal_anomaly takes them. parts: (N,), as parts_of gives them.
    """
    standardized = np.empty_like(anomaly)
    for part in range(parts.max() + 1):
        rows = parts == part
        others = normal_anomaly(anomaly[~rows], inside[~rows], earlier)
        standardized[rows] = others.standardized(anomaly[rows])
    return standardized


def _normal_of(anomaly: np.ndarray, inside: np.ndarray, earlier: NormalAnomaly | None) -> NormalAnomaly:
    seen = inside.sum(0)
    overall = float(anomaly[inside].mean()) if inside.any() else 0.0
    mean = np.where(seen, np.where(inside, anomaly, 0).sum(0) / np.maximum(seen, 1), overall)
    variance = np.square(np.where(inside, anomaly - mean, 0)).sum(0) / np.maximum(seen, 1)
    mean, variance = (ndimage.gaussian_filter(one, SPREAD) for one in (mean, variance))
    common = np.square(earlier.deviation) if earlier else float(variance.mean())
    variance = (len(anomaly) * variance + PRIOR * common) / (len(anomaly) + PRIOR)
    return NormalAnomaly(mean.astype(np.float32), np.sqrt(np.maximum(variance, 1e-12)).astype(np.float32))


def _shown(maps: np.ndarray, features: ImageFeatures, background: np.ndarray) -> np.ndarray:
    """(N, h, w) anomaly, 0 where FittedBank.anomaly_map is."""
    return np.where(features.inside & ~(features.black & background), maps, np.float32(0))


def _followed(count: int, progress: Progress, step: str):
    """range(count) with progress."""
    for row in range(count):
        progress(row / count, step)
        yield row


def anomaly_map(bank: FittedBank, features: ImageFeatures, row: int) -> np.ndarray:
    """(h, w) float32 of one further image."""
    patches = features.patches(row, bank.statistics, bank.descriptor)
    return bank.anomaly_map(patches, features.black[row], features.inside[row])


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
        further = int((scores[order[found:]] > high + OUTLYING * (high - low)).sum())
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


def limits_of(
    good: np.ndarray, highest: np.ndarray, false_positive_rate: float, defects: np.ndarray = NO_DEFECTS
) -> NormalLimits:
    """The limits of normal. good: (G,) scores of held-out images that differ; highest: (N,), as in Fit.

    defects: (K,) scores of known defects, if any.
    The wanted false positive rate of held-out images sets the limit. Known defects can raise it, to where
    a logistic fit to both is undecided, never lower it: the rate is not exceeded because of them.
    """
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
    return NormalLimits(heat_limit(highest), limit, spread)
