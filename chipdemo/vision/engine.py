"""The seam under the inspector: pixels -> numbers, whatever runs the network."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from chipdemo.vision.checkpoint import ModelSpec
from chipdemo.vision.memory import describe
from chipdemo.vision.model import ChipNet, ChipNetOutput
from chipdemo.vision.normals import Normals
from chipdemo.vision.transforms import normalise


class EngineOutput(NamedTuple):
    """What an engine gives for N photographs, as float32 arrays. C channels, (h, w) places.

    log_odds: (N,) of abnormal, before calibration. evidence: (N, h, w), whose mean plus the
    difference of the head's biases is log_odds. features: (N, C, h, w), what the head pools.
    channel_attention: (N, C) and spatial_attention: (N, h, w), 0-1; None without attention.
    distance: (N,) from the training photographs. anomaly: (N, h, w), 0-1, of each place against
    the memory of normal ones, on the memory's own grid; None without one.
    """

    log_odds: np.ndarray
    evidence: np.ndarray
    features: np.ndarray
    channel_attention: np.ndarray | None
    spatial_attention: np.ndarray | None
    distance: np.ndarray
    anomaly: np.ndarray | None = None

    def of(self, index: int) -> "EngineOutput":
        """What it gives for one of the photographs, N = 1."""
        return EngineOutput(*(None if array is None else array[index : index + 1] for array in self))


class Engine(Protocol):
    """Runs a network. Safe to call from several threads."""

    def run(self, pixels: np.ndarray) -> EngineOutput:
        """(N, size, size, 3) uint8 pixels -> EngineOutput."""


class TorchEngine:
    """The network in PyTorch, in single precision, on the CPU or the GPU where there is one.

    normals: what to match photographs with, if anything; fitted with this network.
    """

    def __init__(self, net: ChipNet, spec: ModelSpec, normals: Normals | None = None):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = net.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self.spec = spec
        self.normals = normals and normals.to(self.device)

    @torch.inference_mode()
    def forward(self, pixels: np.ndarray, strides: Sequence[int] = ()) -> ChipNetOutput:
        """(N, size, size, 3) uint8 pixels -> the network's own output, as tensors.

        strides: of middle features that are wanted too.
        """
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        return self.net(normalise(batch, self.spec.mean, self.spec.std), strides)

    @torch.inference_mode()
    def places(self, middle: Sequence[Tensor]) -> Tensor:
        """The network's middle features -> places (N, h, w, D) as the memory describes them."""
        return describe(middle, self.normals.scale, self.normals.description)

    @torch.inference_mode()
    def search(self, middle: Sequence[Tensor]) -> Tensor:
        """The network's middle features -> anomaly (N, h, w), 0-1, of each place against the memory."""
        return torch.stack([self.normals.memory.search(places) for places in self.places(middle)])

    @torch.inference_mode()
    def run(self, pixels: np.ndarray) -> EngineOutput:
        """(N, size, size, 3) uint8 pixels -> EngineOutput."""
        normals = self.normals
        output = self.forward(pixels, normals.description.strides if normals else ())
        log_odds = output.logits[:, 1] - output.logits[:, 0]  # (N, 2) -> (N,)
        anomaly = normals and self.search(output.middle)
        tensors = (
            log_odds,
            output.evidence,
            output.features,
            output.channel_attention,
            output.spatial_attention,
            output.distance,
            anomaly,
        )
        return EngineOutput(*(None if tensor is None else tensor.cpu().numpy() for tensor in tensors))

    @torch.inference_mode()
    def nearest(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What each place of a photograph is most like: of (1, size, size, 3) pixels, for (h, w) places,
        the number of the learned photograph and the place in it."""
        middle = self.forward(pixels, self.normals.description.strides).middle
        index = self.normals.memory.nearest(self.places(middle)[0])
        memory = self.normals.memory
        return memory.photograph[index].cpu().numpy(), memory.place[index].cpu().numpy()
