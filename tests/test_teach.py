"""Teaching a new chip from good images alone."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from chipdemo.vision.watching import try_out
from PIL import Image
from safetensors.torch import load_file, save_file

from chipdemo.__main__ import main
from chipdemo.errors import CheckpointError, DataError
from chipdemo.ui.inspect.html import normals_html, verdict_html
from chipdemo.ui.inspect.logic import compared_with_normals, inspect_image, palette_of
from chipdemo.vision.anomaly import fitting as teaching
from chipdemo.vision.anomaly.features import backbone_of, starting_backbone, study_images
from chipdemo.vision.anomaly.stored import load_normals
from chipdemo.vision.checkpoint import CONFIG, FILES, MEMORY, METRICS, SPLIT, WEIGHTS, latest_revision
from chipdemo.vision.predictor import load_model
from tests.drawn import chip, chips
from tests.pipes import piped
from tests.tiny import tiny_checkpoint
from training.predict import predict

GOODS = 14
DEFECTS = ("scratch", "missing lead", "turned")


@pytest.fixture(scope="module")
def backbone():
    """What a user has, at 96 px."""
    made = starting_backbone()
    return replace(made, spec=replace(made.spec, image_size=96))


@pytest.fixture(scope="module")
def study(backbone, tmp_path_factory):
    folder = chips(tmp_path_factory.mktemp("chips"), GOODS)
    return study_images(sorted(folder.iterdir()), backbone)


@pytest.fixture(scope="module")
def lesson(study):
    return teaching.learn(study)


@pytest.fixture(scope="module")
def taught(backbone, lesson, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "board-7"
    teaching.save_taught(folder, backbone, lesson, "board-7")
    return folder


@pytest.fixture(scope="module")
def inspector(taught):
    return load_model(str(taught))


def test_a_taught_chip_is_told_from_its_defects(inspector):
    goods = [inspector.inspect(chip(seed)) for seed in range(100, 106)]
    defects = [inspector.inspect(chip(seed, defect)) for seed in (200, 201) for defect in DEFECTS]
    assert [inspection.verdict for inspection in goods].count("normal") >= 5
    assert {inspection.verdict for inspection in defects} == {"abnormal"}
    assert max(i.abnormal_probability for i in goods) < min(i.abnormal_probability for i in defects)


def test_an_inspection_by_memory_is_complete(inspector):
    inspection = inspector.inspect(chip(200, "missing lead").resize((192, 144)))
    assert inspector.methods == ("inverse matching",) and set(inspection.heat) == {"inverse matching"}
    assert inspection.threshold == 0.5 and 0.5 <= inspection.abnormal_probability <= 1
    assert inspection.image_size == (192, 144) and inspection.model_name == "board-7"
    assert inspection.heat["inverse matching"].max() >= 0.5
    assert json.dumps(inspection.to_json())
    np.testing.assert_array_equal(
        inspector.explain(chip(3), "inverse matching"), inspector.inspect(chip(3)).heat["inverse matching"]
    )


def test_the_region_is_where_the_defect_is(inspector):
    image = chip(200, "missing lead")
    difference = np.abs(np.asarray(image, int) - np.asarray(chip(200), int)).max(2) > 40
    rows, columns = np.nonzero(difference)
    region = inspector.inspect(image).regions[0]
    assert region.x <= columns.mean() <= region.x + region.width
    assert region.y < rows.max() and region.y + region.height > rows.min() + 5
    assert region.width < 60 and region.height < 70


def test_a_region_comes_with_what_it_should_have_looked_like(inspector, study):
    image = chip(200, "missing lead")
    region = inspector.inspect(image).regions[0]
    patches = inspector.nearest_normals(image, [region])[0]
    assert 1 <= len(patches) <= 3 and {patch.image for patch in patches} <= set(study.sha256)
    assert patches[0].image.size == (region.width, region.height)
    box = (region.x, region.y, region.x + region.width, region.y + region.height)
    should, found = np.asarray(patches[0].image, float), np.asarray(image.crop(box), float)
    assert should.mean() > found.mean() + 3  # the bright lead is there


def test_a_good_image_has_hardly_any_region(inspector):
    assert sum(len(inspector.inspect(chip(seed)).regions) for seed in range(100, 108)) <= 1


def test_another_thing_altogether_is_marked_so(inspector):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8))
    for other in (noise, Image.new("RGB", (96, 96))):
        assert inspector.inspect(other).out_of_distribution
    assert not inspector.inspect(chip(100)).out_of_distribution
    assert not inspector.inspect(chip(200, "scratch")).out_of_distribution


def test_an_exported_network_finds_in_it_what_pytorch_finds(taught, inspector):
    exported, image = load_model(str(taught), runtime="openvino"), chip(200, "scratch")
    ours, theirs = exported.inspect(image), inspector.inspect(image)
    boxes = [[replace(one, score=0) for one in each.regions] for each in (ours, theirs)]
    assert boxes[0] == boxes[1] != []
    np.testing.assert_allclose(ours.heat["inverse matching"], theirs.heat["inverse matching"], atol=1e-3)
    patches = [one.nearest_normals(image, ours.regions[:1])[0][0] for one in (exported, inspector)]
    assert patches[0].image == patches[1].image


def test_the_watch_and_the_page_take_it(inspector):
    try_out(inspector)
    assert palette_of(inspector.methods[0]) == "evidence"
    html = verdict_html(inspector.inspect(chip(100)), inspector.info)
    assert "of 1,000 good chips" in html and "nan" not in html and "defective</strong>" not in html


def test_a_classifiers_figures_are_not_asked_of_it(inspector):
    with pytest.raises(DataError, match="judges by its memory"):
        predict(inspector.engine.net, np.zeros((1, 96, 96, 3), np.uint8), inspector.spec)


def test_the_checkpoint_has_every_file_and_says_what_it_is(taught, study):
    assert {path.name for path in taught.iterdir()} == set(FILES)
    assert (taught / MEMORY).stat().st_size < 20_000_000
    metrics, split = (json.loads((taught / name).read_text()) for name in (METRICS, SPLIT))
    assert metrics["starting_weights"].startswith("ImageNet (package")
    assert metrics["validation"]["split"] == "board-7, 14 good images, each held out"
    assert split == {"train": list(study.sha256), "val": [], "test": []}
    card = (taught / "README.md").read_text()
    assert "14 good images" in card and "tf_efficientnet_lite0" in card and "small copies" in card


def test_a_saved_memory_comes_back_as_it_was(inspector, lesson):
    normals = inspector.normals
    np.testing.assert_array_equal(normals.memory.features, lesson.knowledge.memory.features)
    assert normals.images == lesson.study.sha256 and normals.thumbnails == lesson.study.thumbnails
    again = teaching.scores_of(lesson.study, lesson)
    found = [
        inspector.matchings["inverse matching"].anomaly(
            inspector._run(inspector._pixels(chip(seed))[None]), np.full((96, 96, 3), 255, np.uint8)
        )
        for seed in range(3)
    ]
    np.testing.assert_allclose([teaching.score_of(one) for one in found], again[:3], atol=2e-3)


def test_a_held_out_image_is_not_matched_with_itself(lesson):
    assert lesson.scores.min() > 1.5 * teaching.scores_of(lesson.study, lesson).max() / 2
    assert (lesson.scores > teaching.scores_of(lesson.study, lesson)).all()


def test_the_memory_keeps_to_its_size(study):
    assert len(teaching.fill(study, patches=500).memory.features) == 500


def test_teaching_again_gives_the_same(study, lesson):
    np.testing.assert_array_equal(teaching.learn(study).scores, lesson.scores)


def test_without_images_none_are_kept(backbone, lesson, tmp_path):
    teaching.save_taught(tmp_path / "bare", backbone, lesson, "bare", keep_images=False)
    bare = load_model(str(tmp_path / "bare"))
    image = chip(200, "missing lead")
    patches = bare.nearest_normals(image, bare.inspect(image).regions[:1])[0]
    assert patches and patches[0].image is None and bare.normals.thumbnails == ()


def test_the_false_positive_rate_that_was_chosen_is_kept():
    values = np.arange(1000) / 1000
    assert (values > teaching.upper_limit(values, 0.02)).mean() == pytest.approx(0.02, abs=0.001)


def test_few_images_make_the_limit_wider():
    """Ten draws of a normal distribution: by their highest alone, one further in eleven would be stopped."""
    generator = np.random.default_rng(0)
    draws = generator.normal(size=(500, 10))
    stopped = [generator.normal() > teaching.upper_limit(row, 0.02) for row in draws]
    assert np.mean(stopped) < 0.035


def test_known_defects_raise_the_limit_and_never_lower_it(lesson):
    alone = teaching.limits_of(lesson, 0.02, np.empty(0))
    far = teaching.limits_of(lesson, 0.02, np.full(4, alone.score + 0.4))
    near = teaching.limits_of(lesson, 0.02, np.full(4, float(np.median(lesson.scores))))
    assert alone.score < far.score < alone.score + 0.4
    assert near.score == alone.score


def test_known_defects_are_counted_and_kept_out_of_training(backbone, lesson, tmp_path):
    folder = chips(tmp_path / "bad", 3, "scratch", first=300)
    defects = study_images(sorted(folder.iterdir()), backbone)
    metrics = teaching.save_taught(tmp_path / "model", backbone, lesson, "board", defects=defects)
    assert metrics["validation"]["recall"] == 1.0
    info = load_model(str(tmp_path / "model")).info
    assert (info.validation.normal_count, info.validation.abnormal_count) == (14, 3)
    assert json.loads((tmp_path / "model" / SPLIT).read_text())["val"] == list(defects.sha256)


def test_a_image_that_stands_out_is_named_before_it_is_learned(backbone, tmp_path):
    folder = chips(tmp_path / "goods", 12)
    chip(50, "turned").save(folder / "odd.png")
    study = study_images(sorted(folder.iterdir()), backbone)
    (row,) = teaching.learn(study).outliers
    assert study.names[row] == "odd.png"
    without = study.without([row])
    assert len(without.names) == 12 and "odd.png" not in without.names
    assert teaching.learn(without).outliers == ()


def test_some_rows_of_a_study_keep_the_order_they_are_asked_for_in(study):
    some = study.of([3, 1])
    assert some.names == (study.names[3], study.names[1])
    assert all(torch.equal(layer, all_[[3, 1]]) for layer, all_ in zip(some.middle, study.middle))
    np.testing.assert_array_equal(some.black, study.black[[3, 1]])


def test_an_outlier_does_not_hide_behind_a_worse_one():
    """By the quartiles of all of them, far out begins at 0.295; without the others at 0.273."""
    usual = np.linspace(0.11, 0.18, 30)
    assert teaching.outliers_of(np.array([*usual, 0.28, 0.46, 0.37, 0.4, 0.42])) == (31, 34, 33, 32, 30)
    assert teaching.outliers_of(usual) == ()


def test_what_cannot_be_learned_from_is_left_out_and_named(backbone, tmp_path):
    folder = chips(tmp_path / "goods", 10)
    shutil.copy(folder / "000.png", folder / "copy.png")
    Image.new("RGB", (96, 96)).save(folder / "black.png")
    (folder / "notes.txt").write_text("no image")
    chip(60, size=200).save(folder / "large.png")
    study = study_images(sorted(folder.iterdir()), backbone, max_megapixels=0.03)
    assert len(study.names) == 10
    left_out = "\n".join(study.left_out)
    assert "copy.png: the same image as 000.png" in left_out
    assert "black.png: one tone throughout" in left_out
    assert "notes.txt: Expected" in left_out and "large.png: Expected" in left_out


def test_fewer_than_ten_are_refused(backbone, tmp_path):
    folder = chips(tmp_path / "goods", 9)
    with pytest.raises(DataError, match="at least 10 good images that differ; found 9"):
        teaching.learn(study_images(sorted(folder.iterdir()), backbone))


def test_a_folder_of_nothing_to_learn_from_says_why(backbone, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="found none. Left out: notes.txt"):
        study_images([tmp_path / "notes.txt"], backbone)


def test_weights_of_another_backbone_are_refused():
    with pytest.raises(DataError, match="Expected weights of tf_efficientnet_lite0; .* tensors are missing"):
        backbone_of("tf_efficientnet_lite0", {"conv_stem.weight": torch.zeros(1)}, "nowhere")


def test_a_grid_that_does_not_divide_the_image_is_learned_too(backbone, tmp_path):
    odd = replace(backbone, spec=replace(backbone.spec, image_size=100))
    lesson = teaching.learn(study_images(sorted(chips(tmp_path, 10).iterdir()), odd))
    teaching.save_taught(tmp_path / "odd", odd, lesson, "odd")
    inspector = load_model(str(tmp_path / "odd"))
    assert inspector.inspect(chip(200, "missing lead")).heat["inverse matching"].shape == (13, 13)


def test_progress_is_told(backbone, study, tmp_path):
    told = []
    folder = chips(tmp_path / "goods", 2)
    study_images(sorted(folder.iterdir()), backbone, lambda done, what: told.append((done, what)))
    teaching.learn(study, progress=lambda done, what: told.append((done, what)))
    assert told[:2] == [(0.0, "looking at images"), (0.5, "looking at images")]
    learning = [done for done, _ in told[2:]]
    assert learning == sorted(learning) and 0.9 < learning[-1] < 1


def test_a_classifier_with_a_memory_explains_by_it_and_judges_as_before(tmp_path, capsys):
    folder, out = tiny_checkpoint(tmp_path / "classifier"), tmp_path / "with memory"
    (folder / "README.md").write_text("# A classifier\n")
    (folder / "roc.png").write_bytes(b"a picture of the card")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    before, image = load_model(str(folder)), chip(200, "missing lead")
    goods = chips(tmp_path / "goods", 12)
    command = ["teach", str(goods), "--memory-for", str(folder), "--out", str(out), "--outliers", "keep"]
    for _ in ("anew", "again"):
        assert main(command) == 0
    assert "judges as before and knows 12 good images" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert {path.name for path in out.iterdir()} == {*files, MEMORY}
    card = (out / "README.md").read_text()
    assert card.startswith("# A classifier\n") and card.count("12 good images were learned") == 1
    assert len(json.loads((out / SPLIT).read_text())["train"]) == 12
    after = load_model(str(out))
    assert set(after.methods) - set(before.methods) == {"inverse matching", "inverse matching × evidence"}
    assert after.methods[0] == "evidence" and after.info.revision != before.info.revision
    inspection = after.inspect(image)
    assert inspection.log_odds == pytest.approx(before.inspect(image).log_odds, abs=1e-5)
    assert inspection.regions == before.inspect(image).regions
    assert list(inspection.heat) == ["evidence", "CBAM", "inverse matching"]
    both, inverse = after.match(image, "inverse matching × evidence"), after.match(image)
    assert both.heat.shape == inverse.heat.shape == (8, 8) and inverse.heat.any()
    np.testing.assert_array_equal(
        after.explain(image, "inverse matching"), inspection.heat["inverse matching"]
    )


def test_a_memory_for_what_is_no_classifier_is_refused(taught, tmp_path, capsys):
    goods = str(chips(tmp_path / "goods", 1))
    command = ["teach", goods, "--out", str(tmp_path / "out"), "--memory-for", str(taught)]
    assert main(command) == 2 and "judges by its memory already" in capsys.readouterr().err
    assert main([*command, "--abnormal", goods]) == 2 and "found both" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_it_is_kept_how_large_the_learned_images_were(inspector):
    assert inspector.info.image_side == 96


@pytest.fixture
def copy(taught, tmp_path):
    return shutil.copytree(taught, tmp_path / "copy")


def test_a_memory_fitted_with_another_backbone_is_refused(copy):
    tensors = load_file(copy / WEIGHTS)
    tensors["backbone.conv_stem.weight"] *= 2
    save_file(tensors, copy / WEIGHTS)
    with pytest.raises(CheckpointError, match="fitted with others"):
        load_model(str(copy))


def test_a_taught_model_without_its_memory_is_refused(copy):
    (copy / MEMORY).unlink()
    with pytest.raises(CheckpointError, match=f"Expected {MEMORY}"):
        load_model(str(copy))


@pytest.mark.parametrize("change", ["cut", "tensor", "place", "metadata"])
def test_a_damaged_memory_is_refused(copy, change):
    path = copy / MEMORY
    if change == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        metadata = {"normals": "{}"} if change == "metadata" else _metadata(path)
        tensors = load_file(path)
        if change == "tensor":
            tensors["spare"] = torch.zeros(1)
        if change == "place":
            tensors["place"][0] = 10_000
        save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(str(copy))


def test_a_memory_is_read_and_not_mapped(copy):
    features = load_normals(copy).memory.features
    with piped(copy / MEMORY):
        found = load_normals(copy)
    np.testing.assert_array_equal(found.memory.features, features)


def _metadata(path):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.metadata()


def test_an_unknown_judge_is_refused(copy):
    config = json.loads((copy / CONFIG).read_text())
    (copy / CONFIG).write_text(json.dumps(config | {"verdict_by": "oracle"}))
    with pytest.raises(CheckpointError, match="oracle"):
        load_model(str(copy))


def test_teaching_again_is_a_new_revision(backbone, study, copy):
    before = latest_revision(str(copy)), load_model(str(copy)).info.revision
    teaching.save_taught(copy, backbone, teaching.learn(study.without([0])), "board-7")
    after = latest_revision(str(copy)), load_model(str(copy)).info.revision
    assert before[0] != after[0] and before[1] != after[1]


def test_without_the_package_the_shipped_models_backbone_is_used(monkeypatch):
    monkeypatch.setattr("chipdemo.vision.anomaly.features.packaged_lite0", lambda: None)
    backbone = starting_backbone()
    assert backbone.starting_weights == "backbone of elpv-efficientnet-lite0-cbam"
    assert backbone.spec.attention == "none" and backbone.spec.verdict_by == "memory"


@pytest.fixture
def small(monkeypatch):
    """The command line has no flag for it; at 256 px it would take long."""
    monkeypatch.setattr("chipdemo.vision.anomaly.features.IMAGE_SIZE", 96)


def test_the_command_teaches(small, tmp_path, capsys):
    folder = chips(tmp_path / "goods", 10)
    bad = chips(tmp_path / "bad", 2, "scratch", first=300)
    out = tmp_path / "model"
    assert main(["teach", str(folder), "--out", str(out), "--abnormal", str(bad), "--outliers", "keep"]) == 0
    text = capsys.readouterr().out
    assert "Learned 10 images (ImageNet (package" in text
    assert "Of the known defects, 100.0% are caught." in text
    assert f"python app.py --model {out}" in text
    assert load_model(str(out)).inspect(chip(301, "turned")).verdict == "abnormal"


def test_the_command_shows_what_stands_out_and_learns_nothing_unasked(small, tmp_path, capsys):
    folder, out = chips(tmp_path / "goods", 12), tmp_path / "model"
    chip(50, "turned").save(folder / "odd.png")
    assert main(["teach", str(folder), "--out", str(out)]) == 2
    told = capsys.readouterr()
    assert "1 stand out" in told.out and "odd.png" in told.out and "--outliers drop" in told.err
    assert not out.exists()
    assert main(["teach", str(folder), "--out", str(out), "--outliers", "drop"]) == 0
    assert "Learned 12 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere", "--out", "m"], "Expected a folder of images; nowhere is none"),
        (["empty", "--out", "m"], "Expected images in empty; found no file"),
        (["few", "--out", "m"], "at least 10 good images that differ; found 3"),
        (["ten", "--out", "taken", "--outliers", "keep"], "taken holds letter.txt"),
        (["both", "--out", "m"], "good images alone in both; found the folder defect"),
    ],
)
def test_mistakes_end_in_one_line_and_nothing_is_written(
    small, tmp_path, monkeypatch, capsys, arguments, message
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
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "m").exists() and (tmp_path / "taken" / "letter.txt").read_text() == "keep me"


def test_a_region_is_shown_beside_what_normal_chips_show_there(inspector, tmp_path):
    chip(200, "missing lead").save(tmp_path / "chip.png")
    current = inspect_image(inspector, tmp_path / "chip.png", 0.5, "inverse matching", 64)
    comparisons = compared_with_normals(current, 64)
    assert len(comparisons) == len(current.inspection.regions) > 0
    image, patches = comparisons[0]
    assert min(image.size) >= 0.2 * min(current.inspection.image_size) - 1 and 1 <= len(patches) <= 3
    page = normals_html(comparisons)
    assert page.count("<img") == sum(1 + len(found) for _, found in comparisons) and "matches " in page
    assert "No region to compare" in normals_html([])
