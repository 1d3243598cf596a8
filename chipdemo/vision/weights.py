"""A checkpoint's weights: from model.safetensors into a network, and back."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import PyTorchModelHubMixin
from safetensors import SafetensorError
from safetensors.torch import load, save

from chipdemo.errors import CheckpointError
from chipdemo.inspection import ModelInfo
from chipdemo.vision.checkpoint import (
    CONFIG,
    PICKLES,
    WEIGHTS,
    ModelSpec,
    find_checkpoint,
    read_info,
    read_spec,
    write_json,
)
from chipdemo.vision.model import ChipNet


class HubChipNet(ChipNet, PyTorchModelHubMixin, library_name="chipdemo", tags=["image-classification"]):
    """ChipNet with `from_pretrained`, `save_pretrained` and `push_to_hub` of huggingface_hub.

    Reads the same model.safetensors and config.json. Unlike the mixin's own loading, ours is
    strict and never falls back to a pickle.
    """

    @classmethod
    def _from_pretrained(cls, *, model_id: str, revision: str | None = None, **_: Any) -> "HubChipNet":
        folder = find_checkpoint(model_id, revision)
        spec = read_spec(folder)
        net = cls(spec.backbone, spec.attention, spec.stages)
        load_weights(net, folder / WEIGHTS)
        return net.eval()


def load_weights(net: ChipNet, path: Path) -> None:
    """Fill a network, strictly: a missing, extra or misshapen tensor is a CheckpointError."""
    if not path.exists():
        pickles = [p.name for p in sorted(path.parent.iterdir()) if p.suffix.lower() in PICKLES]
        found = f"; the pickle {pickles[0]} is never loaded" if pickles else ""
        raise CheckpointError(f"{path.parent} has no {path.name}{found}.")
    try:
        tensors = load(path.read_bytes())  # not mapped: a file that is written over would end the process
        net.load_state_dict(
            {
                current_name(name): tensor.float() if tensor.is_floating_point() else tensor
                for name, tensor in tensors.items()
            },
            strict=True,
        )
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). Fetch or train the model again.") from error
    except RuntimeError as error:  # load_state_dict's word for missing, extra and misshapen
        raise CheckpointError(f"{path} does not fit its {CONFIG}: {error}") from error


def current_name(name: str) -> str:
    """The name of a tensor today; earlier checkpoints call the OOD detector "familiarity"."""
    return f"ood.{name.removeprefix('familiarity.')}" if name.startswith("familiarity.") else name


def load_checkpoint(
    model: str | Path, revision: str | None = None, name: str = ""
) -> tuple[ChipNet, ModelSpec, ModelInfo]:
    """A trained network, ready to judge, from a folder or a Hub id. Raises CheckpointError.

    name: what to call it, where the folder is a copy of a Hub repository.
    """
    folder = find_checkpoint(str(model), revision)
    spec = read_spec(folder)
    return load_network(folder, spec), spec, read_info(name or str(model), folder, spec)


def load_network(folder: Path, spec: ModelSpec) -> ChipNet:
    """The trained network of a checkpoint folder, ready to judge. Raises CheckpointError."""
    try:
        net = spec.build()
    except (RuntimeError, ValueError) as error:  # timm: unknown model
        raise CheckpointError(f"{folder / CONFIG} names a network that cannot be built: {error}") from error
    load_weights(net, folder / WEIGHTS)
    return net.eval()


def save_checkpoint(folder: Path, net: ChipNet, spec: ModelSpec) -> None:
    """Write model.safetensors and config.json.

    Matrices and convolutions are stored in half precision, half the size at a rounding far
    below the noise of training; vectors (biases, normalization) stay in single precision,
    where small variances would not survive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor).cpu().contiguous()
        for name, tensor in net.state_dict().items()
    }
    data = save(tensors, metadata={"format": "pt"})
    (folder / WEIGHTS).write_bytes(data)  # save_file would make it readable by its owner alone
    write_json(folder / CONFIG, asdict(spec))
