"""Distillation: what trained models say of the training images, for another to learn from.

Hinton et al., arXiv:1503.02531 (logits) and Romero et al., arXiv:1412.6550 (features). The
teachers judge each image once, before training, in its eight flips and right-angle turns;
their mean is a steadier target than any single label and costs nothing while training.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

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


class Lesson(NamedTuple):
    """What the teachers say of N images, their mean.

    probability: (N,) of abnormal, calibrated, 0-1. features: (N, C) pooled ones of unit length,
    side by side for several teachers.
    """

    probability: Tensor
    features: Tensor


def predict_turned(net: ChipNet, pixels: np.ndarray, spec: ModelSpec) -> Predictions:
    """Predictions, each the mean over the eight flips and right-angle turns of an image."""
    views = [np.rot90(side, turn, (1, 2)) for side in (pixels, pixels[:, ::-1]) for turn in range(4)]
    answers = [predict(net, np.ascontiguousarray(view), spec) for view in views]
    return Predictions(*(np.mean(column, 0) for column in zip(*answers)))


def listen(
    teachers: Sequence[str],
    data: LabeledData,
    sha256: Sequence[str],
    device: torch.device,
    progress: Callable,
) -> Lesson:
    """Ask every teacher, a checkpoint folder or Hub id, about the images named by their sha256.

    Raises CheckpointError. A teacher sees the images in the size that it was trained at.
    """
    probabilities, features = [], []
    for teacher in teachers:
        net, spec, _ = load_checkpoint(teacher)
        images = load_images(
            data, partial(pixels_of, size=spec.image_size, interpolation=spec.interpolation), progress
        )
        row = {name: index for index, name in enumerate(images.sha256)}
        pixels = images.pixels[[row[name] for name in sha256]]
        answers = predict_turned(net.to(device, memory_format=torch.channels_last), pixels, spec)
        probabilities.append(expit(answers.log_odds / spec.temperature))
        features.append(F.normalize(torch.from_numpy(answers.embedding), dim=1))
    return Lesson(torch.from_numpy(np.mean(probabilities, 0)).float(), torch.cat(features, 1))


class Distillation(nn.Module):
    """The loss that draws a student's pooled features to the teachers', through a linear map.

    1 - cosine of the angle between them, 0-2; the map is trained along and then dropped.
    """

    def __init__(self, channels: int, teacher_channels: int):
        super().__init__()
        self.map = nn.Linear(channels, teacher_channels)

    def forward(self, embedding: Tensor, features: Tensor) -> Tensor:
        """(N, channels), (N, teacher_channels) -> a number."""
        return 1 - F.cosine_similarity(self.map(embedding), features, dim=1).mean()
