"""The gradient methods of pytorch-grad-cam, at the features that the head pools."""

from functools import cache

import numpy as np
import torch
from torch import nn

from chipdemo.vision.cam import GRADIENT_METHODS
from chipdemo.vision.model import ChipNet


def gradient_heat(net: ChipNet, features: torch.Tensor, method: str) -> np.ndarray:
    """A method of pytorch-grad-cam at the CBAM output: (1, C, h, w) -> (h, w) float32, 0-1.

    The target is the log-odds of abnormal. The map is stretched to its own maximum, as the
    library does, so two images cannot be compared by it. Only the head behind the
    features is differentiated, never the backbone. Raises ValueError for an unknown method.
    """
    methods = _methods()
    if method not in methods:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(methods)}")
    layer = nn.Identity()  # a layer of this call alone, so that threads do not see each other's hooks
    head = _Head(net, layer)
    features = features.detach().clone().requires_grad_()
    with torch.enable_grad(), methods[method](head, [layer]) as cam:
        return cam(features, targets=[_log_odds])[0].astype(np.float32)


class _Head(nn.Module):
    def __init__(self, net: ChipNet, layer: nn.Module):
        super().__init__()
        self.layer, self.net = layer, net

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.net.classify(self.layer(features))


def _log_odds(logits: torch.Tensor) -> torch.Tensor:
    return logits[1] - logits[0]


@cache
def _methods() -> dict[str, type]:
    """By name; imported on first use, since the library brings matplotlib and OpenCV along."""
    import pytorch_grad_cam as library

    return {
        name: getattr(library, name.replace("-", "").replace("++", "PlusPlus")) for name in GRADIENT_METHODS
    }
