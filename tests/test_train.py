import errno
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from chipdemo.errors import DataError
from chipdemo.images import decode_image, read_image
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.vision.checkpoint import WEIGHTS
from chipdemo.vision.model import ChipNet
from chipdemo.vision.predictor import load_model
from chipdemo.vision.weights import load_checkpoint
from tests.scripts import run_script
from tests.tiny import BACKBONE, draw_chip, draw_chips, tiny_checkpoint
from training.distillation import teacher_predictions
from training.folders import read_folder
from training.linear import kept_of
from training.options import Options, parse
from training.predict import predict
from training.resume import STATE, save_state
from training.starting_weights import load_starting_weights
from training.train import rate, train

SCRIPT = Path(__file__).parent.parent / "training" / "train.py"


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return draw_chips(tmp_path_factory.mktemp("data") / "chips", normal=40, abnormal=24)


def options(chips, out, **changes):
    defaults = {
        "backbone": BACKBONE,
        "init": "none",
        "image_size": 64,
        "epochs": 3,
        "batch_size": 8,
        "freeze": 0,
        "linear": "off",
    }
    return Options(data=str(chips), out=str(out), **(defaults | changes))


def command(chips, out, epochs):
    """The same run as options(), as a process of its own that can be killed."""
    flags = f"--backbone {BACKBONE} --init none --image-size 64 --batch-size 8 --freeze 0 --linear off"
    return [sys.executable, SCRIPT, "--data", chips, "--out", out, *flags.split(), "--epochs", str(epochs)]


def train_until(epoch, options, monkeypatch):
    """Train, and be interrupted once this epoch is kept."""

    def save_and_stop(out, modules, optimizer, done):
        save_state(out, modules, optimizer, done)
        if done["epoch"] == epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("training.train.save_state", save_and_stop)
        train(options)


@pytest.fixture(scope="module")
def trained(chips, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "trained"
    return train(options(chips, out, epochs=25, learning_rate=3e-3))


def test_training_ends_in_a_checkpoint_that_tells_the_classes_apart(trained):
    judge = Judge(Models(load_model(str(trained))))
    fresh = [(draw_chip(5000 + i, i % 2 == 1), i % 2 == 1) for i in range(30)]
    probability = np.array([judge.inspect(decode_image(chip)).abnormal_probability for chip, _ in fresh])
    abnormal = np.array([truth for _, truth in fresh])
    assert probability[abnormal].mean() > probability[~abnormal].mean() + 0.3


def test_a_checkpoint_holds_all_that_the_contract_names(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "model.safetensors",
        "config.json",
        "metrics.json",
        "split.json",
        "README.md",
        "confusion.png",
        "roc.png",
        "precision_recall.png",
        "graph.onnx",
    }
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["starting_weights"] == "none (random)"
    assert {"accuracy", "recall", "precision", "f1", "auroc", "confusion"} <= metrics["test"].keys()
    split = json.loads((trained / "split.json").read_text())
    assert [len(split[name]) for name in ("train", "val", "test")] == [45, 13, 6]
    card = (trained / "README.md").read_text()
    assert card.startswith("---\nlicense: other\n") and "none (random)" in card


def test_the_same_seed_gives_the_same_weights(chips, tmp_path):
    first, second = (load_file(train(options(chips, tmp_path / n, epochs=1)) / WEIGHTS) for n in "ab")
    third = load_file(train(options(chips, tmp_path / "c", epochs=1, seed=1)) / WEIGHTS)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], third["head.weight"])


