"""Images as a network sees them, which is read once and then learned from, or judged by what was.

    backbone = starting_backbone()
    study = study_images(paths, backbone)

What is done with a study is in teaching.py.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from chipdemo import files
from chipdemo.errors import DataError, ImageError
from chipdemo.files import Found
from chipdemo.images import MAX_MEGAPIXELS, read_image
from chipdemo.settings import DEFAULT_MODEL
from chipdemo.teaching import Progress
from chipdemo.vision.anomaly.matching import black_patches
from chipdemo.vision.anomaly.memory_bank import Description, Scale
from chipdemo.vision.anomaly.patches import describe_patches
from chipdemo.vision.anomaly.stored import thumbnail
from chipdemo.vision.checkpoint import HEAD, JUDGE_BY_MEMORY, ModelSpec
from chipdemo.vision.model import ChipNet
from chipdemo.vision.packaged import LITE0, PACKAGED, packaged_lite0
from chipdemo.vision.runtimes.pytorch import TorchEngine
from chipdemo.vision.transforms import pixels_of
from chipdemo.vision.weights import load_checkpoint
from chipdemo.vision.zerogpu import on_lent_gpu

IMAGE_SIZE = 256  # pixels, side of the network's input
DESCRIPTION = Description()
MIXED = 2.0  # times as many pixels along a side as another: the same scratch looks different
BLANK = 8  # 0-255; an image with less between its darkest and brightest value shows nothing
CHUNK = 32  # images that the network takes at a time


@dataclass(frozen=True)
class Backbone:
    """A network whose features are compared. starting_weights: what its weights are, in words."""

    net: ChipNet
    spec: ModelSpec
    starting_weights: str


@dataclass(frozen=True)
class Study:
    """N images as the network sees them; row i of everything is the same image.

    middle: the layers of DESCRIPTION, each (N, C, h, w) float16. black: (N, h, w) bool.
    sizes: (width, height), pixels. left_out: why others of the folder are not here, a line each.
    """

    names: tuple[str, ...]
    sha256: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    intermediates: tuple[Tensor, ...]
    black: np.ndarray
    thumbnails: tuple[bytes, ...]
    left_out: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what makes the images less alike than they should be."""
        shapes = sorted({round(width / height, 1) for width, height in self.sizes})
        sides = sorted(math.sqrt(width * height) for width, height in self.sizes)
        warnings = []
        if len(shapes) > 1:
            warnings.append(
                f"Expected sides in one proportion; found {len(shapes)}, from {shapes[0]} to {shapes[-1]} "
                "(width by height). Image all chips alike."
            )
        if sides[-1] >= MIXED * sides[0]:
            warnings.append(
                f"Expected images of one size; found sides of {sides[0]:,.0f} to {sides[-1]:,.0f} px. "
                "Take all of them at the same distance."
            )
        return tuple(warnings)

    def patches(self, row: int, scale: Scale, description: Description) -> np.ndarray:
        """One image's, (h, w, D), as describe gives them."""
        return describe_patches([layer[row, None] for layer in self.intermediates], scale, description)[
            0
        ].numpy()

    def of(self, rows: Sequence[int]) -> "Study":
        """These rows alone, in this order."""
        pick = {
            name: tuple(getattr(self, name)[row] for row in rows)
            for name in ("names", "sha256", "sizes", "thumbnails")
        }
        return replace(
            self,
            **pick,
            intermediates=tuple(layer[rows] for layer in self.intermediates),
            black=self.black[rows],
        )

    def without(self, rows: Collection[int]) -> "Study":
        """The same but for some rows."""
        return self.of([row for row in range(len(self.names)) if row not in set(rows)])


def starting_backbone() -> Backbone:
    """EfficientNet-Lite0 with ImageNet weights from its package; else the shipped model's backbone."""
    tensors = packaged_lite0()
    if tensors is None:
        net, spec, info = load_checkpoint(DEFAULT_MODEL)
        return backbone_of(spec.backbone, net.backbone.state_dict(), f"backbone of {info.name}")
    return backbone_of(LITE0, tensors, PACKAGED)


def backbone_of(name: str, tensors: dict[str, Tensor], starting_weights: str) -> Backbone:
    """A backbone of timm with these tensors, rounded as a checkpoint stores them; its head knows nothing.

    Raises DataError.
    """
    spec = ModelSpec(name, "none", image_size=IMAGE_SIZE, verdict_by=JUDGE_BY_MEMORY)
    net = spec.build().eval()
    own = net.backbone.state_dict()
    if missing := [key for key in own if key not in tensors and not key.endswith("num_batches_tracked")]:
        raise DataError(
            f"Expected weights of {name}; {len(missing)} tensors are missing, such as {missing[0]}."
        )
    net.backbone.load_state_dict({key: tensors[key] for key in own if key in tensors}, strict=False)
    with torch.no_grad():
        for tensor in (*net.head.parameters(), *net.backbone.state_dict().values()):
            if tensor.is_floating_point() and tensor.ndim > 1:
                tensor.copy_(tensor.half())
        for parameter in net.head.parameters():
            parameter.zero_()
    look = net.backbone.pretrained_cfg
    return Backbone(
        net,
        replace(spec, mean=tuple(look["mean"]), std=tuple(look["std"]), interpolation=look["interpolation"]),
        starting_weights,
    )


