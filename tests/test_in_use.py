"""Training that starts from the model in use: python training/train.py --init MODEL."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from chipdemo.__main__ import main
from chipdemo.errors import DataError
from chipdemo.files import Found
from chipdemo.images import read_image
from chipdemo.inspection import CAM, INVERSE, default_method
from chipdemo.vision.anomaly.anomaly_model import load_anomaly_model
from chipdemo.vision.anomaly.features import extract_features, starting_backbone, trained_backbone
from chipdemo.vision.anomaly.fitting import fit
from chipdemo.vision.anomaly.saving import save_taught, save_with_memory_bank
from chipdemo.vision.checkpoint import MEMORY, METRICS, SPLIT, WEIGHTS, find_checkpoint, model_revision
from chipdemo.vision.predictor import load_model
from tests.hub import Account, Hub
from tests.tiny import BACKBONE, SPEC, draw_chip, draw_chips, tiny_checkpoint, tiny_net
from training.in_use import FROM_IMAGENET, FROM_MODEL, model_in_use, rows_of_epoch, tuning
from training.options import Options, parse
from training.push import push
from training.record import record
from training.train import train
from training.trunk import FrozenTrunk


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("loop")


@pytest.fixture(scope="module")
def chips(place):
    return draw_chips(place / "chips", normal=40, abnormal=24)


@pytest.fixture(scope="module")
def labels(chips, place):
    """New images, and one that the model in use has seen."""
    folder = place / "labels"
    for name in ("normal", "abnormal"):
        (folder / name).mkdir(parents=True)
        for seed in range(24):
            draw_chip(5000 + seed + 100 * (name != "normal"), name != "normal").save(
                folder / name / f"{seed}.png"
            )
    shutil.copy(place / "chips" / "normal" / "0.png", folder / "normal" / "seen.png")
    return folder


@pytest.fixture(scope="module")
def model(chips, place):
    """The model in use, well trained on chips."""
    flags = {"backbone": BACKBONE, "init": "none", "image_size": 64, "freeze": 0, "linear": "off"}
    flags |= {"epochs": 25, "batch_size": 8, "learning_rate": 3e-3}
    return train(Options(data=str(chips), out=str(place / "model"), **flags))


def next_model(model, labels, out, **changes) -> Path:
    defaults = {"batch_size": 8, "epochs": 1, "views": 1, "cache": str(Path(out).parent / "cache")}
    return train(Options(data=str(labels), init=str(model), out=str(out), **(defaults | changes)))


@pytest.fixture(scope="module")
def newer(chips, model, labels, place):
    return next_model(model, labels, place / "newer")


def split_of(folder: Path) -> dict[str, set[str]]:
    content = json.loads((folder / SPLIT).read_text())
    return {split: set(content[split]) for split in ("train", "val", "test")}


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / METRICS).read_text())


def without_its_data(model: Path, folder: Path) -> Path:
    """A copy of a model whose training data is gone."""
    copy = shutil.copytree(model, folder / "copy")
    metrics = metrics_of(copy)
    metrics["training"]["options"]["data"] = str(folder / "gone")
    (copy / METRICS).write_text(json.dumps(metrics))
    return copy


def test_the_earlier_images_stay_in_their_split_and_in_the_mix(model, newer, chips, labels):
    before, now = split_of(model), split_of(newer)
    assert all(before[split] <= now[split] for split in before)
    new = {read_image(path).sha256 for path in labels.rglob("*.png")} - set.union(*before.values())
    assert set.union(*now.values()) == set.union(*before.values()) | new and len(new) == 48
    metrics = metrics_of(newer)
    assert metrics["data"] == "labels + chips"
    assert metrics["training"]["train_count"] == len(now["train"]) > len(before["train"])
    assert metrics["training"]["earlier_data"] == [str(chips)]
    assert "as in the earlier split.json for 64 images" in metrics["training"]["division"]


def test_the_architecture_is_that_of_the_model_in_use(model, newer):
    before, now = (json.loads((folder / "config.json").read_text()) for folder in (model, newer))
    same = ("backbone", "attention", "stages", "image_size", "mean", "std", "interpolation")
    assert [before[name] for name in same] == [now[name] for name in same]
    assert metrics_of(newer)["starting_weights"] == "checkpoint model"


def test_the_run_ends_in_a_comparison_on_earlier_and_new_test_images(model, newer):
    metrics, now = metrics_of(newer), split_of(newer)
    comparison, test = metrics["comparison"], split_of(model)["test"]
    assert (comparison["name"], comparison["revision"]) == ("model", model_revision(model))
    assert (comparison["left_out"], comparison["earlier_refused"]) == (0, False)
    counts = {name: found["count"] for name, found in comparison["sets"].items()}
    assert counts == {"earlier": len(test), "new": len(now["test"] - test), "all": len(now["test"])}
    now_on_all = comparison["sets"]["all"]["accuracy"]["now"]
    assert now_on_all == pytest.approx(metrics["test"]["accuracy"])
    card = (newer / "README.md").read_text()
    assert f"## Compared with model {model_revision(model)}" in card
    assert f"This model is **{comparison['verdict']}" in card and "| all: " in card


def test_it_is_printed(model, labels, tmp_path, capsys):
    next_model(model, labels, tmp_path / "out")
    out = capsys.readouterr().out
    assert "| earlier: " in out and "| new: " in out
    assert f" model {model_revision(model)}" in out.splitlines()[-2]


def test_with_few_new_labels_only_the_attention_and_the_head_are_tuned(model, newer):
    before, now = load_file(model / WEIGHTS), load_file(newer / WEIGHTS)
    backbone = [name for name in before if name.startswith("backbone.")]
    assert all(torch.equal(before[name], now[name]) for name in backbone)
    assert not torch.equal(before["head.weight"], now["head.weight"])
    assert not torch.equal(before["attention.spatial.conv.weight"], now["attention.spatial.conv.weight"])


def test_an_explicit_flag_overrides_what_is_picked(model, labels, tmp_path):
    out = next_model(model, labels, tmp_path / "out", freeze=0, learning_rate=1e-3)
    before, now = load_file(model / WEIGHTS), load_file(out / WEIGHTS)
    assert not torch.equal(before["backbone.conv_stem.weight"], now["backbone.conv_stem.weight"])
    assert metrics_of(out)["training"]["options"]["learning_rate"] == 1e-3


def test_the_more_new_labels_the_more_is_tuned(model):
    in_use = model_in_use(str(model))
    few, some, many = (picked for _, picked in FROM_MODEL)
    assert [tuning(in_use, count) for count in (42, 99, 100, 499, 500)] == [few, few, some, some, many]
    assert tuning(None, 42) == FROM_IMAGENET


def test_without_the_earlier_data_the_answers_of_the_model_in_use_take_its_place(
    model, labels, tmp_path, capsys
):
    out = next_model(without_its_data(model, tmp_path), labels, tmp_path / "out")
    said = capsys.readouterr().out
    assert f"{tmp_path / 'gone'}, which the model in use was trained on, is not at hand" in said
    assert "distilled from" in said
    before, now = split_of(model), split_of(out)
    assert all(before[split] <= now[split] for split in before)  # for later runs, and for evaluations
    assert metrics_of(out)["training"]["train_count"] < len(before["train"])
    assert metrics_of(out)["training"]["earlier_data"] == [str(tmp_path / "gone")]


def test_images_that_the_model_in_use_was_trained_on_are_no_test_images_of_the_comparison(
    model, labels, tmp_path
):
    """--split asks for it: all that the model was trained on is to be tested on."""
    before = split_of(model)
    swapped = {"train": [*before["test"]], "val": [*before["val"]], "test": [*before["train"]]}
    (tmp_path / "split.json").write_text(json.dumps(swapped))
    out = next_model(model, labels, tmp_path / "out", split=str(tmp_path / "split.json"))
    comparison = metrics_of(out)["comparison"]
    assert comparison["left_out"] == len(before["train"])
    assert list(comparison["sets"]) == ["new"]


@pytest.fixture(scope="module")
def with_bank(model, chips, place):
    """The model in use with a memory bank of its normal images, and the overlay that was measured best."""
    good = [Found(path.name, path) for path in sorted((chips / "normal").iterdir())]
    out = place / "with-bank"
    save_with_memory_bank(out, model, fit(extract_features(good, trained_backbone(model)), 500))
    rows = [{"overlay": INVERSE, "aupro": 0.9}, {"overlay": CAM, "aupro": 0.6}]
    record(out, "overlay", {"best": INVERSE, "data": "ten chips", "rows": rows})
    return out


def test_the_next_model_has_a_memory_bank_of_earlier_and_new_normal_images(
    with_bank, labels, tmp_path, capsys
):
    out = next_model(with_bank, labels, tmp_path / "out")
    bank, split = load_anomaly_model(out), json.loads((out / SPLIT).read_text())
    assert f"memory bank: of {len(bank.images)} normal images" in capsys.readouterr().out
    assert set(bank.images) <= set(split["train"]) and len(bank.memory_bank.features) == 500
    new = {read_image(path).sha256 for path in (labels / "normal").iterdir()}
    earlier = set(load_anomaly_model(with_bank).images)
    assert new & set(bank.images) and earlier & set(bank.images) and bank.thumbnails
    loaded = load_model(str(out))
    assert default_method(loaded) == INVERSE
    assert loaded.info.overlays[0].data == "ten chips, by with-bank"
    assert "Memory bank of normal images" in (out / "README.md").read_text()


@pytest.mark.parametrize("freeze", [1000, 0])
def test_a_memory_bank_whose_images_are_not_at_hand_stays_while_its_layers_do(
    freeze, with_bank, labels, tmp_path, capsys
):
    alone = without_its_data(with_bank, tmp_path)
    out = next_model(alone, labels, tmp_path / "out", freeze=freeze)
    said = capsys.readouterr().out
    if freeze:
        before, after = load_anomaly_model(with_bank), load_anomaly_model(out)
        assert after.images == before.images and "memory bank: of" in said
        assert np.array_equal(after.memory_bank.features, before.memory_bank.features)
        assert INVERSE in load_model(str(out)).methods
    else:
        assert not (out / MEMORY).exists()
        assert "memory bank: none. The normal images of the model in use are not at hand." in said
        assert INVERSE not in load_model(str(out)).methods


def test_nothing_to_compare_is_an_error_before_training(model, chips, tmp_path):
    before = split_of(model)
    swapped = {"train": [*before["test"]], "val": [*before["val"]], "test": [*before["train"]]}
    (tmp_path / "split.json").write_text(json.dumps(swapped))
    with pytest.raises(DataError, match="--split"):
        next_model(model, chips, tmp_path / "out", split=str(tmp_path / "split.json"))


def test_another_architecture_than_that_of_the_model_in_use_is_refused(model, labels, tmp_path):
    with pytest.raises(DataError, match=f"--backbone is resnet18, but .* {BACKBONE}"):
        next_model(model, labels, tmp_path / "out", backbone="resnet18")


def test_a_worse_model_in_the_folder_of_the_one_in_use_leaves_that_beside_it(
    model, labels, tmp_path, monkeypatch
):
    folder = shutil.copytree(model, tmp_path / "chips")
    revision = model_revision(folder)
    with monkeypatch.context() as patch:
        patch.setattr("training.comparison.verdict_on", lambda differences: "worse")
        next_model(folder, labels, folder)
    comparison = metrics_of(folder)["comparison"]
    assert comparison["verdict"] == "worse" and comparison["revision"] == revision
    kept = tmp_path / f"chips-{revision}"
    assert model_revision(kept) == revision != model_revision(folder)
    again = next_model(folder, labels, tmp_path / "again")
    assert metrics_of(again)["comparison"]["earlier_refused"]


def test_a_model_on_the_hub_is_started_from_at_its_newest_accepted_revision(
    model, labels, tmp_path, monkeypatch
):
    with Hub({"hf_ada": Account("ada")}) as hub:
        hub.serve(monkeypatch, tmp_path / "home", "hf_ada")
        first = push(model, "ada/chips").oid
        worse = shutil.copytree(model, tmp_path / "worse")
        metrics = metrics_of(worse)
        metrics["comparison"] = {"name": "a", "revision": "b", "verdict": "worse", "reasons": []}
        metrics["comparison"]["earlier_refused"] = False
        (worse / METRICS).write_text(json.dumps(metrics))
        push(worse, "ada/chips")
        assert model_in_use("ada/chips").source == f"ada/chips@{first}"
        out = next_model("ada/chips", labels, tmp_path / "out")
        assert metrics_of(out)["starting_weights"] == f"checkpoint ada/chips@{first}"
        assert metrics_of(out)["comparison"]["name"] == "ada/chips"
        assert find_checkpoint(f"ada/chips@{first}")


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A model that was taught from 12 good images."""
    place = tmp_path_factory.mktemp("taught")
    good = draw_chips(place / "good", normal=12, abnormal=0) / "normal"
    backbone = starting_backbone()
    small = replace(backbone, spec=replace(backbone.spec, image_size=64))
    features = extract_features([Found(path.name, path) for path in sorted(good.iterdir())], small)
    save_taught(place / "model", small, fit(features), "chips")
    return place / "model"


