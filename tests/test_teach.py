"""Teaching a new chip from good images alone."""

import json
import shutil
import zipfile
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import timm
import torch
from PIL import Image, ImageEnhance
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from chipdemo.__main__ import main
from chipdemo.errors import CheckpointError, DataError
from chipdemo.files import DEFAULT_LIMITS, Found, Limits
from chipdemo.images import decode_image
from chipdemo.inspection import INVERSE, INVERSE_CAM
from chipdemo.judge import Judge
from chipdemo.models import HotReload, ModelInUse, Models
from chipdemo.rates import Rate
from chipdemo.teaching import silent
from chipdemo.vision.anomaly.anomaly_model import load_anomaly_model
from chipdemo.vision.anomaly.features import backbone_of, extract_features, starting_backbone
from chipdemo.vision.anomaly.fitting import (
    fit,
    held_out_anomaly,
    limits_of,
    normal_anomaly,
    outliers_of,
    parts_of,
    scores_of,
    upper_limit,
)
from chipdemo.vision.anomaly.matching import score_of
from chipdemo.vision.anomaly.saving import save_taught
from chipdemo.vision.anomaly.teacher import NetworkTeacher
from chipdemo.vision.checkpoint import (
    CARD,
    CONFIG,
    FILES,
    GRAPH,
    MEMORY,
    METRICS,
    SPLIT,
    WEIGHTS,
    latest_revision,
)
from chipdemo.vision.predictor import load_model
from tests.drawn import chip, chips
from tests.fakes import FakeModel
from tests.pipes import piped
from tests.tiny import tiny_checkpoint
from training.predict import predict

GOODS = 14
DEFECTS = ("scratch", "missing lead", "turned")


def found(folder):
    return [Found(path.name, path) for path in sorted(folder.iterdir())]


def judged(model, image):
    return Judge(Models(model)).inspect(decode_image(image))


def read(folder, name):
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def backbone():
    """What a user has, at 96 px."""
    made = starting_backbone()
    return replace(made, spec=replace(made.spec, image_size=96))


@pytest.fixture(scope="module")
def goods(tmp_path_factory):
    return chips(tmp_path_factory.mktemp("chips"), GOODS)


@pytest.fixture(scope="module")
def features(backbone, goods):
    return extract_features(found(goods), backbone)


@pytest.fixture(scope="module")
def fitted(features):
    return fit(features)


@pytest.fixture(scope="module")
def taught(backbone, fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "board-7"
    save_taught(folder, backbone, fitted, "board-7")
    return folder


@pytest.fixture(scope="module")
def model(taught):
    return load_model(str(taught))


@pytest.fixture(scope="module")
def missing_lead(model):
    return judged(model, chip(200, "missing lead"))


def test_good_chips_are_normal_and_defective_ones_abnormal(model):
    good = [judged(model, chip(seed)) for seed in range(100, 106)]
    defective = [judged(model, chip(seed, defect)) for seed in (200, 201) for defect in DEFECTS]
    assert [inspection.verdict for inspection in good].count("normal") >= 5
    assert {inspection.verdict for inspection in defective} == {"abnormal"}
    assert max(i.abnormal_probability for i in good) < min(i.abnormal_probability for i in defective)
    assert sum(len(inspection.regions) for inspection in good) <= 1


def test_an_inspection_by_a_memory_bank_is_complete(model):
    inspection = judged(model, chip(200, "missing lead").resize((192, 144)))
    assert model.methods == (INVERSE,) and set(inspection.heatmaps) == {INVERSE}
    assert inspection.threshold == 0.5 and 0.5 <= inspection.abnormal_probability <= 1
    assert inspection.image_size == (192, 144) and inspection.model_name == "board-7"
    assert inspection.heatmaps[INVERSE].max() >= 0.5
    assert model.info.image_side == 96


def test_the_region_is_where_the_defect_is(missing_lead):
    image = chip(200, "missing lead")
    difference = np.abs(np.asarray(image, int) - np.asarray(chip(200), int)).max(2) > 40
    rows, columns = np.nonzero(difference)
    region = missing_lead.regions[0]
    assert region.x <= columns.mean() <= region.x + region.width
    assert region.y < rows.max() and region.y + region.height > rows.min() + 5
    assert region.width < 60 and region.height < 70


def test_a_region_comes_with_patches_of_normal_images(model, missing_lead, features):
    image, region = chip(200, "missing lead"), missing_lead.regions[0]
    patches = model.nearest_normal_patches(image, [region])[0]
    assert 1 <= len(patches) <= 3 and {patch.sha256 for patch in patches} <= set(features.sha256)
    assert patches[0].image.size == (region.width, region.height)
    box = (region.x, region.y, region.x + region.width, region.y + region.height)
    expected, actual = np.asarray(patches[0].image, float), np.asarray(image.crop(box), float)
    assert expected.mean() > actual.mean() + 2  # the bright lead is there


def test_images_of_something_else_are_out_of_distribution(model):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8))
    for other in (noise, Image.new("RGB", (96, 96))):
        assert judged(model, other).out_of_distribution
    assert not judged(model, chip(100)).out_of_distribution
    assert not judged(model, chip(200, "scratch")).out_of_distribution


