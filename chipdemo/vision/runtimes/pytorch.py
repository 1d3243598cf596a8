"""The engine that runs the network in PyTorch, on the CPU or the GPU."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from chipdemo.vision.anomaly.anomaly_model import FittedBank
from chipdemo.vision.anomaly.patches import describe_patches
from chipdemo.vision.cam import CHANNELS
from chipdemo.vision.checkpoint import HEAD, ModelSpec
from chipdemo.vision.gradients import gradient_heat
from chipdemo.vision.model import ChipNet, ChipNetOutput, patches_of
from chipdemo.vision.runtimes.engine import EngineOutput
from chipdemo.vision.transforms import normalize
from chipdemo.vision.zerogpu import cuda


def maps_of(output: ChipNetOutput) -> dict[str, Tensor]:
    """What EngineOutput has of the network's output, by name; without attention, no maps of it."""
    named = {
        "log_odds": output.logits[:, 1] - output.logits[:, 0],  # (N, 2) -> (N,)
        "cam": output.cam,
        "abnormal_map": output.abnormal_map,
        "embedding": output.pooled,
        "distance": output.distance,
    }
    if output.channel_attention is None:
        return named
    patches = patches_of(output.by_channel)
    strongest = output.channel_attention.topk(min(CHANNELS, patches.shape[2])).indices  # (N, K)
    maps = patches.gather(
        2, strongest[:, None].expand(-1, patches.shape[1], -1)
    )  # (N, h w, C) -> (N, h w, K)
    maps = maps.transpose(1, 2).unflatten(2, output.spatial_attention.shape[1:])  # (N, K, h, w)
    return named | {
        "channel_attention": output.channel_attention,
        "spatial_attention": output.spatial_attention,
        "strongest": strongest,
        "strongest_maps": maps * output.spatial_attention[:, None],
    }


def outputs_of(net: ChipNet, spec: ModelSpec, bank: FittedBank | None, batch: Tensor) -> dict[str, Tensor]:
    """What EngineOutput has of normalized images, (N, 3, H, W), by name.

    A model that judges by its memory bank needs nothing but its patches: the network runs no further.
    """
    if spec.verdict_by != HEAD:
        layers = net.intermediates(batch, bank.descriptor.stages)
        return {
            "embedding": layers[-1].mean((2, 3)),
            "patches": describe_patches(layers, bank.statistics, bank.descriptor),
        }
    output = net(batch, bank.descriptor.stages if bank else ())
    named = maps_of(output)
    if bank:
        named["patches"] = describe_patches(output.intermediates, bank.statistics, bank.descriptor)
    return named


class TorchEngine:
    """The network in PyTorch, in single precision, on the CPU or the GPU where there is one.

    bank: gives the output patches; fitted with this network.
    """

    def __init__(self, net: ChipNet, spec: ModelSpec, bank: FittedBank | None = None):
        self.device = torch.device("cuda" if cuda() else "cpu")
        self.net = net.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self.spec, self.bank = spec, bank

    @torch.inference_mode()
    def forward(self, pixels: np.ndarray, stages: Sequence[int] = ()) -> ChipNetOutput:
        """(N, size, size, 3) uint8 pixels -> the network's own output, as tensors.

        stages: of intermediate features that are wanted too.
        """
        return self.net(self._normalized(pixels), stages)

    @torch.inference_mode()
    def intermediates(self, pixels: np.ndarray, stages: Sequence[int]) -> tuple[Tensor, ...]:
        """(N, size, size, 3) uint8 pixels -> the features of these stages alone, as tensors."""
        return self.net.intermediates(self._normalized(pixels), stages)

    @torch.inference_mode()
    def run(self, pixels: np.ndarray, patches: bool = True) -> EngineOutput:
        """See Engine."""
        bank = self.bank if patches else None
        named = outputs_of(self.net, self.spec, bank, self._normalized(pixels))
        return EngineOutput(**{name: tensor.cpu().numpy() for name, tensor in named.items()})

    def gradient_heat(self, pixels: np.ndarray, method: str) -> np.ndarray:
        """See Engine."""
        return gradient_heat(self.net, self.forward(pixels).features, method)

    def _normalized(self, pixels: np.ndarray) -> Tensor:
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        return normalize(batch, self.spec.mean, self.spec.std)
