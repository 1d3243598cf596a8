"""Example photographs: solar cells of the ELPV data set, from its package."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

ELPV_CREDIT = "ELPV, CC BY-NC-SA 4.0 (non-commercial)"
# Of the test part of benchmarks/elpv_split.json, so that the shipped model has not learnt them by heart.
ELPV_EXAMPLES = (
    ("cell0008.png", "labelled defective, monocrystalline"),
    ("cell0909.png", "labelled normal, monocrystalline"),
    ("cell0018.png", "labelled defective, monocrystalline"),
    ("cell0080.png", "labelled normal, polycrystalline"),
    ("cell0077.png", "labelled defective, polycrystalline"),
    ("cell0023.png", "labelled defective, monocrystalline"),
)


@dataclass(frozen=True)
class Example:
    """A photograph to try. caption: what is known of it, and from whom."""

    path: Path
    caption: str


def elpv_examples() -> tuple[Example, ...]:
    """Six photographs, or none where the package elpv-dataset is not installed.

    The package is found, not imported: its import reads all 2,624 photographs.
    """
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        return ()
    folder = Path(spec.origin).parent / "data" / "images"
    return tuple(
        Example(folder / name, f"{Path(name).stem}, {caption}")
        for name, caption in ELPV_EXAMPLES
        if (folder / name).is_file()
    )
