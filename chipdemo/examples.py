"""Example images: solar cells of the ELPV dataset, from its package, and those that a checkpoint brings."""

import importlib.util
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from chipdemo.errors import CheckpointError, ImageError, UnreadableImageError
from chipdemo.images import read_image

log = logging.getLogger(__name__)

FILE_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)  # a name may come from a stranger's file: no folders
EXAMPLES = Path("examples", "examples.json")  # of a checkpoint folder
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


@dataclass(frozen=True)
class Example:
    """An image to try. caption: what is known of it, and from whom."""

    path: Path
    caption: str


@dataclass(frozen=True)
class ExampleSet:
    """Images to try of the part that a model knows. model: its name. credit: from whom, and the license."""

    model: str
    title: str
    credit: str
    examples: tuple[Example, ...]


def examples_of(folder: Path, model: str) -> ExampleSet | None:
    """The images in a checkpoint folder, as its EXAMPLES says; None where it has none.

    EXAMPLES: {"title": ..., "credit": ..., "images": {file name: caption}}. Raises CheckpointError.
    """
    listed = folder / EXAMPLES
    if not listed.is_file():
        return None
    try:
        about = json.loads(listed.read_text(encoding="utf-8"))
        images, title, credit = about["images"].items(), str(about["title"]), str(about["credit"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{listed} is damaged ({type(error).__name__}: {error}). Mend it, or delete it."
        ) from error
    found = ((listed.parent / name, str(caption)) for name, caption in images if FILE_NAME.fullmatch(name))
    return ExampleSet(model, title, credit, tuple(Example(*each) for each in found if _is_readable(each[0])))


def _is_readable(path: Path) -> bool:
    """Whether it is an image, and no link to one elsewhere; said in the log where it is not."""
    try:
        if path.is_symlink():
            raise UnreadableImageError("Links are not followed.")
        read_image(path)
    except ImageError as error:
        log.warning("the example %s is not shown: %s", path, error)
        return False
    return True


def elpv_example_set(model: str) -> ExampleSet:
    """elpv_examples, for a model of this name."""
    return ExampleSet(model, "electroluminescence images of solar cells", ELPV_CREDIT, elpv_examples())


def elpv_examples() -> tuple[Example, ...]:
    """Six images, or none where the package elpv-dataset is not installed.

    The package is found, not imported: its import reads all 2,624 images.
    """
    found = ((elpv_image(name), name, caption) for name, caption in ELPV_EXAMPLES)
    return tuple(Example(path, f"{Path(name).stem}, {caption}") for path, name, caption in found if path)


def elpv_image(name: str) -> Path | None:
    """The image of the package elpv-dataset with this file name, where it is installed."""
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or spec.origin is None or not FILE_NAME.fullmatch(name):
        return None
    path = Path(spec.origin).parent / "data" / "images" / name
    return path if path.is_file() else None
