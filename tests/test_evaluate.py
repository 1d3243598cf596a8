import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from chipdemo.errors import DataError
from chipdemo.images import read_image
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.rates import Rate
from chipdemo.settings import DEFAULT_MODEL
from chipdemo.vision.checkpoint import SPLIT, write_json
from chipdemo.vision.predictor import load_model
from tests.scripts import run_script
from tests.tiny import draw_chip, draw_chips, tiny_checkpoint
from training import evaluate as script
from training.evaluate import evaluate, parse
from training.measure import intervals, operating_point

SCRIPT = Path(__file__).parent.parent / "training" / "evaluate.py"


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(script, "RESAMPLES", 20)


@pytest.fixture
def chips(tmp_path):
    """20 normal images, 6 with a crack, 2 scratched."""
    folder = draw_chips(tmp_path / "chips", normal=20, abnormal=6)
    (folder / "abnormal" / "scratch").mkdir()
    for index in range(2):
        draw_chip(2000 + index, abnormal=True).save(folder / "abnormal" / "scratch" / f"{index}.png")
    return folder


@pytest.fixture
def model(tmp_path):
    return tiny_checkpoint(tmp_path / "model")


def hashes(folder):
    return [read_image(path).sha256 for path in sorted(folder.glob("*.png"))]


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def test_a_report_says_how_good_on_what_and_how_sure(chips, model, tmp_path):
    out = evaluate(str(model), str(chips), out=str(tmp_path / "out"))
    assert {path.name for path in out.iterdir()} == {
        "report.json",
        "report.md",
        "confusion.png",
        "roc.png",
        "precision_recall.png",
        "reliability.png",
    }
    report = report_of(out)
    metrics = report["metrics"]
    (tn, fp), (fn, tp) = metrics["confusion"]
    assert (tn + fp, fn + tp) == (20, 8)
    assert metrics["accuracy"] == pytest.approx((tn + tp) / 28)
    assert {name: counts["count"] for name, counts in report["defect_types"].items()} == {
        "crack": 6,
        "scratch": 2,
    }
    assert sum(counts["detected"] for counts in report["defect_types"].values()) == tp
    for name in ("accuracy", "recall", "precision", "f1", "auroc", "average_precision"):
        low, high = report["interval_95"][name]
        assert 0 <= low <= high <= 1
    assert report["recall_98"]["recall"] == {"count": 8, "total": 8}
    assert report["latency_ms"]["median"] > 0 and report["latency_ms"]["images"] == 28
    assert report["data"]["split"] == "chips, test split, 28 images"
    page = (out / "report.md").read_text()
    assert page.startswith("# model on chips\n") and re.search(r"\| crack \| \d of 6 \| .* interval", page)
    assert "8 of 8 abnormal images (100 %, 95 % interval 63–100 %) are detected" in page
    assert f"{metrics['auroc']:.3f}" in page


def test_images_that_the_model_was_trained_on_are_left_out_with_a_warning(chips, model, tmp_path, capsys):
    normal = hashes(chips / "normal")
    write_json(model / SPLIT, {"train": normal[:5], "val": normal[5:7], "test": normal[7:9]})
    report = report_of(evaluate(str(model), str(chips), out=str(tmp_path / "out")))
    assert report["metrics"]["count"] == 21
    assert report["seen"] == {"train": 5, "val": 2, "same_group": 0, "left_out": True}
    assert "warning: " in capsys.readouterr().out


def test_all_images_are_used_on_request(chips, model, tmp_path, capsys):
    write_json(model / SPLIT, {"train": hashes(chips / "normal")[:5], "val": [], "test": []})
    report = report_of(evaluate(str(model), str(chips), include_training=True, out=str(tmp_path / "out")))
    assert report["metrics"]["count"] == 28
    assert report["seen"] == {"train": 5, "val": 0, "same_group": 0, "left_out": False}
    assert "warning: " in capsys.readouterr().out


def test_a_split_names_the_images_to_use(chips, model, tmp_path):
    chosen = hashes(chips / "normal")[:4] + hashes(chips / "abnormal" / "crack")[:3]
    write_json(tmp_path / "split.json", {"train": [], "val": [], "test": [*chosen, "of another day"]})
    write_json(model / SPLIT, {"train": chosen[:1], "val": [], "test": []})
    out = evaluate(str(model), str(chips), split=str(tmp_path / "split.json"), out=str(tmp_path / "out"))
    assert np.sum(report_of(out)["metrics"]["confusion"], 1).tolist() == [3, 3]


def test_near_duplicates_of_training_images_are_left_out_and_the_others_grouped(chips, model, tmp_path):
    files = sorted((chips / "normal").glob("*.png"))
    write_json(model / SPLIT, {"train": [read_image(files[0]).sha256], "val": [], "test": []})
    for path in files[:3]:  # one in the training split, two not
        ImageEnhance.Brightness(Image.open(path)).enhance(0.9).save(path.with_name(f"{path.stem} dark.png"))
    report = report_of(evaluate(str(model), str(chips), out=str(tmp_path / "out")))
    assert report["seen"] == {"train": 1, "val": 0, "same_group": 1, "left_out": True}
    assert report["data"]["split"] == "chips, test split, 29 images of 27 groups"
    report = report_of(evaluate(str(model), str(chips), groups="off", out=str(tmp_path / "out")))
    assert report["seen"]["same_group"] == 0 and report["metrics"]["count"] == 30


