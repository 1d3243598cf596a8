"""Images -> the intermediate features of a network, computed once and then used in several ways."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from chipdemo.errors import DataError, ImageError
from chipdemo.files import DEFAULT_LIMITS, Found, Limits, content_of, prefetch
from chipdemo.images import read_image
from chipdemo.near_duplicates import near_duplicates, small_gray
from chipdemo.overlay import encode
from chipdemo.settings import AUTO, LITE0_MODEL
from chipdemo.teaching import Progress, silent, within
from chipdemo.view import View
from chipdemo.vision.anomaly.alignment import FINER, POSITION_FREE, Alignment
from chipdemo.vision.anomaly.descriptor import FeatureStatistics, PatchDescriptor
from chipdemo.vision.anomaly.matching import black_patches
from chipdemo.vision.anomaly.patches import compared_channels, describe_patches
from chipdemo.vision.anomaly.windows import Windows
from chipdemo.vision.backbone_weights import (
    LITE0,
    PACKAGED,
    imagenet_weights,
    packaged_lite0,
    weights_of_file,
)
from chipdemo.vision.checkpoint import HEAD, JUDGE_BY_MEMORY, ModelSpec
from chipdemo.vision.model import ChipNet
from chipdemo.vision.runtimes.export import Layers, layer_name, traced
from chipdemo.vision.runtimes.graph import Run, open_graph
from chipdemo.vision.runtimes.pytorch import TorchEngine
from chipdemo.vision.runtimes.select import PIXELS, TORCH, chosen
from chipdemo.vision.transforms import pixels_of
from chipdemo.vision.weights import load_checkpoint
from chipdemo.vision.zerogpu import lends, on_lent_gpu

GRID = 32  # patches along a side of the network's input
AS_IT_IS = Alignment()
MAX_SIDE_RATIO = 2.0  # of the largest to the smallest image; beyond it, the same scratch looks different
MIN_CONTRAST = 8  # 0-255, between the darkest and the brightest value; an image with less shows nothing
BATCH = 32  # images that are read before they pass through the network ...
FORWARD = 2  # ... so many at a time, whose layers fit into a processor's cache
READ = 0.7  # share of the time of extract_features that reading and the network take
THUMBNAIL = 256  # pixels, side of a small copy of an image that has 12 kB ...
THUMBNAIL_BYTES = 2_500_000  # ... all of which take so much at most


@dataclass(frozen=True)
class Backbone:
    """A network whose features are compared. starting_weights: a phrase that names them."""

    net: ChipNet
    spec: ModelSpec
    starting_weights: str

    @property
    def stages(self) -> tuple[int, ...]:
        return self.net.patch_stages

    @cached_property
    def graph(self) -> Run | None:
        """The layers that are compared, in the runtime that is the fastest here; None if that is PyTorch."""
        runtime = TORCH if lends() else chosen(AUTO)
        if runtime == TORCH:
            return None
        return open_graph(runtime, traced(Layers(self.net, self.spec, self.stages), self.spec.image_size))

    def windows(self, count: int) -> Windows:
        """A view of so many windows along a side."""
        margin = max(self.net.strides[stage] for stage in self.stages)
        return Windows(count, self.spec.image_size, margin)


@dataclass(frozen=True)
class ImageFeatures:
    """The features of N images; row i of everything is the same image.

    sizes: (width, height), pixels. intermediates: the layers that are compared, each (N, C, h, w) float16.
    black, inside: (N, h, w) bool on the finest grid, where the view is black and where it shows the image.
    thumbnails: JPEGs of the views. groups: (N) numbers, the same for near-duplicates. alignment: of the
    views. stages: of the layers. unusable: why other files are not here, a line each.
    """

    names: tuple[str, ...]
    sha256: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    intermediates: tuple[Tensor, ...]
    black: np.ndarray
    inside: np.ndarray
    thumbnails: tuple[bytes, ...]
    groups: tuple[int, ...]
    alignment: Alignment
    stages: tuple[int, ...]
    unusable: tuple[str, ...]

    @property
    def descriptor(self) -> PatchDescriptor:
        """How patches are compared, as the alignment asks for."""
        descriptor = PatchDescriptor(self.stages)
        return replace(descriptor, reach=math.inf) if self.alignment.kind == POSITION_FREE else descriptor

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what makes the images less alike than they should be."""
        ratios = sorted({round(width / height, 1) for width, height in self.sizes})
        sides = sorted(math.sqrt(width * height) for width, height in self.sizes)
        warnings = []
        if len(ratios) > 1:
            warnings.append(
                f"The images have {len(ratios)} aspect ratios, from {ratios[0]} to {ratios[-1]} (width / "
                "height). The result is better if all have the same."
            )
        if sides[-1] >= MAX_SIDE_RATIO * sides[0]:
            warnings.append(
                f"The images have sides from {sides[0]:,.0f} to {sides[-1]:,.0f} px. Take all of them from "
                "the same distance."
            )
        if (parts := len(set(self.groups))) < len(self.groups):
            warnings.append(
                f"Of the {len(self.groups):,} images, {parts:,} differ; the others are near-duplicates of "
                "these. They are held out together and count as one. Images of other parts make the "
                "result better."
            )
        return tuple(warnings)

    def like(self, row: int) -> tuple[int, ...]:
        """The rows of an image and its near-duplicates."""
        return tuple(other for other, group in enumerate(self.groups) if group == self.groups[row])

    def patches(self, row: int, statistics: FeatureStatistics, descriptor: PatchDescriptor) -> np.ndarray:
        """(h, w, D) of one image, as describe_patches gives them."""
        layers = [layer[row, None] for layer in self.intermediates]
        return describe_patches(layers, statistics, descriptor)[0].numpy()

    def of(self, rows: Sequence[int]) -> "ImageFeatures":
        """These rows alone, in this order."""
        pick = {
            name: tuple(getattr(self, name)[row] for row in rows)
            for name in ("names", "sha256", "sizes", "thumbnails", "groups")
        }
        layers = tuple(layer[rows] for layer in self.intermediates)
        return replace(self, **pick, intermediates=layers, black=self.black[rows], inside=self.inside[rows])

    def without(self, rows: Collection[int]) -> "ImageFeatures":
        """All but some rows."""
        return self.of([row for row in range(len(self.names)) if row not in set(rows)])