def test_a_model_that_was_taught_from_good_images_is_compared_with_but_not_started_from(
    taught, labels, tmp_path, monkeypatch
):
    monkeypatch.setattr("training.train.load_starting_weights", lambda net, backbone, init: f"started {init}")
    out = next_model(
        taught, labels, tmp_path / "out", backbone=BACKBONE, image_size=64, linear="off", memory="off"
    )
    metrics = metrics_of(out)
    assert metrics["starting_weights"] == "started imagenet"
    assert metrics["comparison"]["revision"] == model_revision(taught)


def test_a_taught_model_goes_on_learning_from_labels(taught, tmp_path, capsys):
    labels = draw_chips(tmp_path / "labels", normal=30, abnormal=12, first=500)
    out = next_model(taught, labels, tmp_path / "out")
    earlier, model = load_anomaly_model(taught), load_anomaly_model(out)
    assert set(earlier.images) < set(model.images) and len(model.images) > 12 + 10
    metrics, split = metrics_of(out), split_of(out)
    assert metrics["comparison"]["revision"] == model_revision(taught)
    assert 0 < len(split["test"]) == len(metrics["test"]["abnormal"])
    assert not split["test"] & set(model.images)
    assert sum(metrics["validation"]["abnormal"]) >= 5  # the threshold knows of defects
    assert load_model(str(out)).info.comparison.text in capsys.readouterr().out


