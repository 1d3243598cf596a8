"""The state of a training run on disk: a run killed at any moment loses one epoch at most."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from chipdemo.errors import DataError
from chipdemo.vision.checkpoint import STATE

PARTIAL_STATE = STATE + ".part"


def save_state(
    folder: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, progress: dict
) -> None:
    """Write the state to one file, which replaces the old one in a single step.

    modules: by name. progress: a dict for JSON. Safetensors, no pickle.
    """
    tensors = {f"{name}/{key}": value for name, m in modules.items() for key, value in m.state_dict().items()}
    state = optimizer.state_dict()
    for index, values in state["state"].items():
        tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in values.items()}
    metadata = {"progress": json.dumps(progress), "groups": json.dumps(state["param_groups"])}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / PARTIAL_STATE
    tensors = {
        name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()
    }
    try:
        save_file(tensors, temporary, metadata)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(folder / STATE)
    except (OSError, SafetensorError):
        temporary.unlink(missing_ok=True)  # a partial state is useless, and the disk may be full
        raise


def load_state(
    folder: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Load what save_state wrote, and return its progress. Raises DataError if there is no state."""
    path = folder / STATE
    if not path.exists():
        raise DataError(f"There is no run to resume: {path} does not exist. Start without --resume.")
    with safe_open(path, "pt") as stored:
        metadata = stored.metadata()
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    for name, module in modules.items():
        prefix = name + "/"
        module.load_state_dict(
            {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
        )
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": json.loads(metadata["groups"])})
    return json.loads(metadata["progress"])
