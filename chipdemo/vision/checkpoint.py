"""A trained model on disk and on the Hub: safetensors and JSON, never pickle.

A checkpoint is a folder or a Hub model repository:
    model.safetensors   the weights
    config.json         ModelSpec, enough to rebuild the model
    metrics.json        what was measured, on what, from which starting weights
    split.json          sha256 of every train, val and test photograph
    README.md           the model card
    memory.safetensors  what was learned of normal chips, where matching was fitted (normals.py)
While training is at work in a folder, state.safetensors lies beside them.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import httpx2  # what huggingface_hub speaks HTTP with; some of its errors come through
from huggingface_hub import HfApi, PyTorchModelHubMixin, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load, save

from chipdemo.errors import CheckpointError, CheckpointOutOfReachError
from chipdemo.inspection import CLASSES, ModelInfo
from chipdemo.operating import OperatingCurve
from chipdemo.vision.model import ChipNet

WEIGHTS, CONFIG, METRICS, SPLIT = "model.safetensors", "config.json", "metrics.json", "split.json"
CARD, MEMORY = "README.md", "memory.safetensors"
FILES = (WEIGHTS, CONFIG, METRICS, SPLIT, CARD, MEMORY)
HEAD, JUDGE_BY_MEMORY = "head", "memory"  # ModelSpec.verdict_by
LATER = {"verdict_by"}  # what config.json of earlier versions lacks
STATE = "state.safetensors"  # beside a checkpoint until its training run has ended
HUB_TIMEOUT_S = 10
# HfHubHTTPError is the first two; a bad repository name or an answer that is no JSON the third
HUB_ERRORS = (httpx2.HTTPError, OSError, ValueError)
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True)
class ModelSpec:
    """Everything but the weights.

    image_size: side of the network's square input, pixels. mean, std: of 0-1 RGB.
    temperature: the log-odds are divided by it (Guo et al., ICML 2017). threshold: 0-1.
    heat_scale: evidence that shows as half heat. distance_limit: Familiarity's distance from
    which a photograph is unlike the training photographs. verdict_by: "head", the classifier, or
    "memory", what was learned of normal chips; then the head has learned nothing.
    """

    backbone: str = "tf_efficientnet_lite0"
    attention: str = "cbam"
    stages: int = 1
    image_size: int = 224
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    interpolation: str = "bicubic"
    classes: tuple[str, str] = CLASSES
    temperature: float = 1.0
    threshold: float = 0.5
    heat_scale: float = 1.0
    distance_limit: float = float("inf")
    verdict_by: str = HEAD

    def build(self, dropout: float = 0.0) -> ChipNet:
        """An untrained network of this kind."""
        return ChipNet(self.backbone, self.attention, self.stages, dropout)


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


def find_checkpoint(model: str, revision: str | None = None) -> Path:
    """The folder of a model: itself, or a Hub repository's copy in the cache. Raises CheckpointError."""
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.suffix.lower() in PICKLES:
        raise CheckpointError(
            f"Expected a checkpoint folder or a Hub id; {model} is a pickle, which can run any code when "
            f"it is loaded. Convert it to {WEIGHTS} where you trust it."
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise CheckpointError(
            f"Expected a checkpoint folder or a Hub id owner/name; found nothing at {model}."
        )
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(FILES)))
    except HUB_ERRORS as error:
        raise _out_of_reach(model, error) from error


def _out_of_reach(model: str, error: Exception) -> CheckpointOutOfReachError:
    return CheckpointOutOfReachError(
        f"{model} is no folder here and could not be fetched from the Hub ({type(error).__name__}). "
        f"Check the name, the network, and for a private model HF_TOKEN or `hf auth login`."
    )


def latest_revision(model: str) -> str:
    """What changes whenever the model does: a Hub repository's commit, or a hash of a folder's files.

    One small request, or one reading of the files, so that it may be asked again and again.
    Raises CheckpointOutOfReachError while the Hub does not answer or training is at work in the folder.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        try:
            return HfApi().model_info(model, expand=["sha"], timeout=HUB_TIMEOUT_S).sha
        except HUB_ERRORS as error:
            raise _out_of_reach(model, error) from error
    if (folder / STATE).exists():
        raise CheckpointOutOfReachError(
            f"Expected a finished checkpoint in {folder}; found {STATE}, so its training run has not ended. "
            f"Let it end, or go on with it by --resume."
        )
    try:
        return _content_revision(folder, [name for name in FILES if (folder / name).exists()])
    except OSError as error:
        raise CheckpointOutOfReachError(
            f"{folder} could not be read ({error}); it is tried again later."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """One of a checkpoint's JSON files. Raises CheckpointError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"Expected {path.name} in {path.parent}; it is not there.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no readable JSON ({error}); fetch or train the model again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"Expected an object in {path}; found {type(content).__name__}.")
    return content


