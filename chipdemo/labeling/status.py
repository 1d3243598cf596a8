"""Progress of the labeling, and the commands that train the next model from it."""

import json
import shlex
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chipdemo.inspection import CLASSES
from chipdemo.labeling.agreement import DISPUTED
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import LABELS
from chipdemo.settings import Settings


@dataclass(frozen=True)
class Status:
    """images: in the journal. labeled: with a standing label. pending: events not yet published.

    agreed: images by consensus. disputed: images without a majority. new: images agreed to be normal or
    abnormal that the model has not seen; None where that is not known.
    """

    images: int
    labeled: int
    agreed: dict[str, int]
    disputed: int
    pending: int
    new: int | None


def status_of(journal: Journal, seen: Collection[str] | None = None) -> Status:
    """seen: sha256 of the images that the model was trained and evaluated on; None if unknown."""
    counts = journal.counts()
    labels, new = Counter(), 0
    with journal.read() as database:
        for sha256, consensus in database.execute(
            "SELECT sha256, consensus FROM images WHERE consensus != ''"
        ):
            labels[consensus] += 1
            new += seen is not None and consensus in CLASSES and sha256 not in seen
    return Status(
        counts.images,
        counts.labeled,
        {label: labels[label] for label in LABELS},
        labels[DISPUTED],
        counts.pending,
        None if seen is None else new,
    )


def images_seen(checkpoint: str) -> frozenset[str] | None:
    """The sha256 in the split.json of a checkpoint folder; None where it cannot be read."""
    try:
        split = json.loads((Path(checkpoint).expanduser() / "split.json").read_bytes())
        return frozenset(sha256 for name in ("train", "val", "test") for sha256 in split[name])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def training_commands(settings: Settings, in_use: str, dataset: str = "") -> list[str]:
    """The commands that train the next model, from the dataset (owner/name) or from an export.

    in_use: what loads the model in use, which the next one starts from and is compared with. Where the app
    reloads its model, the next one replaces it.
    """
    model, start = Path(settings.model_source).expanduser(), Path(in_use).expanduser()
    if start.is_relative_to(Path.cwd()):  # of this program; it may be elsewhere where training runs
        start = start.relative_to(Path.cwd())
    ending = f" --init {shlex.quote(str(start))}"
    if settings.hot_reload and settings.model:
        place = "--out" if model.is_dir() else "--push-to-hub"
        ending += f" {place} {shlex.quote(str(model))}"
    if dataset:
        return [f"python training/train.py --data hf:{dataset}{ending}"]
    journal = f" --journal {shlex.quote(str(settings.journal_path))}" if settings.journal else ""
    folder = f"labels-{datetime.now():%Y%m%d-%H%M%S}"  # exports go to a new folder each time
    return [
        f"python -m chipdemo labels export {folder}{journal}",
        f"python training/train.py --data {folder}{ending}",
    ]
