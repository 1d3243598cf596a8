"""A batch of images becomes a folder of results and a report."""

import csv
import json
import os
import re
import zipfile
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from chipdemo import images as images_module
from chipdemo.__main__ import main
from chipdemo.batch import run as run_module
from chipdemo.batch.run import BATCH, RESULTS, RUN, Task, inspect_all
from chipdemo.batch.sources import BatchImage, find_images
from chipdemo.errors import BatchError, CheckpointError
from chipdemo.files import Found
from chipdemo.images import content_sha256, read_image
from chipdemo.vision.predictor import load_model
from tests.batches import task
from tests.drawn import picture
from tests.drawn_images import draw
from tests.fakes import Breaks, FakeModel, fake_judge
from tests.tiny import draw_chips, tiny_checkpoint

HOSTILE = "=1+1 <img src=x onerror=alert(1)>.png"
UNDECODABLE = os.fsdecode(b"caf\xe9.png")


@pytest.fixture
def chips(tmp_path):
    """Dark images 00 to 19, abnormal for the fake model, and a file that is no image."""
    folder = tmp_path / "chips"
    folder.mkdir()
    for number in range(20):
        draw(folder / f"{number:02}.png", number)
    (folder / "bad.png").write_bytes(b"this is no image")
    return folder


def test_every_image_gets_a_result_in_its_order_and_a_bad_one_the_reason(chips, tmp_path):
    results = list(inspect_all(task(), find_images([str(chips)]), tmp_path / "out"))
    assert [result["file"] for result in results] == [*(f"{n:02}.png" for n in range(20)), "bad.png"]
    assert {result["outcome"] for result in results[:20]} == {"abnormal"}
    assert "text" in results[20]["error"] and "outcome" not in results[20]


def test_what_the_program_fails_at_costs_one_image_its_inspection_and_no_other(chips, tmp_path, caplog):
    def broken():
        raise ValueError("blue")

    Image.new("RGB", (32, 24), "red").save(chips / "03.png")
    Image.new("RGB", (32, 24), "green").save(chips / "05.png")
    images = [*find_images([str(chips)]), BatchImage(Found("blue.png", b""), "blue.png", read=broken)]
    results = list(inspect_all(task(Breaks()), images, tmp_path / "out"))
    assert [one["file"] for one in results if one.get("outcome") == "abnormal"] == [
        f"{number:02}.png" for number in range(20) if number not in (3, 5)
    ]
    failed = [one for one in results if one["error"].startswith("An error of the program (ValueError)")]
    assert [one["file"] for one in failed] == ["03.png", "05.png", "blue.png"]
    in_log = re.findall("an error of the program, ([0-9a-f]+)", caplog.text)
    for one in failed:  # nothing but this leads from one to the other: no name is in the log
        assert re.search("has more under ([0-9a-f]+)", one["error"])[1] in in_log
    assert 'raise ValueError("red")' in caplog.text and "03.png" not in caplog.text


@pytest.mark.parametrize("error", [CheckpointError("The model is gone."), RuntimeError("The GPU is gone.")])
def test_a_model_that_fails_at_every_image_ends_the_run_and_costs_no_image_its_result(chips, tmp_path, error):
    class Gone(FakeModel):
        def predict(self, views, methods=()):
            raise error

    with pytest.raises(CheckpointError, match="is gone"):
        inspect_all(task(Gone()), find_images([str(chips)]), tmp_path / "out")
    assert list(inspect_all(task(), find_images([str(chips)]), tmp_path / "out"))[0]["outcome"] == "abnormal"


def test_a_number_that_is_none_is_an_error_and_not_normal(chips, tmp_path):
    class Broken(Breaks):
        def predict(self, views, methods=()):
            return [
                replace(one, **{self.name: np.nan}) if (view.pixels == 240).all() else one
                for view, one in zip(views, super().predict(views, methods))
            ]

    Image.new("RGB", (32, 24), (240, 240, 240)).save(chips / "07.png")
    for Broken.name in ("log_odds", "distance"):
        results = list(inspect_all(task(Broken()), find_images([str(chips)]), tmp_path / Broken.name))
        assert "outcome" not in results[7] and "(ValueError)" in results[7]["error"]
        assert results[6]["outcome"] == results[8]["outcome"] == "abnormal"


def test_an_image_that_cannot_be_drawn_costs_the_report_one_picture(chips, tmp_path, monkeypatch):
    def overlay(image, *arguments, **options):
        if image.size == (32, 24):
            raise ValueError("too small")
        return drawn(image, *arguments, **options)

    drawn = run_module.overlay
    monkeypatch.setattr(run_module, "overlay", overlay)
    Image.new("RGB", (32, 24)).save(chips / "07.png")
    small, other = [one for one in find_images([str(chips)]) if one.file.name in ("07.png", "08.png")]
    assert run_module.picture(task(), small) == b"" and run_module.picture(task(), other)