def test_no_image_of_a_class_is_an_error(chips, model):
    write_json(model / SPLIT, {"train": hashes(chips / "normal"), "val": [], "test": []})
    with pytest.raises(DataError, match="0 normal and 8 abnormal.*--include-training"):
        evaluate(str(model), str(chips))


def test_images_that_could_not_be_read_are_listed(chips, model, tmp_path):
    (chips / "normal" / "broken.png").write_bytes(b"no image")
    out = evaluate(str(model), str(chips), out=str(tmp_path / "out"))
    (line,) = report_of(out)["unreadable"]
    assert "broken.png" in line
    page = (out / "report.md").read_text()
    assert line in page


def test_images_out_of_distribution_are_counted(chips, model, tmp_path):
    config = json.loads((model / "config.json").read_text())
    for limit, count in ((1e-6, 28), (1e9, 0)):
        write_json(model / "config.json", config | {"distance_limit": limit})
        out = evaluate(str(model), str(chips), out=str(tmp_path / "out"))
        assert report_of(out)["out_of_distribution"] == count


def test_the_verdicts_are_those_of_the_app(chips, model, tmp_path):
    judge = Judge(Models(load_model(str(model))))
    flagged = sum(
        judge.inspect(read_image(path), tiles=False).verdict == "abnormal"
        for path in (chips / "normal").glob("*.png")
    )
    out = evaluate(str(model), str(chips), out=str(tmp_path / "out"))
    assert report_of(out)["metrics"]["confusion"][0][1] == flagged


def test_robustness_is_reported_on_request(chips, model, tmp_path):
    write_json(model / SPLIT, {"train": hashes(chips / "normal")[:5], "val": [], "test": []})
    plain = evaluate(str(model), str(chips), out=str(tmp_path / "out"))
    assert "robustness" not in report_of(plain) and "turn by 90" not in (plain / "report.md").read_text()
    out = evaluate(str(model), str(chips), robustness=True, out=str(tmp_path / "out"))
    robustness, metrics = report_of(out)["robustness"], report_of(out)["metrics"]
    assert robustness["images"] == metrics["count"] == 23
    assert robustness["original"]["auroc"] == pytest.approx(metrics["auroc"])
    assert "| turn by 90 degrees |" in (out / "report.md").read_text()


def test_an_error_ends_in_one_line_and_a_status(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    said = run_script(monkeypatch, "training/evaluate.py", "--data", tmp_path / "empty")
    assert said.startswith("error: ") and str(tmp_path) in said and "\n" not in said


def test_the_shipped_model_and_elpv_are_the_defaults():
    options = parse([])
    assert (options.data, options.include_training, options.model) == ("elpv", False, str(DEFAULT_MODEL))


def test_an_interval_holds_the_figure_and_narrows_with_more_images():
    generator = np.random.default_rng(0)
    widths = []
    for count in (50, 500):
        abnormal = generator.random(count) < 0.3
        probabilities = np.clip(0.3 + 0.3 * abnormal + 0.2 * generator.standard_normal(count), 0, 1)
        low, high = intervals(probabilities, abnormal, 0.5, 100)["accuracy"]
        assert low <= np.mean((probabilities >= 0.5) == abnormal) <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_an_interval_is_wider_where_images_come_in_groups():
    generator = np.random.default_rng(0)
    abnormal = generator.random(100) < 0.3
    probabilities = np.clip(0.3 + 0.3 * abnormal + 0.2 * generator.standard_normal(100), 0, 1)
    low, high = intervals(probabilities, abnormal, 0.5, 300)["accuracy"]
    four, groups = [np.repeat(of, 4) for of in (probabilities, abnormal)], np.repeat(np.arange(100), 4)
    alone, grouped = (intervals(*four, 0.5, 300, groups=of)["accuracy"] for of in (None, groups))
    assert alone[1] - alone[0] < 0.7 * (high - low)
    assert grouped[1] - grouped[0] == pytest.approx(high - low, rel=0.2)


def test_a_perfect_model_has_no_doubt_about_its_accuracy():
    abnormal = np.array([False] * 30 + [True])  # often no abnormal one is drawn
    assert intervals(abnormal.astype(float), abnormal, 0.5, 50)["auroc"] == [1.0, 1.0]


def test_the_operating_point_has_the_recall_asked_for_at_the_lowest_false_positive_rate():
    probabilities = np.array([0.9, 0.8, 0.7, 0.2, 0.75, 0.3, 0.1])
    abnormal = np.array([True, True, True, True, False, False, False])
    point = operating_point(probabilities, abnormal, 0.75)
    assert (point.threshold, point.recall, point.precision) == (0.7, Rate(3, 4), Rate(3, 4))
    assert operating_point(probabilities, abnormal, 0.76).threshold == 0.2
