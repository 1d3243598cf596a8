"""The frozen first blocks of a backbone, and the batches that the rest of the network trains on.

The first blocks take most of the time of a training step on a CPU (they see the most pixels) and change
the least in training on a few thousand images. Frozen, they give the same output every time: it is
computed once for a few augmented views of each image and kept on disk for later epochs, and for runs
with another seed or attention.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from chipdemo.errors import DataError
from chipdemo.vision.checkpoint import ModelSpec
from chipdemo.vision.model import ChipNet
from chipdemo.vision.transforms import normalize
from training import augment

CHUNK = 32  # images at a time through the trunk


class FrozenTrunk:
    """The first blocks of a network's backbone, which are not trained. The stem is the first.

    Those up to the first features that the head gets are the trunk. Frozen blocks behind it run in each step.
    """

    def __init__(self, net: ChipNet, blocks: int):
        """blocks: how many; 0 freezes none, -1 all but the last, and more than there are the whole backbone.

        Raises DataError if they cannot be cut off the backbone.
        """
        backbone = net.backbone
        groups = group_parameters(backbone, backbone.group_matcher(coarse=True))
        frozen = tuple(name for group in sorted(groups)[:blocks] for name in groups[group])
        paths = list(_units(backbone))
        last = max(
            (i for i, path in enumerate(paths) if any(n.startswith(path + ".") for n in frozen)), default=-1
        )
        joined = str(backbone.feature_info[net.finer[0]]["module"]) if net.finer else paths[-1]
        ends = [i for i, path in enumerate(paths) if f"{path}.".startswith(f"{joined}.")]
        cut = min(last, max(ends, default=last))
        self.paths = paths[: cut + 1]
        self.units = [backbone.get_submodule(path) for path in self.paths]
        self.behind = [backbone.get_submodule(path) for path in paths[cut + 1 : last + 1]]
        if self.units:
            self._check(net)
        for unit in (*self.units, *self.behind):
            unit.eval().requires_grad_(False)  # eval: normalization keeps its statistics

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        """(N, 3, H, W) normalized images -> (N, C, h, w), what the next block gets."""
        for unit in self.units:
            batch = unit(batch)
        return batch

    @contextmanager
    def skipped(self, net: ChipNet) -> Iterator[None]:
        """Within it, the network takes the trunk's output instead of images, and frozen blocks stay so."""
        for unit in self.behind:
            unit.eval()
        for path in self.paths:
            net.backbone.set_submodule(path, nn.Identity())
        try:
            yield
        finally:
            for path, unit in zip(self.paths, self.units):
                net.backbone.set_submodule(path, unit)

    def _check(self, net: ChipNet) -> None:
        training = net.training
        net.eval()
        batch = torch.randn(2, 3, 64, 64, device=next(net.parameters()).device)
        with torch.inference_mode():
            whole = net(batch).logits
            with self.skipped(net):
                cut = net(self(batch)).logits
        net.train(training)
        if not torch.allclose(whole, cut, atol=1e-4):
            raise DataError("The first blocks of this backbone cannot be cut off; start with --freeze 0.")


def _units(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """Paths of the modules that run one after the other: the children, and those of each nn.Sequential."""
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential) and type(child).forward is nn.Sequential.forward:
            yield from _units(child, f"{prefix}{name}.")
        else:
            yield prefix + name


class Inputs:
    """Augmented batches of the training images, as what follows the trunk takes them."""

    def __init__(
        self,
        trunk: FrozenTrunk,
        pixels: np.ndarray,
        spec: ModelSpec,
        strength: float,
        device: torch.device,
    ):
        """pixels: (N, S, S, 3) uint8. strength: of the augmentation, 0-1."""
        self.trunk, self.pixels, self.spec, self.device = trunk, pixels, spec, device
        self.strength = strength
        self.views: list[np.ndarray] = []

    def cache(self, views: int, folder: Path, seed: int, progress: Callable) -> None:
        """Compute the trunk's output for `views` augmented views of each image, or find it in folder.

        An image has other views in each epoch; seed chooses the first one. Does nothing without frozen
        blocks.
        """
        if self.trunk.units:
            mean, std = self.spec.mean, self.spec.std
            self.views = cached_views(
                self.trunk, self.pixels, mean, std, views, self.strength, folder, progress
            )
            generator = torch.Generator().manual_seed(seed)
            self.first_view = torch.randint(views, (len(self.pixels),), generator=generator)

    def batch(self, rows: Tensor, number: int, generator: torch.Generator) -> Tensor:
        """(n,) row numbers -> (n, C, h, w) float32: the trunk's output, or normalized images without one.

        number: counts the views that an image has had in this run, so that each is another one.
        """
        if self.views:
            return gather(self.views, (self.first_view[rows] + number) % len(self.views), rows, self.device)
        pixels = torch.from_numpy(self.pixels[rows.numpy()])  # (n, S, S, 3)
        pixels = augment.augment(pixels, generator, self.strength).to(self.device)
        return normalize(pixels, self.spec.mean, self.spec.std)  # (n, 3, S, S)


def cached_views(
    trunk: FrozenTrunk,
    pixels: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    views: int,
    strength: float,
    cache: Path,
    progress: Callable,
) -> list[np.ndarray]:
    """The trunk's output for `views` augmented views of every image.

    pixels: (N, S, S, 3) uint8. Returns one (N, h, w, C) float16 array a view, mapped from a
    file below `cache` whose folder is named by the hash of what it depends on; existing files are used.
    """
    device = next(iter(trunk.units[0].parameters())).device
    folder = cache / _fingerprint(trunk, pixels, mean, std, strength)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"view{view}.npy" for view in range(views)]
    for view, path in enumerate(paths):
        if path.exists():
            continue
        generator, chunks = torch.Generator().manual_seed(view), []
        for start in progress(range(0, len(pixels), CHUNK), desc=f"view {view + 1}/{views}"):
            chunk = torch.from_numpy(pixels[start : start + CHUNK])
            chunk = augment.augment(chunk, generator, strength).to(device)
            features = trunk(normalize(chunk, mean, std))
            chunks.append(features.permute(0, 2, 3, 1).half().cpu().numpy())  # (n, C, h, w) -> (n, h, w, C)
        temporary = path.with_suffix(".part.npy")
        try:
            np.save(temporary, np.concatenate(chunks))
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)  # it is large, and the disk may be full
            raise
    return [np.load(path, mmap_mode="r") for path in paths]


def gather(arrays: list[np.ndarray], views: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Row `rows[i]` of view `views[i]`: (n, C, h, w) float32."""
    chosen = np.stack([arrays[view][row] for view, row in zip(views.tolist(), rows.tolist())])
    return torch.from_numpy(chosen).to(device).permute(0, 3, 1, 2).float()  # (n, h, w, C) -> (n, C, h, w)


def _fingerprint(
    trunk: FrozenTrunk, pixels: np.ndarray, mean: Sequence[float], std: Sequence[float], strength: float
) -> str:
    digest = hashlib.sha256(json.dumps([pixels.shape, list(mean), list(std), strength]).encode())
    digest.update(Path(augment.__file__).read_bytes())
    digest.update(np.ascontiguousarray(pixels))
    for unit in trunk.units:
        for tensor in unit.state_dict().values():
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()))
    return digest.hexdigest()[:16]