def starting_backbone(name: str = "", weights: Path | None = None) -> Backbone:
    """A backbone with ImageNet weights.

    name: any timm model whose features form a grid. weights: a .safetensors file; without it, those of the
    Hub or an installed package. Without both, EfficientNet-Lite0 from its package; else that of a shipped
    checkpoint. Raises DataError.
    """
    if name or weights:
        name = name or LITE0
        found = weights_of_file(weights, name) if weights else imagenet_weights(name)
        return backbone_of(name, *found)
    tensors = packaged_lite0()
    if tensors is None:
        net, spec, info = load_checkpoint(LITE0_MODEL)
        return backbone_of(spec.backbone, net.backbone.state_dict(), f"backbone of {info.name}")
    return backbone_of(LITE0, tensors, PACKAGED)


def backbone_of(name: str, tensors: dict[str, Tensor], starting_weights: str) -> Backbone:
    """A backbone of timm with these tensors, rounded as a checkpoint stores them, and a head of zeros.

    Raises DataError.
    """
    spec = ModelSpec(name, "none", verdict_by=JUDGE_BY_MEMORY)
    try:
        net = spec.build()
        spec = replace(spec, image_size=GRID * net.strides[net.patch_stages[0]])
        net = spec.build().eval()
    except ValueError as error:
        raise DataError(f"{error}. Choose another backbone.") from error
    own = net.backbone.state_dict()
    if "pos_embed" in own and "pos_embed" in tensors:  # of images of another size
        grid, prefix = spec.image_size // net.strides[-1], getattr(net.backbone, "num_prefix_tokens", 1)
        embedded = resample_abs_pos_embed(
            tensors["pos_embed"].float(), [grid, grid], num_prefix_tokens=prefix
        )
        tensors = tensors | {"pos_embed": embedded}
    if missing := [key for key in own if key not in tensors and not key.endswith("num_batches_tracked")]:
        raise DataError(
            f"{len(missing)} tensors of {name} are missing from the weights, such as {missing[0]}."
        )
    net.backbone.load_state_dict({key: tensors[key] for key in own if key in tensors}, strict=False)
    with torch.no_grad():
        for tensor in (*net.head.parameters(), *net.backbone.state_dict().values()):
            if tensor.is_floating_point() and tensor.ndim > 1:
                tensor.copy_(tensor.half())
        for parameter in net.head.parameters():
            parameter.zero_()
    config = net.backbone.pretrained_cfg
    spec = replace(
        spec, mean=tuple(config["mean"]), std=tuple(config["std"]), interpolation=config["interpolation"]
    )
    return Backbone(net, spec, starting_weights)