@pytest.mark.parametrize("init", ["imagenet", "none", "weights/resnet50.imagenet.safetensors"])
def test_other_starts_are_no_model_in_use(init):
    assert model_in_use(init) is None


def test_new_images_come_several_times_in_an_epoch_where_they_are_few():
    new = np.arange(100) >= 90
    rows = rows_of_epoch(new)
    assert set(rows) == set(range(100)) and 0.25 < (rows >= 90).mean() < 0.35
    assert sorted(rows_of_epoch(np.ones(5, bool))) == [0, 1, 2, 3, 4]
    assert len(rows_of_epoch(np.arange(1000) >= 999)) == 999 + 8
    assert sorted(rows_of_epoch(np.arange(10) >= 5)) == list(range(10))


@pytest.mark.parametrize("blocks", [-1, 1000])
def test_frozen_blocks_behind_the_trunk_do_not_learn(blocks):
    net = tiny_net(replace(SPEC, stages=2))
    trunk = FrozenTrunk(net, blocks)
    before = {name: tensor.clone() for name, tensor in net.backbone.state_dict().items()}
    last = [name for name in before if name.startswith(("blocks.4", "conv_head", "bn2"))]
    batch = trunk(torch.randn(4, 3, 64, 64)).clone()
    net.train()
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    with trunk.skipped(net):
        net(batch).logits.square().sum().backward()
    optimizer.step()
    now = net.backbone.state_dict()
    changed = {name for name in now if not torch.equal(now[name], before[name])}
    assert changed <= set(last) and bool(changed) == (blocks == -1)


