import json
import re

import pytest

from chipdemo.labeling.intake import add_contents
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Label
from chipdemo.labeling.status import Status, images_seen, status_of, training_commands
from chipdemo.settings import DEFAULT_MODEL, Settings
from tests.drawn import picture


@pytest.fixture
def journal(tmp_path):
    """Five images: normal, abnormal, unsure, torn, unlabeled."""
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
        return [row["sha256"] for row in database.execute("SELECT sha256 FROM images ORDER BY id")]


def test_it_counts_images_by_consensus_and_those_the_model_has_not_seen(journal):
    seen = hashes(journal)[1:]
    agreed = {"normal": 1, "abnormal": 1, "unsure": 1}
    assert status_of(journal, seen) == Status(5, 4, agreed, disputed=1, pending=5, new=1)
    assert status_of(journal, ()).new == 2
    assert status_of(journal).new is None


def test_majorities_and_decisions_count(journal):
    *_, torn, other = hashes(journal)
    journal.append(
        Label(torn, "abnormal", "cy"), Label(other, "normal", "ann"), Label(other, "normal", "bob")
    )
    journal.append(Label(other, "abnormal", "ruth", decides=True))
    assert status_of(journal).agreed == {"normal": 1, "abnormal": 3, "unsure": 1}
    assert status_of(journal).disputed == 0


def test_the_images_a_model_has_seen_are_in_its_split(tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"train": ["a"], "val": ["b"], "test": ["c"], "seed": 0}))
    assert images_seen(str(tmp_path)) == {"a", "b", "c"}


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"train": 5, "val": [], "test": []}'])
def test_a_split_that_cannot_be_read_is_none(tmp_path, text):
    assert images_seen("owner/name") is None
    (tmp_path / "split.json").write_text(text)
    assert images_seen(str(tmp_path)) is None


TRAIN = "python training/train.py --data"


def test_without_a_dataset_training_begins_with_an_export():
    export, train = training_commands(Settings(journal="/data/my labels.db"), "/models/chips")
    folder = re.fullmatch(
        r"python -m chipdemo labels export (labels-[\d-]+) --journal '/data/my labels.db'", export
    )[1]
    assert train == f"{TRAIN} {folder} --init /models/chips"


def test_with_a_dataset_training_reads_it():
    assert training_commands(Settings(), "/models/chips", "ada/chips") == [
        f"{TRAIN} hf:ada/chips --init /models/chips"
    ]


def test_a_model_of_this_program_is_named_as_it_is_named_in_every_copy_of_it(monkeypatch):
    monkeypatch.chdir(DEFAULT_MODEL.parents[2])
    (command,) = training_commands(Settings(), str(DEFAULT_MODEL), "a/b")
    assert command.endswith(f" --init chipdemo/weights/{DEFAULT_MODEL.name}")


def test_the_next_model_replaces_one_that_is_reloaded(tmp_path):
    place = tmp_path / "my model"
    place.mkdir()
    watching = Settings(model=(str(place),), hot_reload=60)
    kept = f"{place}-0123456789ab"  # of a folder whose newest revision is worse
    assert training_commands(watching, kept, "ada/chips") == [
        f"{TRAIN} hf:ada/chips --init '{kept}' --out '{place}'"
    ]
    watching, in_use = Settings(model=("ada/model",), hot_reload=60), "ada/model@0123456"
    assert training_commands(watching, in_use, "a/b") == [
        f"{TRAIN} hf:a/b --init ada/model@0123456 --push-to-hub ada/model"
    ]
    assert training_commands(Settings(model=("ada/model",)), "ada/model", "a/b") == [
        f"{TRAIN} hf:a/b --init ada/model"
    ]
