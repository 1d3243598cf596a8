"""The benchmark of overlays on a tiny model, and what the app makes of its figures."""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from benchmarks.overlays import CENTER, overlay_entry
from chipdemo.errors import CheckpointError
from chipdemo.images import read_image
from chipdemo.inspection import default_method
from chipdemo.vision.checkpoint import METRICS, SPLIT, read_json, read_metrics, write_json
from chipdemo.vision.predictor import load_model
from tests.scripts import run_script
from tests.tiny import draw_chip, tiny_checkpoint


@pytest.fixture
def chips(tmp_path) -> Path:
    """Three good and two defective test images in the layout of MVTec AD."""
    root = tmp_path / "chips"
    for folder in ("test/good", "test/crack", "ground_truth/crack"):
        (root / folder).mkdir(parents=True)
    for number in range(3):
        draw_chip(number).save(root / "test" / "good" / f"{number}.png")
    for number in range(2):
        image, mask = draw_chip(100 + number), Image.new("L", (64, 64))
        for picture in (image, mask):
            ImageDraw.Draw(picture).rectangle((20, 30, 40, 40), fill="white")
        image.save(root / "test" / "crack" / f"{number}.png")
        mask.save(root / "ground_truth" / "crack" / f"{number}_mask.png")
    return root


def run(monkeypatch, tmp_path, chips, model, *flags) -> dict:
    report = tmp_path / "report.json"
    arguments = ("--data", chips, "--model", model, "--report", report, *flags)
    assert run_script(monkeypatch, "benchmarks/overlays.py", *arguments) == ""
    return read_json(report)


def test_every_overlay_of_a_model_is_measured_and_the_best_becomes_its_default(chips, tmp_path, monkeypatch):
    model = tiny_checkpoint(tmp_path / "model")
    (model / "README.md").write_text("# chips\n")
    assert default_method(load_model(str(model))) == "CAM"
    report = run(monkeypatch, tmp_path, chips, model, "--record", model)
    assert {row["overlay"] for row in report["rows"]} == {*load_model(str(model)).methods, CENTER}
    assert (report["images"], report["abnormal"], report["data"]) == (5, 2, "chips")
    recorded = read_metrics(model)["overlay"]
    scores = [row["aupro"] for row in recorded["rows"]]
    assert scores == sorted(scores, reverse=True) and CENTER not in str(recorded)
    assert recorded["best"] == recorded["rows"][0]["overlay"]
    loaded = load_model(str(model))
    assert default_method(loaded) == recorded["best"] and loaded.info.overlays[0].aupro == scores[0]
    assert loaded.info.overlays[0].data == "chips (5 images, 2 of them defective)"
    assert f"| {recorded['best']} | {scores[0]:.3f} |" in (model / "README.md").read_text()


def test_images_that_the_model_learned_from_are_left_out(chips, tmp_path, monkeypatch):
    model = tiny_checkpoint(tmp_path / "model")
    learned = [read_image(chips / "test" / "good" / "0.png").sha256]
    write_json(model / SPLIT, {"train": learned, "val": [], "test": []})
    assert run(monkeypatch, tmp_path, chips, model)["images"] == 4
    assert "overlay" not in read_metrics(model)


def test_the_baseline_is_no_overlay_of_the_app():
    rows = [
        {"overlay": CENTER, "aupro": 0.9, "pixel_auroc": 0.9},
        {"overlay": "CAM", "aupro": 0.4, "pixel_auroc": 0.9, "deletion_curve": [1]},
        {"overlay": "inverse matching", "aupro": 0.6, "pixel_auroc": 0.8},
    ]
    entry = overlay_entry({"rows": rows, "data": "chips", "images": 1200, "abnormal": 40})
    assert entry["best"] == "inverse matching" and len(entry["rows"]) == 2
    assert entry["data"] == "chips (1,200 images, 40 of them defective)" and "curve" not in str(entry)


def test_damaged_figures_are_an_error_of_the_checkpoint(tmp_path):
    model = tiny_checkpoint(tmp_path / "model")
    write_json(model / METRICS, read_json(model / METRICS) | {"overlay": {"data": "chips", "rows": [{}]}})
    with pytest.raises(CheckpointError, match="metrics.json"):
        load_model(str(model))
