"""What was fitted to normal images, as memory.safetensors keeps it. No torch."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from chipdemo.errors import CheckpointError
from chipdemo.vision.anomaly.alignment import ALIGNMENTS, REGISTERED, Alignment
from chipdemo.vision.anomaly.descriptor import FeatureStatistics, PatchDescriptor
from chipdemo.vision.anomaly.matching import HOTTEST, score_of, smoothed
from chipdemo.vision.anomaly.memory_bank import MemoryBank
from chipdemo.vision.anomaly.registration import FINE, PoseRange
from chipdemo.vision.anomaly.windows import Windows
from chipdemo.vision.checkpoint import MEMORY, WEIGHTS

METADATA = "anomaly_model"
TENSORS = (
    "features",
    "position",
    "image",
    "background",
    "thumbnails",
    "thumbnail_sizes",
    "normal_mean",
    "normal_deviation",
    "reference",
)
NO_REFERENCE = np.zeros((0, 0), np.float32)
STATISTICS = ("mean", "deviation")  # tensors, one a layer


@dataclass(frozen=True, eq=False)
class NormalAnomaly:
    """The smoothed anomaly of held-out normal images at each position: mean and deviation, (h, w) float32."""

    mean: np.ndarray
    deviation: np.ndarray

    def standardized(self, anomaly: np.ndarray) -> np.ndarray:
        """(..., h, w) smoothed anomaly -> standard deviations above normal, 0 or more."""
        return ((anomaly - self.mean) / self.deviation).clip(0).astype(np.float32)


@dataclass(frozen=True)
class FittedBank:
    """A memory bank and how to compare with it.

    background: (h, w) bool on the bank's grid, where most normal images are black.
    normal: of held-out normal images. alignment: of all images that are compared.
    """

    descriptor: PatchDescriptor
    statistics: FeatureStatistics
    memory_bank: MemoryBank
    background: np.ndarray
    normal: NormalAnomaly
    alignment: Alignment

    def anomaly_map(self, patches: np.ndarray, black: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """(h, w, D) patches -> (h, w) float32: standard deviations above normal, 0 or more.

        black, inside: (h, w) bool, where the view is black and where it shows the image. It is 0 outside, and
        where this image and most normal ones are black; a black crack in a bright chip is an anomaly.
        """
        anomaly = self.normal.standardized(smoothed(self.memory_bank.search(patches)))
        return np.where(inside & ~(black & self.background), anomaly, np.float32(0))


@dataclass(frozen=True)
class NormalLimits:
    """The limits of normal, from held-out normal images.

    heat: the anomaly of a patch that shows as half heat, in standard deviations.
    score: the score of an image at the threshold, where its log-odds are 0. spread: the difference of
    scores that is one unit of the log-odds.
    """

    heat: float
    score: float
    spread: float


@dataclass(frozen=True)
class MemoryHead:
    """A linear head on what the anomaly of an image amounts to: `weights` and a bias for summary_of."""

    weights: tuple[float, ...]
    bias: float

    def score(self, summary: np.ndarray) -> np.ndarray:
        """(..., F) from summary_of -> (...)."""
        return summary @ np.array(self.weights) + self.bias


@dataclass(frozen=True)
class AnomalyModel(FittedBank):
    """What a checkpoint keeps of normal images.

    head: gives the score of an image, where enough defects are known; None for score_of.
    images: the sha256 of each. thumbnails: a JPEG of each; empty where none are kept.
    weights_sha256: of the model.safetensors whose features these are.
    """

    limits: NormalLimits
    head: MemoryHead | None
    images: tuple[str, ...]
    thumbnails: tuple[bytes, ...]
    weights_sha256: str

    def score(self, anomaly: np.ndarray) -> float:
        """How abnormal an image is. anomaly: (h, w), its anomaly_map."""
        return float(self.head.score(summary_of(anomaly))) if self.head else score_of(anomaly)

    def thumbnail(self, image: int) -> Image.Image | None:
        """The small copy of an image by its number; None where none are kept."""
        if not self.thumbnails:
            return None
        with Image.open(BytesIO(self.thumbnails[image]), formats=["JPEG"]) as copy:
            return copy.convert("RGB")


def summary_of(anomaly: np.ndarray) -> np.ndarray:
    """(h, w) anomaly -> (5,): logarithms of its highest value and of means of its hottest patches and all."""
    ordered = np.sort(anomaly, axis=None)[::-1].astype(float)
    counts = (1, HOTTEST, max(ordered.size // 50, 1), max(ordered.size // 8, 1), ordered.size)
    return np.log1p([ordered[:count].mean() for count in counts])


def weights_sha256(folder: Path) -> str:
    """Of a checkpoint's weights: only features of the same weights can be compared."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def save_anomaly_model(folder: Path, model: AnomalyModel) -> None:
    """Write memory.safetensors; features in half precision."""
    bank, statistics = model.memory_bank, model.statistics
    tensors = {
        "features": bank.features.astype(np.float16),
        "position": bank.position.astype(np.int32),
        "image": bank.image.astype(np.int32),
        "background": model.background,
        "normal_mean": model.normal.mean,
        "normal_deviation": model.normal.deviation,
        "reference": model.alignment.reference if model.alignment.kind == REGISTERED else NO_REFERENCE,
        "thumbnails": np.frombuffer(b"".join(model.thumbnails) or b"\0", np.uint8),
        "thumbnail_sizes": np.array([len(one) for one in model.thumbnails], np.int32),
        **{f"mean.{i}": layer for i, layer in enumerate(statistics.mean)},
        **{f"deviation.{i}": layer for i, layer in enumerate(statistics.deviation)},
    }
    about = {
        **{k: str(v) if v == math.inf else v for k, v in asdict(model.descriptor).items()},
        **asdict(model.limits),
        "alignment": model.alignment.kind,
        "poses": asdict(model.alignment.poses) if model.alignment.poses else None,
        "windows": asdict(model.alignment.windows) if model.alignment.windows else None,
        "head": asdict(model.head) if model.head else None,
        "images": model.images,
        "weights_sha256": model.weights_sha256,
    }
    metadata = {"format": "pt", METADATA: json.dumps(about)}
    data = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata)
    (folder / MEMORY).write_bytes(data)


