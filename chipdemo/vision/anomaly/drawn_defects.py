"""Defects drawn into images of good parts, to choose by them before a real one is known."""

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageDraw

VISIBLE = 25  # 0-255; a pixel that changes by more belongs to the defect ...
SMALLEST = 0.001  # ... which is at least this share of the image
Draw = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _box(side: int, generator: np.random.Generator, least: float, most: float) -> tuple[int, int, int, int]:
    """top, left, height, width of a box near the center of a square, in pixels."""
    height, width = generator.integers(round(least * side), round(most * side), 2)
    center = np.clip(generator.normal(0.5, 0.17, 2), 0.15, 0.85) * side
    top, left = np.clip(center - (height / 2, width / 2), 0, (side - height, side - width)).astype(int)
    return top, left, height, width


def cut_paste(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A part of the same image, turned, where it does not belong (Li et al., CVPR 2021)."""
    side = len(pixels)
    top, left, height, width = _box(side, generator, 0.04, 0.14)
    y, x = generator.integers(0, side - height), generator.integers(0, side - width)
    patch = np.rot90(pixels[y : y + height, x : x + width], 2 * generator.integers(2))
    pixels[top : top + height, left : left + width] = patch
    return pixels


def scratch(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    image, side = Image.fromarray(pixels), len(pixels)
    points = [np.clip(generator.normal(0.5, 0.17, 2), 0.15, 0.85) * side]
    angle = generator.uniform(0, 2 * np.pi)
    for _ in range(generator.integers(2, 6)):
        angle += generator.normal(0, 0.5)
        points.append(
            points[-1] + generator.uniform(0.03, 0.07) * side * np.array([np.cos(angle), np.sin(angle)])
        )
    gray = int(generator.choice([20, 60, 190, 230]))
    line = [tuple(point) for point in points]
    ImageDraw.Draw(image).line(line, fill=(gray,) * 3, width=int(generator.integers(2, 6)))
    return np.array(image)


def shifted(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A part moved a little."""
    side = len(pixels)
    top, left, height, width = _box(side, generator, 0.1, 0.33)
    down, across = generator.integers(-side // 14, side // 14 + 1, 2)
    y, x = np.clip((top + down, left + across), 0, (side - height, side - width))
    pixels[y : y + height, x : x + width] = pixels[top : top + height, left : left + width].copy()
    return pixels


def removed(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A part replaced by what is at the left or right edge."""
    side = len(pixels)
    top, left, height, width = _box(side, generator, 0.06, 0.2)
    x = int(generator.choice([0, side - width]))
    y = int(np.clip(top + generator.integers(-side // 25, side // 25 + 1), 0, side - height))
    pixels[top : top + height, left : left + width] = pixels[y : y + height, x : x + width].copy()
    return pixels


def bent(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A part pulled aside smoothly."""
    side = len(pixels)
    center = np.clip(generator.normal(0.5, 0.17, 2), 0.15, 0.85) * side
    radius, angle = generator.uniform(0.06, 0.16) * side, generator.uniform(0, 2 * np.pi)
    pull = generator.uniform(0.4, 0.9) * radius * np.array([np.sin(angle), np.cos(angle)])
    grid = np.mgrid[:side, :side]
    weight = np.exp(-np.square(grid - center[:, None, None]).sum(0) / (2 * radius**2))
    rows, columns = (grid + pull[:, None, None] * weight).astype(np.float32)
    return cv2.remap(pixels, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def turned(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The center turned around."""
    side = len(pixels)
    angle = generator.uniform(12, 180) * generator.choice([-1, 1])
    shift = tuple(int(pixel) for pixel in generator.normal(0, 0.04 * side, 2))
    image = np.array(Image.fromarray(pixels).rotate(angle, Image.Resampling.BILINEAR, translate=shift))
    off = np.square(np.mgrid[:side, :side] - side / 2).sum(0) ** 0.5
    return np.where((off < generator.uniform(0.2, 0.4) * side)[..., None], image, pixels)


def misplaced(pixels: np.ndarray, generator: np.random.Generator, least: float) -> np.ndarray:
    """The whole image turned, by so many degrees at least: a defect where all good parts lie alike."""
    angle = generator.uniform(least, 180) * generator.choice([-1, 1])
    middle = (len(pixels) - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, 1)
    return cv2.warpAffine(pixels, matrix, pixels.shape[:2], borderMode=cv2.BORDER_REPLICATE)


KINDS: tuple[Draw, ...] = (cut_paste, scratch, shifted, removed, bent, turned)
_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (13, 13))
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def draw_defect(image: Image.Image, kind: Draw, seed: int) -> tuple[Image.Image, np.ndarray]:
    """A square image with a defect, and its mask (H, W) bool; tried again until one can be seen."""
    generator, pixels = np.random.default_rng(seed), np.asarray(image)
    while True:
        changed = kind(pixels.copy(), generator)
        mask = (cv2.absdiff(changed, pixels).max(2) > VISIBLE).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _DISC)
        _, regions, found, _ = cv2.connectedComponentsWithStats(
            cv2.morphologyEx(mask, cv2.MORPH_OPEN, _CROSS)
        )
        large = found[:, cv2.CC_STAT_AREA] >= SMALLEST * mask.size
        large[0] = False
        if large.any():
            return Image.fromarray(changed), large[regions]
