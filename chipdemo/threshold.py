"""What a threshold does to held-out images, and the threshold that keeps a promise about new ones."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from chipdemo.errors import SettingsError, TargetError
from chipdemo.rates import Rate, auroc_interval

CONFIDENCE = 0.9  # that a promise holds: of 10 validation splits, 9 lead to a threshold that keeps it
STORED_DECIMALS = 5  # of the probabilities in metrics.json, at least
RECALL, FPR = "recall", "fpr"
IMAGES = {RECALL: "abnormal", FPR: "normal"}  # the class that a target is about


@dataclass(frozen=True)
class Target:
    """What a threshold has to promise about new images.

    metric: RECALL, at least this share of the abnormal ones is detected; FPR, the false positive rate: at
    most this share of the normal ones is flagged. share: a fraction, above 0 and below 1.
    """

    metric: Literal["recall", "fpr"]
    share: float

    def __str__(self) -> str:
        """ "detect at least 95 % of new abnormal images"."""
        verb = "detect at least" if self.metric == RECALL else "flag at most"
        return f"{verb} {self.percent} of new {IMAGES[self.metric]} images"

    @property
    def percent(self) -> str:
        return f"{100 * self.share:g} %"

    @property
    def errors(self) -> float:
        """The share of the images, 0-1, that may be on the wrong side of the threshold."""
        return 1 - self.share if self.metric == RECALL else self.share


@dataclass(frozen=True)
class OperatingPoint:
    """What one threshold does to a held-out split.

    recall: abnormal images that are flagged. false_positive_rate: normal images that are flagged.
    """

    threshold: float
    recall: Rate
    false_positive_rate: Rate

    @property
    def precision(self) -> Rate:
        """Flagged images that are abnormal."""
        detected = self.recall.count
        return Rate(detected, detected + self.false_positive_rate.count)

    @property
    def accuracy(self) -> Rate:
        """Images on the right side of the threshold."""
        normal = self.false_positive_rate
        passed = normal.total - normal.count
        return Rate(self.recall.count + passed, self.recall.total + normal.total)


@dataclass(frozen=True)
class OperatingCurve:
    """The probabilities a model gave to a held-out split, with the truth.

    split: what it was measured on, for the screen, e.g. "ELPV, validation split, 262 images".
    probabilities: abnormal probability of each image, 0-1; no threshold flags one of nan.
    abnormal: the truth of each, in the same order.
    """

    split: str
    probabilities: tuple[float, ...]
    abnormal: tuple[bool, ...]

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """The probabilities by the metric that they matter to, from low to high; -1 for nan."""
        probabilities = np.nan_to_num(np.array(self.probabilities, float), nan=-1)
        abnormal = np.array(self.abnormal, bool)
        return {RECALL: np.sort(probabilities[abnormal]), FPR: np.sort(probabilities[~abnormal])}

    @cached_property
    def auroc(self) -> tuple[float, float, float] | None:
        """As rates.auroc_interval has it."""
        return auroc_interval(np.array(self.probabilities, float), np.array(self.abnormal, bool))

    def at(self, threshold: float) -> OperatingPoint:
        """The operating point at a threshold, 0-1; an image at the threshold is flagged."""
        flagged = {
            metric: Rate(len(scores) - int(np.searchsorted(scores, threshold)), len(scores))
            for metric, scores in self.scores.items()
        }
        return OperatingPoint(threshold, flagged[RECALL], flagged[FPR])

    def meaning(self, threshold: float, target: Target | None = None) -> str:
        """What a threshold does, in plain text. target: what it was chosen to promise."""
        point, chosen = self.at(threshold), ""
        rates = (
            ("detects", point.recall.of("abnormal images"), point.recall.total),
            ("flags", point.false_positive_rate.of("normal images"), point.false_positive_rate.total),
        )
        done = " and ".join(f"{verb} {rate}" for verb, rate, total in rates if total)
        if target:
            chosen = f", chosen to {target} with {100 * CONFIDENCE:g} % confidence"
        return f"Threshold {threshold:.5g}{chosen}. {f'On {self.split}, it {done}.' if done else ''}".strip()

    def threshold_for(self, target: Target) -> float:
        """The threshold, 0-1, that keeps a promise about new images and costs least. Raises TargetError.

        New images have to come from the same distribution as these n of the class. The threshold lies beside
        the k-th score from the end where the errors are: the k-th lowest abnormal one, or the k-th highest
        normal one. The share of new images that score beyond it, the errors, follows Beta(k, n - k + 1)
        whatever the distribution, or is smaller if scores are tied. It is at most target.errors with the
        probability that Binomial(n, target.errors) is at least k. Chosen is the largest k for which this is
        CONFIDENCE or more (Wilks, Annals of Mathematical Statistics, 1941: tolerance limits).
        """
        from scipy import special  # here, since importing it takes a second

        scores = self.scores[target.metric]
        below_k = special.bdtr(np.arange(len(scores)), len(scores), target.errors)  # k = 1, 2, ...
        k = int((below_k <= 1 - CONFIDENCE + 1e-9).sum())
        if not k:
            raise TargetError(f"Cannot promise to {target}: {self._too_few(target)}")
        detect = target.metric == RECALL
        last = float(scores[k - 1] if detect else scores[-k])
        beside = 10.0**-STORED_DECIMALS  # away from it, since the probabilities are rounded
        threshold = round(last - beside if detect else last + beside, STORED_DECIMALS)
        if threshold > 1 or (detect and last < 0):
            raise TargetError(f"Cannot promise to {target}: no threshold does. Train the model again.")
        return max(threshold, 0.0)

    def nearest_target(self, target: Target) -> Target | None:
        """The strictest promise, in tenths of a percent, that these images are enough for.

        None where they are enough for the target too, or where there are none.
        """
        count = len(self.scores[target.metric])
        if not 0 < count < images_needed(target):
            return None
        all_right = (1 - CONFIDENCE) ** (1 / count)  # this share or less is right if all of them are
        tenths = math.floor(1000 * all_right + 1e-9)
        return Target(target.metric, (tenths if target.metric == RECALL else 1000 - tenths) / 1000)

    def _too_few(self, target: Target) -> str:
        count, images = len(self.scores[target.metric]), IMAGES[target.metric]
        if not count:
            return f"the model has no {images} validation images. Choose by the other class."
        return (
            f"that takes {images_needed(target):,} {images} validation images, and there are {count:,}. They "
            f"are enough for {self.nearest_target(target).percent}."
        )


def images_needed(target: Target) -> int:
    """How many validation images of its class the promise takes, at least."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-target.errors) - 1e-9)


def promised(false_positives: Rate) -> float:
    """The false positive rate, 0-1, that new normal images do not exceed with CONFIDENCE.

    false_positives: of validation images, at a threshold that was chosen by how many of them it flags.
    """
    from scipy import special

    count, total = false_positives.count, false_positives.total
    return 1.0 if count == total else float(1 - special.betaincinv(total - count, count + 1, 1 - CONFIDENCE))


def checked_threshold(value: Any) -> float:
    """A threshold from a flag or a request, 0-1. Raises SettingsError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise SettingsError(f"The threshold {value!r} is out of range. Use a number from 0 to 1.")
    return float(value)


def typed_number(value: Any) -> float:
    """A number as somebody typed it, "0,3" as well as 0.3; nan where it is none."""
    try:
        return float(str(value).strip().replace(",", "."))
    except ValueError:
        return math.nan


def typed_threshold(value: Any, fallback: float) -> float:
    """A threshold as somebody typed it, moved into 0-1: 5 is 1; fallback for no number."""
    number = typed_number(value)
    return fallback if math.isnan(number) else min(max(number, 0.0), 1.0)
