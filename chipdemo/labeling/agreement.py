"""The consensus on each image, from the label events of many annotators.

A label is an event and is never edited. A retraction is an event that makes another one void; it can be
retracted itself, and then the first one stands again. An annotator's vote on an image is their latest
label that stands. The consensus is the label with the most votes, or what a reviewer has decided since.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from typing import Protocol

from chipdemo.errors import DataError
from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.labeling.label import UNSURE

DISPUTED = "disputed"


class LabelEvent(Protocol):
    """The fields of an event that count here.

    label: "normal", "abnormal" or "unsure". created_at: UTC; all events with a time zone or
    all without. defect_type: "" or None when not given. retracts: the event_id that this event
    retracts; "" or None for a label. decides: given in the review of a disputed image; None is no.
    """

    event_id: str
    image_sha256: str
    label: str
    annotator: str
    created_at: datetime
    defect_type: str | None
    retracts: str | None
    decides: bool | None


@dataclass(frozen=True)
class Consensus:
    """What the annotators of one image agree on.

    label: "normal", "abnormal", "unsure", or "disputed" where the leading labels are tied.
    votes: annotators by label, e.g. {"abnormal": 2, "normal": 1}.
    defect_type: the one most often given with that label, "" when none was.
    """

    label: str
    votes: dict[str, int]
    defect_type: str = ""

    @property
    def probability(self) -> float:
        """Of abnormal, 0-1: its share of the votes. An unsure vote counts half for each class."""
        abnormal = self.votes.get(ABNORMAL, 0) + self.votes.get(UNSURE, 0) / 2
        return abnormal / sum(self.votes.values())

    def __str__(self) -> str:
        return f"{self.label} ({', '.join(f'{n} {label}' for label, n in sorted(self.votes.items()))})"


def consensus_of(events: Iterable[LabelEvent]) -> dict[str, Consensus]:
    """The consensus of every labeled image, by its sha256.

    The order of the events does not matter, and duplicates count once. Events with the same time are
    ordered by their ids. Raises DataError if events retract each other in a circle.
    """
    votes: dict[str, dict[str, LabelEvent]] = defaultdict(dict)  # by image, then annotator
    for event in sorted(standing(events), key=lambda event: (event.created_at, event.event_id)):
        if not event.retracts:
            votes[event.image_sha256].pop(event.annotator, None)  # replaces the earlier vote, ...
            votes[event.image_sha256][event.annotator] = event  # ... and comes last in the dict
    return {sha256: _majority(list(of_image.values())) for sha256, of_image in sorted(votes.items())}


def standing(events: Iterable[LabelEvent]) -> list[LabelEvent]:
    """The events that no standing event retracts."""
    by_id = {event.event_id: event for event in events}
    retracted_by = {event_id: [] for event_id in by_id}
    for event in by_id.values():
        if event.retracts in retracted_by:
            retracted_by[event.retracts].append(event.event_id)
    stands: dict[str, bool] = {}
    try:
        for event_id in TopologicalSorter(retracted_by).static_order():  # retractions first
            stands[event_id] = not any(stands[other] for other in retracted_by[event_id])
    except CycleError as error:
        circle = ", ".join(dict.fromkeys(error.args[1]))
        raise DataError(f"These events retract each other: {circle}. Remove one of them.") from error
    return [event for event_id, event in by_id.items() if stands[event_id]]


def _majority(votes: list[LabelEvent]) -> Consensus:
    """votes: by time. The latest decision counts alone; without one, each vote counts once."""
    deciding = [vote for vote in votes if vote.decides]
    counts = Counter(vote.label for vote in deciding[-1:] or votes)
    most = max(counts.values())
    leading = [label for label in (NORMAL, ABNORMAL, UNSURE) if counts[label] == most]
    if len(leading) != 1:
        return Consensus(DISPUTED, dict(counts))
    types = Counter(vote.defect_type for vote in votes if vote.label == leading[0] and vote.defect_type)
    return Consensus(leading[0], dict(counts), min(types, key=lambda name: (-types[name], name), default=""))
