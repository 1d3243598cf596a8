"""The model in use that a run starts from (`--init CHECKPOINT`), and how to go on from it.

The next model must not forget what this one knows. So the run keeps its division, mixes its data in where
that is at hand, and tunes little where there are few new labels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chipdemo.errors import ChipDemoError
from chipdemo.inspection import ModelInfo
from chipdemo.splits import TRAIN
from chipdemo.vision.checkpoint import (
    HEAD,
    HUB_ID,
    SPLIT,
    ModelSpec,
    find_checkpoint,
    read_info,
    read_metrics,
    read_spec,
)
from chipdemo.vision.revisions import newest_accepted
from training.data import LabeledData
from training.divided import DividedImages
from training.sources import read_data
from training.splits import read_split

ALL_BLOCKS = 1000  # more than any backbone has
NEW_SHARE, MOST_REPEATS = 0.3, 8  # of the images of an epoch that are new; of a new image in an epoch
AT_HAND = 0.5  # share of the training images of the model in use


@dataclass(frozen=True)
class InUse:
    """source: what loads it, a folder, owner/name or owner/name@commit.

    data: the names, as of --data, of what it and the models before it were trained on. split: the images
    that they have seen, by sha256.
    """

    source: str
    folder: Path
    spec: ModelSpec
    info: ModelInfo
    data: tuple[str, ...]
    split: dict[str, list[str]]

    @property
    def has_head(self) -> bool:
        """A classifier; a model that was taught from good images alone has no head to start from."""
        return self.spec.verdict_by == HEAD


def model_in_use(init: str) -> InUse | None:
    """The checkpoint that --init names; None for "imagenet", "none" and files.

    owner/name is its newest revision that is not worse than the one before it. Raises CheckpointError,
    DataError.
    """
    if not Path(init).is_dir() and (Path(init).suffix == ".safetensors" or not HUB_ID.fullmatch(init)):
        return None
    source = init if Path(init).is_dir() else newest_accepted(init).source
    folder = find_checkpoint(source)
    spec, training = read_spec(folder), read_metrics(folder).get("training", {})
    data = [training.get("options", {}).get("data"), *training.get("earlier_data", [])]
    return InUse(
        source,
        folder,
        spec,
        read_info(source, folder, spec),
        tuple(filter(None, data)),
        read_split(folder / SPLIT),
    )


def earlier_data(in_use: InUse, data: str) -> tuple[list[LabeledData], list[str]]:
    """What the model in use was trained on besides data, if it is at hand; and a line on all that is not."""
    found, missing = [], []
    for name in dict.fromkeys(in_use.data):
        if name == data:
            continue
        try:
            found.append(read_data(name))
        except ChipDemoError as error:
            missing.append(f"{name}, which the model in use was trained on, is not at hand: {error}")
    return found, missing


def is_at_hand(in_use: InUse, images: DividedImages) -> bool:
    """Whether the training images include enough of those of the model in use not to forget them."""
    seen = set(in_use.split[TRAIN])
    return len(seen & set(images.sha256[TRAIN])) >= AT_HAND * len(seen)


class Tuning(NamedTuple):
    """Defaults of a run: freeze, epochs and learning_rate as in Options."""

    freeze: int
    epochs: int
    learning_rate: float


FROM_IMAGENET = Tuning(freeze=4, epochs=6, learning_rate=5e-4)
FROM_MODEL = (  # new training images, up to which count; what to tune with them
    (100, Tuning(freeze=ALL_BLOCKS, epochs=6, learning_rate=1e-4)),  # the attention and the head alone
    (500, Tuning(freeze=-1, epochs=6, learning_rate=1e-4)),  # and the last block
    (float("inf"), Tuning(freeze=4, epochs=6, learning_rate=2e-4)),
)


def tuning(in_use: InUse | None, new: int) -> Tuning:
    """What to tune, how long and how fast. new: the number of training images that the model has not seen."""
    if in_use is None or not in_use.has_head:
        return FROM_IMAGENET
    return next(tuning for count, tuning in FROM_MODEL if new < count)


def rows_of_epoch(new: np.ndarray) -> np.ndarray:
    """(N,) bool, which training images are new -> the rows of an epoch, (M,): the new ones several times.

    So that they are NEW_SHARE of the images even where there are few, but none more than MOST_REPEATS times.
    """
    known, count = np.flatnonzero(~new), np.count_nonzero(new)
    wanted = NEW_SHARE / (1 - NEW_SHARE) * len(known)
    repeats = int(np.clip(round(wanted / max(count, 1)), 1, MOST_REPEATS))
    return np.concatenate((known, np.repeat(np.flatnonzero(new), repeats)))
