"""Curves behind the charts, from probabilities and the truth. No torch, no gradio."""

from typing import NamedTuple

import numpy as np

GRID = np.linspace(0, 1, 201)  # false alarm rates at which ROC curves of several seeds are averaged


def roc(probabilities: np.ndarray, abnormal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) 0-1 and (N,) bool -> false alarm rates and recalls, both from 0 to 1, a point a threshold."""
    thresholds = np.unique(probabilities)[::-1]
    recall, false_alarms = (
        (len(part) - np.searchsorted(part, thresholds, side="left")) / len(part)
        for part in (np.sort(probabilities[abnormal]), np.sort(probabilities[~abnormal]))
    )
    return np.concatenate(([0.0], false_alarms)), np.concatenate(([0.0], recall))


def mean_recall(seeds: list[np.ndarray], abnormal: np.ndarray) -> np.ndarray:
    """The recall that each false alarm rate of GRID allows at most, mean over seeds: (201,)."""
    recalls = []
    for probabilities in seeds:
        false_alarms, recall = roc(probabilities, abnormal)
        recalls.append(recall[np.searchsorted(false_alarms, GRID + 1e-9, side="right") - 1])
    return np.mean(recalls, axis=0)


class Bin(NamedTuple):
    """Images of similar probability: their mean probability, the share that is abnormal, how many."""

    probability: float
    share: float
    count: int


def reliability(probabilities: np.ndarray, abnormal: np.ndarray, bins: int = 10) -> list[Bin]:
    """The filled ones of equally wide bins, from 0 to 1. probabilities: (N,); abnormal: (N,) bool."""
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    return [
        Bin(
            float(probabilities[place == b].mean()),
            float(abnormal[place == b].mean()),
            int((place == b).sum()),
        )
        for b in np.unique(place)
    ]
