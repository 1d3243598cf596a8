"""What a model is worth: metrics and pictures of one part of the data."""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from sklearn import metrics
from torchmetrics.functional.classification import binary_calibration_error

from chipdemo.inspection import CLASSES

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402 - the backend is chosen first


def measure(probabilities: np.ndarray, abnormal: np.ndarray, threshold: float) -> dict[str, float | list]:
    """Metrics of a part as fractions; "abnormal" is the positive class.

    probabilities: (N,) 0-1. abnormal: (N,) bool. confusion: [[tn, fp], [fn, tp]].
    """
    stopped = probabilities >= threshold
    recall, precision = (
        float(score(abnormal, stopped, zero_division=0))
        for score in (metrics.recall_score, metrics.precision_score)
    )
    return {
        "count": len(abnormal),
        "accuracy": float(metrics.accuracy_score(abnormal, stopped)),
        "recall": recall,
        "precision": precision,
        "f1": float(metrics.f1_score(abnormal, stopped, zero_division=0)),
        "auroc": auroc(probabilities, abnormal),
        "average_precision": float(metrics.average_precision_score(abnormal, probabilities)),
        "expected_calibration_error": float(
            binary_calibration_error(
                torch.tensor(probabilities, dtype=torch.float32),
                torch.tensor(abnormal, dtype=torch.int),
                n_bins=10,
            )
        ),
        "confusion": metrics.confusion_matrix(abnormal, stopped, labels=[False, True]).tolist(),
    }


def auroc(scores: np.ndarray, abnormal: np.ndarray) -> float:
    """Area under the ROC curve, 0-1; nan where the part has one class only."""
    return float(metrics.roc_auc_score(abnormal, scores)) if len(set(abnormal)) == 2 else float("nan")


def draw(probabilities: np.ndarray, abnormal: np.ndarray, threshold: float, part: str, folder: Path) -> None:
    """Write confusion.png, roc.png and precision_recall.png."""
    stopped = probabilities >= threshold
    names = list(CLASSES)
    pictures = {
        "confusion.png": lambda ax: metrics.ConfusionMatrixDisplay.from_predictions(
            abnormal, stopped, labels=[False, True], display_labels=names, cmap="Greys", colorbar=False, ax=ax
        ),
        "roc.png": lambda ax: metrics.RocCurveDisplay.from_predictions(
            abnormal, probabilities, plot_chance_level=True, ax=ax
        ),
        "precision_recall.png": lambda ax: metrics.PrecisionRecallDisplay.from_predictions(
            abnormal, probabilities, plot_chance_level=True, ax=ax
        ),
    }
    for name, draw_on in pictures.items():
        figure, ax = plt.subplots(figsize=(4.5, 4), layout="constrained")
        draw_on(ax)
        ax.set_title(part, fontsize=9)
        figure.savefig(folder / name, dpi=120)
        plt.close(figure)