def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(chips, tmp_path):
    whole = load_file(train(options(chips, tmp_path / "whole", epochs=4)) / WEIGHTS)
    out = tmp_path / "killed"
    run = command(chips, out, epochs=4)
    process = subprocess.Popen(run, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch 2/4"):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert (out / STATE).exists() and not (out / WEIGHTS).exists()
    resumed = load_file(train(options(chips, out, epochs=4, resume=True)) / WEIGHTS)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not (out / STATE).exists()


def test_the_network_is_kept_where_its_loss_is_lower_by_more_than_one_standard_error():
    network, noise = np.full(25, 0.4), np.tile([-0.5, 0.5], 13)[:25]
    better = kept_of({"network": network, "linear head": network + 0.2 + noise})  # 0.18 +- 0.10
    assert better == "network"
    assert kept_of({"network": network, "linear head": network + 0.1 + noise}) == "linear head"
    assert kept_of({"network": network + 0.1, "linear head": network}) == "linear head"
    assert kept_of({"network": network}) == "network"


def test_a_linear_head_is_kept_where_it_beats_the_tuned_network(chips, tmp_path, capsys):
    out = train(options(chips, tmp_path / "out", epochs=1, learning_rate=1e-9, linear="auto"))
    training = json.loads((out / "metrics.json").read_text())["training"]
    assert training["kept"] == "linear head" and "kept the linear head" in capsys.readouterr().out
    assert training["validation_losses"]["linear head"] < training["validation_losses"]["network"]
    net, spec, _ = load_checkpoint(str(out))
    assert spec.attention == "none" and torch.equal(net.head.weight[0], -net.head.weight[1])
    alone = train(options(chips, tmp_path / "alone", epochs=0, linear="auto"))
    assert load_file(alone / WEIGHTS)["head.weight"].equal(load_file(out / WEIGHTS)["head.weight"])
    with pytest.raises(DataError, match="--epochs 1"):
        train(options(chips, tmp_path / "nothing", epochs=0))


def test_two_views_of_an_image_are_drawn_together(chips, tmp_path):
    """The squared difference of the log-odds of two views is smaller with a large weight on it."""

    def difference(consistency):
        out = tmp_path / str(consistency)
        train(options(chips, out, epochs=6, learning_rate=3e-3, consistency=consistency))
        net, spec, _ = load_checkpoint(str(out))
        pixels = np.stack([np.array(draw_chip(7000 + i, i % 2 == 1).resize((64, 64))) for i in range(40)])
        log_odds = [
            predict(net, np.ascontiguousarray(view), spec).log_odds for view in (pixels, pixels[:, ::-1])
        ]
        return np.mean((log_odds[0] - log_odds[1]) ** 2)

    assert difference(2.0) < 0.5 * difference(0.001)


def test_resuming_another_run_is_refused(chips, tmp_path, monkeypatch):
    train_until(1, options(chips, tmp_path, epochs=50), monkeypatch)
    with pytest.raises(DataError, match="epochs 50, not 2"):
        train(options(chips, tmp_path, epochs=2, resume=True))


def test_resuming_nothing_is_refused(chips, tmp_path):
    with pytest.raises(DataError, match="--resume"):
        train(options(chips, tmp_path, resume=True))


def test_an_error_ends_in_one_line_and_a_status(tmp_path, monkeypatch):
    flags = ("--data", tmp_path, "--init", "none", "--out", tmp_path / "out")
    said = run_script(monkeypatch, "training/train.py", *flags)
    assert said.startswith("error: ") and str(tmp_path) in said and "\n" not in said


def test_a_full_disk_at_the_end_keeps_the_epochs_and_resumes_to_the_same_weights(
    chips, tmp_path, monkeypatch
):
    whole = load_file(train(options(chips, tmp_path / "whole", epochs=2)) / WEIGHTS)
    out = tmp_path / "full"

    def full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("training.checkpoint.model_card", full_disk)  # what is written last
        with pytest.raises(DataError, match="No space left on device.*--resume"):
            train(options(chips, out, epochs=2))
    assert [path.name for path in out.iterdir()] == [STATE]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "whole"]
    resumed = load_file(train(options(chips, out, epochs=2, resume=True)) / WEIGHTS)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_no_room_for_the_state_ends_in_one_line_and_leaves_nothing(chips, tmp_path):
    import resource  # Windows has none

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing more is an OSError then
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limits[1]))
    try:
        with pytest.raises(DataError, match="full cannot be written") as ended:
            train(options(chips, tmp_path / "full", epochs=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(ended.value)
    assert not any((tmp_path / "full").iterdir())


@pytest.mark.parametrize("changes, found", [({"backbone": "resnet5"}, "resnet50"), ({"stages": 9}, "9")])
def test_a_network_that_cannot_be_built_is_an_error(chips, tmp_path, changes, found):
    with pytest.raises(DataError, match=found):
        train(options(chips, tmp_path / "out", **changes))


def test_no_help_shows_a_default_that_is_empty_or_no(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert (
        "(default: elpv)" in words
        and re.search(r"not depend on it \(default: 0\)", words)
        and not re.search(r"\(default: (False|''|)\)", words)
    )


def test_bad_data_leaves_no_folder(tmp_path):
    few = draw_chips(tmp_path / "few", normal=3, abnormal=3)
    with pytest.raises(DataError, match="train has 2 and 2, val has 0 and 1, test has 1 and 0"):
        train(options(few, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["few"]


def test_groups_stay_on_one_side_of_the_split_that_is_written(chips, tmp_path):
    out = train(options(chips, tmp_path / "out", epochs=1, group_pattern=r"/(\d)\d?\.png"))
    group_of = {read_image(path).sha256: path.stem[0] for path in chips.rglob("*.png")}
    split = json.loads((out / "split.json").read_text())
    groups = [{group_of[sha256] for sha256 in split[name]} for name in ("train", "val", "test")]
    assert all(groups) and len(set.union(*groups)) == sum(map(len, groups))


def test_a_dataset_that_comes_divided_is_trained_and_tested_so(tmp_path):
    chips = tmp_path / "chips"
    for split, start in (("train", 0), ("val", 100), ("test", 200)):
        for name in ("ok", "ng"):
            (chips / split / name).mkdir(parents=True)
            for index in range(start, start + 8):
                draw_chip(index + 1000 * (name == "ng"), name == "ng").save(
                    chips / split / name / f"{index}.png"
                )
    out = train(options(chips, tmp_path / "out", epochs=1))
    split = json.loads((out / "split.json").read_text())
    for name in ("train", "val", "test"):
        assert set(split[name]) == {read_image(path).sha256 for path in chips.glob(f"{name}/*/*")}
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["test"]["split"] == "chips, test split, 16 images"
    assert metrics["training"]["division"] == "val as the dataset has it, test as the dataset has it"
    assert metrics["training"]["division"] in (out / "README.md").read_text()


def test_no_flag_is_the_documented_command():
    flags = ["--data", "elpv", "--backbone", "tf_efficientnet_lite0", "--attention", "cbam"]
    assert parse([]) == parse(flags)


def test_the_rate_warms_up_and_falls_to_zero():
    assert rate(0.05) == pytest.approx(0.5)
    assert rate(0.1) == pytest.approx(1)
    assert rate(1) == pytest.approx(0)


def test_packaged_imagenet_weights_serve_where_the_hub_does_not(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    net = ChipNet("tf_efficientnet_lite0")
    before = net.backbone.conv_stem.weight.clone()
    assert load_starting_weights(net, "tf_efficientnet_lite0", "imagenet").startswith("ImageNet (")
    assert not torch.equal(net.backbone.conv_stem.weight, before)


def test_no_weights_in_reach_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="name a .safetensors file"):
        load_starting_weights(ChipNet(BACKBONE), BACKBONE, "imagenet")


def test_a_run_starts_from_another_checkpoint_or_from_backbone_weights(trained, tmp_path):
    net = ChipNet(BACKBONE, stages=2)
    assert load_starting_weights(net, BACKBONE, str(trained)) == "checkpoint trained"
    tensors = net.backbone.state_dict() | {"classifier.weight": torch.zeros(1000, 8)}
    save_file(tensors, tmp_path / "backbone.safetensors")
    other = ChipNet(BACKBONE)
    assert (
        load_starting_weights(other, BACKBONE, str(tmp_path / "backbone.safetensors"))
        == "backbone.safetensors"
    )
    torch.testing.assert_close(other.backbone.conv_stem.weight, net.backbone.conv_stem.weight)
    with pytest.raises(DataError, match="tensors"):
        load_starting_weights(ChipNet("resnet18"), "resnet18", str(tmp_path / "backbone.safetensors"))


def test_weights_of_the_published_resnet50_are_refused_by_timms(tmp_path):
    net = ChipNet("chip_resnet50", "none")
    file = tmp_path / "resnet50.safetensors"
    save_file(net.backbone.state_dict(), file, {"variant": "v1: stride in the first convolution"})
    assert load_starting_weights(net, "chip_resnet50", str(file)) == "resnet50.safetensors"
    with pytest.raises(DataError, match="--backbone chip_resnet50"):
        load_starting_weights(ChipNet("resnet50", "none"), "resnet50", str(file))


def log_odds_gap(folder):
    """Of new chips: the mean log-odds of abnormal ones less that of normal ones."""
    net, spec, _ = load_checkpoint(folder)
    pixels = np.stack([np.asarray(draw_chip(7000 + i, i % 2 == 1)) for i in range(40)])
    log_odds = predict(net, pixels, spec).log_odds
    return log_odds[1::2].mean() - log_odds[::2].mean()


def test_a_student_learns_from_a_teacher_alone_where_the_labels_have_no_share(chips, trained, tmp_path):
    """The training labels all say the same: what it knows of the classes, it has from the teacher."""
    learned = json.loads((trained / "split.json").read_text())["train"]
    table = tmp_path / "unsure.csv"
    rows = ["image,label,probability"]
    for path in sorted(chips.rglob("*.png")):
        unsure = read_image(path).sha256 in learned
        rows.append(f"{path},{path.relative_to(chips).parts[0]},{0.5 if unsure else ''}")
    table.write_text("\n".join(rows) + "\n")
    flags = {"epochs": 12, "learning_rate": 3e-3, "split": str(trained / "split.json")}
    teachers = {"teacher": f"{trained},{trained}", "teacher_share": 1.0}
    alone = train(options(table, tmp_path / "alone", **flags))
    taught = train(options(table, tmp_path / "taught", **flags, **teachers))
    gaps = [log_odds_gap(out) for out in (alone, taught)]
    assert gaps[1] > 1 and gaps[1] > 5 * abs(gaps[0])
    assert load_file(taught / WEIGHTS).keys() == load_file(trained / WEIGHTS).keys()


def test_a_distilled_run_resumes_to_the_same_weights(chips, trained, tmp_path, monkeypatch):
    flags = {"teacher": str(trained), "epochs": 3}
    whole = load_file(train(options(chips, tmp_path / "whole", **flags)) / WEIGHTS)
    out = tmp_path / "interrupted"
    train_until(2, options(chips, out, **flags), monkeypatch)
    resumed = load_file(train(options(chips, out, **flags, resume=True)) / WEIGHTS)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_predictions_of_a_teacher_are_kept_for_the_next_run(chips, tmp_path, monkeypatch):
    teacher, data = tiny_checkpoint(tmp_path / "teacher"), read_folder(chips)
    sha256 = [read_image(sample.path).sha256 for sample in data.samples]

    def predictions(images):
        cache, device = tmp_path / "cache", torch.device("cpu")
        return teacher_predictions([str(teacher)], data, images, device, cache, lambda it, **_: it)

    first = predictions(sha256)
    monkeypatch.setattr("training.distillation.predict_turned", None)  # it would fail if it were called
    for one, other in zip(first, predictions(sha256)):
        assert torch.equal(one, other)
    with pytest.raises(TypeError):
        predictions(sha256[1:])  # other images
