"""Which images train, validate and test: the dataset's own division, an earlier one, or a new one by hash."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from chipdemo.errors import DataError
from chipdemo.inspection import ABNORMAL, CLASSES, NORMAL
from chipdemo.splits import DEFAULT_FRACTIONS, SPLITS, TEST, TRAIN, VAL, group_in_several, split_by_hash
from chipdemo.vision.checkpoint import read_json
from training.data import Images, Sample

NONE_SEEN = {split: [] for split in SPLITS}
SPLIT_HELP = (
    "split.json of an earlier run (default: the dataset's own train, val and test, otherwise 70/20/10 by "
    "content hash; see docs/training.md)"
)


class Division(NamedTuple):
    """The images of each split by their sha256, and how they were divided, in words."""

    sha256: dict[str, list[str]]
    how: str


def divide(
    name: str,
    images: Images,
    earlier: Mapping[str, list[str]] = NONE_SEEN,
    near: Mapping[str, str] = MappingProxyType({}),
) -> Division:
    """Divide a dataset for training. Raises DataError.

    name: of the dataset, for messages. earlier: the division of an earlier run, which stays. Of the other
    images, a dataset that comes divided stays so: a validation or test split that is missing, or lacks a
    class, is taken from train by content hash; if train lacks a class, as in MVTec AD, all of them are
    divided anew. Any other dataset is divided 70/20/10 by content hash. near: groups of near-duplicates, as
    near_duplicate_groups gives them; an image that is a near-duplicate of one in a split that stays joins it.
    """
    samples = dict(zip(images.sha256, images.samples))
    strata = {sha256: sample.stratum for sha256, sample in samples.items()}
    groups = {sha256: sample.group for sha256, sample in samples.items() if sample.group}
    named = {sha256 for split in SPLITS for sha256 in earlier[split]}
    new = {sha256: sample for sha256, sample in samples.items() if sha256 not in named}
    known, fractions, how = own_division(new)
    _check_groups(known, {sha256: group for sha256, group in groups.items() if sha256 in new})
    if len(new) < len(samples):
        others = f" for {len(samples) - len(new):,} images, the others {how}" if new else ""
        how = f"as in the earlier split.json{others}"
        known = {split: [*known.get(split, ()), *earlier[split]] for split in SPLITS}
    if near:
        groups = _of_one_split(near, known)
        parts = len(samples) - len(near) + len(set(near.values()))
        how += f"; {len(samples):,} images of {parts:,} groups, near-duplicates kept together"
        if apart := len(near) - len(groups):
            how += f", except {apart:,} in another split of the earlier division, which stay there"
    split = split_by_hash(strata, fractions, known=known, groups=groups)
    _check_classes(name, split, samples)
    return Division(split, how)


def _of_one_split(groups: Mapping[str, str], known: Mapping[str, list[str]]) -> dict[str, str]:
    """groups, by sha256, without the images that a division that stays has put apart from their group.

    known: that division. A group with images in several of its splits goes to test, else to validation.
    """
    split_of = {sha256: split for split in (TRAIN, VAL, TEST) for sha256 in known.get(split, ())}
    last = {}
    for sha256, group in groups.items():
        if sha256 in split_of:
            last[group] = max(last.get(group, TRAIN), split_of[sha256], key=SPLITS.index)
    return {one: group for one, group in groups.items() if split_of.get(one) in (None, last.get(group))}


def own_division(
    samples: Mapping[str, Sample],
) -> tuple[dict[str, list[str]], tuple[float, ...], str]:
    """What stays of the division that a dataset comes in, the shares of the rest, and both in words.

    samples: by sha256. A validation or test split with images of both classes stays as it is. All other
    images are the pool that train, and what is missing, are taken from. Nothing stays if that pool lacks
    a class.
    """
    by_split = defaultdict(list)
    for sha256, sample in samples.items():
        by_split[sample.split].append(sha256)

    def complete(hashes: Iterable[str]) -> bool:
        return {samples[sha256].label for sha256 in hashes} == set(CLASSES)

    kept = {split: by_split[split] for split in (VAL, TEST) if complete(by_split[split])}
    pool = [sha256 for split in by_split if split not in kept for sha256 in by_split[split]]
    if not kept:
        return {}, DEFAULT_FRACTIONS, "by content hash, 70/20/10"
    if not complete(pool):
        found = " and ".join(sorted({samples[sha256].label for sha256 in pool})) or "no"
        how = f"all images by content hash, 70/20/10, because the dataset has {found} images to train on"
        return {}, DEFAULT_FRACTIONS, how
    how = [f"{split} as the dataset has it" for split in kept]
    how += [f"{split} from the rest by content hash" for split in (VAL, TEST) if split not in kept]
    shares = [0.0 if split in kept else share for split, share in zip(SPLITS, DEFAULT_FRACTIONS)]
    return kept, tuple(share / sum(shares) for share in shares), ", ".join(how)


def read_split(path: Path) -> dict[str, list[str]]:
    """The sha256 of the images of each split, from a split.json. Raises DataError, CheckpointError."""
    content = read_json(path)
    if missing := [split for split in SPLITS if not isinstance(content.get(split), list)]:
        raise DataError(
            f"{path} has no list {' and no list '.join(missing)}. Use the split.json of a checkpoint."
        )
    return {split: content[split] for split in SPLITS}


def _check_groups(kept: Mapping[str, list[str]], groups: Mapping[str, str]) -> None:
    """Raises DataError if a group is in a split that stays and in another one."""
    kept_of = {sha256: split for split, hashes in kept.items() for sha256 in hashes}
    places = defaultdict(set)
    for sha256, group in groups.items():
        places[group].add(kept_of.get(sha256, TRAIN))
    for group, splits in places.items():
        if kept and len(splits) > 1:
            raise group_in_several(group, splits)


def _check_classes(name: str, split: Mapping[str, list[str]], samples: Mapping[str, Sample]) -> None:
    """Raises DataError unless every split has images of both classes."""
    counts = {one: Counter(samples[sha256].label for sha256 in hashes) for one, hashes in split.items()}
    if any(len(of_split) < len(CLASSES) for of_split in counts.values()):
        found = ", ".join(f"{one} has {n[NORMAL]} and {n[ABNORMAL]}" for one, n in counts.items())
        raise DataError(
            f"Every split of {name} needs normal and abnormal images: {found}. Add images; about ten of each "
            "class, or ten groups, are the minimum."
        )
