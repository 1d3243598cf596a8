"""The weights that training starts from, and their name beside every figure."""

from pathlib import Path

from torch import Tensor

from chipdemo.errors import DataError
from chipdemo.vision.backbone_weights import imagenet_weights, weights_of_file
from chipdemo.vision.checkpoint import HUB_ID, WEIGHTS, find_checkpoint
from chipdemo.vision.model import ChipNet
from chipdemo.vision.weights import load_weights


def load_starting_weights(net: ChipNet, backbone: str, init: str) -> str:
    """Load weights into a new network, and return their name, e.g. "ImageNet (timm, Hugging Face Hub)".

    init: "imagenet", "none" (random), a checkpoint folder or Hub id of the same architecture, or a
    safetensors file with timm's key names of the backbone, whose name is the "source" in its metadata if
    there is one. Raises CheckpointError, DataError.
    """
    if init == "none":
        return "none (random)"
    if init == "imagenet":
        weights = imagenet_weights(backbone)
        _fill_backbone(net, weights.tensors, backbone)
        return weights.name
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
    weights = weights_of_file(path, backbone)
    _fill_backbone(net, weights.tensors, init)
    return weights.name


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
