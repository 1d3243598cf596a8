"""A dataset decoded and divided for training, with its near-duplicates kept together."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chipdemo.near_duplicates import near_duplicates, small_gray
from chipdemo.splits import SPLITS, TEST, TRAIN, VAL
from training.data import Images, LabeledData, Sample, load_images, with_earlier
from training.splits import NONE_SEEN, divide, read_split

NAMES = {TRAIN: "training", VAL: "validation", TEST: "test"}
AUTO, OFF = GROUPS = ("auto", "off")
FIND_GROUPS_HELP = (
    "auto: near-duplicates, such as one part under two lights, are looked for and kept in one split, unless "
    "the data has groups of its own; off: they may be in several splits, and the test figures are too good"
)


@dataclass(frozen=True)
class DividedImages:
    """The images of a dataset by split: row i of each split's arrays is the same image.

    samples: N of them. pixels: (N, size, size, 3) uint8. probability: (N,) float32, the target of training.
    abnormal: (N,) bool. division: how the images were divided, in words. left_out: a line for each image
    without a split. side: of a square as large as the median image, pixels. seen: the division of the model
    in use, by sha256; its images need not be at hand. groups: the name of each image's group.
    """

    data: LabeledData
    sha256: dict[str, list[str]]
    samples: dict[str, list[Sample]]
    pixels: dict[str, np.ndarray]
    probability: dict[str, np.ndarray]
    abnormal: dict[str, np.ndarray]
    division: str
    left_out: tuple[str, ...]
    side: int
    seen: dict[str, list[str]]
    groups: dict[str, list[str]]

    def title(self, split: str) -> str:
        """Such as "ELPV, test split, 656 images"."""
        return f"{self.data.name}, {NAMES[split]} split, {len(self.sha256[split]):,} images"

    def is_new(self, split: str) -> np.ndarray:
        """(N,) bool: the images that the model in use has not seen in training, validation or test."""
        seen = {sha256 for hashes in self.seen.values() for sha256 in hashes}
        return np.array([sha256 not in seen for sha256 in self.sha256[split]])

    def to_json(self) -> dict[str, list[str]]:
        """split.json: the division, and that of the model in use where its images are not at hand.

        The weights have seen these too, and later runs have to keep them where they are.
        """
        placed = {sha256 for hashes in self.sha256.values() for sha256 in hashes}
        return {
            split: self.sha256[split] + [one for one in self.seen[split] if one not in placed]
            for split in SPLITS
        }


def load_divided(
    data: LabeledData,
    split_file: Path | None,
    to_pixels: Callable,
    progress: Callable,
    earlier: Iterable[LabeledData] = (),
    seen: Mapping[str, list[str]] = NONE_SEEN,
    groups: str = AUTO,
) -> DividedImages:
    """Decode a dataset as load_images does, and divide it. Raises DataError, CheckpointError.

    seen: the division of the model in use, which is kept unless there is a split_file. earlier: datasets of
    that model; their images that it has seen are added. Where data has them too, its labels count. groups:
    AUTO or OFF, see FIND_GROUPS_HELP.
    """
    images, named = load_images(data, to_pixels, progress), {one for split in SPLITS for one in seen[split]}
    for one in earlier:
        before = len(images.samples)
        images = with_earlier(images, load_images(one, to_pixels, progress), named)
        if len(images.samples) > before:
            license = "; ".join(filter(None, dict.fromkeys((data.license, one.license))))
            data = LabeledData(f"{data.name} + {one.name}", license, images.samples)
    known = read_split(split_file) if split_file else seen
    near = near_duplicate_groups(images, known, progress) if groups == AUTO else {}
    sha256, how = divide(data.name, images, known, near)
    row = {one: index for index, one in enumerate(images.sha256)}
    rows = {split: [row[one] for one in sha256[split]] for split in SPLITS}
    samples = {split: [images.samples[row] for row in rows[split]] for split in SPLITS}
    by_split = (
        {split: array[rows[split]] for split in SPLITS}
        for array in (images.pixels, images.probability, images.abnormal)
    )
    group_of = dict(zip(images.sha256, groups_of(images, near)))
    grouped = {split: [group_of[one] for one in sha256[split]] for split in SPLITS}
    return DividedImages(
        data, sha256, samples, *by_split, how, images.left_out, images.side, dict(seen), grouped
    )


def groups_of(images: Images, near: Mapping[str, str]) -> list[str]:
    """(N,) the group of each image: the data's own, that of its near-duplicates, or one of its own.

    near: as near_duplicate_groups gives them.
    """
    return [sample.group or near.get(sha256, sha256) for sha256, sample in zip(images.sha256, images.samples)]


def near_duplicate_groups(
    images: Images, known: Mapping[str, list[str]], progress: Callable = lambda it, **_: it
) -> dict[str, str]:
    """The groups of near-duplicates, by sha256, of the images that have any.

    None are searched where the data has groups of its own, or where every image is in the division that is
    known.
    """
    named = {sha256 for split in SPLITS for sha256 in known[split]}
    if named.issuperset(images.sha256) or any(sample.group for sample in images.samples):
        return {}
    numbers = near_duplicates(np.stack([small_gray(one) for one in images.pixels]), progress)
    size = np.bincount(numbers)
    return {
        sha256: f"of near-duplicates {number + 1}"
        for sha256, number in zip(images.sha256, numbers.tolist())
        if size[number] > 1
    }
