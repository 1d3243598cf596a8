"""Augmentation: what may differ between two images of the same part, and must not change the verdict."""

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

MAX_NOISE = 8.0  # standard deviation, gray levels


class Noise(v2.Transform):
    """Gaussian noise, with a standard deviation drawn from 0 to MAX_NOISE gray levels."""

    def transform(self, image: Tensor, params: dict) -> Tensor:
        noise = torch.randn(image.shape) * torch.rand(()) * MAX_NOISE
        return (image + noise).round().clamp(0, 255).to(torch.uint8)


class FewerPixels(v2.Transform):
    """The image as a camera of fewer pixels takes it, 60-100 % of the side, in its former size."""

    def transform(self, image: Tensor, params: dict) -> Tensor:
        side = image.shape[-1]
        fewer = round(side * float(torch.empty(()).uniform_(0.6, 1.0)))
        return F.resize(F.resize(image, [fewer, fewer]), [side, side])


def augmentation(side: int, strength: float) -> v2.Transform:
    """A random change of one image: (1 or 3, side, side) uint8 -> the same shape.

    Always one of the eight flips and right-angle turns. Each other change has a probability that is
    multiplied by strength, 0-1: a small turn, shift and scale, light, blur, noise, fewer pixels, JPEG.
    """
    move = v2.RandomAffine(4, (0.04, 0.04), (0.94, 1.08), interpolation=InterpolationMode.BILINEAR)
    moved = [v2.Pad(side // 10, padding_mode="reflect"), move, v2.CenterCrop(side)]  # mirrored at the edge
    changes = [
        (
            [v2.RandomChoice([move, v2.Compose(moved)], [0.3, 0.7])],
            0.7,
        ),  # without a mirror, the edge is black
        ([v2.ColorJitter(brightness=0.3, contrast=0.3)], 0.7),
        ([v2.RandomAutocontrast(1.0)], 0.15),
        ([v2.GaussianBlur(3, (0.3, 1.2))], 0.15),
        ([Noise()], 0.4),
        ([FewerPixels()], 0.2),
        ([v2.JPEG((30, 95))], 0.4),
    ]
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomApply([v2.RandomRotation((90, 90))]),
            *(v2.RandomApply(change, probability * strength) for change, probability in changes),
        ]
    )


def augment(pixels: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """(N, S, S, 3) uint8 pixels -> the same, each image changed by itself (see augmentation)."""
    change = augmentation(pixels.shape[1], strength)
    images = pixels.permute(0, 3, 1, 2)  # (N, S, S, 3) -> (N, 3, S, S)
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
        torch.manual_seed(seed)
        changed = [change(image[:1] if _is_gray(image) else image).expand(3, -1, -1) for image in images]
    return torch.stack(changed).permute(0, 2, 3, 1)


def _is_gray(image: Tensor) -> bool:
    """Then one channel is changed instead of three."""
    return torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