def test_an_exported_network_finds_what_pytorch_finds(taught, model):
    exported, image = load_model(str(taught), runtime="openvino"), chip(200, "scratch")
    ours, theirs = judged(exported, image), judged(model, image)
    boxes = [[replace(one, score=0) for one in each.regions] for each in (ours, theirs)]
    assert boxes[0] == boxes[1] != []
    np.testing.assert_allclose(ours.heatmaps[INVERSE], theirs.heatmaps[INVERSE], atol=1e-3)
    patches = [one.nearest_normal_patches(image, ours.regions[:1])[0][0] for one in (exported, model)]
    assert patches[0].sha256 == patches[1].sha256


def test_hot_reload_takes_a_taught_model(taught, model):
    in_use = ModelInUse(FakeModel())
    reload = HotReload(in_use, str(taught), 1, lambda *_: model, latest_revision)
    reload.look()
    reload.look()
    assert in_use.model is model


def test_training_figures_of_a_taught_model_are_refused(model):
    with pytest.raises(DataError):
        predict(model.engine.net, np.zeros((1, 96, 96, 3), np.uint8), model.spec)


def test_the_checkpoint_is_complete(taught, features):
    assert {path.name for path in taught.iterdir()} == set(FILES)
    assert (taught / MEMORY).stat().st_size < 20_000_000
    metrics = read(taught, METRICS)
    assert metrics["starting_weights"].startswith("ImageNet (package")
    assert metrics["validation"]["split"] == "board-7, 14 good images, each held out"
    about = metrics["teaching"]
    assert (about["images"], about["false_positive_rate_wanted"]) == (14, 0.02)
    assert 1_900 < about["patches"] <= 14 * 144
    assert read(taught, SPLIT) == {"train": list(features.sha256), "val": [], "test": []}
    card = (taught / CARD).read_text()
    assert "14 good images" in card and "tf_efficientnet_lite0" in card


def test_a_saved_memory_bank_comes_back_as_it_was(model, fitted):
    saved = model.anomaly_model
    np.testing.assert_array_equal(saved.memory_bank.features, fitted.bank.memory_bank.features)
    assert saved.images == fitted.features.sha256 and saved.thumbnails == fitted.features.thumbnails
    limits, scores = saved.limits, scores_of(fitted.bank, fitted.features)
    for seed in range(3):
        score = limits.score + limits.spread * judged(model, chip(seed)).log_odds
        assert score == pytest.approx(scores[seed], abs=2e-3)


def test_a_held_out_image_is_not_matched_with_itself(fitted):
    assert (fitted.scores > scores_of(fitted.bank, fitted.features)).all()


def test_near_duplicates_are_in_one_part_and_parts_are_about_as_large():
    groups = np.repeat(np.arange(20), 3)
    parts = parts_of(groups)
    assert all(len(set(parts[groups == group])) == 1 for group in range(20))
    assert np.bincount(parts).tolist() == [12] * 5