# The whole loop, by the commands that are printed


def test_the_printed_commands_run_as_they_are(model, labels, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CHIPDEMO_JOURNAL", str(tmp_path / "labels.db"))
    folder = shutil.copytree(model, tmp_path / "my model")
    assert main(["labels", "import", str(labels), "--annotator", "ann"]) == 0
    capsys.readouterr()
    assert main(["labels", "status", "--model", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    export, run = [shlex.split(line) for line in lines if line.startswith("  python")]
    monkeypatch.chdir(tmp_path)
    assert main(export[3:]) == 0
    assert run[:2] == ["python", "training/train.py"]
    out = train(replace(parse(run[2:]), out=str(tmp_path / "next"), batch_size=8, views=1))
    assert metrics_of(out)["comparison"]["revision"] == model_revision(model)
    assert metrics_of(out)["data"].endswith(" + chips")


def test_a_folder_that_is_no_checkpoint_is_an_error(labels, tmp_path):
    from chipdemo.errors import CheckpointError

    with pytest.raises(CheckpointError, match="config.json"):
        next_model(tmp_path, labels, tmp_path / "out")


def test_a_checkpoint_of_an_earlier_version_is_a_start_too(labels, tmp_path):
    """It does not say what it was trained on."""
    out = next_model(tiny_checkpoint(tmp_path / "tiny"), labels, tmp_path / "out")
    assert metrics_of(out)["training"]["earlier_data"] == []
    assert list(metrics_of(out)["comparison"]["sets"]) == ["new"]
