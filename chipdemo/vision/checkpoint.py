"""A trained model on disk and on the Hub: safetensors and JSON, never pickle.

A checkpoint is a folder or a Hub model repository:
    model.safetensors   the weights
    config.json         ModelSpec, enough to rebuild the model
    metrics.json        what was measured, on what, from which starting weights
    split.json          sha256 of every train, val and test image
    README.md           the model card
    memory.safetensors  the memory bank of normal images, if there is one (anomaly_model.py)
    graph.onnx          the network for OpenVINO and ONNX Runtime, if it was written (runtimes/export.py)
While training is at work in a folder, state.safetensors lies beside them.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2  # what huggingface_hub speaks HTTP with; some of its errors come through
from huggingface_hub import HfApi, snapshot_download

from chipdemo.comparison import comparison_of
from chipdemo.errors import CheckpointError, CheckpointOutOfReachError
from chipdemo.inspection import CLASSES, MeasuredOverlay, ModelInfo
from chipdemo.threshold import OperatingCurve

if TYPE_CHECKING:
    from chipdemo.vision.model import ChipNet

WEIGHTS, CONFIG, METRICS, SPLIT = "model.safetensors", "config.json", "metrics.json", "split.json"
CARD, MEMORY, GRAPH = "README.md", "memory.safetensors", "graph.onnx"
OPTIONAL = (MEMORY, GRAPH)
FILES = (WEIGHTS, CONFIG, METRICS, SPLIT, CARD, *OPTIONAL)
HEAD, JUDGE_BY_MEMORY = "head", "memory"  # ModelSpec.verdict_by
OLD_METRICS = {"data_licence": "data_license", "photograph_side": "image_side"}  # before, and now
LATER = {"verdict_by"}  # what config.json of earlier versions lacks
STATE = "state.safetensors"  # beside a checkpoint until its training run has ended
HUB_TIMEOUT_S = 10
# HfHubHTTPError is the first two; a bad repository name or an answer that is no JSON the third
HUB_ERRORS = (httpx2.HTTPError, OSError, ValueError)
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
HUB_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class ModelSpec:
    """Everything but the weights.

    image_size: side of the network's square input, pixels. mean, std: of 0-1 RGB.
    temperature: the log-odds are divided by it. threshold: 0-1.
    heat_scale: evidence that shows as half heat. distance_limit: OODDetector's distance from
    which an image is out of distribution. verdict_by: "head", the classifier, or
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

    def build(self, dropout: float = 0.0) -> "ChipNet":
        """An untrained network of this kind."""
        from chipdemo.vision.model import ChipNet  # here, since an exported network does without PyTorch

        return ChipNet(self.backbone, self.attention, self.stages, dropout, self.image_size)


