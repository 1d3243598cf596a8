"""What is chosen on the validation split: calibration, heat scale, distance limit."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

THRESHOLD = 0.5  # of the calibrated probability
MIN_SLOPE = 0.05  # of a model that tells little apart
HEAT_QUANTILE = 0.99  # of the normal validation images with verdict normal stay below half heat
DISTANCE_QUANTILE = 0.995  # of the validation images are in distribution ...
DISTANCE_MARGIN = 1.1  # ... at this fraction of the limit or closer


class Calibration(NamedTuple):
    """The probability of abnormal is expit((log_odds + offset) / temperature)."""

    temperature: float
    offset: float

    def probability(self, log_odds: np.ndarray) -> np.ndarray:
        """(N,) -> (N,), 0-1."""
        return expit((log_odds + self.offset) / self.temperature)


def fit_calibration(log_odds: np.ndarray, abnormal: np.ndarray) -> Calibration:
    """Platt scaling, with his targets for few images (Platt, 1999): 0.5 is where abnormal is more likely.

    Temperature alone is not enough: trained on the shares of annotators, a network that is sure of nothing
    says 1/3 where none of the images is abnormal. log_odds: (N,) of validation images. abnormal: (N,) bool.
    """
    positives, negatives = np.count_nonzero(abnormal), np.count_nonzero(~abnormal)
    target = np.where(abnormal, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(line: np.ndarray) -> float:
        value = line[0] * log_odds + line[1]
        return np.mean(np.logaddexp(0, value) - target * value)

    slope, intercept = minimize(loss, (1.0, 0.0)).x
    slope = max(slope, MIN_SLOPE)
    return Calibration(float(1 / slope), float(intercept / slope))


def fit_heat_scale(highest_cam: np.ndarray) -> float:
    """The value of the CAM that is shown as half heat.

    highest_cam: (N,) the maximum over the CAM of each normal validation image with verdict normal.
    """
    return float(max(np.quantile(highest_cam, HEAT_QUANTILE), 1e-3))


def fit_distance_limit(distances: np.ndarray) -> float:
    """The distance from which an image is out of distribution."""
    return float(np.quantile(distances, DISTANCE_QUANTILE) * DISTANCE_MARGIN)
