"""Pushing a checkpoint, with the real client, to a Hub on this machine."""

import hashlib
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard
from safetensors.torch import save_file

from chipdemo.errors import CheckpointError, HubError
from chipdemo.vision.backbone_weights import FROM_HUB
from chipdemo.vision.checkpoint import METRICS
from chipdemo.vision.predictor import load_model
from tests.hub import CUT, LOST, Account, Hub
from tests.scripts import run_script
from tests.tiny import BACKBONE, SPEC, compared, draw_chip, draw_chips, tiny_checkpoint
from training.card import model_card
from training.options import Options, parse
from training.push import OWN, PNG, destination, main, push, pushable, slug
from training.robustness import flips
from training.train import train

ROOT = Path(__file__).parent.parent
TOKEN = "hf_ada_secret"
ACCOUNTS = {
    TOKEN: Account("ada", orgs=("acme",)),
    "hf_read": Account("ada", role="read"),
    "hf_bob": Account("bob"),
}
CHECKPOINT = {"model.safetensors", "config.json", "metrics.json", "split.json", "README.md"}
TEST = {
    "split": "drawn chips, test split, 10 images",
    "accuracy": 0.9,
    "recall": 0.8,
    "precision": 0.75,
    "f1": 0.77,
    "auroc": 0.95,
    "average_precision": float("nan"),
    "expected_calibration_error": 0.03,
    "confusion": [[5, 1], [1, 3]],
    "probabilities": [0.1, 0.1, 0.2, 0.2, 0.3, 0.8, 0.2, 0.6, 0.8, 0.9],
    "abnormal": [False] * 6 + [True] * 4,
}
MEASURED = {
    "data": "drawn chips",
    "data_license": "",
    "starting_weights": "none (random)",
    "test": TEST,
    "training": {
        "train_count": 70,
        "val_count": 20,
        "division": "by content hash, 70/20/10",
        "command": "python training/train.py --data chips",
    },
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with Hub(ACCOUNTS) as hub:
        hub.serve(monkeypatch, tmp_path / "home", TOKEN)
        yield hub


@pytest.fixture
def folder(tmp_path) -> Path:
    """A checkpoint as training leaves it, with things beside it that are nobody else's business."""
    folder = tiny_checkpoint(tmp_path / "runs" / "chips-tiny")
    (folder / "README.md").write_text(model_card(SPEC, MEASURED))
    for name in ("roc.png", "precision_recall.png", "confusion.png", "private_image.png"):
        (folder / name).write_bytes(PNG + name.encode())
    (folder / "model.pt").write_bytes(pickle.dumps({"weights": 1}))
    (folder / "state.safetensors").write_bytes(b"of a run")
    (folder / ".env").write_text("HF_TOKEN=hf_other")
    (folder / "images").mkdir()
    (folder / "images" / "chip.png").write_bytes(PNG)
    return folder


def fingerprints(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_push_makes_a_private_repository_with_the_checkpoint_alone_in_one_commit(hub, folder, capsys):
    commit = push(folder, "ada/chips")
    repository = hub.repository("ada/chips")
    assert repository.private
    assert [c.message.partition(",")[0] for c in repository.commits] == [
        "initial commit",
        "Chip Inspector model",
    ]
    assert set(repository.files) == CHECKPOINT | {
        "roc.png", "precision_recall.png", "confusion.png", ".gitattributes",
    }  # fmt: skip
    assert all(repository.files[n] == (folder / n).read_bytes() for n in CHECKPOINT)
    said = capsys.readouterr().out
    assert commit.oid == repository.commits[-1].oid and commit.oid in said
    assert f"{hub.address}/ada/chips" in said and "private" in said


def test_what_was_pushed_is_what_the_app_opens(hub, folder):
    push(folder, "ada/chips")
    here, there = load_model(str(folder)), load_model("ada/chips")
    assert there.info.name == "ada/chips" and there.info.revision == here.info.revision
    views = [here.prepare(draw_chip(1, abnormal=True))]
    assert there.predict(views)[0].abnormal_probability == here.predict(views)[0].abnormal_probability


def test_a_model_that_is_worse_is_pushed_and_it_is_said_that_apps_do_not_take_it_over(hub, folder, capsys):
    metrics = json.loads((folder / METRICS).read_text())
    (folder / METRICS).write_text(json.dumps(metrics | {"comparison": compared("worse")}))
    commit = push(folder, "ada/chips").oid
    assert hub.repository("ada/chips").commits[-1].oid == commit
    said = capsys.readouterr().out.splitlines()[-1]
    assert "is worse than chips" in said and f"chipdemo accept {commit[:12]} --model ada/chips" in said


def test_public_opens_a_new_repository_and_leaves_one_that_exists_as_it_is(hub, folder, capsys):
    push(folder, "ada/open", public=True)
    assert not hub.repository("ada/open").private
    push(folder, "ada/open")
    assert not hub.repository("ada/open").private
    assert "ada/open exists and is public" in capsys.readouterr().out


def test_the_same_checkpoint_again_adds_nothing(hub, folder):
    first, second = push(folder, "ada/chips"), push(folder, "ada/chips")
    assert first.oid == second.oid and len(hub.repository("ada/chips").commits) == 2


def test_the_memory_of_an_earlier_checkpoint_goes_and_other_files_stay(hub, folder):
    save_file({}, folder / "memory.safetensors")
    push(folder, "ada/chips")
    assert "memory.safetensors" in hub.repository("ada/chips").files
    HfApi().create_commit("ada/chips", [CommitOperationAdd("NOTES.md", b"mine")], commit_message="notes")
    (folder / "memory.safetensors").unlink()
    push(folder, "ada/chips")
    files = hub.repository("ada/chips").files
    assert "memory.safetensors" not in files and files["NOTES.md"] == b"mine"


def test_large_files_travel_in_parts(folder, tmp_path, monkeypatch):
    with Hub(ACCOUNTS, part_bytes=100_000) as hub:
        hub.serve(monkeypatch, tmp_path / "home", TOKEN)
        push(folder, "ada/chips")
        assert hub.count("PUT /lfs/[0-9a-f]+/2") == 1
        content = hub.repository("ada/chips").files["model.safetensors"]
        assert content == (folder / "model.safetensors").read_bytes()


def test_a_pickle_under_a_name_of_ours_is_not_pushed(hub, folder):
    (folder / "confusion.png").write_bytes(pickle.dumps("no picture"))
    assert "confusion.png" not in pushable(folder)
    (folder / "memory.safetensors").write_bytes(pickle.dumps("no tensors"))
    with pytest.raises(CheckpointError, match="memory.safetensors is damaged"):
        push(folder, "ada/chips")
    (folder / "memory.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(pickle.dumps("no tensors"))
    with pytest.raises(CheckpointError, match="model.safetensors is damaged"):
        push(folder, "ada/chips")
    assert hub.repositories == {}


def test_a_folder_that_is_no_whole_checkpoint_is_not_pushed(hub, folder):
    (folder / METRICS).unlink()
    with pytest.raises(CheckpointError, match="metrics.json"):
        push(folder, "ada/chips")
    assert hub.repositories == {}


# The card


def test_the_card_tells_the_hub_what_was_measured_on_what():
    data = ModelCard(model_card(SPEC, MEASURED)).data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "other", "chipdemo", "image-classification",
    )  # fmt: skip
    assert "chip-inspection" in data.tags and data.model_name == f"{BACKBONE} + CBAM on drawn chips"
    measured = {result.metric_type: result.metric_value for result in data.eval_results}
    assert measured == {"accuracy": 0.9, "recall": 0.8, "precision": 0.75, "f1": 0.77, "roc_auc": 0.95}
    assert {result.dataset_name for result in data.eval_results} == {TEST["split"]}
    assert data.get("base_model") is None and data.get("datasets") is None


def test_the_card_shows_robustness_where_it_was_measured():
    abnormal = np.array([False, False, True])
    found = flips(np.array([0.1, 0.2, 0.9]), {"mirror image": np.array([0.1, 0.6, 0.9])}, abnormal, 0.5)
    card = model_card(SPEC, MEASURED | {"robustness": found | {"data": "drawn chips, 3 images"}})
    assert "\n## Robustness\n" in card and "| mirror image | 1 of 3 | 33.3% (" in card
    assert "Robustness" not in model_card(SPEC, MEASURED)


def test_the_card_shows_counts_and_intervals():
    card = model_card(SPEC, MEASURED)
    assert "| recall | 0.750: 3 of 4 abnormal images | 0.194–0.994 |" in card
    assert "| false positive rate | 0.167: 1 of 6 normal images | 0.004–0.641 |" in card
    assert "| precision | 0.750: 3 of 4 flagged images | 0.194–0.994 |" in card
    assert re.search(r"\| AUROC \| 0\.950 \| 0\.\d{3}–0\.\d{3} \|", card)


def test_the_card_names_ancestors_that_are_on_the_hub():
    data = ModelCard(model_card(SPEC, MEASURED | {"starting_weights": FROM_HUB, "data": "acme/chips"})).data
    assert data.base_model == "timm/test_efficientnet.r160_in1k" and data.datasets == ["acme/chips"]


# Where to, and who


@pytest.mark.parametrize(
    "name, expected",
    [(OWN, "ada/chips-tiny"), ("ada/other", "ada/other"), ("acme/line-2", "acme/line-2")],
)
def test_a_push_goes_to_the_signed_in_user_or_where_it_is_told(hub, folder, name, expected):
    assert destination(name, folder) == expected


@pytest.mark.parametrize(
    "name, expected",
    [
        ("Chips (new)", "Chips-new"),
        ("--a..b--c.git", "a-b-c"),
        ("Prüfung 7", "Pr-fung-7"),
        ("チップ", "chip-inspector"),
        ("a" * 200, "a" * 90),
    ],
)
def test_a_folder_gives_a_name_that_the_hub_allows(tmp_path, name, expected):
    assert slug(tmp_path / name) == expected


@pytest.mark.parametrize(
    "name",
    ["chips", "ada/", "/chips", "../../etc/passwd", "ada/../bob", "ada/a/b", "https://hub.example/ada/chips",
     "ada/chips.git", "ada/chi ps", "ada/chips\n", "ada/--chips", "datasets/ada/chips", "-a/chips", "ada/é"],
)  # fmt: skip
def test_a_hostile_name_is_refused(hub, folder, name):
    with pytest.raises(HubError, match="ada/chips-tiny"):
        destination(name, folder)


def test_another_owner_is_refused_before_training(hub, folder):
    with pytest.raises(HubError, match="bob.* ada, acme"):
        destination("bob/chips", folder)


@pytest.mark.parametrize(
    "token, message",
    [("", ""), ("hf_unknown", "401"), ("hf_read", "ada")],
)
def test_without_a_token_that_may_write_training_does_not_begin(hub, tmp_path, monkeypatch, token, message):
    monkeypatch.setenv("HF_TOKEN", token)
    chips = draw_chips(tmp_path / "chips", normal=2, abnormal=2)
    with pytest.raises(HubError, match=f"{message}.*HF_TOKEN") as refusal:
        train(Options(data=str(chips), out=str(tmp_path / "out"), push_to_hub=OWN))
    assert not (tmp_path / "out").exists()
    assert "hf_unknown" not in str(refusal.value) and "hf_read" not in str(refusal.value)


def test_a_hub_out_of_reach_is_noticed_before_training(hub, folder, monkeypatch, pauses):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="Check the network"):
        destination(OWN, folder)
    assert pauses == [1, 4, 16]


# Failures: what is here stays whole, the command in the message is enough, nothing is there twice

FAILURES = [
    ("POST /api/repos/create", 403, 1, "may not write"),
    ("POST .*/preupload/", 401, 1, "does not accept the token"),
    ("POST .*/preupload/", 403, 1, "may not write"),
    ("POST .*/commit/", 401, 1, "does not accept the token"),
    ("POST .*/commit/", 409, 1, "Someone else is changing"),
    ("POST .*/commit/", 429, 9, "too many requests"),
    ("POST .*/commit/", 500, 9, "trouble of its own"),
    ("POST .*/commit/", CUT, 9, "Check the network"),
    ("PUT /lfs/", 403, 1, "may not write"),
    ("PUT /lfs/", 500, 99, "trouble of its own"),
    ("PUT /lfs/", CUT, 99, "Check the network"),
]


@pytest.mark.parametrize(("request_line", "answer", "times", "message"), FAILURES)
def test_a_failed_push_loses_nothing_and_says_the_command_that_tries_again(
    hub, folder, pauses, request_line, answer, times, message
):
    before = fingerprints(folder)
    hub.fail(request_line, answer, times)
    with pytest.raises(HubError, match=message) as failure:
        push(folder, "ada/chips", public=True)
    told = str(failure.value)
    command = f"python training/push.py {folder} ada/chips --public"
    assert told.endswith(command) and TOKEN not in told
    assert fingerprints(folder) == before
    hub.faults.clear()
    main(command.split()[2:])
    assert len(hub.repository("ada/chips").commits) == 2
    assert set(hub.repository("ada/chips").files) >= CHECKPOINT
    assert fingerprints(folder) == before


@pytest.mark.parametrize("answer", [429, 500, 503, CUT, LOST])
@pytest.mark.parametrize(
    "request_line", ["POST /api/repos/create", "POST .*/preupload/", "PUT /lfs/", "POST .*/commit/"]
)
def test_what_passes_is_waited_for_and_nothing_is_pushed_twice(hub, folder, pauses, request_line, answer):
    hub.fail(request_line, answer, times=2)
    push(folder, "ada/chips")
    assert pauses == sorted(pauses) != []
    assert len(hub.repository("ada/chips").commits) == 2
    assert set(hub.repository("ada/chips").files) >= CHECKPOINT


# From the command line


def test_the_script_pushes_and_ends_in_one_line_where_it_cannot(hub, folder, tmp_path, monkeypatch):
    assert run_script(monkeypatch, "training/push.py", folder) == ""
    assert set(hub.repository("ada/chips-tiny").files) >= CHECKPOINT
    hub.serve(monkeypatch, tmp_path / "other", token="")
    said = run_script(monkeypatch, "training/push.py", folder)
    assert said.startswith("error: ") and "HF_TOKEN" in said and "\n" not in said


def test_training_ends_in_a_push_and_its_command_tells_of_the_training_alone(hub, tmp_path, monkeypatch):
    chips = draw_chips(tmp_path / "chips", normal=20, abnormal=12)
    flags = f"--backbone {BACKBONE} --init none --image-size 64 --batch-size 8 --freeze 0 --epochs 1"
    out = tmp_path / "out"
    command = ("--data", chips, "--out", out, *flags.split(), "--push-to-hub", "acme/line-2", "--public")
    assert run_script(monkeypatch, "training/train.py", *command) == ""
    repository = hub.repository("acme/line-2")
    assert not repository.private and len(repository.commits) == 2
    assert set(repository.files) == {path.name for path in out.iterdir()} | {".gitattributes"}
    metrics = json.loads((out / METRICS).read_text())
    assert "--push-to-hub" not in metrics["training"]["command"]
    assert not {"push_to_hub", "public"} & metrics["training"]["options"].keys()
    assert ModelCard((out / "README.md").read_text()).data.eval_results


def test_the_flags_of_a_push():
    assert parse([]).push_to_hub == "" and not parse([]).public
    assert parse(["--push-to-hub"]).push_to_hub == OWN
    assert parse(["--push-to-hub", "ada/chips", "--public"]).push_to_hub == "ada/chips"
    with pytest.raises(SystemExit):
        parse(["--public"])
