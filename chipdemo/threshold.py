"""What a threshold means: the counts behind it on held-out images."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class OperatingPoint:
    """What one threshold would have done to a held-out part. All rates are fractions, 0-1.

    recall: defective images that were caught.
    precision: stopped images that were defective (nan when none was stopped).
    false_positive_rate: normal images that were stopped.
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
        """The operating point at a threshold, 0-1; an image at the threshold is stopped."""
        abnormal, normal = self._sorted
        caught = len(abnormal) - np.searchsorted(abnormal, threshold, side="left")
        stopped = len(normal) - np.searchsorted(normal, threshold, side="left")
        return OperatingPoint(
            threshold=threshold,
            recall=caught / len(abnormal) if len(abnormal) else float("nan"),
            precision=caught / (caught + stopped) if caught + stopped else float("nan"),
            false_positive_rate=stopped / len(normal) if len(normal) else float("nan"),
        )