def trained_backbone(folder: Path) -> Backbone:
    """The network of a trained classifier, to give it a memory bank. Raises DataError, CheckpointError."""
    net, spec, info = load_checkpoint(folder)
    if spec.verdict_by != HEAD:
        raise DataError(f"{folder} judges by a memory bank, so it is no classifier to add one to.")
    try:
        net.patch_stages  # noqa: B018
    except ValueError as error:
        raise DataError(f"The backbone of {folder} has no features that can be matched: {error}.") from error
    return Backbone(net, spec, info.starting_weights)


def extract_features(
    images: Sequence[Found],
    backbone: Backbone,
    progress: Progress = silent,
    limits: Limits = DEFAULT_LIMITS,
    alignment: Alignment = AS_IT_IS,
) -> ImageFeatures:
    """Read images and run the network over them, once. Raises DataError where none can be used.

    One that cannot be read, shows nothing, or is a copy of another is left out and named in unusable.
    """
    unusable: list[str] = []
    rows, intermediates = [], []
    usable = prefetch(
        usable_images(images, backbone.spec, alignment, within(progress, 0, READ), limits, unusable)
    )
    while batch := list(islice(usable, BATCH)):
        layers = layers_of(backbone, [one.view for one in batch], alignment)
        intermediates.append(layers)
        for one in batch:
            grid, pixels = layers[0].shape[2:], one.view.pixels
            seen = black_patches(pixels, grid), one.view.inside(grid)
            rows.append((one.name, one.sha256, one.view.image_size, *seen, one.thumbnail, one.gray))
    if not rows:
        raise DataError(f"None of the files can be used.{first_unusable(unusable)}")
    names, sha256, sizes, black, inside, thumbnails, gray = zip(*rows)
    layers = tuple(torch.cat(layer) for layer in zip(*intermediates))
    groups = near_duplicates(np.stack(gray), followed_by(within(progress, READ, 1)))
    return ImageFeatures(
        names,
        sha256,
        sizes,
        layers,
        np.stack(black),
        np.stack(inside),
        thumbnails,
        tuple(groups.tolist()),
        alignment,
        backbone.stages,
        tuple(unusable),
    )


def some_views(
    images: Sequence[Found],
    backbone: Backbone,
    count: int,
    limits: Limits = DEFAULT_LIMITS,
    side: int = 0,
) -> list[View]:
    """Up to so many of the images that can be used, drawn at random, the same every time, as they are.

    side: of the views, pixels; unless given, FINER times that of the network's input.
    """
    drawn = [images[row] for row in np.random.default_rng(0).permutation(len(images))[:count]]
    spec = replace(backbone.spec, image_size=side or FINER * backbone.spec.image_size)
    return [one.view for one in usable_images(drawn, spec, AS_IT_IS, silent, limits, [])]


def followed_by(progress: Progress) -> Callable:
    """A Progress in the form that near_duplicates takes."""

    def followed(items: Iterable, total: int, desc: str) -> Iterator:
        for done, item in enumerate(items):
            progress(done / total, f"looking for {desc}")
            yield item

    return followed


