"""What a threshold means: the counts behind it on held-out images."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from chipdemo.errors import SettingsError


@dataclass(frozen=True)
class OperatingPoint:
    """What one threshold would have done to a held-out part. All rates are fractions, 0-1.

    recall: abnormal images that were flagged.
    precision: flagged images that are abnormal (nan when none was flagged).
    false_positive_rate: normal images that were flagged.
    """

    threshold: float
    recall: float
    precision: float
    false_positive_rate: float


@dataclass(frozen=True)
class OperatingCurve:
    """The probabilities a model gave to a held-out part, with the truth.

    split: what it was measured on, for the screen, e.g. "ELPV, validation, 525 images".
    probabilities: abnormal probability of each image, 0-1.
    abnormal: the truth of each, in the same order.
    """

    split: str
    probabilities: tuple[float, ...]
    abnormal: tuple[bool, ...]

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        probabilities, abnormal = np.array(self.probabilities), np.array(self.abnormal, bool)
        return np.sort(probabilities[abnormal]), np.sort(probabilities[~abnormal])

    @property
    def abnormal_count(self) -> int:
        return len(self._sorted[0])

    @property
    def normal_count(self) -> int:
        return len(self._sorted[1])

    def at(self, threshold: float) -> OperatingPoint:
        """The operating point at a threshold, 0-1; an image at the threshold is flagged."""
        abnormal, normal = self._sorted
        detected = len(abnormal) - np.searchsorted(abnormal, threshold, side="left")
        flagged = len(normal) - np.searchsorted(normal, threshold, side="left")
        return OperatingPoint(
            threshold=threshold,
            recall=detected / len(abnormal) if len(abnormal) else float("nan"),
            precision=detected / (detected + flagged) if detected + flagged else float("nan"),
            false_positive_rate=flagged / len(normal) if len(normal) else float("nan"),
        )


def checked_threshold(value: Any) -> float:
    """A threshold from a flag or a request, 0-1. Raises SettingsError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise SettingsError(f"The threshold {value!r} is out of range. Use a number from 0 to 1.")
    return float(value)


def typed_threshold(value: Any, fallback: float) -> float:
    """A threshold as somebody typed it, moved into 0-1: "0,3" is 0.3, 5 is 1; fallback for no number."""
    try:
        number = float(str(value).strip().replace(",", "."))
    except ValueError:
        return fallback
    return fallback if math.isnan(number) else min(max(number, 0.0), 1.0)