def trained_backbone(folder: Path) -> Backbone:
    """The network of a trained classifier, whole, to give it a memory. Raises DataError, CheckpointError."""
    net, spec, info = load_checkpoint(folder)
    if spec.verdict_by != HEAD:
        raise DataError(
            f"Expected a trained classifier in {folder}; it judges by its memory already. Teach it anew, "
            "without --memory-for."
        )
    try:
        net.stages_of(DESCRIPTION.strides)
    except ValueError as error:
        raise DataError(
            f"Expected a backbone whose middle features can be matched; {error}. Train another one."
        ) from error
    return Backbone(net, spec, info.starting_weights)


def study_images(
    paths: Sequence[Path],
    backbone: Backbone,
    progress: Progress = lambda done, what: None,
    max_megapixels: float = MAX_MEGAPIXELS,
    strides: Sequence[int] = DESCRIPTION.strides,
) -> Study:
    """study_files of what lies on this machine."""
    limits = files.Limits(megapixels=max_megapixels)
    return study_files([Found(path.name, path) for path in paths], backbone, progress, limits, strides)


def study_files(
    images: Sequence[Found],
    backbone: Backbone,
    progress: Progress = lambda done, what: None,
    limits: files.Limits = files.DEFAULT_LIMITS,
    strides: Sequence[int] = DESCRIPTION.strides,
) -> Study:
    """Read images and run the network over them, once. Raises DataError where none can be used.

    One that cannot be read, shows nothing, or is there twice is left out and named.
    """
    left_out: list[str] = []
    rows, intermediates = [], []
    usable = _usable(images, backbone.spec, progress, limits, left_out)
    while chunk := list(islice(usable, CHUNK)):
        layers = intermediates_of(
            backbone.net, backbone.spec, np.stack([one.pixels for one in chunk]), strides
        )
        intermediates.append([torch.from_numpy(layer) for layer in layers])
        for one in chunk:
            black = black_patches(one.pixels, layers[0].shape[2:])
            rows.append((one.name, one.sha256, one.size, black, one.thumbnail))
    if not rows:
        raise DataError(f"Expected images that can be used; found none.{why_left_out(left_out)}")
    names, sha256, sizes, black, thumbnails = zip(*rows)
    layers = tuple(torch.cat(layer) for layer in zip(*intermediates))
    return Study(names, sha256, sizes, layers, np.stack(black), thumbnails, tuple(left_out))


class _Usable(NamedTuple):
    name: str
    sha256: str
    size: tuple[int, int]
    thumbnail: bytes
    pixels: np.ndarray


def _usable(
    images: Sequence[Found],
    spec: ModelSpec,
    progress: Progress,
    limits: files.Limits,
    left_out: list[str],
) -> Iterator[_Usable]:
    """Those that can be used, as the network takes them; why others cannot goes to left_out."""
    names: dict[str, str] = {}  # by content
    for done, file in enumerate(images):
        progress(done / len(images), "looking at images")
        try:
            decoded = read_image(files.content_of(file, limits), limits.megapixels)
        except ImageError as error:
            left_out.append(f"{file.name}: {error}")
            continue
        image, sha256 = decoded.image, decoded.sha256
        pixels = pixels_of(image, spec.image_size, spec.interpolation)
        if int(pixels.max()) - int(pixels.min()) < BLANK:
            left_out.append(f"{file.name}: one tone throughout, there is nothing to learn from it")
        elif sha256 in names:
            left_out.append(f"{file.name}: the same image as {names[sha256]}")
        else:
            names[sha256] = file.name
            yield _Usable(file.name, sha256, image.size, thumbnail(image, len(images)), pixels)


@on_lent_gpu
def intermediates_of(
    net: ChipNet, spec: ModelSpec, pixels: np.ndarray, strides: Sequence[int]
) -> tuple[np.ndarray, ...]:
    """(N, size, size, 3) uint8 pixels -> the layers of these strides, each (N, C, h, w) float16."""
    intermediates = TorchEngine(net, spec).forward(pixels, strides).intermediates
    return tuple(layer.half().cpu().numpy() for layer in intermediates)


def why_left_out(left_out: Sequence[str]) -> str:
    return f" Left out: {'; '.join(left_out[:3])}{' ...' if len(left_out) > 3 else ''}" if left_out else ""