class UsableImage(NamedTuple):
    """gray: of the upright image, by which near-duplicates are found."""

    name: str
    sha256: str
    view: View
    thumbnail: bytes
    gray: np.ndarray


def usable_images(
    images: Sequence[Found],
    spec: ModelSpec,
    alignment: Alignment,
    progress: Progress,
    limits: Limits,
    unusable: list[str],
    known: Collection[str] = (),
) -> Iterator[UsableImage]:
    """Those that can be used, as the network takes them; why others cannot goes to `unusable`.

    known: sha256 of images that the model has already learned from.
    """
    names: dict[str, str] = {}  # by sha256
    for done, file in enumerate(images):
        progress(done / len(images), "reading images")
        try:
            decoded = read_image(content_of(file, limits), limits.megapixels)
        except ImageError as error:
            unusable.append(f"{file.name}: {error}")
            continue
        image, sha256 = decoded.image, decoded.sha256
        upright = pixels_of(image, spec.image_size, spec.interpolation)
        if int(upright.max()) - int(upright.min()) < MIN_CONTRAST:
            unusable.append(f"{file.name}: a single tone; it shows no chip")
        elif sha256 in known:
            unusable.append(f"{file.name}: the model has already learned from it")
        elif sha256 in names:
            unusable.append(f"{file.name}: the same image as {names[sha256]}")
        else:
            names[sha256] = file.name
            view = alignment.view(image, spec)
            thumbnail = _thumbnail(view.pixels, len(images))
            yield UsableImage(file.name, sha256, view, thumbnail, small_gray(upright))


def _thumbnail(pixels: np.ndarray, images: int) -> bytes:
    """A small copy of a view, as one of so many: a JPEG."""
    side = min(round(THUMBNAIL * math.sqrt(THUMBNAIL_BYTES / 12_000 / images)), len(pixels))
    return encode(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC), "JPEG")


def layers_of(backbone: Backbone, views: Sequence[View], alignment: Alignment) -> tuple[Tensor, ...]:
    """What the network makes of views: the layers that are compared, each (N, C, h, w) float16."""
    if alignment.windows is None or alignment.windows.count == 1:
        layers = intermediates_of(backbone, np.stack([view.pixels for view in views]))
        return tuple(map(torch.from_numpy, layers))

    def network(pixels: np.ndarray) -> list[np.ndarray]:
        return [layer.transpose(0, 2, 3, 1) for layer in intermediates_of(backbone, pixels)]

    joined = zip(*(alignment.windows.run(view, network) for view in views))
    return tuple(torch.from_numpy(np.stack(layer)).permute(0, 3, 1, 2) for layer in joined)


def intermediates_of(backbone: Backbone, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
    """(N, size, size, 3) uint8 pixels -> the channels of the layers that are compared.

    Each (N, C, h, w) float16.
    """
    if backbone.graph is None:
        return _in_torch(backbone.net, backbone.spec, pixels, backbone.stages)
    passes = [backbone.graph({PIXELS: pixels[i : i + FORWARD]}) for i in range(0, len(pixels), FORWARD)]
    return tuple(
        np.concatenate([found[layer_name(stage)].astype(np.float16) for found in passes])
        for stage in backbone.stages
    )


@on_lent_gpu
def _in_torch(
    net: ChipNet, spec: ModelSpec, pixels: np.ndarray, stages: Sequence[int]
) -> tuple[np.ndarray, ...]:
    """The same in PyTorch."""
    engine = TorchEngine(net, spec)
    at_once = FORWARD if engine.device.type == "cpu" else len(pixels)
    passes = [engine.intermediates(pixels[i : i + at_once], stages) for i in range(0, len(pixels), at_once)]
    layers = (torch.cat([compared_channels(layer).half() for layer in each]) for each in zip(*passes))
    return tuple(layer.cpu().numpy() for layer in layers)


def first_unusable(unusable: Sequence[str]) -> str:
    """A sentence on the first files that cannot be used, to follow another; "" where there are none."""
    return f" Unusable: {'; '.join(unusable[:3])}{' ...' if len(unusable) > 3 else ''}" if unusable else ""
