"""What was learned of normal chips, as memory.safetensors keeps it."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from chipdemo.errors import CheckpointError
from chipdemo.vision.anomaly.memory_bank import Description, Memory, Scale
from chipdemo.vision.checkpoint import MEMORY, WEIGHTS

THUMBNAIL = 256  # pixels, side of the small copies of the learned images ...
THUMBNAIL_BYTES = 5_000_000  # ... which are made smaller where there are so many


@dataclass(frozen=True)
class Limits:
    """Where normal ends, from held-out normal images.

    heat: the anomaly of a place that shows as half heat.
    score: of an image at the threshold, where its log-odds are 0. spread: of scores, one unit
    of the log-odds.
    """

    heat: float
    score: float
    spread: float


@dataclass(frozen=True)
class Normals:
    """Complete when built. (h, w) is the grid, N the learned images.

    background: (h, w) bool, where normal images are black.
    images: the sha256 of each. thumbnails: of each, a JPEG; none where none are kept.
    weights_sha256: of the model.safetensors whose features these are.
    """

    description: Description
    scale: Scale
    memory: Memory
    background: np.ndarray
    limits: Limits
    images: tuple[str, ...]
    thumbnails: tuple[bytes, ...]
    weights_sha256: str


def thumbnail(image: Image.Image, images: int) -> bytes:
    """A small copy of an image, square like the network's input, as one of so many: a JPEG."""
    side = round(THUMBNAIL * min(1, math.sqrt(THUMBNAIL_BYTES / 12_000 / images)))
    stream = BytesIO()
    image.resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
    return stream.getvalue()


def weights_sha256(folder: Path) -> str:
    """Of a checkpoint's weights, which features are only comparable within."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def save_normals(folder: Path, normals: Normals) -> None:
    """Write memory.safetensors; features in half precision."""
    memory, scale = normals.memory, normals.scale
    tensors = {
        "features": memory.features.astype(np.float16),
        "position": memory.position.astype(np.int32),
        "image": memory.image.astype(np.int32),
        "background": normals.background,
        "thumbnails": np.frombuffer(b"".join(normals.thumbnails) or b"\0", np.uint8),
        "thumbnail_sizes": np.array([len(one) for one in normals.thumbnails], np.int32),
        **{f"mean.{i}": layer for i, layer in enumerate(scale.mean)},
        **{f"deviation.{i}": layer for i, layer in enumerate(scale.deviation)},
    }
    about = {
        **{k: str(v) if v == math.inf else v for k, v in asdict(normals.description).items()},
        **asdict(normals.limits),
        "images": normals.images,
        "weights_sha256": normals.weights_sha256,
    }
    metadata = {"format": "pt", "normals": json.dumps(about)}
    data = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata)
    (folder / MEMORY).write_bytes(data)


def load_normals(folder: Path) -> Normals:
    """memory.safetensors of a checkpoint, strictly. Raises CheckpointError."""
    path = folder / MEMORY
    if not path.exists():
        raise CheckpointError(f"Expected {MEMORY} in {folder}; it is not there. Teach the model again.")
    try:
        content = path.read_bytes()  # not mapped: a file that is written over would end the process
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        normals = _normals_of(json.loads(header["__metadata__"]["normals"]), tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(
            f"{path} is damaged or not of this version ({type(error).__name__}: {error}). "
            "Teach the model again."
        ) from error
    if (found := weights_sha256(folder)) != normals.weights_sha256:
        raise CheckpointError(
            f"Expected {MEMORY} in {folder} to be fitted with the weights beside it (sha256 "
            f"{found[:12]}); it was fitted with others ({normals.weights_sha256[:12]}). Teach it again."
        )
    return normals


OLD_NAMES = {"place": "position", "photograph": "image"}  # of tensors, before and now


def _normals_of(about: dict, tensors: dict[str, np.ndarray]) -> Normals:
    tensors = {OLD_NAMES.get(name, name): tensor for name, tensor in tensors.items()}
    about = {"images" if key == "photographs" else key: value for key, value in about.items()}
    strides = tuple(int(stride) for stride in about["strides"])
    description = Description(strides, int(about["window"]), float(about["reach"]))
    expected = {"features", "position", "image", "background", "thumbnails", "thumbnail_sizes"}
    expected |= {f"{kind}.{i}" for kind in ("mean", "deviation") for i in range(len(strides))}
    if tensors.keys() != expected:
        raise ValueError(f"expected the tensors {sorted(expected)}, found {sorted(tensors)}")
    layers = range(len(strides))
    scale = Scale(*(tuple(tensors[f"{kind}.{i}"] for i in layers) for kind in ("mean", "deviation")))
    rows, images = len(tensors["features"]), tuple(map(str, about["images"]))
    position, image, background = (tensors[name] for name in ("position", "image", "background"))
    dimensions = sum(map(len, scale.mean)) + len(strides)
    if not rows or tensors["features"].shape[1:] != (dimensions,) or {len(position), len(image)} != {rows}:
        raise ValueError(f"{rows} features of {tuple(tensors['features'].shape[1:])} numbers")
    if position.max() >= background.size or image.max() >= len(images) or position.min() < 0:
        raise ValueError("places outside the grid or the images")
    grid = tuple(background.shape)
    features = tensors["features"].astype(np.float32)
    memory = Memory(features, position.astype(np.int64), image.astype(np.int64), grid, description.reach)
    ends = np.cumsum(tensors["thumbnail_sizes"])
    content = tensors["thumbnails"].tobytes()
    return Normals(
        description,
        scale,
        memory,
        background,
        Limits(**{field.name: float(about[field.name]) for field in fields(Limits)}),
        images,
        tuple(content[end - size : end] for end, size in zip(ends, tensors["thumbnail_sizes"].tolist())),
        str(about["weights_sha256"]),
    )


def thumbnail_of(normals: Normals, image: int) -> Image.Image | None:
    """The small copy of a learned image; None where none are kept."""
    if not normals.thumbnails:
        return None
    with Image.open(BytesIO(normals.thumbnails[image]), formats=["JPEG"]) as image:
        return image.convert("RGB")
