"""What is chosen on the validation split: temperature, threshold, heat scale, distance limit."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

HEAT_QUANTILE = 0.99  # of the normal validation images with verdict normal stay below half heat
DISTANCE_QUANTILE = 0.995  # of the validation images are in distribution ...
DISTANCE_MARGIN = 1.1  # ... at this fraction of the limit or closer


def fit_temperature(log_odds: np.ndarray, abnormal: np.ndarray) -> float:
    """Temperature scaling (Guo et al., ICML 2017): minimizes the log loss of log_odds / T."""

    def loss(log_temperature: float) -> float:
        return log_loss(abnormal, expit(log_odds / np.exp(log_temperature)), labels=[False, True])

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def choose_threshold(log_odds: np.ndarray, abnormal: np.ndarray, temperature: float) -> float:
    """The calibrated probability, 0-1, from which abnormal is the more likely class.

    Taken from a logistic fit to the validation log-odds (Platt). The threshold of best accuracy on a few
    hundred images changes with every single one; the crossing of a fit with two parameters does not.
    0.5 where the log-odds do not rise with the share of abnormal images.
    """
    platt = LogisticRegression(C=1e4).fit(log_odds[:, None], abnormal)
    if platt.coef_[0, 0] <= 0:
        return 0.5
    crossing = -platt.intercept_[0] / platt.coef_[0, 0]
    return round(float(np.clip(expit(crossing / temperature), 0.01, 0.99)), 3)


def fit_heat_scale(highest_cam: np.ndarray) -> float:
    """The value of the CAM that is shown as half heat.

    highest_cam: (N,) the maximum over the CAM of each normal validation image with verdict normal.
    """
    return float(max(np.quantile(highest_cam, HEAT_QUANTILE), 1e-3))


def fit_distance_limit(distances: np.ndarray) -> float:
    """The distance from which an image is out of distribution."""
    return float(np.quantile(distances, DISTANCE_QUANTILE) * DISTANCE_MARGIN)
