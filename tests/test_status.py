import json

import pytest

from chipdemo.labeling.intake import add_contents
from chipdemo.labeling.label import Label
from chipdemo.labeling.status import Status, photographs_seen, status_of
from chipdemo.labeling.store import Journal
from tests.drawn import picture


@pytest.fixture
def journal(tmp_path):
    """Five photographs: normal, abnormal, unsure, torn, unlabelled."""
    with Journal(tmp_path / "labels.db") as journal:
        add_contents(journal, [(f"{n}.png", picture(n)) for n in range(5)])
        normal, abnormal, unsure, torn, _ = hashes(journal)
        journal.append(
            Label(normal, "normal", "ann"),
            Label(abnormal, "abnormal", "ann"),
            Label(unsure, "unsure", "ann"),
            Label(torn, "normal", "ann"),
            Label(torn, "abnormal", "bob"),
        )
        yield journal


def hashes(journal):
    with journal.read() as database:
        return [row["sha256"] for row in database.execute("SELECT sha256 FROM photographs ORDER BY id")]


def test_it_counts_photographs_by_what_holds_and_those_the_model_has_not_seen(journal):
    seen = hashes(journal)[1:]
    agreed = {"normal": 1, "abnormal": 1, "unsure": 1}
    assert status_of(journal, seen) == Status(5, 4, agreed, disagreements=1, pending=5, new=1)
    assert status_of(journal, ()).new == 2
    assert status_of(journal).new is None


def test_most_votes_and_decisions_count(journal):
    *_, torn, other = hashes(journal)
    journal.append(
        Label(torn, "abnormal", "cy"), Label(other, "normal", "ann"), Label(other, "normal", "bob")
    )
    journal.append(Label(other, "abnormal", "ruth", decides=True))
    assert status_of(journal).agreed == {"normal": 1, "abnormal": 3, "unsure": 1}
    assert status_of(journal).disagreements == 0


def test_what_a_model_has_seen_is_in_its_split(tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"train": ["a"], "val": ["b"], "test": ["c"], "seed": 0}))
    assert photographs_seen(str(tmp_path)) == {"a", "b", "c"}


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"train": 5, "val": [], "test": []}'])
def test_a_split_that_cannot_be_read_says_nothing(tmp_path, text):
    assert photographs_seen("owner/name") is None
    (tmp_path / "split.json").write_text(text)
    assert photographs_seen(str(tmp_path)) is None