def test_a_batch_gives_the_results_of_single_images(tmp_path):
    model = load_model(str(tiny_checkpoint(tmp_path / "model")))
    judge = fake_judge(model)
    data = draw_chips(tmp_path / "data", normal=10, abnormal=10)
    Image.new("RGB", (300, 200), "gray").save(data / "large.png")  # in tiles
    for result in inspect_all(Task(judge, [model], 0.4), find_images([str(data)]), tmp_path / "out"):
        alone = judge.inspect(read_image(result["path"]), threshold=0.4).to_json()
        assert result["abnormal_probability"] == pytest.approx(alone["abnormal_probability"], abs=1e-5)
        for key in ("outcome", "image", "tiles"):
            assert result[key] == alone[key]
        boxes = [
            [(r["x"], r["y"], r["width"], r["height"]) for r in one["regions"]] for one in (result, alone)
        ]
        assert boxes[0] == boxes[1]


def test_a_stopped_run_continues_where_it_was(chips, tmp_path):
    images = find_images([str(chips)])
    whole = list(inspect_all(task(), images, tmp_path / "whole"))

    def stop(done):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inspect_all(task(), images, tmp_path / "out", stop)
    with (tmp_path / "out" / RESULTS).open("a") as file:
        file.write('{"file": "17.p')  # what a killed run may leave of a line
    model, progress = FakeModel(), []
    assert without_times(
        inspect_all(task(model), images, tmp_path / "out", progress.append)
    ) == without_times(whole)
    assert model.predictions == 20 - BATCH and progress[0] == BATCH


