"""Which revision of a model is used when a program starts."""

import json
import shutil
from dataclasses import replace

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from chipdemo.__main__ import main
from chipdemo.errors import CheckpointError
from chipdemo.vision.checkpoint import METRICS, find_checkpoint, model_revision
from chipdemo.vision.predictor import load_model
from chipdemo.vision.revisions import accept, newest_accepted
from tests.hub import Account, Hub
from tests.tiny import SPEC, compared, draw_chip, tiny_checkpoint
from training.push import push

TOKEN = "hf_ada"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with Hub({TOKEN: Account("ada")}) as hub:
        hub.serve(monkeypatch, tmp_path / "home", TOKEN)
        yield hub


def pushed(folder, threshold, comparison=None):
    """The commit of a further revision."""
    tiny_checkpoint(folder, replace(SPEC, threshold=threshold), comparison)
    (folder / "README.md").write_text("---\nlicense: other\n---\n")
    return push(folder, "ada/chips").oid


def threshold_of(model):
    return load_model(newest_accepted(model).source).info.threshold


# On the Hub


def test_a_start_takes_the_newest_revision_that_is_not_worse(hub, tmp_path):
    pushed(tmp_path / "chips", 0.3)
    good = pushed(tmp_path / "chips", 0.4, compared("better"))
    pushed(tmp_path / "chips", 0.5, compared("worse"))
    newest = pushed(tmp_path / "chips", 0.6, compared("better", earlier_refused=True))
    found = newest_accepted("ada/chips")
    assert found.source == f"ada/chips@{good}" and threshold_of("ada/chips") == 0.4
    assert found.refused.revision == newest and "refused" in found.refused.text
    assert load_model(found.source).info.name == "ada/chips"


def test_without_a_worse_one_the_model_keeps_its_name(hub, tmp_path):
    pushed(tmp_path / "chips", 0.3)
    pushed(tmp_path / "chips", 0.4, compared("not distinguishable"))
    assert newest_accepted("ada/chips") == ("ada/chips", None)


def test_where_all_are_worse_the_newest_is_taken_and_said(hub, tmp_path):
    commit = pushed(tmp_path / "chips", 0.3, compared("worse"))
    found = newest_accepted("ada/chips")
    assert found.source == "ada/chips" and found.refused.revision == commit


def test_a_revision_that_is_named_is_taken_as_it_is(hub, tmp_path):
    pushed(tmp_path / "chips", 0.3)
    worse = pushed(tmp_path / "chips", 0.5, compared("worse"))
    assert threshold_of(f"ada/chips@{worse}") == 0.5


def test_an_accepted_revision_is_taken_by_every_start(hub, tmp_path, capsys):
    pushed(tmp_path / "chips", 0.3)
    worse = pushed(tmp_path / "chips", 0.5, compared("worse"))
    assert main(["accept", worse[:12], "--model", "ada/chips"]) == 0
    assert worse[:12] in capsys.readouterr().out
    assert newest_accepted("ada/chips").refused is None and threshold_of("ada/chips") == 0.5


@pytest.mark.parametrize("name", ["0123456789ab", "", "abc"])
def test_another_revision_than_the_newest_is_not_accepted(hub, tmp_path, name):
    pushed(tmp_path / "chips", 0.3)
    worse = pushed(tmp_path / "chips", 0.5, compared("worse"))
    with pytest.raises(CheckpointError, match=worse):
        accept("ada/chips", name)
    assert threshold_of("ada/chips") == 0.3


def test_what_takes_over_anyway_needs_no_acceptance(hub, tmp_path):
    commit = pushed(tmp_path / "chips", 0.3)
    with pytest.raises(CheckpointError, match="anyway"):
        accept("ada/chips", commit)


def test_a_push_between_look_and_acceptance_is_not_accepted_by_mistake(hub, tmp_path, pauses):
    pushed(tmp_path / "chips", 0.3)
    worse = pushed(tmp_path / "chips", 0.5, compared("worse"))
    hub.fail("POST .*/commit/", 412)
    assert main(["accept", worse, "--model", "ada/chips"]) == 2
    assert threshold_of("ada/chips") == 0.3


def test_a_hub_out_of_reach_is_left_to_the_loading_from_the_cache(hub, tmp_path):
    pushed(tmp_path / "chips", 0.3)
    find_checkpoint("ada/chips")
    hub.fail("GET /api/models", 500, times=100)
    assert newest_accepted("ada/chips") == ("ada/chips", None)


def test_a_repository_that_is_not_only_a_checkpoint_has_its_other_commits_passed_over(hub, tmp_path):
    good = pushed(tmp_path / "chips", 0.3)
    pushed(tmp_path / "chips", 0.5, compared("worse"))
    HfApi().create_commit("ada/chips", [CommitOperationAdd("NOTES.md", b"")], commit_message="notes")
    assert newest_accepted("ada/chips").source == f"ada/chips@{good}"


# In a folder


@pytest.fixture
def replaced(tmp_path):
    """A folder in which training put a worse model in the place of the one in use, which it kept beside."""
    folder = tiny_checkpoint(tmp_path / "chips", replace(SPEC, threshold=0.3))
    revision = model_revision(folder)
    shutil.copytree(folder, tmp_path / f"chips-{revision}")
    return tiny_checkpoint(folder, replace(SPEC, threshold=0.5), compared("worse", revision))


def test_a_start_takes_what_training_kept_beside_a_worse_model(replaced):
    found = newest_accepted(str(replaced))
    assert threshold_of(str(replaced)) == 0.3
    assert found.refused.revision == model_revision(replaced)


def test_a_worse_model_with_nothing_beside_it_is_taken_and_said(tmp_path):
    folder = tiny_checkpoint(tmp_path / "chips", SPEC, compared("worse"))
    found = newest_accepted(str(folder))
    assert found.source == str(folder) and found.refused.revision == model_revision(folder)


def test_a_worse_model_in_a_folder_is_accepted_for_good(replaced):
    assert main(["accept", model_revision(replaced), "--model", str(replaced)]) == 0
    assert newest_accepted(str(replaced)) == (str(replaced), None)
    assert {path.name for path in replaced.iterdir()} == {
        "model.safetensors",
        "config.json",
        "metrics.json",
        "split.json",
    }


def test_a_comparison_that_cannot_be_read_is_an_error(tmp_path):
    folder = tiny_checkpoint(tmp_path / "chips")
    metrics = json.loads((folder / METRICS).read_text())
    (folder / METRICS).write_text(json.dumps(metrics | {"comparison": {"verdict": "worse"}}))
    with pytest.raises(CheckpointError, match="name"):
        newest_accepted(str(folder))
    with pytest.raises(CheckpointError, match="name"):
        load_model(str(folder))


def test_the_command_line_inspects_with_the_model_that_the_app_uses(replaced, tmp_path):
    draw_chip(1).save(tmp_path / "chip.png")
    out = tmp_path / "out"
    assert main(["inspect", str(tmp_path / "chip.png"), "--out", str(out), "--model", str(replaced)]) == 0
    (line,) = (out / "inspections.jsonl").read_text().splitlines()
    assert json.loads(line)["threshold"] == 0.3
