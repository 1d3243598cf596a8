"""The dataset card: what the labels are, how many there are, how to train from them.

The part between two marks is rewritten by Chip Inspector; everything else belongs to the owner and is kept.
Each flush adds its events to the numbers that are in the card, so that writers need not read each other's
files. A census counts all events anew where they are read anyway, and adds the consensus.
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
RETRACTED, RETRACTED_BEFORE = "retracted", "taken back"  # in the table, now and in older cards
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

Images of chips with labels of annotators. License: unknown. The owner of the images may name one at the
top of this file, as `license:`.

"""

OUR_PART = """{start}
Each row is an event: the label that one annotator gave one image at one time. Rows are never edited; an
event can retract an earlier one (`retracts`). The consensus on an image is the majority of its annotators'
latest labels.

| label | events |
|---|---|
{rows}
{census}
Train Chip Inspector from it:

```sh
python training/train.py --data hf:{name}
```

To improve a model that is in use, add `--init MODEL`, its folder or Hub id: the run starts from it, and
compares the new model with it.

In a program: `datasets.load_dataset("{name}", split="train")`.
{end}"""


@dataclass(frozen=True)
class Census:
    """The numbers of all events, and of the images by consensus."""

    events: Counter[str]  # by label, and retractions as RETRACTED
    images: Counter[str]  # by Consensus.label
    annotators: int
    shared: int  # images with labels of two annotators or more
    unanimous: int  # of the shared ones


def count_events(labels: Iterable[LabelEvent]) -> Counter[str]:
    """Number of events by label, and of retractions as RETRACTED."""
    return Counter(RETRACTED if label.retracts else label.label for label in labels)


def census(rows: Sequence[dict[str, Any]]) -> Census:
    """rows: every event of the dataset, with the columns shards.SMALL_COLUMNS."""
    events = list({row["event_id"]: SimpleNamespace(**row) for row in rows}.values())
    by_image = consensus_of(events).values()
    shared = [consensus for consensus in by_image if sum(consensus.votes.values()) > 1]
    return Census(
        count_events(events),
        Counter(consensus.label for consensus in by_image),
        len({event.annotator for event in events}),
        len(shared),
        sum(len(consensus.votes) == 1 for consensus in shared),
    )


def has_numbers(card: str) -> bool:
    """Whether add_events can add to the numbers in this card."""
    ours = _our_part(card) if OURS.search(card) else ""
    return all(_number(kind).search(ours) for kind in (*LABELS, RETRACTED))


def add_events(card: str, more: Counter[str]) -> str:
    """The card with more events added to its numbers. has_numbers(card) must be true."""
    ours = _our_part(card)
    for kind, count in more.items():
        ours = _number(kind).sub(lambda match, n=count: f"{match[1]}{int(match[2]) + n} |", ours, 1)
    return _with_our_part(card, ours)


def rewrite(card: str, name: str, counted: Census, more: Counter[str] = NONE) -> str:
    """The card with our part written anew. card: "" for none yet. name: of the dataset, owner/name.

    more: events in addition to the counted ones.
    """
    events = counted.events + more
    ours = OUR_PART.format(
        start=START,
        end=END,
        name=name,
        rows="\n".join(f"| {kind} | {events[kind]} |" for kind in (*LABELS, RETRACTED)),
        census=f"\n{_census_text(counted)}\n" if counted.images else "",
    )
    return _with_our_part(card or FIRST.format(name=name), ours)


def _census_text(counted: Census) -> str:
    today = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    images = ", ".join(f"{counted.images[kind]} {kind}" for kind in (*CLASSES, UNSURE, DISPUTED))
    return (
        f"Counted on {today}: images {counted.images.total()} ({images}); annotators "
        f"{counted.annotators}; images labeled by two or more {counted.shared}, unanimous "
        f"{counted.unanimous}."
    )


def _our_part(card: str) -> str:
    return OURS.search(card)[0].replace(f"| {RETRACTED_BEFORE} |", f"| {RETRACTED} |")


def _number(kind: str) -> re.Pattern[str]:
    return re.compile(rf"(\| {kind} \| )(\d{{1,15}}) \|")


def _with_our_part(card: str, ours: str) -> str:
    if OURS.search(card):
        return OURS.sub(lambda _: ours, card, 1)
    return f"{card}{ours}\n" if card.endswith("\n\n") else f"{card}\n\n{ours}\n"
