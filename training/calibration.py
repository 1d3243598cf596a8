"""What is chosen on the validation part: temperature, threshold, heat scale, distance limit."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

HEAT_QUANTILE = 0.99  # of validation normals judged normal stay below half heat
DISTANCE_QUANTILE = 0.995  # of validation images are like the training ones ...
DISTANCE_MARGIN = 1.1  # ... with this much to spare


def fit_temperature(log_odds: np.ndarray, abnormal: np.ndarray) -> float:
    """Temperature scaling (Guo et al., ICML 2017): minimizes the log loss of log_odds / T."""

    def loss(log_temperature: float) -> float:
        return log_loss(abnormal, expit(log_odds / np.exp(log_temperature)), labels=[False, True])

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def choose_threshold(log_odds: np.ndarray, abnormal: np.ndarray, temperature: float) -> float:
    """The calibrated probability, 0-1, from which stopping a chip is right more often than not.

    Taken from a logistic fit to the validation log-odds (Platt): the threshold of best accuracy
    on a few hundred images itself jumps with every one of them, the crossing of a fit
    with two parameters does not.
    """
    platt = LogisticRegression(C=1e4).fit(log_odds[:, None], abnormal)
    crossing = -platt.intercept_[0] / platt.coef_[0, 0]
    return round(float(np.clip(expit(crossing / temperature), 0.01, 0.99)), 3)


def fit_heat_scale(highest_cam: np.ndarray) -> float:
    """The evidence that shows as half heat.

    highest_evidence: (N,) the highest place of each validation image that is normal and
    judged normal.
    """
    return float(max(np.quantile(highest_cam, HEAT_QUANTILE), 1e-3))


def fit_distance_limit(distances: np.ndarray) -> float:
    """The distance from which an image is out of distribution."""
    return float(np.quantile(distances, DISTANCE_QUANTILE) * DISTANCE_MARGIN)
