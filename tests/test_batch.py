import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from chipdemo.__main__ import main
from chipdemo.batch import run as batch
from chipdemo.batch.run import inspect_all
from chipdemo.batch.sources import listed
from chipdemo.errors import BatchError, ExchangeError
from tests.drawn import picture
from tests.drawn_images import draw
from tests.fakes import FakeModel
from tests.tiny import draw_chips, tiny_checkpoint

HOSTILE = "=1+1 <img src=x onerror=alert(1)>.png"


@pytest.fixture
def chips(tmp_path):
    """Dark images 00 to 19, which the fake inspector stops, and one that is no image."""
    for number in range(20):
        draw(tmp_path / "chips" / f"{number:02}.png", number) if number else (tmp_path / "chips").mkdir()
    draw(tmp_path / "chips" / "00.png", 0)
    (tmp_path / "chips" / "bad.png").write_bytes(b"this is no image")
    return tmp_path / "chips"


def names(images):
    return [one.found.name for one in images]


def test_folders_zips_patterns_and_lists_are_taken_each_image_once(chips, tmp_path):
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("lot/a.png", picture(1))
    (tmp_path / "list.csv").write_text("image,label\nchips/03.png,good\nchips/04.png,NG\n", encoding="utf-8")
    names_given = ("chips/0*.png", "list.csv", "more.zip", "chips")
    images = list(listed([str(tmp_path / name) for name in names_given]))
    assert names(images)[:10] == [f"{number:02}.png" for number in range(10)]
    assert names(images)[10] == "lot/a.png" and len(images) == 22
    assert images[10].place == f"{tmp_path}/more.zip!lot/a.png"
    alone = listed([str(tmp_path / "list.csv")])
    assert [one.label for one in alone] == ["normal", "abnormal"]


def test_folders_named_normal_and_abnormal_are_labels_and_others_are_not(tmp_path):
    data = draw_chips(tmp_path / "data", normal=2, abnormal=1)
    assert [one.label for one in listed([str(data)])] == ["abnormal", "normal", "normal"]
    data.joinpath("normal").rename(data / "monday")
    assert {one.label for one in listed([str(data)])} == {""}


@pytest.mark.parametrize(
    ("content", "message"),
    [("name\na.png\n", "Expected a column image"), ("", "cannot be read"), ("image\n", "found none")],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path, content, message):
    (tmp_path / "list.csv").write_text(content, encoding="utf-8")
    with pytest.raises(BatchError, match=message):
        listed([str(tmp_path / "list.csv")])


def test_a_path_that_leads_nowhere_is_refused(tmp_path):
    with pytest.raises(ExchangeError, match="found nothing"):
        listed([str(tmp_path / "gone")])


def test_every_image_gets_a_line_in_its_order_and_a_bad_one_the_reason(chips, tmp_path):
    results = list(inspect_all(FakeModel(), listed([str(chips)]), tmp_path / "out"))
    assert [result["file"] for result in results] == [*(f"{n:02}.png" for n in range(20)), "bad.png"]
    assert {result["verdict"] for result in results[:20]} == {"abnormal"}
    assert "Expected an image" in results[20]["error"] and "verdict" not in results[20]


def test_a_batch_says_what_one_image_after_the_other_does(tmp_path):
    from chipdemo.vision.predictor import load_model

    inspector = load_model(str(tiny_checkpoint(tmp_path / "model")))
    data = draw_chips(tmp_path / "data", normal=10, abnormal=10)
    for result in inspect_all(inspector, listed([str(data)]), tmp_path / "out"):
        alone = inspector.inspect(Image.open(result["path"]).convert("RGB")).to_json()
        assert result["abnormal_probability"] == pytest.approx(alone["abnormal_probability"], abs=1e-5)
        assert (result["regions"], result["image"]) == (alone["regions"], alone["image"])


def test_a_killed_run_goes_on_where_it_was(chips, tmp_path):
    images = listed([str(chips)])
    whole = list(inspect_all(FakeModel(), images, tmp_path / "whole"))

    def stop(done):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inspect_all(FakeModel(), images, tmp_path / "out", progress=stop)
    with (tmp_path / "out" / batch.RESULTS).open("a") as file:
        file.write('{"file": "17.p')  # what a kill leaves of a line
    inspector, told = FakeModel(), []
    assert list(inspect_all(inspector, images, tmp_path / "out", progress=told.append)) == whole
    assert inspector.inspections == 20 - batch.BATCH and told[0] == batch.BATCH


def test_results_of_another_threshold_or_other_files_are_not_mixed(chips, tmp_path):
    images = listed([str(chips)])
    inspect_all(FakeModel(), images, tmp_path / "out")
    with pytest.raises(BatchError, match="Choose another --out"):
        inspect_all(FakeModel(), images, tmp_path / "out", threshold=0.9)
    with pytest.raises(BatchError, match="holds other files"):
        inspect_all(FakeModel(), images, chips)


def test_the_command_writes_a_report_and_its_status_says_what_was_found(tmp_path, capsys):
    data = draw_chips(tmp_path / "data", normal=3, abnormal=3)
    (data / "normal" / HOSTILE).write_bytes(b"no image")
    model = tiny_checkpoint(tmp_path / "model")
    command = ["inspect", str(data), "--model", str(model), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert main([*command, "--fail-on", "unreadable"]) == 1  # again: nothing is judged anew
    printed = capsys.readouterr().out
    assert "7 images: " in printed and "1 unreadable" in printed
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 6 and "<img src=x" not in page and "http" not in page
    assert "labeled abnormal" in page
    rows = (tmp_path / "out" / "inspections.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(rows) == 8 and not any(row.startswith("=") for row in rows)
    lines = (tmp_path / "out" / batch.RESULTS).read_text(encoding="utf-8").splitlines()
    assert [bool(json.loads(line)["error"]) for line in lines].count(True) == 1


def test_deep_and_turned_images_are_judged_as_the_app_judges_them(tmp_path):
    Image.fromarray(np.full((90, 120), 60_000, np.uint16)).save(tmp_path / "deep.tif")
    (result,) = inspect_all(FakeModel(), listed([str(tmp_path / "deep.tif")]), tmp_path / "out")
    assert "16-bit" in result["notes"][0] and result["error"] == ""
