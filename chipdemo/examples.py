"""Example images: solar cells of the package elpv-dataset; of a taught model, what it was taught with."""

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chipdemo.inspection import Model, is_taught

FILE_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)  # a name may come from a stranger's file: no folders
ELPV_CREDIT = "ELPV, CC BY-NC-SA 4.0 (non-commercial)"
# Of the test part of benchmarks/elpv_split.json, so that the shipped model has not learned them by heart.
ELPV_EXAMPLES = (
    ("cell0008.png", "labeled defective, monocrystalline"),
    ("cell0909.png", "labeled normal, monocrystalline"),
    ("cell0018.png", "labeled defective, monocrystalline"),
    ("cell0080.png", "labeled normal, polycrystalline"),
    ("cell0077.png", "labeled defective, polycrystalline"),
    ("cell0023.png", "labeled defective, monocrystalline"),
)
COUNT = 6  # of a taught model


@dataclass(frozen=True)
class Example:
    """An image to try. source: a file, or the content of one. caption: what is known of it, and from whom."""

    source: Path | bytes
    name: str
    caption: str


def elpv_examples() -> tuple[Example, ...]:
    """Six images, or none where the package elpv-dataset is not installed.

    The package is found, not imported: its import reads all 2,624 images.
    """
    found = ((elpv_image(name), name, caption) for name, caption in ELPV_EXAMPLES)
    return tuple(
        Example(path, name, f"{Path(name).stem}, {caption}") for path, name, caption in found if path
    )


def examples_of(model: Model, shipped: Sequence[Example]) -> Sequence[Example]:
    """What can be tried with a model: some of the images that it was taught with, or the shipped ones."""
    if not is_taught(model):
        return shipped
    count = len(model.copies)
    rows = sorted({round(i * (count - 1) / (COUNT - 1)) for i in range(COUNT)}) if count else []
    return [Example(model.copies[row], f"good-{row + 1}.jpg", f"good image {row + 1}") for row in rows]


def elpv_image(name: str) -> Path | None:
    """The image of the package elpv-dataset with this file name, where it is installed."""
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or spec.origin is None or not FILE_NAME.fullmatch(name):
        return None
    path = Path(spec.origin).parent / "data" / "images" / name
    return path if path.is_file() else None
