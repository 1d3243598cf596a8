"""The dataset card: what the labels are, how many, how to train from them.

Our part stands between two marks and is rewritten; everything else belongs to people and stays.
Every flush adds its events to the counts that the card already has, so that many writers need not
read each other's files; a census, made where all is read anyway, tells what holds now.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

from chipdemo.inspection import CLASSES
from chipdemo.labeling.agreement import DISPUTED, LabelEvent, consensus_of
from chipdemo.labeling.label import LABELS, UNSURE

START = "<!-- Chip Inspector writes from here -->"
END = "<!-- to here; what stands elsewhere is yours -->"
RETRACTED = "taken back"
NONE: Counter[str] = Counter()
OURS = re.compile(re.escape(START) + ".*?" + re.escape(END), re.DOTALL)

FIRST = """---
license: unknown
task_categories:
- image-classification
tags:
- chip-inspection
- chipdemo
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
---

# Labels of {name}

Images of chips, and what people say of them. License: unknown, until whoever owns the images
names one at the top of this file, as `license:`.

"""

OUR_PART = """{start}
Each row is an event: what one person said of one image at one moment. Nothing is edited; an event
can take an earlier one back (`retracts`). What holds of an image is what most people last said of it.

| label | events |
|---|---|
{rows}
{census}
Train Chip Inspector from it:

```sh
python training/train.py --data hf:{name}
```

In a program: `datasets.load_dataset("{name}", split="train")`.
{end}"""


@dataclass(frozen=True)
class Census:
    """All events counted, and what they add up to."""

    events: Counter[str]  # by label, and RETRACTED
    images: Counter[str]  # by agreement.Consensus's label
    annotators: int
    shared: int  # images with labels of two annotators or more
    unanimous: int  # of these


def kinds(labels: Iterable[LabelEvent]) -> Counter[str]:
    """How many events of each label, or taking another one back."""
    return Counter(RETRACTED if label.retracts else label.label for label in labels)


def census(rows: Sequence[dict[str, Any]]) -> Census:
    """rows: every event of the dataset, with the columns of shards.SAID."""
    events = list({row["event_id"]: SimpleNamespace(**row) for row in rows}.values())
    consensus_counts = consensus_of(events).values()
    shared = [consensus for consensus in consensus_counts if sum(consensus.votes.values()) > 1]
    return Census(
        kinds(events),
        Counter(consensus.label for consensus in consensus_counts),
        len({event.annotator for event in events}),
        len(shared),
        sum(len(consensus.votes) == 1 for consensus in shared),
    )


def can_add(card: str) -> bool:
    """Whether the card has counts of ours to add to."""
    ours = OURS.search(card)
    return bool(ours) and all(_count(kind).search(ours[0]) for kind in (*LABELS, RETRACTED))


def added(card: str, more: Counter[str]) -> str:
    """The card with these events counted too. can_add(card) must hold."""
    ours = OURS.search(card)[0]
    for kind, count in more.items():
        ours = _count(kind).sub(lambda match, n=count: f"{match[1]}{int(match[2]) + n} |", ours, 1)
    return _with(card, ours)


def rewritten(card: str, name: str, counted: Census, more: Counter[str] = NONE) -> str:
    """The card with our part anew. card: "" for none yet. name: of the dataset, owner/name.

    more: events that come on top of the counted ones, by kind.
    """
    events = counted.events + more
    ours = OUR_PART.format(
        start=START,
        end=END,
        name=name,
        rows="\n".join(f"| {kind} | {events[kind]} |" for kind in (*LABELS, RETRACTED)),
        census=f"\n{_told(counted)}\n" if counted.images else "",
    )
    return _with(card or FIRST.format(name=name), ours)


def _told(counted: Census) -> str:
    today = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    consensus_counts = ", ".join(f"{counted.images[kind]} {kind}" for kind in (*CLASSES, UNSURE, DISPUTED))
    return (
        f"Counted on {today}: images {counted.images.total()} ({consensus_counts}); annotators "
        f"{counted.annotators}; images labeled by two or more {counted.shared}, unanimous "
        f"{counted.unanimous}."
    )


def _count(kind: str) -> re.Pattern[str]:
    return re.compile(rf"(\| {kind} \| )(\d{{1,15}}) \|")


def _with(card: str, ours: str) -> str:
    if OURS.search(card):
        return OURS.sub(lambda _: ours, card, 1)
    return f"{card}{ours}\n" if card.endswith("\n\n") else f"{card}\n\n{ours}\n"
