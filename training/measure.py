"""Metrics and charts of a model on one split."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn import metrics
from sklearn.calibration import CalibrationDisplay
from torchmetrics.functional.classification import binary_calibration_error

from chipdemo.inspection import CLASSES
from chipdemo.threshold import OperatingCurve, OperatingPoint
from training.uncertainty import interval, resampled

matplotlib.use("Agg")  # no screen

PICTURES = ("confusion.png", "roc.png", "precision_recall.png")
RELIABILITY = "reliability.png"


def measure(probabilities: np.ndarray, abnormal: np.ndarray, threshold: float) -> dict[str, float | list]:
    """Metrics of a split as fractions; "abnormal" is the positive class.

    probabilities: (N,) 0-1. abnormal: (N,) bool. confusion: [[tn, fp], [fn, tp]].
    """
    # One table for four metrics: scikit-learn checks its input in every call, and a bootstrap makes many
    confusion = metrics.confusion_matrix(abnormal, probabilities >= threshold, labels=[False, True])
    tn, fp, fn, tp = map(int, confusion.ravel())
    return {
        "count": len(abnormal),
        "accuracy": (tp + tn) / len(abnormal),
        "recall": tp / max(tp + fn, 1),
        "precision": tp / max(tp + fp, 1),
        "f1": 2 * tp / max(2 * tp + fp + fn, 1),
        "auroc": auroc(probabilities, abnormal),
        "average_precision": float(metrics.average_precision_score(abnormal, probabilities)),
        "expected_calibration_error": float(
            binary_calibration_error(
                torch.tensor(probabilities, dtype=torch.float32),
                torch.tensor(abnormal, dtype=torch.int),
                n_bins=10,
            )
        ),
        "confusion": confusion.tolist(),
    }


def auroc(scores: np.ndarray, abnormal: np.ndarray) -> float:
    """Area under the ROC curve, 0-1; nan where the split has one class only."""
    return float(metrics.roc_auc_score(abnormal, scores)) if len(set(abnormal)) == 2 else float("nan")


def intervals(
    probabilities: np.ndarray,
    abnormal: np.ndarray,
    threshold: float,
    resamples: int,
    groups: Sequence[str] | None = None,
) -> dict[str, list[float]]:
    """The 95 % interval of every metric of measure(), as [low, high], by bootstrap over images or groups."""
    names = [k for k, v in measure(probabilities, abnormal, threshold).items() if isinstance(v, float)]

    def figures(rows: np.ndarray) -> list[float]:
        metrics_of = measure(probabilities[rows], abnormal[rows], threshold)
        return [metrics_of[name] for name in names]

    low, high = interval(resampled(figures, abnormal, resamples, groups=groups))
    return {name: [float(low[i]), float(high[i])] for i, name in enumerate(names)}


def operating_point(probabilities: np.ndarray, abnormal: np.ndarray, recall: float) -> OperatingPoint:
    """The highest threshold, and so the lowest false positive rate, with this recall, 0-1."""
    descending = np.sort(probabilities[abnormal])[::-1]
    threshold = descending[math.ceil(recall * len(descending)) - 1]
    return OperatingCurve("", tuple(probabilities), tuple(abnormal)).at(float(threshold))


def draw(probabilities: np.ndarray, abnormal: np.ndarray, threshold: float, title: str, folder: Path) -> None:
    """Write PICTURES: confusion, ROC, precision and recall."""
    flagged = probabilities >= threshold
    drawn = (
        lambda ax: metrics.ConfusionMatrixDisplay.from_predictions(
            abnormal,
            flagged,
            labels=[False, True],
            display_labels=list(CLASSES),
            cmap="Grays",
            colorbar=False,
            ax=ax,
        ),
        lambda ax: metrics.RocCurveDisplay.from_predictions(
            abnormal, probabilities, plot_chance_level=True, ax=ax
        ),
        lambda ax: metrics.PrecisionRecallDisplay.from_predictions(
            abnormal, probabilities, plot_chance_level=True, ax=ax
        ),
    )
    for name, draw_on in zip(PICTURES, drawn):
        _save(draw_on, title, folder / name)


def draw_reliability(probabilities: np.ndarray, abnormal: np.ndarray, title: str, folder: Path) -> None:
    """Write RELIABILITY: how often images of a stated probability are abnormal, in ten bins."""
    _save(
        lambda ax: CalibrationDisplay.from_predictions(
            abnormal, probabilities, n_bins=10, pos_label=True, ax=ax
        ),
        title,
        folder / RELIABILITY,
    )


def _save(draw_on: Callable[[plt.Axes], Any], title: str, path: Path) -> None:
    figure, ax = plt.subplots(figsize=(4.5, 4), layout="constrained")
    draw_on(ax)
    ax.set_title(title, fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)