def test_the_memory_bank_keeps_to_its_size(features):
    assert len(fit(features, patches=500).bank.memory_bank.features) == 500


def test_fitting_again_gives_the_same(features, fitted):
    np.testing.assert_array_equal(fit(features).scores, fitted.scores)


def test_without_images_none_are_kept(backbone, fitted, missing_lead, tmp_path):
    save_taught(tmp_path / "bare", backbone, fitted, "bare", keep_images=False)
    bare = load_model(str(tmp_path / "bare"))
    patches = bare.nearest_normal_patches(chip(200, "missing lead"), missing_lead.regions[:1])[0]
    assert patches and patches[0].image is None and not bare.copies


def test_the_limit_keeps_the_false_positive_rate():
    values = np.arange(1000) / 1000
    assert (values > upper_limit(values, 0.02)).mean() == pytest.approx(0.02, abs=0.001)


def test_few_images_make_the_limit_wider():
    """Ten draws of a normal distribution: by their highest alone, one further in eleven would be flagged."""
    generator = np.random.default_rng(0)
    draws = generator.normal(size=(500, 10))
    flagged = [generator.normal() > upper_limit(row, 0.02) for row in draws]
    assert np.mean(flagged) < 0.035


def test_known_defects_raise_the_limit_and_never_lower_it(fitted):
    alone = limits_of(fitted.independent, fitted.highest, 0.02)
    far = limits_of(fitted.independent, fitted.highest, 0.02, np.full(4, alone.score + 10))
    near = limits_of(fitted.independent, fitted.highest, 0.02, np.full(4, float(np.median(fitted.scores))))
    assert alone.score < far.score < alone.score + 10
    assert near.score == alone.score


def test_known_defects_are_counted_and_kept_out_of_training(backbone, fitted, tmp_path):
    defects = extract_features(found(chips(tmp_path / "bad", 3, "scratch", first=300)), backbone)
    save_taught(tmp_path / "model", backbone, fitted, "board", defects=defects)
    assert read(tmp_path / "model", METRICS)["validation"]["recall"] == 1.0
    info = load_model(str(tmp_path / "model")).info
    point = info.validation.at(0.5)
    assert (point.false_positive_rate.total, point.recall) == (14, Rate(3, 3))
    assert read(tmp_path / "model", SPLIT)["val"] == list(defects.sha256)


def test_some_rows_of_features_keep_the_order_asked_for(features):
    some = features.of([3, 1])
    assert some.names == (features.names[3], features.names[1])
    for layer, whole in zip(some.intermediates, features.intermediates, strict=True):
        assert torch.equal(layer, whole[[3, 1]])
    np.testing.assert_array_equal(some.black, features.black[[3, 1]])


def test_an_outlier_does_not_hide_behind_a_worse_one():
    """By the quartiles of all of them, far out begins at 0.295; without the others at 0.273."""
    usual = np.linspace(0.11, 0.18, 30)
    assert outliers_of(np.array([*usual, 0.28, 0.46, 0.37, 0.4, 0.42])) == (31, 34, 33, 32, 30)
    assert outliers_of(usual) == ()


def test_files_that_cannot_be_used_are_left_out_and_named(backbone, tmp_path):
    folder = chips(tmp_path / "goods", 3)
    shutil.copy(folder / "000.png", folder / "copy.png")
    Image.new("RGB", (96, 96)).save(folder / "black.png")
    (folder / "notes.txt").write_text("no image")
    chip(60, size=200).save(folder / "large.png")
    found_ = extract_features(found(folder), backbone, limits=Limits(megapixels=0.03))
    assert found_.names == ("000.png", "001.png", "002.png")
    assert [line.partition(":")[0] for line in found_.unusable] == [
        "black.png", "copy.png", "large.png", "notes.txt"
    ]  # fmt: skip
    assert "000.png" in found_.unusable[1]


