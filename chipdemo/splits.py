"""Divides images into train, val and test by the hash of their content."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import groupby

import numpy as np

from chipdemo.errors import DataError

SPLITS = TRAIN, VAL, TEST = ("train", "val", "test")
DEFAULT_FRACTIONS = (0.7, 0.2, 0.1)  # of train, val and test; Kim et al.


def split_by_hash(
    strata: Mapping[str, str],
    fractions: tuple[float, float, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
    known: Mapping[str, Iterable[str]] | None = None,
    groups: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
    """Divide images into train, val and test, with the same shares of every stratum.

    strata: stratum by sha256. fractions: of train, val and test; they sum to 1.
    known: an earlier division; the images that it names keep their split, so that a test image
    never becomes a training image as the dataset grows.
    groups: group by sha256, of the images that have one. A group is kept in one split, that of its known
    images if there are any; the shares are then as close as the groups allow.
    The result depends on contents and seed alone, not on names or order. Raises DataError if
    the earlier division has a group in two splits.
    """

    def by_stratum_then_hash(sha256: str):
        return strata[sha256], hashlib.sha256(f"{seed}:{sha256}".encode()).hexdigest()

    order = sorted(strata, key=by_stratum_then_hash)
    split_of = {sha256: split for split, hashes in (known or {}).items() for sha256 in hashes}
    grouped = _place_groups([h for h in order if (groups or {}).get(h)], strata, groups, split_of, fractions)
    divided = {split: [] for split in SPLITS}
    taken = np.zeros(len(SPLITS))  # new images placed so far
    for _, stratum in groupby(order, key=strata.__getitem__):
        stratum = list(stratum)
        for sha256 in stratum:  # first, so that single images even out what groups leave uneven
            if sha256 in grouped:
                taken[SPLITS.index(grouped[sha256])] += 1
        for sha256 in stratum:
            split = split_of.get(sha256) or grouped.get(sha256)
            if split is None:
                # The split that is furthest behind its share: totals and strata are exact to one.
                index = int(np.argmax(np.array(fractions) * (taken.sum() + 1) - taken))
                taken[index] += 1
                split = SPLITS[index]
            divided[split].append(sha256)
    return divided


def _place_groups(
    order: list[str],
    strata: Mapping[str, str],
    groups: Mapping[str, str],
    split_of: Mapping[str, str],
    fractions: tuple[float, float, float],
) -> dict[str, str]:
    """The split of every image in order that is in a group of several and not yet in split_of.

    Large groups first, each into the split that lacks most of what it holds; a rare stratum counts
    as much as a common one.
    """
    members = defaultdict(list)
    for sha256 in order:
        members[groups[sha256]].append(sha256)
    several = sorted((hashes for hashes in members.values() if len(hashes) > 1), key=len, reverse=True)
    total = Counter(strata[sha256] for hashes in several for sha256 in hashes if sha256 not in split_of)
    taken = Counter()  # by split and stratum
    placed = {}
    for hashes in several:
        new = [sha256 for sha256 in hashes if sha256 not in split_of]
        counts = Counter(strata[sha256] for sha256 in new)

        def lack(split: str, counts=counts) -> float:
            share = fractions[SPLITS.index(split)]
            return sum(n * (share - taken[split, stratum] / total[stratum]) for stratum, n in counts.items())

        splits = {split_of[sha256] for sha256 in hashes if sha256 in split_of}
        if len(splits) > 1:
            raise group_in_several(groups[hashes[0]], splits)
        split = splits.pop() if splits else max(SPLITS, key=lack)
        taken.update({(split, stratum): n for stratum, n in counts.items()})
        placed |= dict.fromkeys(new, split)
    return placed


def group_in_several(group: str, splits: Iterable[str]) -> DataError:
    """The error about a group that two splits hold."""
    return DataError(
        f"The group {group} is in the splits {' and '.join(sorted(splits))}. A group may be in one only: "
        "correct the group, or the division."
    )
