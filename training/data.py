"""Labeled images: decoded, and divided by content hash. Where they come from: sources.py."""

import hashlib
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from chipdemo.errors import DataError, ImageError
from chipdemo.images import Source, read_image
from chipdemo.inspection import ABNORMAL, CLASSES, NORMAL
from chipdemo.labeling.folders import class_of
from chipdemo.vision.checkpoint import read_json

PARTS = ("train", "val", "test")
DEFAULT_FRACTIONS = (0.7, 0.2, 0.1)  # Kim et al.
MAX_UNREADABLE = 0.05  # of the images; with more of them something else is wrong


@dataclass(frozen=True)
class Sample:
    """One labeled image.

    path: its file, or a name for messages where content is given. label: "normal" or "abnormal".
    probability: of being abnormal, 0-1, as sure as the people who labeled it were. stratum: kept
    in equal shares in every part of a split. group: images of one group, such as one wafer,
    stay on one side of a split; "" is a group of its own. content: gives the image where it
    is no file, as in a table of the Hub.
    """

    path: Path
    label: str
    probability: float
    stratum: str
    defect_type: str = ""
    group: str = ""
    content: Callable[[], Source] | None = None

    @property
    def source(self) -> Source:
        """What read_image takes."""
        return self.content() if self.content else self.path