def test_images_of_different_shapes_and_sizes_give_a_warning(backbone, tmp_path):
    chip(1).save(tmp_path / "1.png")
    chip(2).resize((384, 192)).save(tmp_path / "2.png")
    assert len(extract_features(found(tmp_path), backbone).warnings) == 2


def test_near_duplicates_are_held_out_together(backbone, tmp_path):
    folder = chips(tmp_path / "goods", 12)
    alone = fit(extract_features(found(folder), backbone))
    for path in sorted(folder.iterdir()):
        ImageEnhance.Brightness(Image.open(path)).enhance(0.9).save(path.with_name(f"{path.stem}b.png"))
    features = extract_features(found(folder), backbone)
    assert features.like(0) == features.like(1) == (0, 1)
    assert "Of the 24 images, 12 differ" in features.warnings[0]
    one_by_one = fit(replace(features, groups=tuple(range(24))))
    together = fit(features)
    usual = [one.bank.normal.mean.mean() for one in (alone, one_by_one, together)]  # of those held out
    assert usual[1] < 0.7 * usual[0] and usual[2] > 0.9 * usual[0]
    assert together.independent.tolist() == together.scores.reshape(12, 2).max(1).tolist()
    save_taught(tmp_path / "model", backbone, together, "chip")
    metrics = read(tmp_path / "model", METRICS)
    assert metrics["teaching"]["images"] == 24 and len(metrics["validation"]["probabilities"]) == 12


def test_fewer_than_ten_that_differ_are_refused(features):
    with pytest.raises(DataError, match=r"^9 good images are too few: 10 that differ are needed\.$"):
        fit(features.of(range(9)))
    with pytest.raises(DataError, match="^5 .* Near-duplicates count as one"):
        fit(replace(features.of(range(10)), groups=(0, 0, 1, 1, 2, 2, 3, 3, 4, 4)))


def test_a_folder_without_usable_images_is_refused_with_the_reason(backbone, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="notes.txt"):
        extract_features(found(tmp_path), backbone)


def test_weights_of_another_backbone_are_refused():
    with pytest.raises(DataError, match="tf_efficientnet_lite0"):
        backbone_of("tf_efficientnet_lite0", {"conv_stem.weight": torch.zeros(1)}, "nowhere")


def test_a_grid_that_does_not_divide_the_image_works(backbone, goods, tmp_path):
    odd = replace(backbone, spec=replace(backbone.spec, image_size=100))
    save_taught(tmp_path / "odd", odd, fit(extract_features(found(goods)[:10], odd)), "odd")
    inspection = judged(load_model(str(tmp_path / "odd")), chip(200, "missing lead"))
    assert inspection.heatmaps[INVERSE].shape == (13, 13)


def test_without_the_package_the_backbone_of_a_shipped_checkpoint_is_used(monkeypatch):
    monkeypatch.setattr("chipdemo.vision.anomaly.features.packaged_lite0", lambda: None)
    backbone = starting_backbone()
    assert "lite0-cbam" in backbone.starting_weights
    assert backbone.spec.attention == "none" and backbone.spec.verdict_by == "memory"


@pytest.fixture
def copy(taught, tmp_path):
    return shutil.copytree(taught, tmp_path / "copy")


def metadata_of(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_a_file_of_an_earlier_version_is_refused_with_a_next_step(copy):
    """Its limits were of another measure of similarity."""
    path = copy / MEMORY
    tensors, metadata = load_file(path), metadata_of(path)
    del tensors["normal_mean"]
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match="of another version .* Teach the model again"):
        load_anomaly_model(copy)


def test_a_memory_bank_of_another_backbone_is_refused(copy):
    tensors = load_file(copy / WEIGHTS)
    tensors["backbone.conv_stem.weight"] *= 2
    save_file(tensors, copy / WEIGHTS)
    with pytest.raises(CheckpointError, match=WEIGHTS):
        load_model(str(copy))


def test_a_taught_model_without_its_memory_bank_is_refused(copy):
    (copy / MEMORY).unlink()
    with pytest.raises(CheckpointError, match=MEMORY):
        load_model(str(copy))


