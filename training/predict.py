"""Run a network over many images."""

from typing import NamedTuple

import numpy as np
import torch

from chipdemo.errors import DataError
from chipdemo.vision.checkpoint import HEAD, ModelSpec
from chipdemo.vision.model import ChipNet
from chipdemo.vision.transforms import normalize

BATCH_SIZE = 64


class Predictions(NamedTuple):
    """One row an image: log_odds (N,) before calibration, highest_cam (N,) the maximum over the CAM,
    distance (N,) from the training images, embedding (N, C) the pooled features."""

    log_odds: np.ndarray
    highest_cam: np.ndarray
    distance: np.ndarray
    embedding: np.ndarray


def device_name(device: torch.device) -> str:
    """What a figure was computed on: the GPU's name, or CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


@torch.inference_mode()
def predict(net: ChipNet, pixels: np.ndarray, spec: ModelSpec) -> Predictions:
    """(N, size, size, 3) uint8 pixels -> Predictions, in single precision on the network's device.

    Raises DataError for a model without a trained head.
    """
    if spec.verdict_by != HEAD:
        raise DataError(
            "This model was fitted to normal images only and has no classifier. Use it in the app, or train "
            "one on labeled images."
        )
    device = next(net.parameters()).device
    was_training = net.training
    net.eval()
    rows = []
    for start in range(0, len(pixels), BATCH_SIZE):
        batch = normalize(
            torch.from_numpy(pixels[start : start + BATCH_SIZE]).to(device), spec.mean, spec.std
        )
        output = net(batch)
        log_odds = output.logits[:, 1] - output.logits[:, 0]  # (N, 2) -> (N,)
        highest = output.cam.amax((1, 2))  # (N, h, w) -> (N,)
        rows.append((log_odds, highest, output.distance, output.embedding))
    net.train(was_training)
    return Predictions(*(torch.cat(column).float().cpu().numpy() for column in zip(*rows)))