def test_ctrl_c_ends_the_command_without_a_traceback(chips, tmp_path, capsys, monkeypatch):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "inspect_all", stopped)
    model = tiny_checkpoint(tmp_path / "model")
    command = [
        "inspect",
        str(chips),
        "--model",
        str(model),
        "--runtime",
        "torch",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(command) == 130
    assert capsys.readouterr().err.endswith("chipdemo: stopped.\n")


def without_times(results):
    return [{key: value for key, value in result.items() if key != "timing_ms"} for result in results]


def test_a_file_name_that_is_no_text_is_inspected_once(tmp_path):
    (tmp_path / "lot").mkdir()
    draw(tmp_path / "lot" / "plain.png", 1).rename(tmp_path / "lot" / UNDECODABLE)
    for _ in range(3):
        results = list(inspect_all(task(), find_images([str(tmp_path / "lot")]), tmp_path / "out"))
        assert [result["file"] for result in results] == ["caf\\udce9.png"]
        assert results[0]["outcome"] == "abnormal"
    model = tiny_checkpoint(tmp_path / "model")
    out = tmp_path / "report"
    command = [
        "inspect",
        str(tmp_path / "lot"),
        "--model",
        str(model),
        "--runtime",
        "torch",
        "--out",
        str(out),
    ]
    assert main(command) == 0
    assert (out / "report.html").read_text(encoding="utf-8").count("data:image/jpeg") == 1


def test_results_of_another_run_or_other_files_are_not_mixed(chips, tmp_path):
    images = find_images([str(chips)])
    inspect_all(task(), images, tmp_path / "out")
    for other, told in (
        (task(threshold=0.9), "of another run: threshold 0.4 there and 0.9 now"),
        (task(tiles=False), "tiles True there and False now"),
        (Task(fake_judge(), [FakeModel(), FakeModel()]), "threshold 0.4 there and each model's own now"),
    ):
        with pytest.raises(BatchError, match=told):
            inspect_all(other, images, tmp_path / "out")
    with pytest.raises(BatchError, match=str(chips)):
        inspect_all(task(), images, chips)
    (tmp_path / "out" / RUN).write_text('{"model": "fake-model"}')  # as an older version wrote it
    with pytest.raises(BatchError, match="format"):
        inspect_all(task(), images, tmp_path / "out")


def test_an_image_is_decoded_and_hashed_once_however_many_tiles_it_has(tmp_path, monkeypatch):
    hashed = []

    def counting(image):
        hashed.append(image.size)
        return content_sha256(image)

    monkeypatch.setattr(images_module, "content_sha256", counting)
    folder = tmp_path / "lot"
    folder.mkdir()
    draw(folder / "large.png", 1, size=(1600, 1200))
    draw(folder / "small.png", 2)
    large, small = inspect_all(task(), find_images([str(folder)]), tmp_path / "out")
    assert large["tiles"]["seen"] > 1 and small["tiles"] is None
    assert sorted(hashed) == [(120, 90), (1600, 1200)]


def test_a_deep_image_has_a_note(tmp_path):
    Image.fromarray(np.full((90, 120), 60_000, np.uint16)).save(tmp_path / "deep.tif")
    (result,) = inspect_all(task(), find_images([str(tmp_path / "deep.tif")]), tmp_path / "out")
    assert "16-bit" in result["notes"][0] and result["error"] == ""


# --- the command --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_checkpoint(tmp_path_factory.mktemp("model")))


def test_the_command_writes_a_report_and_its_status_says_what_was_found(model, tmp_path, capsys):
    data = draw_chips(tmp_path / "data", normal=3, abnormal=3)
    (data / "normal" / HOSTILE).write_bytes(b"no image")
    out = tmp_path / "out"
    command = ["inspect", str(data), "--model", model, "--runtime", "torch", "--out", str(out)]
    assert main(command) == 0
    before = (out / RESULTS).read_bytes()
    capsys.readouterr()
    assert main([*command, "--fail-on", "unreadable"]) == 1
    assert (out / RESULTS).read_bytes() == before  # nothing was inspected again
    assert "1 unreadable" in capsys.readouterr().out
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 6 and "<img src=x" not in page and "http" not in page
    rows = (out / "inspections.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(rows) == 8 and not any(row.startswith("=") for row in rows)
    assert [bool(json.loads(line)["error"]) for line in before.splitlines()].count(True) == 1


def test_printed_counts_add_up_and_each_outcome_can_fail_the_command(model, tmp_path, monkeypatch, capsys):
    """Dark images are abnormal for the fake model; red ones are out of distribution, dark or light."""
    monkeypatch.setattr("chipdemo.vision.predictor.load_model", lambda *source, **how: FakeModel())
    colors = {"dark": (10, 10, 10), "light": (240, 240, 240), "red": (150, 0, 0), "pink": (255, 170, 170)}

    def status(*names):
        folder = tmp_path / "-".join(names)
        folder.mkdir()
        for name in names:
            Image.new("RGB", (60, 60), colors[name]).save(folder / f"{name}.png")
        command = ["inspect", str(folder), "--model", model, "--out", str(tmp_path / f"out-{folder.name}")]
        return [
            main([*command, "--fail-on", outcome])
            for outcome in ("abnormal", "out_of_distribution", "unreadable")
        ]

    assert status("light") == [0, 0, 0]
    assert status("red", "light") == [0, 1, 0]
    assert status("dark") == [1, 0, 0]
    capsys.readouterr()
    assert status("dark", "light", "red", "pink") == [1, 1, 0]
    summary = capsys.readouterr().out.splitlines()[0]
    assert summary == "4 images: 1 normal, 1 abnormal, 2 out of distribution, 0 unreadable."


def test_what_is_refused_in_a_zip_is_unreadable_everywhere(model, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "lot.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", picture(1))
        archive.writestr("../out.png", picture(2))
        archive.writestr("bomb.png", bytes(20_000_000))
        archive.writestr(".hidden.png", picture(3))
    command = ["inspect", str(tmp_path / "lot.zip"), "--model", model, "--runtime", "torch"]
    out = tmp_path / os.fsdecode(b"o\xe9")
    assert main([*command, "--out", str(out), "--fail-on", "unreadable"]) == 1
    printed = capsys.readouterr().out
    assert "2 unreadable" in printed and "Not inspected: 2\n" in printed
    with (out / "inspections.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["file"]: row["error"] for row in csv.DictReader(file)}
    assert set(rows) == {"good.png", "../out.png", "bomb.png"} and rows["good.png"] == ""
    assert "bomb" in rows["bomb.png"] and "out of the zip" in rows["../out.png"]
    with (out / "inspections.parquet").open("rb") as file:
        assert pq.read_metadata(file).num_rows == 3
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 1 and rows["bomb.png"] in page


def test_a_batch_is_inspected_at_the_threshold_that_keeps_a_promise(
    model, chips, tmp_path, capsys, monkeypatch
):
    command = ["inspect", str(chips / "00.png"), "--model", model, "--runtime", "torch", "--out"]
    assert main([*command, str(tmp_path / "one"), "--target-recall", "0.3"]) == 0
    chosen = "Threshold 0.59999, chosen to detect at least 30 % of new abnormal images with 90 % confidence."
    assert chosen in capsys.readouterr().out
    assert chosen in (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "one" / RUN).read_text())["threshold"] == 0.59999
    monkeypatch.setenv("CHIPDEMO_TARGET_FPR", "0.7")
    assert main([*command, str(tmp_path / "two")]) == 0
    assert "Threshold 0.30001, chosen to flag at most 70 %" in capsys.readouterr().out
    assert main([*command, str(tmp_path / "three"), "--threshold", "0.2"]) == 0
    assert "Threshold 0.2. On drawn chips" in capsys.readouterr().out
    monkeypatch.setenv("CHIPDEMO_TARGET_FPR", "0.01")
    assert main([*command, str(tmp_path / "four")]) == 2
    assert "takes 230 normal validation images, and there are 2." in capsys.readouterr().err


@pytest.mark.parametrize("other", ["--threshold", "--target-fpr"])
def test_two_ways_to_choose_the_threshold_are_refused(chips, tmp_path, capsys, other):
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(chips), "--out", str(tmp_path / "out"), "--target-recall", "0.9", other, "0.1"])
    assert ended.value.code == 2 and "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["50", "nan", "-0.1", "inf", "half"])
def test_a_threshold_that_is_no_fraction_is_refused(chips, tmp_path, capsys, value):
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(chips), "--out", str(tmp_path / "out"), f"--threshold={value}"])
    assert ended.value.code == 2
    assert value in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [["--fail-on", "unlike"], ["--workers", "0"], ["--workers", "two"]])
def test_a_flag_that_cannot_be_used_ends_with_status_2(chips, tmp_path, flags):
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(chips), "--out", str(tmp_path / "out"), *flags])
    assert ended.value.code == 2
