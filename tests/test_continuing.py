"""A taught model goes on learning: recalibration, known defects, and a head on what the memory bank finds."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from chipdemo.__main__ import main
from chipdemo.errors import DataError
from chipdemo.files import DEFAULT_LIMITS, Found
from chipdemo.images import decode_image
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.teaching import silent
from chipdemo.vision.anomaly.anomaly_model import load_anomaly_model
from chipdemo.vision.anomaly.continuing import HEAD_IMAGES, ContinuingTeacher, head_of
from chipdemo.vision.anomaly.features import extract_features, starting_backbone
from chipdemo.vision.anomaly.fitting import fit
from chipdemo.vision.anomaly.saving import save_taught
from chipdemo.vision.checkpoint import CARD, SPLIT, read_json, read_metrics
from chipdemo.vision.predictor import load_model
from tests.drawn import chip, chips
from tests.tiny import tiny_checkpoint

OF_TODAY = 12


def files(folder):
    return [Found(path.name, path) for path in sorted(folder.iterdir())]


def relit(image: Image.Image) -> Image.Image:
    """In the light of another day."""
    return ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(1.25)).enhance(0.8)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    parent = tmp_path_factory.mktemp("taught")
    backbone = starting_backbone()
    small = replace(backbone, spec=replace(backbone.spec, image_size=96))
    features = extract_features(files(chips(parent, 14)), small)
    save_taught(parent / "board-7", small, fit(features), "board-7")
    return parent / "board-7"


@pytest.fixture(scope="module")
def today(tmp_path_factory):
    folder = tmp_path_factory.mktemp("today")
    for seed in range(300, 300 + OF_TODAY):
        relit(chip(seed)).save(folder / f"today-{seed}.png")
    return folder


def judged(folder, images):
    judge = Judge(Models(load_model(str(folder))))
    return [judge.inspect(decode_image(image)) for image in images]


def test_after_recalibration_good_images_of_another_day_are_normal(taught, today, tmp_path):
    further = [relit(chip(seed)) for seed in range(400, 412)]
    defective = [relit(chip(seed, "missing lead")) for seed in range(400, 406)]
    before = judged(taught, further)
    out = tmp_path / "recalibrated"
    assert (
        main(["teach", "--recalibrate", str(taught), str(today), "--out", str(out), "--outliers", "keep"])
        == 0
    )
    after = judged(out, further)
    flagged = [sum(one.verdict == "abnormal" for one in each) for each in (before, after)]
    assert flagged[1] <= 2 < flagged[0]
    found = judged(out, defective)
    assert np.mean([one.log_odds for one in found]) > np.mean([one.log_odds for one in after]) + 1
    earlier, model = load_anomaly_model(taught), load_anomaly_model(out)
    assert model.images[:14] == earlier.images and len(model.images) == 14 + OF_TODAY
    assert len(model.memory_bank.features) <= 1.25 * len(earlier.memory_bank.features) + 1
    metrics = read_metrics(out)
    assert metrics["teaching"]["images"] == 14 + OF_TODAY
    assert len(metrics["validation"]["abnormal"]) == OF_TODAY
    assert f"from {OF_TODAY} further good images" in (out / CARD).read_text()
    assert len(read_json(out / SPLIT)["train"]) == 14 + OF_TODAY


def test_a_model_is_recalibrated_in_place_and_images_are_learned_once(taught, today, tmp_path, capsys):
    folder = shutil.copytree(taught, tmp_path / "model")
    command = ["teach", "--recalibrate", str(folder), str(today), "--outliers", "keep"]
    assert main(command) == 0 and len(load_anomaly_model(folder).images) == 14 + OF_TODAY
    assert main(command) != 0
    assert "the model has already learned from it" in capsys.readouterr().err


def test_known_defects_raise_the_threshold_of_a_model_that_goes_on_learning(taught, today, tmp_path):
    (defects := tmp_path / "defects").mkdir()
    for seed in range(3):
        relit(chip(seed + 500, "missing lead")).save(defects / f"{seed}.png")
    teacher = ContinuingTeacher(str(taught))
    draft = teacher.draft(files(today), files(defects), DEFAULT_LIMITS, silent)
    alone = teacher.draft(files(today), [], DEFAULT_LIMITS, silent)
    limits = [
        teacher.save(tmp_path / name, one, ()).limits for name, one in (("with", draft), ("without", alone))
    ]
    assert limits[0].score >= limits[1].score
    assert sum(read_metrics(tmp_path / "with")["validation"]["abnormal"]) == 3
    assert set(draft.defects.sha256) <= set(read_json(tmp_path / "with" / SPLIT)["val"])


def test_a_head_is_fitted_where_it_tells_what_the_hottest_patches_do_not():
    generator = np.random.default_rng(0)
    goods = generator.exponential(1, (30, 16, 16)).astype(np.float32)
    wide = goods.copy() * 1.02 + 0.15  # a little abnormal everywhere, and no patch of it hot
    head = head_of(goods, wide)
    assert head is not None
    assert head_of(goods[: HEAD_IMAGES - 1], wide) is None
    hot = goods.copy()
    hot[:, 3:8, 3:8] += 20  # as the hottest patches tell
    assert head_of(goods, hot) is None


def test_what_cannot_go_on_learning_is_refused(taught, today, tmp_path):
    with pytest.raises(DataError, match="is a classifier"):
        ContinuingTeacher(str(tiny_checkpoint(tmp_path / "classifier")))
    with pytest.raises(DataError, match="9 further good images are too few: 10 that differ"):
        ContinuingTeacher(str(taught)).draft(files(today)[:9], [], DEFAULT_LIMITS, silent)