@pytest.mark.parametrize("change", ["cut", "tensor", "position", "metadata"])
def test_a_damaged_memory_bank_is_refused(copy, change):
    path = copy / MEMORY
    if change == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        metadata = {"anomaly_model": "{}"} if change == "metadata" else metadata_of(path)
        tensors = load_file(path)
        if change == "tensor":
            tensors["spare"] = torch.zeros(1)
        if change == "position":
            tensors["position"][0] = 10_000
        save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match=MEMORY):
        load_anomaly_model(copy)


def test_a_memory_bank_is_read_and_not_mapped(copy, model):
    with piped(copy / MEMORY):
        again = load_anomaly_model(copy)
    np.testing.assert_array_equal(again.memory_bank.features, model.anomaly_model.memory_bank.features)


def test_an_unknown_way_to_judge_is_refused(copy):
    (copy / CONFIG).write_text(json.dumps(read(copy, CONFIG) | {"verdict_by": "oracle"}))
    with pytest.raises(CheckpointError, match="oracle"):
        load_model(str(copy))


def test_teaching_again_is_a_new_revision(backbone, fitted, copy):
    before = latest_revision(str(copy)), load_model(str(copy)).info.revision
    save_taught(copy, backbone, fitted.without([0]), "board-7")
    after = latest_revision(str(copy)), load_model(str(copy)).info.revision
    assert before[0] != after[0] and before[1] != after[1]


@pytest.fixture(scope="module")
def teacher(backbone):
    made = NetworkTeacher()
    made.backbone = backbone
    return made


def test_a_teacher_shows_outliers_and_packs_a_checkpoint(teacher, tmp_path):
    folder = chips(tmp_path / "goods", 11)
    chip(50, "turned").resize((192, 96)).save(folder / "odd.png")
    bad, shares = found(chips(tmp_path / "bad", 2, "scratch", first=300)), []
    draft = teacher.draft(found(folder), bad, Limits(), lambda done, step: shares.append(done))
    assert shares == sorted(shares) and shares[0] == 0 and 0.9 < shares[-1] <= 1
    assert len(draft.warnings) == 1 and draft.images == 12
    odd = draft.outliers[0]
    assert odd.name == "odd.png" and odd.times_median > 1.5
    image, overlay = (Image.open(BytesIO(data)) for data in (odd.image, odd.overlay))
    red, green, _ = np.asarray(overlay, int).reshape(-1, 3).T
    assert image.size == (240, 240) and (red - green > 60).mean() > 0.02
    result = teacher.finish(draft, [odd.row], 0.02, "board-7", silent)
    assert (result.images, result.dropped, result.warnings) == (11, ("odd.png",), ())
    assert result.point.recall == Rate(2, 2) and result.memory_bytes < 20_000_000
    zipfile.ZipFile(BytesIO(result.archive)).extractall(tmp_path / "unpacked")
    again = load_model(str(tmp_path / "unpacked" / "board-7"))
    assert again.info == result.model.info and again.info.name == "board-7"
    assert judged(result.model, chip(301, "turned")).verdict == "abnormal"


def test_one_image_cannot_be_good_and_defective(teacher, goods):
    with pytest.raises(DataError, match="003.png"):
        teacher.draft(found(goods), found(goods)[3:4], DEFAULT_LIMITS, silent)


def test_unusable_defects_are_refused_with_their_name(teacher, goods, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="notes.txt"):
        teacher.draft(found(goods), found(tmp_path), DEFAULT_LIMITS, silent)