def find_checkpoint(model: str, revision: str | None = None) -> Path:
    """The folder of a model: itself, or a Hub repository's copy in the cache. Raises CheckpointError.

    model: a folder, owner/name or owner/name@revision. revision: instead of the one in model.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.suffix.lower() in PICKLES:
        raise CheckpointError(
            f"{model} is a pickle, which can run any code when it is loaded, so it is never loaded. Convert "
            f"it to {WEIGHTS} if you trust it."
        )
    if not (named := HUB_ID.fullmatch(model)):
        raise CheckpointError(
            f"There is no model at {model}. Name a checkpoint folder or a Hub id such as owner/name."
        )
    revision = revision or named["revision"]
    try:
        return Path(snapshot_download(named["repository"], revision=revision, allow_patterns=list(FILES)))
    except HUB_ERRORS as error:
        raise out_of_reach(model, error) from error


def out_of_reach(model: str, error: Exception) -> CheckpointOutOfReachError:
    """The error for a model that the Hub did not give."""
    return CheckpointOutOfReachError(
        f"{model} is not a folder and could not be fetched from the Hub ({type(error).__name__}). "
        f"Check the name, the network, and for a private model HF_TOKEN or `hf auth login`."
    )


def latest_revision(model: str) -> str:
    """What changes whenever the model does: a Hub repository's commit, or a hash of a folder's files.

    One small request, or one reading of the files, so that it may be asked again and again.
    Raises CheckpointOutOfReachError while the Hub does not answer or training is at work in the folder.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        repository, _, revision = model.partition("@")
        try:
            api = HfApi()
            info = api.model_info(
                repository, revision=revision or None, expand=["sha"], timeout=HUB_TIMEOUT_S
            )
            return info.sha
        except HUB_ERRORS as error:
            raise out_of_reach(model, error) from error
    if (folder / STATE).exists():
        raise CheckpointOutOfReachError(
            f"The training run in {folder} has not ended ({STATE} is there). Let it end, or continue it with "
            "--resume."
        )
    try:
        return _content_revision(folder, [name for name in FILES if (folder / name).exists()])
    except OSError as error:
        raise CheckpointOutOfReachError(
            f"{folder} cannot be read ({error}). It is tried again later."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """One of a checkpoint's JSON files. Raises CheckpointError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} has no {path.name}. Fetch or train the model again.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not readable JSON ({error}). Fetch or train the model again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__} instead of a JSON object. Fetch or train the model "
            "again."
        )
    return content


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a checkpoint, with today's keys. Raises CheckpointError."""
    metrics = read_json(folder / METRICS)
    for old, new in OLD_METRICS.items():
        if old in metrics:
            metrics[new] = metrics.pop(old)
    if isinstance(weights := metrics.get("starting_weights"), str):
        metrics["starting_weights"] = weights.replace("training part", "training split")
    for measured in (metrics.get("test"), metrics.get("validation")):
        if isinstance(measured, dict) and "part" in measured:
            measured["split"] = str(measured.pop("part")).replace("photograph", "image")
        if isinstance(measured, dict) and "false_alarm_rate" in measured:
            measured["false_positive_rate"] = measured.pop("false_alarm_rate")
    return metrics


def read_spec(folder: Path) -> ModelSpec:
    """config.json of a checkpoint. Raises CheckpointError."""
    content = read_json(folder / CONFIG)
    expected = {field.name for field in fields(ModelSpec)}
    if missing := expected - LATER - content.keys():
        raise CheckpointError(
            f"{folder / CONFIG} lacks {', '.join(sorted(missing))}. It is not a model of Chip Inspector."
        )
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items() if k in expected}
    if values["classes"] != CLASSES:
        raise CheckpointError(
            f"{folder / CONFIG} has the classes {values['classes']}; only {CLASSES} can be used."
        )
    if values.get("verdict_by", HEAD) not in (HEAD, JUDGE_BY_MEMORY):
        raise CheckpointError(
            f"{folder / CONFIG} has verdict_by {values['verdict_by']!r}, which this version does not know. "
            "Update Chip Inspector."
        )
    return ModelSpec(**values)


def read_info(model: str, folder: Path, spec: ModelSpec) -> ModelInfo:
    """What is known of a checkpoint's model, under this name. Raises CheckpointError."""
    metrics = read_metrics(folder)
    try:
        overlay = metrics.get("overlay", {"data": "", "rows": []})
        return ModelInfo(
            name=folder.resolve().name if Path(model).expanduser().is_dir() else model.partition("@")[0],
            revision=model_revision(folder),
            backbone=spec.backbone,
            attention=spec.attention,
            starting_weights=str(metrics["starting_weights"]),
            image_size=spec.image_size,
            data=str(metrics["data"]),
            data_license=str(metrics["data_license"]),
            threshold=spec.threshold,
            validation=curve_of(metrics["validation"]),
            test=curve_of({"probabilities": (), "abnormal": ()} | metrics["test"]),
            image_side=int(metrics.get("image_side", 0)),  # earlier versions lack it
            overlays=tuple(
                MeasuredOverlay(row["overlay"], float(row["aupro"]), overlay["data"])
                for row in overlay["rows"]
            ),
            comparison=comparison_of(metrics),
        )
    except OSError as error:
        raise CheckpointError(f"{error.filename} could not be read ({error.strerror}).") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / METRICS} lacks {error}; fetch or train the model again.") from error


def curve_of(measured: dict[str, Any]) -> OperatingCurve:
    """measured: of a split, in metrics.json."""
    return OperatingCurve(
        measured["split"], tuple(measured["probabilities"]), tuple(map(bool, measured["abnormal"]))
    )


def model_revision(folder: Path) -> str:
    """12 hex digits that change with what a checkpoint's model answers. Raises OSError."""
    judging = (WEIGHTS, CONFIG, MEMORY)
    return _content_revision(folder, [name for name in judging if (folder / name).exists()])


def _content_revision(folder: Path, names: Iterable[str]) -> str:
    """12 hex digits that change with the content of the named files, wherever they lie."""
    digest = hashlib.sha256()
    for name in names:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:12]


def json_text(content: dict[str, Any]) -> str:
    """Readable, with a newline at the end."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json_text(content), encoding="utf-8")
