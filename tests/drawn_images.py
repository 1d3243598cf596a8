"""Small drawn images in a journal, for tests of labeling."""

from pathlib import Path

import numpy as np
from PIL import Image

from chipdemo.images import read_image
from chipdemo.labeling.journal import Journal, NewImage


def draw(path: Path, seed: int, size: tuple[int, int] = (120, 90)) -> Path:
    """A dark image with grain: abnormal for the fake inspector. size: (width, height)."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 90, (6, 8), np.uint8)
    Image.fromarray(small).convert("RGB").resize(size, Image.Resampling.BILINEAR).save(path)
    return path


def fill(journal: Journal, folder: Path, count: int, name: str = "chip{:02}.png") -> list[str]:
    """Add images; gives their sha256 in order."""
    images = []
    for index in range(count):
        path = draw(folder / f"{index}.png", index)
        decoded = read_image(path)
        images.append(NewImage(decoded.sha256, decoded.image.size, name.format(index), path.read_bytes()))
    journal.add_images(*images)
    return [image.sha256 for image in images]