def test_a_classifier_with_a_memory_bank_explains_by_it_and_judges_as_before(goods, tmp_path):
    folder, out = tiny_checkpoint(tmp_path / "classifier"), tmp_path / "with memory"
    (folder / CARD).write_text("# A classifier\n")
    (folder / "roc.png").write_bytes(b"a picture of the card")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    command = ["teach", str(goods), "--memory-for", str(folder), "--out", str(out), "--outliers", "keep"]
    for _ in ("anew", "again"):
        assert main(command) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert {path.name for path in out.iterdir()} == {*files, MEMORY, GRAPH}
    card = (out / CARD).read_text()
    assert card.startswith("# A classifier\n") and card.count("14 good images") == 1
    assert len(read(out, SPLIT)["train"]) == 14
    before, after = load_model(str(folder)), load_model(str(out))
    assert set(after.methods) - set(before.methods) == {INVERSE, INVERSE_CAM}
    assert after.methods[0] == "CAM" and after.info.revision != before.info.revision
    image = chip(200, "missing lead")
    with_bank, without = judged(after, image), judged(before, image)
    assert with_bank.log_odds == pytest.approx(without.log_odds, abs=1e-5)
    assert with_bank.regions == without.regions
    assert list(with_bank.heatmaps) == ["CAM", "CBAM"]  # the memory bank is searched where that is asked for
    explained = {
        method: Judge(Models(after)).explain(decode_image(image), method, after).heatmap
        for method in (INVERSE, INVERSE_CAM)
    }
    asked = Judge(Models(after)).inspect(decode_image(image), methods=[INVERSE_CAM])
    np.testing.assert_array_equal(explained[INVERSE], asked.heatmaps[INVERSE])
    assert explained[INVERSE].any() and explained[INVERSE_CAM].shape == (8, 8)


def test_a_memory_bank_for_a_taught_model_is_refused(taught, goods, tmp_path, capsys):
    command = ["teach", str(goods), "--out", str(tmp_path / "out"), "--memory-for", str(taught)]
    assert main(command) == 2 and str(taught) in capsys.readouterr().err
    assert main([*command, "--abnormal", str(goods)]) == 2 and "--abnormal" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small(monkeypatch):
    """The command line has no flag for it; at 256 px it would take long."""
    monkeypatch.setattr("chipdemo.vision.anomaly.features.GRID", 12)


def test_the_command_makes_a_model(small, tmp_path, capsys):
    folder = chips(tmp_path / "goods", 10)
    bad = chips(tmp_path / "bad", 2, "scratch", first=300)
    out = tmp_path / "model"
    command = ["teach", str(folder), "--out", str(out), "--abnormal", str(bad), "--outliers", "keep"]
    assert main([*command, "--false-positive-rate", "0.1"]) == 0
    assert f"python app.py --model {out}" in capsys.readouterr().out
    metrics = read(out, METRICS)
    assert metrics["teaching"]["images"] == 10 and metrics["validation"]["recall"] == 1.0
    assert metrics["teaching"]["false_positive_rate_wanted"] == 0.1
    assert judged(load_model(str(out)), chip(301, "turned")).verdict == "abnormal"


def test_the_command_lists_outliers_and_writes_nothing_unasked(small, tmp_path, capsys):
    folder, out = chips(tmp_path / "goods", 12), tmp_path / "model"
    chip(50, "turned").save(folder / "odd.png")
    assert main(["teach", str(folder), "--out", str(out)]) == 2
    shown = capsys.readouterr()
    assert "odd.png" in shown.out and "--outliers drop" in shown.err and not out.exists()
    assert main(["teach", str(folder), "--out", str(out), "--outliers", "drop"]) == 0
    assert 11 <= read(out, METRICS)["teaching"]["images"] <= 12
    assert decode_image(Image.open(folder / "odd.png")).sha256 not in read(out, SPLIT)["train"]