def load_anomaly_model(folder: Path) -> AnomalyModel:
    """memory.safetensors of a checkpoint, strictly. Raises CheckpointError."""
    path = folder / MEMORY
    if not path.exists():
        raise CheckpointError(f"{folder} has no {MEMORY}. Teach the model again.")
    try:
        content = path.read_bytes()  # not mapped: a file that is written over would end the process
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        model = _parsed(json.loads(header["__metadata__"][METADATA]), tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(
            f"{path} is damaged or of another version ({type(error).__name__}: {error}). "
            "Teach the model again."
        ) from error
    if (found := weights_sha256(folder)) != model.weights_sha256:
        raise CheckpointError(
            f"{path} was fitted with weights {model.weights_sha256[:12]}, but {WEIGHTS} beside it is "
            f"{found[:12]}. Teach the model again."
        )
    return model


def _parsed(about: dict[str, Any], tensors: dict[str, np.ndarray]) -> AnomalyModel:
    stages = tuple(int(stage) for stage in about["stages"])
    descriptor = PatchDescriptor(stages, int(about["window"]), float(about["reach"]))
    layers = range(len(stages))
    expected = {*TENSORS, *(f"{kind}.{i}" for kind in STATISTICS for i in layers)}
    if tensors.keys() != expected:
        raise ValueError(f"tensors are {sorted(tensors)} instead of {sorted(expected)}")
    statistics = FeatureStatistics(*(tuple(tensors[f"{kind}.{i}"] for i in layers) for kind in STATISTICS))
    bank = _bank(tensors, descriptor, statistics, images := tuple(map(str, about["images"])))
    ends, content = np.cumsum(tensors["thumbnail_sizes"]), tensors["thumbnails"].tobytes()
    sizes = tensors["thumbnail_sizes"].tolist()
    return AnomalyModel(
        descriptor,
        statistics,
        bank,
        tensors["background"],
        _normal(tensors),
        _alignment(about, tensors["reference"]),
        NormalLimits(**{field.name: float(about[field.name]) for field in fields(NormalLimits)}),
        _head(about["head"]),
        images,
        tuple(content[end - size : end] for end, size in zip(ends, sizes)),
        str(about["weights_sha256"]),
    )


def _head(about: dict[str, Any] | None) -> MemoryHead | None:
    if about is None:
        return None
    head = MemoryHead(tuple(map(float, about["weights"])), float(about["bias"]))
    if len(head.weights) != len(summary_of(np.zeros((2, 2)))):
        raise ValueError(f"the head has {len(head.weights)} weights")
    return head


def _normal(tensors: dict[str, np.ndarray]) -> NormalAnomaly:
    normal = NormalAnomaly(tensors["normal_mean"], tensors["normal_deviation"])
    if {normal.mean.shape, normal.deviation.shape} != {tensors["background"].shape}:
        raise ValueError("the mean and the deviation of normal images are not on the bank's grid")
    if not (normal.deviation > 0).all():
        raise ValueError("a deviation of normal images is not above 0")
    return normal


def _alignment(about: dict[str, Any], reference: np.ndarray) -> Alignment:
    kind, poses = str(about["alignment"]), about["poses"]
    windows = Windows(**{k: int(v) for k, v in about["windows"].items()}) if about["windows"] else None
    if kind not in ALIGNMENTS:
        raise ValueError(f"the alignment is {kind!r}, none of {', '.join(ALIGNMENTS)}")
    if kind != REGISTERED:
        return Alignment(kind, windows=windows)
    if reference.shape != (FINE, FINE):
        raise ValueError(f"the reference image is {reference.shape} instead of {(FINE, FINE)}")
    x, y = poses["shift"]
    limits = (
        float(poses["turn"]),
        float(poses["most_turned"]),
        (float(x), float(y)),
        float(poses["most_shifted"]),
    )
    return Alignment(kind, reference, PoseRange(*limits), windows)


def _bank(
    tensors: dict[str, np.ndarray],
    descriptor: PatchDescriptor,
    statistics: FeatureStatistics,
    images: tuple[str, ...],
) -> MemoryBank:
    features, position, image, background = (tensors[name] for name in TENSORS[:4])
    dimensions = sum(map(len, statistics.mean)) + len(statistics.mean)
    if not len(features) or features.shape[1:] != (dimensions,):
        raise ValueError(f"features are {features.shape} instead of (M, {dimensions})")
    if {len(position), len(image)} != {len(features)}:
        raise ValueError(f"{len(features)} features, {len(position)} positions, {len(image)} images")
    if position.max() >= background.size or image.max() >= len(images) or position.min() < 0:
        raise ValueError("a patch lies outside the grid or the images")
    return MemoryBank(
        features.astype(np.float32),
        position.astype(np.int64),
        image.astype(np.int64),
        tuple(background.shape),
        descriptor.reach,
    )
