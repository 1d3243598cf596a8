"""A linear head on the features of the starting weights.

With few images it is often better than a tuned network, and it is fitted in seconds. It is a ChipNet
without attention, so that its class activation map is exact as well.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from chipdemo.vision.checkpoint import ModelSpec
from chipdemo.vision.model import ChipNet
from training.augment import augment
from training.calibration import fit_temperature
from training.predict import predict
from training.splits import TRAIN, VAL, DividedImages

VIEWS = 4  # augmented ones of each image, besides the image as it is
FOLDS = 5  # of the training split, to choose the regularization; each class needs as many groups
REGULARIZATION = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]  # C of scikit-learn


def linear_model(
    net: ChipNet, spec: ModelSpec, images: DividedImages, strength: float, seed: int
) -> tuple[ChipNet, ModelSpec] | None:
    """The backbone of net as it is, and a logistic regression on its pooled features; and its spec.

    strength: of the augmentation, 0-1. The regularization is chosen by cross-validated log loss. None if a
    class has fewer than FOLDS groups of training images.
    """
    pixels, abnormal, groups = images.pixels[TRAIN], images.abnormal[TRAIN], np.array(images.groups[TRAIN])
    if min(len(set(groups[abnormal == label])) for label in (False, True)) < FOLDS:
        return None
    spec = replace(spec, attention="none")
    linear = spec.build().to(next(net.parameters()).device, memory_format=torch.channels_last)
    linear.backbone.load_state_dict(net.backbone.state_dict())
    generator = torch.Generator().manual_seed(seed)
    views = [pixels] + [augment(torch.from_numpy(pixels), generator, strength).numpy() for _ in range(VIEWS)]
    features = np.concatenate([predict(linear, view, spec).embedding for view in views])  # (views * N, C)
    truth, groups = np.tile(abnormal, len(views)), np.tile(groups, len(views))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        {"logisticregression__C": REGULARIZATION},
        scoring="neg_log_loss",
        cv=StratifiedGroupKFold(FOLDS),
    )
    scaler, regression = search.fit(features, truth, groups=groups).best_estimator_
    weights = regression.coef_[0] / scaler.scale_  # (C,), of the features as they are
    bias = regression.intercept_[0] - weights @ scaler.mean_
    with torch.no_grad():  # half of the log-odds for each class, with opposite signs
        linear.head.weight.copy_(torch.from_numpy(np.stack((-weights, weights)) / 2))
        linear.head.bias.copy_(torch.from_numpy(np.array((-bias, bias)) / 2))
    return linear, spec


def validation_losses(
    candidates: Mapping[str, tuple[ChipNet, ModelSpec]], images: DividedImages
) -> dict[str, float]:
    """The log loss of each candidate on the validation split, after temperature scaling."""
    losses = {}
    for name, (net, spec) in candidates.items():
        log_odds = predict(net, images.pixels[VAL], spec).log_odds
        probability = expit(log_odds / fit_temperature(log_odds, images.abnormal[VAL]))
        losses[name] = float(log_loss(images.abnormal[VAL], probability, labels=[False, True]))
    return losses
