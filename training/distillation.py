"""Distillation: a network learns from the predictions of trained models (teachers) besides the labels.

Hinton et al., arXiv:1503.02531 (logits) and Romero et al., arXiv:1412.6550 (features). The
teachers predict each training image once, before training, in its eight flips and right-angle turns;
the mean is a steadier target than a single label and costs nothing while training.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional as F

from chipdemo.vision.checkpoint import ModelSpec
from chipdemo.vision.model import ChipNet
from chipdemo.vision.transforms import pixels_of
from chipdemo.vision.weights import load_checkpoint
from training.data import LabeledData, load_images
from training.predict import Predictions, predict


def predict_turned(net: ChipNet, pixels: np.ndarray, spec: ModelSpec) -> Predictions:
    """Predictions, each the mean over the eight flips and right-angle turns of an image."""
    views = [np.rot90(side, turn, (1, 2)) for side in (pixels, pixels[:, ::-1]) for turn in range(4)]
    of_views = [predict(net, np.ascontiguousarray(view), spec) for view in views]
    return Predictions(*(np.mean(column, 0) for column in zip(*of_views)))


def teacher_predictions(
    teachers: Sequence[str],
    data: LabeledData,
    sha256: Sequence[str],
    device: torch.device,
    cache: Path,
    progress: Callable,
) -> tuple[Tensor, Tensor]:
    """The teachers' predictions of N images: probability and features.

    teachers: checkpoint folders or Hub ids; each sees the images in the size it was trained at.
    sha256: of the N images of data. cache: folder that keeps the predictions for later runs.
    Returns (N,) float32, the mean calibrated probability of abnormal, 0-1; and (N, C) float32, the pooled
    features of all teachers side by side, each of unit length.
    Raises CheckpointError.
    """
    probabilities, features = [], []
    for teacher in teachers:
        net, spec, info = load_checkpoint(teacher)
        wanted = json.dumps([info.revision, spec.image_size, *sha256])
        path = cache / f"teacher-{hashlib.sha256(wanted.encode()).hexdigest()[:16]}.npz"
        if not path.exists():
            images = load_images(
                data, partial(pixels_of, size=spec.image_size, interpolation=spec.interpolation), progress
            )
            row = {name: index for index, name in enumerate(images.sha256)}
            pixels = images.pixels[[row[name] for name in sha256]]
            predictions = predict_turned(net.to(device, memory_format=torch.channels_last), pixels, spec)
            cache.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part.npz")
            np.savez(temporary, log_odds=predictions.log_odds, embedding=predictions.embedding)
            temporary.replace(path)
        kept = np.load(path)
        probabilities.append(expit(kept["log_odds"] / spec.temperature))
        features.append(F.normalize(torch.from_numpy(kept["embedding"]), dim=1))
    return torch.from_numpy(np.mean(probabilities, 0)).float(), torch.cat(features, 1)


class Distillation(nn.Module):
    """The loss between a network's pooled features and its teachers', which a linear map compares.

    1 - cosine of the angle, 0-2. The map is trained along with the network and then dropped.
    """

    def __init__(self, channels: int, features: Tensor):
        """channels: of the network's pooled features. features: (N, C) of the teachers."""
        super().__init__()
        self.features = features  # no buffer: it belongs neither to the state nor to each process's GPU
        self.map = nn.Linear(channels, features.shape[1])

    def forward(self, embedding: Tensor, rows: Tensor) -> Tensor:
        """(n, channels) of the training images `rows`, (n,) -> a number."""
        features = self.features[rows.cpu()].to(embedding.device)  # (n, C)
        return 1 - F.cosine_similarity(self.map(embedding), features, dim=1).mean()
