"""Many images at once in the Inspect tab."""

import re
import zipfile
from io import BytesIO

import gradio as gr
import pytest
from PIL import Image

from chipdemo.errors import BatchError
from chipdemo.files import Limits
from chipdemo.settings import Settings
from chipdemo.ui.inspect.layout import AUTOMATIC
from chipdemo.ui.many import logic, tab
from chipdemo.ui.many.html import many_html, progress_html
from chipdemo.ui.many.logic import Many, Progress
from chipdemo.ui.turns import Turns
from tests.drawn import picture
from tests.drawn_images import draw
from tests.fakes import INFO, FakeModel, fake_judge

HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture
def uploads(tmp_path):
    """20 dark images, which are flagged, a zip, a red one, and one that is no image.

    The zip has a light image, one whose path leads out of it, and a hidden file.
    """
    Image.new("RGB", (40, 20), "white").save(light := BytesIO(), "PNG")
    with zipfile.ZipFile(tmp_path / "lot.zip", "w") as archive:
        archive.writestr("lot/light.png", light.getvalue())
        archive.writestr("../out.png", picture(1))
        archive.writestr(".hidden", b"")
    (tmp_path / "bad").write_bytes(b"this is no image")
    Image.new("RGB", (40, 20), "red").save(tmp_path / "red.png")
    dark = [(f"{number}.png", draw(tmp_path / f"{number}.png", number)) for number in range(20)]
    rest = [("lot.zip", tmp_path / "lot.zip"), ("red.png", tmp_path / "red.png"), (HOSTILE, tmp_path / "bad")]
    return [*dark, *rest]


def inspected(uploads, threshold=0.4) -> tuple[list[Progress], Many]:
    *progress, many = logic.inspect_uploads(fake_judge(), [FakeModel()], uploads, threshold, Limits())
    return progress, many


def test_it_reports_progress_and_ends_with_every_image_in_its_order(uploads):
    progress, many = inspected(uploads)
    assert [one.done for one in progress] == [0, 16, 24] and progress[-1].images == 24
    names = [tile.result["file"] for tile in many.tiles]
    assert names[-4:] == ["lot/light.png", "../out.png", "red.png", HOSTILE]
    assert {tile.result["outcome"] for tile in many.tiles[:20]} == {"abnormal"}
    assert len(many.passed_over) == 1 and "lot.zip" in many.passed_over[0]
    assert Image.open(BytesIO(many.tiles[20].picture)).size == (240, 120)


def test_results_without_pictures_have_what_a_zip_refuses(uploads, tmp_path):
    (tmp_path / "damaged").write_bytes(b"PK\x03\x04 and nothing more")
    given = [uploads[20], ("b.zip", tmp_path / "damaged")]
    results = logic.results_of(fake_judge(), [FakeModel()], given, 0.4, Limits())
    assert [(one["path"], bool(one["error"])) for one in results] == [
        ("lot.zip!lot/light.png", False),
        ("lot.zip!../out.png", True),
        ("b.zip", True),
    ]


def test_out_of_distribution_is_a_group_of_its_own_and_the_groups_add_up(uploads):
    _, many = inspected(uploads)
    assert many.counts == {"abnormal": 20, "out_of_distribution": 1, "normal": 1, "unreadable": 2}
    page = many_html(many)
    counts = re.findall(r"value='(\w+)'[^>]*> <b>(\d+)</b>", page)
    assert counts[0] == ("all", "24") and sum(int(count) for _, count in counts[1:]) == 24
    assert page.count("<figure class='out_of_distribution'") == 1
    assert page.count("<figure class='abnormal'") == 20


def test_the_gallery_shows_defects_first_and_what_cannot_be_read_last(uploads):
    _, many = inspected(uploads)
    shown = logic.gallery(many)
    assert [tile.group for tile in shown] == [
        *["abnormal"] * 20, "out_of_distribution", "normal", "unreadable", "unreadable",
    ]  # fmt: skip
    probabilities = [tile.result["abnormal_probability"] for tile in shown[:20]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_none_and_too_many_are_refused(uploads, monkeypatch):
    with pytest.raises(BatchError):
        inspected([])
    monkeypatch.setattr(logic, "MOST", 10)
    with pytest.raises(BatchError, match="24"):
        inspected(uploads)


def test_what_was_chosen_later_ends_what_is_being_inspected(uploads, monkeypatch):
    monkeypatch.setattr(tab, "uploaded_files", lambda payload: payload)
    with gr.Blocks():
        parts = tab.layout()
    handlers, turns = tab.Handlers(parts, fake_judge(), Settings()), Turns()
    first = handlers.on_files(uploads, turns, None, AUTOMATIC, INFO, 0.4)
    assert parts.results in next(first) and parts.results in next(first)
    handlers.on_newer(turns)
    assert list(first) == []
    *_, last = handlers.on_files(uploads[:2], turns, None, AUTOMATIC, INFO, 0.4)
    assert last[parts.results].count("<figure") == 2


def test_stop_ends_it_too(uploads, monkeypatch):
    monkeypatch.setattr(tab, "uploaded_files", lambda payload: payload)
    with gr.Blocks():
        parts = tab.layout()
    handlers, turns = tab.Handlers(parts, fake_judge(), Settings()), Turns()
    running = handlers.on_files(uploads, turns, None, AUTOMATIC, INFO, 0.4)
    next(running)
    assert "many-refused" in handlers.on_stop(turns)[parts.results]
    assert list(running) == []


def test_names_and_reasons_are_shown_as_text(uploads):
    page = many_html(inspected(uploads)[1])
    assert page.count("<figure") == 24 and "<img src=x" not in page and "../out.png" in page


def test_only_the_first_of_the_gallery_are_pictures_on_the_page(uploads, monkeypatch):
    monkeypatch.setattr(logic, "SHOWN", 5)
    page = many_html(inspected(uploads)[1])
    assert page.count("<figure class='abnormal'") == 5 == page.count("<figure")


def test_report_and_table_hold_all_of_them(uploads):
    files = logic.report_files(inspected(uploads)[1])
    assert files["report.html"].count(b"<figure>") == 22 and b"<img src=x" not in files["report.html"]
    assert files["inspections.csv"].count(b"\n") == 25


def test_progress_has_rate_and_time_left():
    page = progress_html(Progress(12, 40, 4.0))
    assert "width: 30.0%" in page and re.findall(r"\d+(?:\.\d+)?", page)[-4:] == ["12", "40", "4.0", "7"]
    assert "width: 0.0%" in progress_html(Progress(0, 40, 0))


def test_another_threshold_gives_other_verdicts(uploads):
    _, many = inspected(uploads, threshold=1.0)
    assert {tile.result["outcome"] for tile in many.tiles[:21]} == {"normal"}


def test_images_of_one_name_are_told_apart_and_no_path_of_the_server_is_told(uploads):
    _, twice = inspected([*uploads[:2], ("0.png", uploads[1][1]), uploads[20]])
    assert [tile.result["path"] for tile in twice.tiles] == [
        "0.png", "1.png", "0.png (2)", "lot.zip!lot/light.png", "lot.zip!../out.png",
    ]  # fmt: skip