@dataclass(frozen=True)
class LabeledData:
    """A named dataset. license: as its owner states it; "" when unknown.

    left_out: images that nobody can learn from, such as those people disagree on, a line each.
    """

    name: str
    license: str
    samples: tuple[Sample, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Images:
    """Labeled images, decoded: row i of every array is the same image.

    pixels: (N, size, size, 3) uint8. probability: (N,) float32. sha256: of the content.
    left_out: why images of the dataset are not here, a line each; unreadable: those of
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

    @property
    def groups(self) -> dict[str, str]:
        """The group by sha256, of those that have one."""
        return {sha256: sample.group for sha256, sample in zip(self.sha256, self.samples) if sample.group}


def sample_of(
    row: Mapping[str, Any], path: Path, where: str, content: Callable[[], Source] | None = None
) -> Sample:
    """A row of a table: `label`, and if there, `probability`, `defect_type` and `group`.

    where: the row, for the message of the DataError about a row that cannot be taken.
    """
    label = class_of(_text(row, "label"))
    try:
        probability = float(_text(row, "probability") or (label == ABNORMAL))
    except ValueError:
        probability = -1.0
    if label is None or not 0 <= probability <= 1 or not row.get("image", path):
        raise DataError(
            f"Expected an image, normal or abnormal, and a probability of 0-1; {where} says {dict(row)}. "
            "Correct it."
        )
    defect_type = _text(row, "defect_type")
    stratum = f"{label}, {defect_type}" if defect_type else label
    return Sample(path, label, probability, stratum, defect_type, _text(row, "group"), content)


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value).strip()


def load_images(data: LabeledData, to_pixels: Callable, progress: Callable = lambda it, **_: it) -> Images:
    """Decode every image once.

    to_pixels: upright RGB image -> (size, size, 3) uint8. progress: such as tqdm.
    An image that cannot be read is left out and named; of images with the same content
    one is kept. Raises DataError if more than MAX_UNREADABLE cannot be read, if the same content
    is in both classes, and if a class has no image.
    """

    def load(sample: Sample):
        try:
            decoded = read_image(sample.source)
        except ImageError as error:
            return f"{sample.path}: {error}"
        width, height = decoded.image.size
        return decoded.sha256, to_pixels(decoded.image), math.sqrt(width * height)

    with ThreadPoolExecutor() as pool:
        loaded = list(progress(pool.map(load, data.samples), total=len(data.samples), desc="reading"))
    unreadable = [entry for entry in loaded if isinstance(entry, str)]
    if len(unreadable) > MAX_UNREADABLE * len(loaded):
        raise DataError(
            f"Expected images that can be read; {len(unreadable)} of {len(loaded)} in {data.name} "
            f"cannot: {_first(unreadable)}. Mend or remove them."
        )
    same = defaultdict(list)
    for sample, entry in zip(data.samples, loaded):
        if not isinstance(entry, str):
            same[entry[0]].append((sample, entry[1]))
    _check_one_label(data.name, [[sample for sample, _ in twins] for twins in same.values()])
    again = [
        f"{twin.path}: same content as {first.path}"
        for (first, _), *twins in same.values()
        for twin, _ in twins
    ]
    kept = [(sha256, *twins[0]) for sha256, twins in same.items()]
    counts = Counter(sample.label for _, sample, _ in kept)
    if len(counts) < 2:
        raise DataError(
            f"Expected images of both classes in {data.name}; found {counts[NORMAL]} normal and "
            f"{counts[ABNORMAL]} abnormal. Add images of the other class."
        )
    hashes, samples, pixels = zip(*kept)
    probability = np.array([sample.probability for sample in samples], np.float32)
    left_out = (*data.left_out, *unreadable, *again)
    side = round(statistics.median(entry[2] for entry in loaded if not isinstance(entry, str)))
    return Images(np.stack(pixels), probability, hashes, samples, left_out, tuple(unreadable), side)


def _check_one_label(name: str, same: list[list[Sample]]) -> None:
    """same: samples of the same content. Which label is right, only a person can say."""
    torn = [
        " and ".join(f"{sample.path} ({sample.label})" for sample in samples)
        for samples in same
        if len({sample.label for sample in samples}) > 1
    ]
    if torn:
        raise DataError(
            f"Expected one label an image in {name}; found the same image in both classes "
            f"{len(torn)} times: {_first(torn)}. Keep it where it belongs."
        )


def _first(lines: list[str]) -> str:
    return "; ".join(lines[:3]) + ("; ..." if len(lines) > 3 else "")


def split_by_hash(
    strata: Mapping[str, str],
    fractions: tuple[float, float, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
    known: Mapping[str, Iterable[str]] | None = None,
    groups: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
    """Divide images into train, val and test, each stratum in the same shares.

    strata: stratum by sha256. fractions: of train, val and test; they sum to 1.
    known: an earlier split; images it names keep their part, so that a test image
    never becomes a training image as the dataset grows.
    groups: group by sha256, of those that have one. A group stays in one part, that of its known
    images if there are any; the shares are then kept as well as the groups allow.
    The division depends on contents and seed alone, not on names or order. Raises DataError if
    the earlier split has a group in two parts.
    """

    def by_stratum_then_hash(sha256: str):
        return strata[sha256], hashlib.sha256(f"{seed}:{sha256}".encode()).hexdigest()

    order = sorted(strata, key=by_stratum_then_hash)
    part_of = {sha256: part for part, hashes in (known or {}).items() for sha256 in hashes}
    grouped = _place_groups([h for h in order if (groups or {}).get(h)], strata, groups, part_of, fractions)
    split = {part: [] for part in PARTS}
    taken = np.zeros(len(PARTS))  # images given out so far, of the sorted ones
    for _, stratum in groupby(order, key=strata.__getitem__):
        stratum = list(stratum)
        for sha256 in stratum:  # first, so that single images even out what groups leave uneven
            if sha256 in grouped:
                taken[PARTS.index(grouped[sha256])] += 1
        for sha256 in stratum:
            part = part_of.get(sha256) or grouped.get(sha256)
            if part is None:
                # The part that is furthest behind its share: totals and strata are exact to one.
                index = int(np.argmax(np.array(fractions) * (taken.sum() + 1) - taken))
                taken[index] += 1
                part = PARTS[index]
            split[part].append(sha256)
    return split


def _place_groups(
    order: list[str],
    strata: Mapping[str, str],
    groups: Mapping[str, str],
    part_of: Mapping[str, str],
    fractions: tuple[float, float, float],
) -> dict[str, str]:
    """The part of every image in order that is in a group of several and not yet in part_of.

    Large groups first, each into the part that most lacks what it holds, rare strata weighing
    as much as common ones.
    """
    members = defaultdict(list)
    for sha256 in order:
        members[groups[sha256]].append(sha256)
    several = sorted((hashes for hashes in members.values() if len(hashes) > 1), key=len, reverse=True)
    total = Counter(strata[sha256] for hashes in several for sha256 in hashes if sha256 not in part_of)
    taken = Counter()  # by part and stratum
    placed = {}
    for hashes in several:
        new = [sha256 for sha256 in hashes if sha256 not in part_of]
        counts = Counter(strata[sha256] for sha256 in new)

        def lack(part: str, counts=counts) -> float:
            share = fractions[PARTS.index(part)]
            return sum(n * (share - taken[part, stratum] / total[stratum]) for stratum, n in counts.items())

        parts = {part_of[sha256] for sha256 in hashes if sha256 in part_of}
        if len(parts) > 1:
            raise DataError(
                f"Expected the group {groups[hashes[0]]} in one part of the earlier split; found it in "
                f"{' and '.join(sorted(parts))}. Divide anew, without it, or correct the group."
            )
        part = parts.pop() if parts else max(PARTS, key=lack)
        taken.update({(part, stratum): n for stratum, n in counts.items()})
        placed |= dict.fromkeys(new, part)
    return placed


def read_split(path: Path) -> dict[str, list[str]]:
    """The sha256 of the images of each part, from a split.json. Raises DataError, CheckpointError."""
    content = read_json(path)
    if missing := [part for part in PARTS if not isinstance(content.get(part), list)]:
        raise DataError(
            f"Expected lists train, val and test in {path}; {', '.join(missing)} is none. "
            "Give the split.json of a checkpoint."
        )
    return {part: content[part] for part in PARTS}


def check_parts(name: str, split: Mapping[str, list[str]], label_of: Mapping[str, str]) -> None:
    """Raises DataError unless every part has images of both classes. label_of: by sha256."""
    counts = {part: Counter(label_of[sha256] for sha256 in hashes) for part, hashes in split.items()}
    if any(len(of_part) < len(CLASSES) for of_part in counts.values()):
        found = ", ".join(f"{part} {n[NORMAL]} and {n[ABNORMAL]}" for part, n in counts.items())
        raise DataError(
            f"Expected normal and abnormal images in every part of {name}; found {found}. "
            "Add images: about ten of each class, or ten groups, are the least that can be divided."
        )
