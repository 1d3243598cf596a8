"""A linear head on the features of the starting weights.

With few images it is often better than a tuned network, and it is fitted in seconds. It is a ChipNet
without attention, so that its class activation map is exact as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from chipdemo.splits import TRAIN, VAL
from chipdemo.vision.checkpoint import ModelSpec
from chipdemo.vision.model import ChipNet
from training.calibration import fit_calibration
from training.divided import DividedImages
from training.predict import predict
from training.trunk import CHUNK, FrozenTrunk, Inputs

NETWORK, LINEAR = "network", "linear head"  # what a training run chooses from
SMALLEST = 1e-6  # probability, so that no loss is infinite
FOLDS = 5  # of the training split, to choose the regularization; each class needs as many groups
JUDGED = 4  # views of an image in the cross-validation; the fit takes all
REGULARIZATION = [4e-4, 1e-3, 4e-3, 1e-2, 4e-2]  # C of scikit-learn, divided among the views of an image


def can_be_fitted(images: DividedImages) -> bool:
    """Whether each class has FOLDS groups of training images."""
    groups, abnormal = np.array(images.groups[TRAIN]), images.abnormal[TRAIN]
    return all(len(set(groups[abnormal == label])) >= FOLDS for label in (False, True))


def chosen_regularization(features: np.ndarray, target: np.ndarray, groups: Sequence[str]) -> float:
    """The value of REGULARIZATION with the lowest cross-validated log loss. Arguments as of logistic."""
    losses = np.zeros(len(REGULARIZATION))
    for learned, judged in StratifiedGroupKFold(FOLDS).split(target, target > 0.5, groups):
        for index, strength in enumerate(REGULARIZATION):
            weights, bias = logistic(features[:, learned], target[learned], strength)
            log_odds = features[0, judged] @ weights + bias
            losses[index] += np.sum(np.logaddexp(0, log_odds) - target[judged] * log_odds)
    return REGULARIZATION[int(losses.argmin())]


def logistic(features: np.ndarray, target: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """Weights (C,) and bias of a logistic regression on standardized features, for features as they are.

    features: (views, N, C). target: (N,), 0-1: an image between is one of each class, weighted. strength: C,
    of all views of an image together.
    """
    views = len(features)
    features, target = features.reshape(-1, features.shape[2]), np.tile(target, views)
    scaler = StandardScaler().fit(features)
    scaled, unsure = scaler.transform(features), (target > 0) & (target < 1)
    label, weight = target > 0.5, np.maximum(target, 1 - target)
    regression = LogisticRegression(C=strength / views, max_iter=2000).fit(
        np.concatenate((scaled, scaled[unsure])),
        np.concatenate((label, ~label[unsure])),
        sample_weight=np.concatenate((weight, 1 - weight[unsure])),
    )
    weights = regression.coef_[0] / scaler.scale_
    return weights, float(regression.intercept_[0] - weights @ scaler.mean_)


@torch.inference_mode()
def pooled_views(net: ChipNet, trunk: FrozenTrunk, inputs: Inputs, views: int, seed: int) -> np.ndarray:
    """The pooled features of augmented views of the N training images: (views, N, C) float32."""
    was_training, generator = net.training, torch.Generator().manual_seed(seed)
    net.eval()
    found = []
    with trunk.skipped(net):
        for view in range(views):
            for rows in torch.arange(len(inputs.pixels)).split(CHUNK):
                found.append(net(inputs.batch(rows, view, generator)).embedding.float().cpu().numpy())
    net.train(was_training)
    return np.concatenate(found).reshape(views, len(inputs.pixels), -1)


def linear_model(
    net: ChipNet,
    spec: ModelSpec,
    trunk: FrozenTrunk,
    inputs: Inputs,
    images: DividedImages,
    views: int,
    seed: int,
) -> tuple[ChipNet, ModelSpec]:
    """The backbone of net as it is, and a logistic regression on its pooled features; and its spec.

    views: augmented ones of each image. The regularization is chosen by log loss, cross-validated by group.
    """
    spec = replace(spec, attention="none")
    linear = spec.build().to(inputs.device, memory_format=torch.channels_last)
    linear.backbone.load_state_dict(net.backbone.state_dict())
    features = pooled_views(linear, trunk, inputs, views, seed)  # (views, N, C)
    target, groups = images.probability[TRAIN], images.groups[TRAIN]
    weights, bias = logistic(features, target, chosen_regularization(features[:JUDGED], target, groups))
    with torch.no_grad():  # half of the log-odds for each class, with opposite signs
        linear.head.weight.copy_(torch.from_numpy(np.stack((-weights, weights)) / 2))
        linear.head.bias.copy_(torch.from_numpy(np.array((-bias, bias)) / 2))
    return linear, spec


def validation_losses(
    candidates: Mapping[str, tuple[ChipNet, ModelSpec]], images: DividedImages
) -> dict[str, np.ndarray]:
    """The log loss (N,) of each image of the validation split, by each candidate calibrated on it."""
    losses = {}
    for name, (net, spec) in candidates.items():
        log_odds = predict(net, images.pixels[VAL], spec).log_odds
        probability = fit_calibration(log_odds, images.abnormal[VAL]).probability(log_odds)
        losses[name] = log_losses(probability, images.abnormal[VAL])
    return losses


def log_losses(probability: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """(N,) of each image. probability: of abnormal, 0-1. abnormal: bool."""
    return -np.log(np.clip(np.where(abnormal, probability, 1 - probability), SMALLEST, 1))


def kept_of(losses: Mapping[str, np.ndarray]) -> str:
    """Which candidate to keep, by the log loss (N,) of each image of the validation split.

    The network, if its mean loss is lower by more than one standard error of the difference; otherwise the
    linear head, which is the simpler one: on few images the difference is chance.
    """
    if len(losses) == 1:
        return next(iter(losses))
    gain = losses[LINEAR] - losses[NETWORK]
    return NETWORK if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)) else LINEAR
