"""The frozen first blocks of a backbone: run once for each augmented view, not once an epoch.

The first blocks cost most of a training step on a CPU (they see the most pixels) and learn the
least from a few thousand images. Frozen, they give the same output every time, so it is
kept on disk, and later epochs, and runs with another seed or another attention, start from it.
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
from chipdemo.vision.model import ChipNet
from chipdemo.vision.transforms import normalize
from training import augment

CHUNK = 32  # images at a time through the trunk


class FrozenTrunk:
    """The first blocks of a network's backbone, which stop learning. The stem is the first.

    Raises DataError where these blocks cannot be cut off the backbone.
    """

    def __init__(self, net: ChipNet, blocks: int):
        backbone = net.backbone
        groups = group_parameters(backbone, backbone.group_matcher(coarse=True))
        frozen = tuple(name for group in sorted(groups)[:blocks] for name in groups[group])
        paths = list(_units(backbone))
        last = max(
            (i for i, path in enumerate(paths) if any(n.startswith(path + ".") for n in frozen)), default=-1
        )
        self.paths = paths[: last + 1]
        self.units = [backbone.get_submodule(path) for path in self.paths]
        self._check(net)
        for unit in self.units:
            unit.eval().requires_grad_(False)  # eval: normalization keeps its statistics

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        """(N, 3, H, W) normalized images -> (N, C, h, w), what the next block gets."""
        for unit in self.units:
            batch = unit(batch)
        return batch

    @contextmanager
    def skipped(self, net: ChipNet) -> Iterator[None]:
        """Within it, the network takes the trunk's output instead of images."""
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
    """Paths of the parts that run one after the other: children, with sequences opened."""
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential) and type(child).forward is nn.Sequential.forward:
            yield from _units(child, f"{prefix}{name}.")
        else:
            yield prefix + name


def cached_views(
    trunk: FrozenTrunk,
    pixels: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    views: int,
    cache: Path,
    progress: Callable,
) -> list[np.ndarray]:
    """The trunk's output for `views` augmented views of every image.

    pixels: (N, S, S, 3) uint8. Returns one (N, h, w, C) float16 array a view, mapped from a
    file under `cache` that is named by all it depends on; finished files are used again.
    """
    device = next(iter(trunk.units[0].parameters())).device
    folder = cache / _fingerprint(trunk, pixels, mean, std)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"view{view}.npy" for view in range(views)]
    for view, path in enumerate(paths):
        if path.exists():
            continue
        generator, chunks = torch.Generator().manual_seed(view), []
        for start in progress(range(0, len(pixels), CHUNK), desc=f"view {view + 1}/{views}"):
            part = torch.from_numpy(pixels[start : start + CHUNK]).to(device)
            features = trunk(normalize(augment.augment(part, generator), mean, std))
            chunks.append(features.permute(0, 2, 3, 1).half().cpu().numpy())  # (n, C, h, w) -> (n, h, w, C)
        temporary = path.with_suffix(".part.npy")
        try:
            np.save(temporary, np.concatenate(chunks))
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)  # views are large: half of one would keep a disk full
            raise
    return [np.load(path, mmap_mode="r") for path in paths]


def gather(arrays: list[np.ndarray], views: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Row `rows[i]` of view `views[i]`, as the next block takes it: (n, C, h, w) float32."""
    chosen = np.stack([arrays[view][row] for view, row in zip(views.tolist(), rows.tolist())])
    return torch.from_numpy(chosen).to(device).permute(0, 3, 1, 2).float()  # (n, h, w, C) -> (n, C, h, w)


def _fingerprint(trunk: FrozenTrunk, pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> str:
    digest = hashlib.sha256(json.dumps([pixels.shape, list(mean), list(std)]).encode())
    digest.update(Path(augment.__file__).read_bytes())
    digest.update(np.ascontiguousarray(pixels))
    for unit in trunk.units:
        for tensor in unit.state_dict().values():
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()))
    return digest.hexdigest()[:16]
