"""Clearly different kinds of images among the good ones: orientation, size, another part."""

import math
from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from chipdemo.teaching import Kind
from chipdemo.vision.anomaly.features import MAX_SIDE_RATIO, ImageFeatures

SMALLEST = 3  # images that make a kind; fewer are outliers
SQUARE = 1.1  # width / height up to which an image counts as square, and the other way round
APART = 0.45  # silhouette (Rousseeuw, 1987) from which two clusters are two parts: one part has at most 0.3,
# two parts at least 0.5 (transistors, screws and solar cells)
PICTURES = 4  # of each kind that are shown


def kinds_of(features: ImageFeatures) -> tuple[Kind, ...]:
    """The kinds, the most frequent first; a single one where the images are alike."""
    sizes = np.array(features.sizes, float)
    groups = _by(np.arange(len(sizes)), _orientations(sizes))
    groups = [part for rows, name in groups for part in _by(rows, _scales(sizes[rows]), name)]
    content = np.hstack([layer.float().mean((2, 3)).numpy() for layer in features.intermediates])
    kinds = [part for rows, name in groups for part in _by_content(rows, content, name)]
    kinds.sort(key=lambda kind: -len(kind[0]))
    return tuple(
        Kind(
            name or "all",
            tuple(features.names[row] for row in rows),
            tuple(int(side) for side in np.median(sizes[rows], 0)),
            tuple(features.thumbnails[row] for row in rows[:PICTURES]),
        )
        for rows, name in kinds
    )


def _by(rows: np.ndarray, labels: Sequence[str], name: str = "") -> list[tuple[np.ndarray, str]]:
    """Rows by their label; those of a rare label stay with the most frequent one."""
    labels = np.array(labels)
    found, counts = np.unique(labels, return_counts=True)
    most = found[counts.argmax()]
    frequent = [label for label, count in zip(found, counts) if count >= SMALLEST or label == most]
    if len(frequent) == 1:
        return [(rows, name)]
    kept = np.where(np.isin(labels, frequent), labels, most)
    return [(rows[kept == label], f"{name} {label}".strip()) for label in frequent]


def _orientations(sizes: np.ndarray) -> list[str]:
    ratios = sizes[:, 0] / sizes[:, 1]
    return [
        "square" if 1 / SQUARE <= ratio <= SQUARE else "landscape" if ratio > 1 else "portrait"
        for ratio in ratios
    ]


def _scales(sizes: np.ndarray) -> list[str]:
    """Small and large ones, where the sides differ by MAX_SIDE_RATIO; split at the widest gap."""
    sides = np.log(np.sqrt(sizes.prod(1)))
    ordered = np.sort(sides)
    if ordered[-1] - ordered[0] < math.log(MAX_SIDE_RATIO):
        return [""] * len(sides)
    gap = np.diff(ordered).argmax()
    return ["small" if side <= ordered[gap] else "large" for side in sides]


def _by_content(rows: np.ndarray, content: np.ndarray, name: str) -> list[tuple[np.ndarray, str]]:
    """Two parts, or the same one. content: (N, C), mean features of all images."""
    if len(rows) < 2 * SMALLEST:
        return [(rows, name)]
    values = content[rows]
    values = (values - values.mean(0)) / (values.std(0) + 1e-6)
    labels = KMeans(2, n_init=10, random_state=0).fit_predict(values)
    if len(set(labels)) < 2 or silhouette_score(values, labels) < APART:
        return [(rows, name)]
    return _by(rows, [f"part {'AB'[label]}" for label in labels], name)
