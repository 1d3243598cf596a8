"""Classical learners on fixed features: the "machine learning algorithms" of Ullah et al. (JCDE 2024).

The features are the pooled ones of an ImageNet network that is not trained further, or histograms
of oriented gradients (Dalal and Triggs, CVPR 2005).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from skimage.feature import hog
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from training.calibration import THRESHOLD, fit_calibration

FOLDS = 5  # of the training split, to choose the options of a learner
HOG_SIDE = 128  # pixels
HOG = {"orientations": 9, "pixels_per_cell": (16, 16), "cells_per_block": (2, 2)}


@dataclass(frozen=True)
class Learner:
    """A scikit-learn classifier, built for a seed, and the grid of its options."""

    build: Callable[[int], BaseEstimator]
    grid: dict[str, list]


def svm(seed: int) -> BaseEstimator:
    return SVC(class_weight="balanced", random_state=seed)


LEARNERS = {
    "svm": Learner(svm, {"svc__C": [1, 10], "svc__gamma": ["scale", 1e-4]}),
    "random_forest": Learner(
        lambda seed: RandomForestClassifier(500, class_weight="balanced", random_state=seed),
        {"randomforestclassifier__min_samples_leaf": [1, 5]},
    ),
    "knn": Learner(
        lambda seed: KNeighborsClassifier(weights="distance", metric="cosine"),
        {"kneighborsclassifier__n_neighbors": [5, 15, 45]},
    ),
    "logistic_regression": Learner(
        lambda seed: LogisticRegression(class_weight="balanced", max_iter=2000, random_state=seed),
        {"logisticregression__C": [1e-4, 1e-3, 1e-2, 1e-1]},
    ),
    "gradient_boosting": Learner(
        lambda seed: HistGradientBoostingClassifier(class_weight="balanced", random_state=seed),
        {"histgradientboostingclassifier__learning_rate": [0.03, 0.1]},
    ),
}


def hog_features(pixels: np.ndarray) -> np.ndarray:
    """(N, S, S, 3) uint8 pixels -> (N, 1764) float32."""
    small = [Image.fromarray(image).convert("L").resize((HOG_SIDE, HOG_SIDE)) for image in pixels]
    return np.stack([hog(np.asarray(image), **HOG) for image in small]).astype(np.float32)


class Fitted:
    """A learner with options chosen by cross-validated AUROC, calibrated on validation (Platt)."""

    def __init__(
        self,
        name: str,
        seed: int,
        features: np.ndarray,
        abnormal: np.ndarray,
        val_features: np.ndarray,
        val_abnormal: np.ndarray,
    ):
        """features: (N, C); abnormal: (N,) bool. name: one of LEARNERS."""
        learner = LEARNERS[name]
        pipeline = make_pipeline(StandardScaler(), learner.build(seed))
        search = GridSearchCV(pipeline, learner.grid, scoring="roc_auc", cv=FOLDS)
        self.model = search.fit(features, abnormal).best_estimator_
        self.options = search.best_params_
        on_train = self._scores(features)
        # A single outlier among few validation scores can change the sign of the fitted slope
        scores = np.clip(self._scores(val_features), on_train.min(), on_train.max())
        self.calibration = fit_calibration(scores, val_abnormal)
        self.threshold = THRESHOLD

    def probability(self, features: np.ndarray) -> np.ndarray:
        """(N, C) -> (N,) of abnormal, 0-1."""
        return self.calibration.probability(self._scores(features))

    def _scores(self, features: np.ndarray) -> np.ndarray:
        if hasattr(self.model, "decision_function"):
            return self.model.decision_function(features)
        return self.model.predict_proba(features)[:, 1]
