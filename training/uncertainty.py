"""Confidence intervals by the bootstrap over images or their groups (Efron and Tibshirani, 1993)."""

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 1000


def resampled(
    statistic: Callable[[np.ndarray], np.ndarray],
    abnormal: np.ndarray,
    resamples: int,
    stratified: bool = False,
    groups: Sequence[str] | None = None,
) -> np.ndarray:
    """A statistic of the images, resampled with replacement: (resamples, ...).

    statistic: (N,) row numbers -> a number or an array. abnormal: (N,) bool. stratified: each class keeps
    its number of images; otherwise a resample without both classes, which happens if one has only a few
    images, is drawn again. groups: (N,) names; where not stratified, a group is drawn as a whole. The
    resamples are the same in every call, so that statistics of the same images are paired.
    """
    generator, drawn = np.random.default_rng(0), []
    of_group = np.unique(groups, return_inverse=True)[1] if groups is not None else np.arange(len(abnormal))
    members = [np.flatnonzero(of_group == group) for group in range(of_group.max() + 1)]
    classes = [np.flatnonzero(abnormal == label) for label in set(abnormal.tolist())]
    while len(drawn) < resamples:
        if stratified:
            rows = np.concatenate([own[generator.integers(len(own), size=len(own))] for own in classes])
        else:
            rows = np.concatenate([members[i] for i in generator.integers(len(members), size=len(members))])
        if stratified or len(set(abnormal[rows])) == 2:
            drawn.append(statistic(rows))
    return np.array(drawn)


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The limits of the 95 % percentile interval of resampled values, (resamples, ...) -> two of (...)."""
    low, high = np.percentile(values, (2.5, 97.5), axis=0)
    return low, high


def two_sided_p(differences: np.ndarray) -> float:
    """Two-sided p of "no difference", from (resamples,) differences; at least 1 / resamples."""
    below = np.mean(differences <= 0)
    return float(np.clip(2 * min(below, 1 - below), 1 / len(differences), 1))
