"""What is chosen on the validation split: calibration, heat scale, distance limit."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

THRESHOLD = 0.5  # of the calibrated probability
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
    """Platt scaling (Platt, 1999): 0.5 is where abnormal becomes the more likely class.

    The offset is for networks trained on the shares of annotators, of which 1/3 counts as normal here. The
    logarithm of the slope has a standard normal prior, so that a few images that are told apart make no model
    certain. log_odds: (N,) of validation images. abnormal: (N,) bool.
    """

    def loss(line: np.ndarray) -> float:
        value = np.exp(line[0]) * log_odds + line[1]
        return np.sum(np.logaddexp(0, value) - abnormal * value) + line[0] ** 2 / 2

    log_slope, intercept = minimize(loss, (0.0, 0.0)).x
    slope = np.exp(log_slope)
    return Calibration(float(1 / slope), float(intercept / slope))


def fit_heat_scale(highest_cam: np.ndarray) -> float:
    """The value of the CAM that is shown as half heat.

    highest_cam: (N,) the maximum over the CAM of each normal validation image with verdict normal.
    """
    return float(max(np.quantile(highest_cam, HEAT_QUANTILE), 1e-3))


def fit_distance_limit(distances: np.ndarray) -> float:
    """The distance from which an image is out of distribution."""
    return float(np.quantile(distances, DISTANCE_QUANTILE) * DISTANCE_MARGIN)
