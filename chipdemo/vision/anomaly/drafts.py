"""What is shown of a draft, and the model that becomes of it."""

from collections.abc import Collection, Sequence
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from PIL import Image

from chipdemo.inspection import INVERSE
from chipdemo.overlay import encode, overlay
from chipdemo.teaching import Draft, Outlier, Taught
from chipdemo.vision.anomaly.fitting import heat_limit
from chipdemo.vision.anomaly.matching import score_of
from chipdemo.vision.cam import fixed_scale_heatmap
from chipdemo.vision.checkpoint import MEMORY, read_metrics
from chipdemo.vision.predictor import load_model

PICTURE_SIDE = 240  # pixels of the longer side


def outliers_shown(
    names: Sequence[str], thumbnails: Sequence[bytes], maps: np.ndarray, outliers: Sequence[int]
) -> tuple[Outlier, ...]:
    """The outliers, with heat on the scale that the other images set.

    names, thumbnails: of N images. maps: (N, h, w), their anomaly. outliers: rows, the furthest first.
    """
    if not outliers:
        return ()
    scores = [score_of(one) for one in maps]
    median = max(float(np.median(scores)), 1e-6)
    limit = heat_limit(np.delete(maps.max((1, 2)), outliers))
    shown = []
    for row in outliers:
        pictures = _pictures(thumbnails[row], fixed_scale_heatmap(maps[row], limit))
        shown.append(Outlier(row, names[row], scores[row] / median, *pictures))
    return tuple(shown)


def taught_of(
    folder: Path,
    draft: Draft,
    without: Collection[int],
    kept: Sequence[str],
    warnings: Sequence[str],
    seconds: float,
) -> Taught:
    """What was written to a checkpoint folder. without, kept: outliers that were left out, and used."""
    teaching, memory_bytes = read_metrics(folder)["teaching"], (folder / MEMORY).stat().st_size
    model = load_model(str(folder))
    return Taught(
        model=model,
        archive=_zipped(folder),
        images=teaching["images"],
        patches=teaching["patches"],
        memory_bytes=memory_bytes,
        false_positive_rate_wanted=teaching["false_positive_rate_wanted"],
        point=model.info.validation.at(model.info.threshold),
        dropped=tuple(one.name for one in draft.outliers if one.row in without),
        kept=tuple(kept),
        warnings=tuple(warnings),
        seconds=seconds,
    )


def _pictures(thumbnail: bytes, heatmap: np.ndarray) -> tuple[bytes, bytes]:
    """A small copy of an image as it was compared, without and with its heat: JPEGs."""
    with Image.open(BytesIO(thumbnail), formats=["JPEG"]) as small:
        image = small.convert("RGB").resize((PICTURE_SIDE, PICTURE_SIDE))
    return encode(image, "JPEG"), encode(overlay(image, heatmap, INVERSE), "JPEG")


def _zipped(folder: Path) -> bytes:
    """A folder of files as a zip, not compressed: weights do not get smaller."""
    with ZipFile(stream := BytesIO(), "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{folder.name}/{path.name}")
    return stream.getvalue()