def read_spec(folder: Path) -> ModelSpec:
    """config.json of a checkpoint. Raises CheckpointError."""
    content = read_json(folder / CONFIG)
    expected = {field.name for field in fields(ModelSpec)}
    if missing := expected - LATER - content.keys():
        raise CheckpointError(
            f"{folder / CONFIG} lacks {', '.join(sorted(missing))}; is it a Chip Inspector model?"
        )
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items() if k in expected}
    if values["classes"] != CLASSES:
        raise CheckpointError(
            f"Expected the classes {CLASSES} in {folder / CONFIG}; found {values['classes']}."
        )
    if values.get("verdict_by", HEAD) not in (HEAD, JUDGE_BY_MEMORY):
        raise CheckpointError(
            f"Expected verdict_by {HEAD} or {JUDGE_BY_MEMORY} in {folder / CONFIG}; found "
            f"{values['verdict_by']!r}. Update Chip Inspector."
        )
    return ModelSpec(**values)


def load_weights(net: ChipNet, path: Path) -> None:
    """Fill a network, strictly: a missing, extra or misshapen tensor is a CheckpointError."""
    if not path.exists():
        pickles = [p.name for p in sorted(path.parent.iterdir()) if p.suffix.lower() in PICKLES]
        found = f"found {pickles[0]}, a pickle, which is never loaded" if pickles else "it is not there"
        raise CheckpointError(f"Expected {path.name} in {path.parent}; {found}.")
    try:
        tensors = load(path.read_bytes())  # not mapped: a file that is written over would end the process
        net.load_state_dict(
            {
                name: tensor.float() if tensor.is_floating_point() else tensor
                for name, tensor in tensors.items()
            },
            strict=True,
        )
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); fetch or train the model again.") from error
    except RuntimeError as error:  # load_state_dict's word for missing, extra and misshapen
        raise CheckpointError(f"{path} does not fit its {CONFIG}: {error}") from error


def load_checkpoint(
    model: str | Path, revision: str | None = None, name: str = ""
) -> tuple[ChipNet, ModelSpec, ModelInfo]:
    """A trained network, ready to judge, from a folder or a Hub id. Raises CheckpointError.

    name: what to call it, where the folder is a copy of a Hub repository.
    """
    folder = find_checkpoint(str(model), revision)
    spec = read_spec(folder)
    try:
        net = spec.build()
    except (RuntimeError, ValueError) as error:  # timm: unknown model
        raise CheckpointError(f"{folder / CONFIG} names a network that cannot be built: {error}") from error
    load_weights(net, folder / WEIGHTS)
    return net.eval(), spec, _info(name or str(model), folder, spec)


def _info(model: str, folder: Path, spec: ModelSpec) -> ModelInfo:
    metrics = read_json(folder / METRICS)
    try:
        validation = metrics["validation"]
        return ModelInfo(
            name=folder.resolve().name if Path(model).expanduser().is_dir() else model,
            revision=_content_revision(
                folder, [name for name in (WEIGHTS, CONFIG, MEMORY) if (folder / name).exists()]
            ),
            backbone=spec.backbone,
            attention=spec.attention,
            starting_weights=str(metrics["starting_weights"]),
            image_size=spec.image_size,
            data=str(metrics["data"]),
            data_licence=str(metrics["data_licence"]),
            threshold=spec.threshold,
            validation=OperatingCurve(
                validation["part"],
                tuple(validation["probabilities"]),
                tuple(map(bool, validation["abnormal"])),
            ),
            test=dict(metrics["test"]),
            photograph_side=int(metrics.get("photograph_side", 0)),  # earlier versions lack it
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / METRICS} lacks {error}; fetch or train the model again.") from error


def _content_revision(folder: Path, names: Iterable[str]) -> str:
    """12 hex digits that change with the content of the named files, wherever they lie."""
    digest = hashlib.sha256()
    for name in names:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:12]


def save_checkpoint(folder: Path, net: ChipNet, spec: ModelSpec) -> None:
    """Write model.safetensors and config.json.

    Matrices and convolutions are stored in half precision, half the size at a rounding far
    below the noise of training; vectors (biases, normalisation) stay in single precision,
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


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Readable, with a newline at the end."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
