"""Labeled images, decoded once for training. sources.py reads them, splits.py divides them."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chipdemo.errors import DataError, ImageError
from chipdemo.files import in_parallel
from chipdemo.images import Source, read_image
from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.labeling.folders import class_of
from chipdemo.tables import whole_number

MAX_UNREADABLE = 0.05  # of the images; if more cannot be read, something else is wrong


@dataclass(frozen=True)
class Sample:
    """One labeled image.

    path: its file, or a name for messages where content is given. label: "normal" or "abnormal".
    probability: the target of training, 0-1, of being abnormal; between 0 and 1 where annotators
    disagree. stratum: every split gets the same share of it. group: images of one group, such as one
    wafer, are kept in one split; "" is a group of its own. split: "train", "val" or "test" where the
    dataset comes divided, else "". content: returns the image where it is not a file.
    """

    path: Path
    label: str
    probability: float
    stratum: str
    defect_type: str = ""
    group: str = ""
    split: str = ""
    content: Callable[[], Source] | None = None

    @property
    def source(self) -> Source:
        """What read_image takes."""
        return self.content() if self.content else self.path


@dataclass(frozen=True)
class LabeledData:
    """A named dataset. license: as its owner states it; "" when unknown.

    left_out: images without a usable label, such as disputed ones, a line each.
    """

    name: str
    license: str
    samples: tuple[Sample, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Images:
    """Labeled images, decoded: row i of every array is the same image.

    pixels: (N, size, size, 3) uint8. probability: (N,) float32. sha256: of the content.
    left_out: why images of the dataset are missing here, a line each; unreadable: those of
    them that could not be read. side: of a square as large as the median image, pixels.
    """

    pixels: np.ndarray
    probability: np.ndarray
    sha256: tuple[str, ...]
    samples: tuple[Sample, ...]
    left_out: tuple[str, ...]
    unreadable: tuple[str, ...]
    side: int = 0

    @property
    def abnormal(self) -> np.ndarray:
        """(N,) bool, the truth."""
        return np.array([sample.label == ABNORMAL for sample in self.samples])


def sample_of(
    row: Mapping[str, Any],
    path: Path,
    where: str,
    split: str = "",
    content: Callable[[], Source] | None = None,
) -> Sample:
    """A sample from a row of a table: `label`, and optionally `probability`, `defect_type` and `group`.

    where: names the row in the DataError about a row that cannot be used.
    """
    label = class_of(whole_number(_text(row, "label")))
    try:
        probability = float(_text(row, "probability") or (label == ABNORMAL))
    except ValueError:
        probability = -1.0
    if label is None or not 0 <= probability <= 1 or not row.get("image", path):
        raise DataError(
            f"{where} has {dict(row)}. A row needs an image and a label, normal or abnormal; a probability, "
            "if any, is from 0 to 1."
        )
    defect_type = _text(row, "defect_type")
    stratum = f"{label}, {defect_type}" if defect_type else label
    return Sample(path, label, probability, stratum, defect_type, _text(row, "group"), split, content)


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value).strip()


def load_images(data: LabeledData, to_pixels: Callable, progress: Callable = lambda it, **_: it) -> Images:
    """Decode every image once.

    to_pixels: upright RGB image -> (size, size, 3) uint8. progress: such as tqdm.
    An image that cannot be read is left out and named. Of images with the same content one is kept,
    one of the test split before one of train, so that no test image is trained on. Raises DataError if
    more than MAX_UNREADABLE cannot be read, if the same content is in both classes, and if a class has
    no image.
    """

    def load(sample: Sample, source: Source | ImageError) -> tuple[str, np.ndarray, float] | str:
        """sha256, pixels and side of a square of the same area; or a line on why it cannot be read."""
        try:
            if isinstance(source, ImageError):
                raise source
            decoded = read_image(source)
        except ImageError as error:
            return f"{sample.path}: {error}"
        width, height = decoded.image.size
        return decoded.sha256, to_pixels(decoded.image), math.sqrt(width * height)

    results = in_parallel(lambda pair: load(*pair), sources_of(data.samples))
    loaded = list(progress(results, total=len(data.samples), desc="reading"))
    unreadable = [entry for entry in loaded if isinstance(entry, str)]
    if len(unreadable) > MAX_UNREADABLE * len(loaded):
        raise DataError(
            f"{len(unreadable)} of {len(loaded)} images in {data.name} cannot be read: {_first(unreadable)}. "
            "Repair or remove them."
        )
    same = defaultdict(list)  # by sha256: (sample, pixels)
    for sample, entry in zip(data.samples, loaded):
        if not isinstance(entry, str):
            same[entry[0]].append((sample, entry[1]))
    for duplicates in same.values():
        duplicates.sort(key=lambda pair: ("test", "val", "train", "").index(pair[0].split))
    _check_one_label(data.name, [[sample for sample, _ in duplicates] for duplicates in same.values()])
    kept = [duplicates[0] for duplicates in same.values()]
    counts = Counter(sample.label for sample, _ in kept)
    if len(counts) < 2:
        raise DataError(
            f"{data.name} has {counts[NORMAL]} normal and {counts[ABNORMAL]} abnormal images. Training needs "
            "both."
        )
    samples, pixels = zip(*kept)
    return Images(
        np.stack(pixels),
        np.array([sample.probability for sample in samples], np.float32),
        tuple(same),
        samples,
        (*data.left_out, *unreadable, *_duplicates(same.values())),
        tuple(unreadable),
        round(statistics.median(entry[2] for entry in loaded if not isinstance(entry, str))),
    )


def with_earlier(images: Images, earlier: Images, named: Set[str]) -> Images:
    """The images, and those of an earlier dataset that are named and not among them. named: sha256."""
    missing = named - set(images.sha256)
    rows = [row for row, sha256 in enumerate(earlier.sha256) if sha256 in missing]
    return replace(
        images,
        pixels=np.concatenate((images.pixels, earlier.pixels[rows])),
        probability=np.concatenate((images.probability, earlier.probability[rows])),
        sha256=images.sha256 + tuple(earlier.sha256[row] for row in rows),
        samples=images.samples + tuple(earlier.samples[row] for row in rows),
    )


def sources_of(samples: Iterable[Sample]) -> Iterator[tuple[Sample, Source | ImageError]]:
    """What to decode for each sample, read in their order: tables are slow to read in any other."""
    for sample in samples:
        try:
            yield sample, sample.source
        except ImageError as error:
            yield sample, error


def _duplicates(same) -> Iterator[str]:
    """A line for every image that is left out because another has its content."""
    for (kept, _), *others in same:
        for duplicate, _ in others:
            yield f"{duplicate.path}: same content as {kept.path}"


def _check_one_label(name: str, same: list[list[Sample]]) -> None:
    """same: the samples of each content. Raises DataError where their labels differ."""
    contradictions = [
        " and ".join(f"{sample.path} ({sample.label})" for sample in samples)
        for samples in same
        if len({sample.label for sample in samples}) > 1
    ]
    if contradictions:
        raise DataError(
            f"{name} has {len(contradictions)} images in both classes: {_first(contradictions)}. "
            "Keep each in its own class."
        )


def _first(lines: list[str]) -> str:
    more = f"; and {len(lines) - 3:,} more" if len(lines) > 3 else ""
    return "; ".join(line.rstrip(".") for line in lines[:3]) + more
