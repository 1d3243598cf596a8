"""The memory bank of a model that continues one with a memory bank."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from chipdemo.errors import DataError
from chipdemo.files import Found
from chipdemo.inspection import NORMAL
from chipdemo.splits import TRAIN
from chipdemo.vision.anomaly.anomaly_model import (
    AnomalyModel,
    load_anomaly_model,
    save_anomaly_model,
    weights_sha256,
)
from chipdemo.vision.anomaly.features import (
    extract_features,
    intermediates_of,
    trained_backbone,
)
from chipdemo.vision.anomaly.fitting import fit
from chipdemo.vision.anomaly.saving import add_memory_bank, describe_memory_bank
from chipdemo.vision.checkpoint import MEMORY, read_metrics
from training.divided import DividedImages
from training.in_use import InUse, is_at_hand
from training.record import record

OF_MODEL = ", by "


def continue_memory_bank(in_use: InUse, folder: Path, images: DividedImages, say: Callable) -> None:
    """Give a new checkpoint a memory bank, where the model in use has one.

    It is of the normal training images. Where those of the model in use are not at hand, its bank stays if
    training has left the layers that it compares as they were; otherwise the new model has none.
    folder: of the new checkpoint. say: such as print.
    """
    if not in_use.has_head or not (in_use.folder / MEMORY).exists():
        return
    earlier = load_anomaly_model(in_use.folder)
    try:
        if is_at_hand(in_use, images):
            renew(folder, images, earlier)
        else:
            keep(in_use.folder, folder, images, earlier)
    except DataError as error:
        say(f"memory bank: none. {error}")
        return
    say(f"memory bank: of {len(load_anomaly_model(folder).images):,} normal images")
    if overlay := read_metrics(in_use.folder).get("overlay"):  # which one to show first
        measured = overlay["data"].partition(OF_MODEL)[0]
        record(folder, "overlay", overlay | {"data": f"{measured}{OF_MODEL}{in_use.info.name}"})


def renew(folder: Path, images: DividedImages, earlier: AnomalyModel) -> None:
    """A bank of all normal training images, with as many patches as the earlier one. Raises DataError."""
    normal = [sample for sample in images.samples[TRAIN] if sample.label == NORMAL]
    found = [Found(sample.path.name, sample.content or sample.path) for sample in normal]
    features = extract_features(found, trained_backbone(folder))
    fitted = fit(features, len(earlier.memory_bank.features))
    add_memory_bank(folder, fitted, keep_images=bool(earlier.thumbnails))


def keep(before: Path, folder: Path, images: DividedImages, earlier: AnomalyModel) -> None:
    """The earlier bank. Raises DataError where the new network has other features than the one before."""
    if not same_features(before, folder, images.pixels[TRAIN][:2]):
        raise DataError("The normal images of the model in use are not at hand.")
    save_anomaly_model(folder, replace(earlier, weights_sha256=weights_sha256(folder)))
    describe_memory_bank(folder, earlier)


def same_features(one: Path, other: Path, pixels: np.ndarray) -> bool:
    """Whether two checkpoints have the same features of the layers that a memory bank compares.

    pixels: (N, size, size, 3) uint8, of a few images.
    """
    layers = []
    for folder in (one, other):
        layers.append(intermediates_of(trained_backbone(folder), pixels))
    return all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(*layers))
