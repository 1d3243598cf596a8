"""From what many people said, at different times, to what holds now.

A label is an event and is never edited. An event that retracts another undoes it, and is itself
no label; it can be retracted like any other, and then what it undid holds again. Of each
annotator the latest label that was not undone is their vote; an image is what most of its
annotators say it is, or what a reviewer has decided since.
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
    """What matters here of one event.

    label: "normal", "abnormal" or "unsure". created_at: UTC, and all events with a time zone or
    all without. defect_type: "" or None when not given. retracts: the event_id that this event
    undoes; "" or None for a label. decides: given in a review of a disagreement; None is no.
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
    """What holds of one image.

    label: "normal", "abnormal", "unsure", or "disputed" where the most votes are tied.
    votes: annotators by label, e.g. {"abnormal": 2, "normal": 1}.
    defect_type: the one most often given with that label, "" when none was.
    """

    label: str
    votes: dict[str, int]
    defect_type: str = ""

    @property
    def probability(self) -> float:
        """Of being abnormal, 0-1: the share of the votes; who is unsure gives half a vote to each."""
        abnormal = self.votes.get(ABNORMAL, 0) + self.votes.get(UNSURE, 0) / 2
        return abnormal / sum(self.votes.values())

    def __str__(self) -> str:
        return f"{self.label} ({', '.join(f'{n} {label}' for label, n in sorted(self.votes.items()))})"


def consensus_of(events: Iterable[LabelEvent]) -> dict[str, Consensus]:
    """What holds of every image that somebody labeled, by its sha256.

    The order of the events does not matter, and an event that comes twice counts once. Events of
    one moment are taken in the order of their ids. Raises DataError if events retract each other.
    """
    votes: dict[str, dict[str, LabelEvent]] = defaultdict(dict)  # by image, then annotator
    for event in sorted(standing(events), key=lambda event: (event.created_at, event.event_id)):
        if not event.retracts:
            votes[event.image_sha256].pop(event.annotator, None)  # a later one replaces an earlier one, ...
            votes[event.image_sha256][event.annotator] = event  # ... at its own place in time
    return {sha256: _majority(list(of_image.values())) for sha256, of_image in sorted(votes.items())}


def standing(events: Iterable[LabelEvent]) -> list[LabelEvent]:
    """The events that were not undone, by anything that was not undone itself."""
    by_id = {event.event_id: event for event in events}
    undone_by = {event_id: [] for event_id in by_id}
    for event in by_id.values():
        if event.retracts in undone_by:
            undone_by[event.retracts].append(event.event_id)
    stands: dict[str, bool] = {}
    try:
        for event_id in TopologicalSorter(undone_by).static_order():  # what undoes before what is undone
            stands[event_id] = not any(stands[other] for other in undone_by[event_id])
    except CycleError as error:
        circle = ", ".join(dict.fromkeys(error.args[1]))
        raise DataError(
            f"Expected events that retract earlier ones; {circle} retract each other. Remove one of them."
        ) from error
    return [event for event_id, event in by_id.items() if stands[event_id]]


def _majority(votes: list[LabelEvent]) -> Consensus:
    """votes: by time. The latest that decides counts alone, without one each counts once."""
    deciding = [vote for vote in votes if vote.decides]
    counts = Counter(vote.label for vote in deciding[-1:] or votes)
    most = max(counts.values())
    leading = [label for label in (NORMAL, ABNORMAL, UNSURE) if counts[label] == most]
    if len(leading) != 1:
        return Consensus(DISPUTED, dict(counts))
    types = Counter(vote.defect_type for vote in votes if vote.label == leading[0] and vote.defect_type)
    return Consensus(leading[0], dict(counts), min(types, key=lambda name: (-types[name], name), default=""))
