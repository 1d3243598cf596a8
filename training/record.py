"""What is measured of a checkpoint after its training: into its metrics.json and its model card."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chipdemo.errors import DataError
from chipdemo.vision.checkpoint import CARD, METRICS, read_json, write_json


def record(folder: Path, name: str, figures: dict[str, Any], card: tuple[str, str] | None = None) -> None:
    """Set one entry of metrics.json, in place of an earlier one; the model answers as before.

    folder: a checkpoint's. card: the title and the text of a section of the model card. Raises DataError
    where the folder cannot be written to, CheckpointError where it is no checkpoint.
    """
    metrics = read_json(folder / METRICS) | {name: figures}
    try:
        _replace(folder / METRICS, lambda path: write_json(path, metrics))
        if card and (folder / CARD).exists():
            text = with_section((folder / CARD).read_text(encoding="utf-8"), *card)
            _replace(folder / CARD, lambda path: path.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error}. Name a folder of yours.") from error


def with_section(card: str, title: str, text: str) -> str:
    """A model card with a section of this title, the first of its sections; an earlier one goes."""
    card = re.sub(rf"\n## {re.escape(title)}\n.*?(?=\n## |\Z)", "", card, flags=re.DOTALL)
    before, mark, after = card.partition("\n## ")
    return f"{before}\n## {title}\n\n{text}\n{mark}{after}"


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Whole or not at all: an app that watches the folder may read it at any time."""
    part = path.with_name(f".{path.name}.part")
    write(part)
    part.replace(path)
