"""The seam under the inspector: pixels -> numbers, whatever runs the network."""

from typing import NamedTuple, Protocol

import numpy as np
import torch

from chipdemo.vision.checkpoint import ModelSpec
from chipdemo.vision.model import ChipNet, ChipNetOutput
from chipdemo.vision.transforms import normalise


class EngineOutput(NamedTuple):
    """What an engine gives for N photographs, as float32 arrays. C channels, (h, w) places.

    log_odds: (N,) of abnormal, before calibration. evidence: (N, h, w), whose mean plus the
    difference of the head's biases is log_odds. features: (N, C, h, w), what the head pools.
    channel_attention: (N, C) and spatial_attention: (N, h, w), 0-1; None without attention.
    distance: (N,) from the training photographs.
    """

    log_odds: np.ndarray
    evidence: np.ndarray
    features: np.ndarray
    channel_attention: np.ndarray | None
    spatial_attention: np.ndarray | None
    distance: np.ndarray

    def of(self, index: int) -> "EngineOutput":
        """What it gives for one of the photographs, N = 1."""
        return EngineOutput(*(None if array is None else array[index : index + 1] for array in self))


class Engine(Protocol):
    """Runs a network. Safe to call from several threads."""

    def run(self, pixels: np.ndarray) -> EngineOutput:
        """(N, size, size, 3) uint8 pixels -> EngineOutput."""


class TorchEngine:
    """The network in PyTorch, in single precision, on the CPU or the GPU where there is one."""

    def __init__(self, net: ChipNet, spec: ModelSpec):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = net.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self.spec = spec

    @torch.inference_mode()
    def forward(self, pixels: np.ndarray) -> ChipNetOutput:
        """(N, size, size, 3) uint8 pixels -> the network's own output, as tensors."""
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        return self.net(normalise(batch, self.spec.mean, self.spec.std))

    def run(self, pixels: np.ndarray) -> EngineOutput:
        """(N, size, size, 3) uint8 pixels -> EngineOutput."""
        output = self.forward(pixels)
        log_odds = output.logits[:, 1] - output.logits[:, 0]  # (N, 2) -> (N,)
        tensors = (
            log_odds,
            output.evidence,
            output.features,
            output.channel_attention,
            output.spatial_attention,
            output.distance,
        )
        return EngineOutput(*(None if tensor is None else tensor.cpu().numpy() for tensor in tensors))
