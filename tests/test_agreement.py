from datetime import datetime, timedelta, timezone
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipdemo.errors import DataError
from chipdemo.labeling.agreement import Consensus, consensus_of

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


class Event(NamedTuple):
    event_id: str
    label: str = "normal"
    annotator: str = "ann"
    created_at: datetime = NOON
    retracts: str = ""
    defect_type: str = ""
    image_sha256: str = "chip"
    decides: bool = False


def at(minute):
    return NOON + timedelta(minutes=minute)


def label_of(*events):
    consensus = consensus_of(events)
    return consensus["chip"].label if consensus else None


def test_the_latest_label_of_an_annotator_counts():
    assert label_of(Event("a", "normal"), Event("b", "abnormal", created_at=at(1))) == "abnormal"


def test_the_latest_decision_of_a_reviewer_overrides_the_votes():
    tied = Event("a", "normal"), Event("b", "abnormal", "bob"), Event("c", "abnormal", "cy")
    assert label_of(*tied, Event("d", "normal", "ruth", at(1), decides=True)) == "normal"
    both = Event("d", "normal", "ruth", at(1), decides=True), Event("e", "unsure", "ann", at(2), decides=True)
    assert label_of(*tied, *both) == "unsure"
    assert label_of(*tied, *both, Event("f", "abnormal", "ruth", at(3), decides=True)) == "abnormal"
    assert label_of(*tied, both[0], Event("g", "", "ruth", at(4), retracts="d")) == "abnormal"


def test_retracting_a_label_restores_the_earlier_one():
    first, second = Event("a", "normal"), Event("b", "abnormal", created_at=at(1))
    assert label_of(first, second, Event("c", retracts="b", created_at=at(2))) == "normal"


def test_retracting_the_only_label_leaves_none():
    assert consensus_of([Event("a"), Event("b", retracts="a", created_at=at(1))]) == {}


def test_retracting_a_retraction_restores_the_label():
    label, undo = Event("a", "abnormal"), Event("b", retracts="a", created_at=at(1))
    redo, undo_again = (Event(i, retracts=r, created_at=at(2)) for i, r in (("c", "b"), ("d", "c")))
    assert label_of(label, undo, redo) == "abnormal"
    assert label_of(label, undo, redo, undo_again) is None


def test_a_retraction_never_counts_as_a_label():
    assert label_of(Event("a", "normal"), Event("b", "abnormal", retracts="elsewhere")) == "normal"


def test_a_retraction_at_the_same_time_counts():
    assert label_of(Event("z", "normal"), Event("a", retracts="z")) is None


def test_the_majority_is_the_consensus():
    events = [Event("a", "normal", "ann"), Event("b", "abnormal", "bob"), Event("c", "abnormal", "cy")]
    consensus = consensus_of(events)["chip"]
    assert consensus == Consensus("abnormal", {"normal": 1, "abnormal": 2})
    assert consensus.probability == pytest.approx(2 / 3)


def test_a_tie_is_disputed():
    consensus = consensus_of([Event("a", "normal", "ann"), Event("b", "abnormal", "bob")])["chip"]
    assert consensus.label == "disputed" and consensus.votes == {"normal": 1, "abnormal": 1}


def test_unsure_is_a_vote():
    votes = [Event("a", "unsure", "ann"), Event("b", "normal", "bob")]
    assert label_of(*votes[:1]) == "unsure"
    assert label_of(*votes) == "disputed"
    consensus = consensus_of([*votes, Event("c", "normal", "cy")])["chip"]
    assert consensus.label == "normal" and consensus.probability == pytest.approx(1 / 6)


def test_the_defect_type_is_the_most_frequent_one():
    names = [("ann", "scratch"), ("bob", "crack"), ("cy", "crack"), ("di", "")]
    events = [Event(who, "abnormal", who, defect_type=name) for who, name in names]
    assert consensus_of(events)["chip"].defect_type == "crack"


def test_each_image_has_its_own_consensus():
    events = [Event("a", "normal"), Event("b", "abnormal", image_sha256="other")]
    assert {sha256: consensus.label for sha256, consensus in consensus_of(events).items()} == {
        "chip": "normal",
        "other": "abnormal",
    }


def test_events_that_retract_each_other_are_an_error():
    with pytest.raises(DataError, match="a, b|b, a"):
        consensus_of([Event("a", retracts="b"), Event("b", retracts="a")])


LABELS = st.sampled_from(["normal", "abnormal", "unsure"])


@st.composite
def histories(draw):
    """Events that undo any earlier one, many of them of the same moment."""
    events = []
    for index in range(draw(st.integers(0, 12))):
        earlier = [""] + [event.event_id for event in events]
        events.append(
            Event(
                f"{draw(st.integers(0, 99)):02}-{index}",  # ids that do not follow time
                draw(LABELS),
                draw(st.sampled_from(["ann", "bob", "cy"])),
                at(draw(st.integers(0, 2))),
                draw(st.sampled_from(earlier)),
                draw(st.sampled_from(["", "crack", "scratch"])),
                draw(st.sampled_from(["chip", "other"])),
            )
        )
    return events


@given(histories(), st.randoms())
def test_the_order_of_events_does_not_matter(events, random):
    shuffled = random.sample(events + events[:3], len(events) + len(events[:3]))
    assert consensus_of(shuffled) == consensus_of(events)


@given(histories())
def test_a_retraction_and_its_retraction_change_nothing(events):
    for target in events:
        undo = Event("undo", retracts=target.event_id, created_at=at(9))
        redo = Event("redo", retracts="undo", created_at=at(9))
        assert consensus_of([*events, undo, redo]) == consensus_of(events)


@given(histories())
def test_each_annotator_has_one_vote_per_image(events):
    for consensus in consensus_of(events).values():
        assert 1 <= sum(consensus.votes.values()) <= 3
        assert 0 <= consensus.probability <= 1
        if consensus.label in ("normal", "abnormal"):
            assert (consensus.probability > 0.5) == (consensus.label == "abnormal")


@given(st.lists(st.one_of(LABELS, st.just("undo")), max_size=15))
def test_labels_and_retractions_of_one_annotator_are_a_stack(actions):
    events, stack = [], []
    for minute, action in enumerate(actions):
        if action != "undo":
            events.append(Event(str(minute), action, created_at=at(minute)))
            stack.append(events[-1])
        elif stack:
            events.append(Event(str(minute), retracts=stack.pop().event_id, created_at=at(minute)))
    assert label_of(*events) == (stack[-1].label if stack else None)