@pytest.mark.parametrize("rate", ["0", "0.6", "nan", "-1", "many"])
def test_a_false_positive_rate_out_of_range_is_refused(tmp_path, capsys, rate):
    with pytest.raises(SystemExit) as exit:
        main(["teach", str(tmp_path), "--out", str(tmp_path / "out"), "--false-positive-rate", rate])
    assert exit.value.code == 2 and rate in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, found",
    [
        (["nowhere", "--out", "m"], "nowhere"),
        (["empty", "--out", "m"], "empty"),
        (["few", "--out", "m"], "3 "),
        (["ten", "--out", "taken", "--outliers", "keep"], "letter.txt"),
        (["both", "--out", "m"], "folder defect"),
    ],
)
def test_mistakes_end_in_one_line_and_nothing_is_written(
    small, tmp_path, monkeypatch, capsys, arguments, found
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    if "few" in arguments:
        chips(tmp_path / "few", 3)
    if "both" in arguments:
        chips(tmp_path / "both" / "defect", 1)
    if "ten" in arguments:
        chips(tmp_path / "ten", 10)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("keep me")
    assert main(["teach", *arguments]) == 2
    error = capsys.readouterr().err
    assert found in error and error.count("\n") == 1
    assert not (tmp_path / "m").exists() and (tmp_path / "taken" / "letter.txt").read_text() == "keep me"


def test_clearly_different_kinds_of_images_are_named_and_taught_apart(goods, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("chipdemo.vision.anomaly.features.GRID", 12)
    folder, out = shutil.copytree(goods, tmp_path / "mixed"), tmp_path / "out"
    for seed in range(4):
        chip(900 + seed).resize((60, 96)).save(folder / f"tall-{seed}.png")
    command = ["teach", str(folder), "--out", str(out), "--outliers", "keep"]
    assert main(command) != 0 and not out.exists()
    said = "".join(capsys.readouterr())
    assert f"square: {GOODS} images of about 96 × 96 px" in said and "--kinds apart" in said
    assert "portrait: 4 images of about 60 × 96 px; 6 more are needed to teach it" in said
    assert main([*command, "--kinds", "apart"]) == 0
    assert "No model of portrait" in capsys.readouterr().out
    assert [path.name for path in out.iterdir()] == ["square"]
    assert read(out / "square", METRICS)["teaching"]["images"] == GOODS
    assert main([*command[:3], str(tmp_path / "all"), *command[4:], "--kinds", "together"]) == 0
    assert read(tmp_path / "all", METRICS)["teaching"]["images"] == GOODS + 4


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_any_backbone_whose_features_form_a_grid_can_be_taught(name, goods, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("chipdemo.vision.anomaly.features.GRID", 6)
    torch.manual_seed(0)
    save_file(
        timm.create_model(name, num_classes=0).state_dict(), weights := tmp_path / "weights.safetensors"
    )
    out = tmp_path / "out"
    command = ["teach", str(goods), "--out", str(out), "--outliers", "keep", "--backbone", name]
    assert main([*command, "--weights", str(weights)]) == 0
    image = chip(200, "missing lead")
    taught, exported = load_model(str(out)), load_model(str(out), runtime="openvino")
    assert taught.info.backbone == name and taught.info.starting_weights == "weights.safetensors"
    heat = [judged(model, image).heatmaps[INVERSE] for model in (taught, exported)]
    np.testing.assert_allclose(*heat, atol=0.02)


def test_a_backbone_without_a_grid_of_features_or_weights_is_refused(goods, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    command = ["teach", str(goods), "--out", str(tmp_path / "out"), "--backbone"]
    save_file({"a": torch.zeros(1)}, weights := tmp_path / "weights.safetensors")
    for name, message in (
        ("efficientvit_m0", "efficientvit_m0 has no layers"),
        ("resnet17", "Did you mean"),
        ("resnet18", "tensors of resnet18 are missing"),
    ):
        assert main([*command, name, "--weights", str(weights)]) != 0
        assert message in capsys.readouterr().err
    assert main([*command, "resnet18"]) != 0
    assert "could not be downloaded" in capsys.readouterr().err


def test_an_image_is_held_out_of_what_is_normal_too():
    """By what is normal in all images it would score lower than a new one, and more new ones be flagged."""
    anomaly = np.random.default_rng(0).normal(0.5, 0.1, (12, 8, 8)).astype(np.float32)
    anomaly[0, 2:4, 2:4] += 0.2
    inside, parts = np.ones(anomaly.shape, bool), np.arange(12) % 3
    others = parts != 0
    expected = normal_anomaly(anomaly[others], inside[others]).standardized(anomaly[0])
    found = held_out_anomaly(anomaly, inside, parts)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    assert score_of(found[0]) > score_of(normal_anomaly(anomaly, inside).standardized(anomaly)[0])
