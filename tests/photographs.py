"""Small drawn photographs in a journal, for tests of labelling."""

from pathlib import Path

import numpy as np
from PIL import Image

from chipdemo.images import read_photograph
from chipdemo.labeling.store import Journal


def draw(path: Path, seed: int, size: tuple[int, int] = (120, 90)) -> Path:
    """A dark photograph with grain: abnormal for the fake inspector. size: (width, height)."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 90, (6, 8), np.uint8)
    Image.fromarray(small).convert("RGB").resize(size, Image.Resampling.BILINEAR).save(path)
    return path


def fill(journal: Journal, folder: Path, count: int, name: str = "chip{:02}.png") -> list[str]:
    """Add photographs; gives their sha256 in order."""
    shas = []
    for index in range(count):
        path = draw(folder / f"{index}.png", index)
        photograph = read_photograph(path)
        size = photograph.image.size
        journal.add_photograph(photograph.sha256, size, name.format(index), path.read_bytes())
        shas.append(photograph.sha256)
    return shas
