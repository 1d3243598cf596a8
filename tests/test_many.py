"""Many images at once in the Inspect tab."""

import zipfile
from io import BytesIO

import pytest
from PIL import Image

from chipdemo.errors import BatchError
from chipdemo.files import Limits
from chipdemo.ui.many import logic as many
from chipdemo.ui.many.html import many_html, progress_html
from chipdemo.ui.many.logic import Many, Progress
from tests.drawn import picture
from tests.drawn_images import draw
from tests.fakes import fake_judge

HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture
def uploads(tmp_path):
    """20 dark images, which are stopped, a light one in a zip, and one that is no image."""
    Image.new("RGB", (40, 20), "white").save(light := BytesIO(), "PNG")
    with zipfile.ZipFile(tmp_path / "lot.zip", "w") as archive:
        archive.writestr("lot/light.png", light.getvalue())
        archive.writestr("../out.png", picture(1))
    (tmp_path / "bad").write_bytes(b"this is no image")
    dark = [(f"{number}.png", draw(tmp_path / f"{number}.png", number)) for number in range(20)]
    return [*dark, ("lot.zip", tmp_path / "lot.zip"), (HOSTILE, tmp_path / "bad")]


def judged(uploads, threshold=0.4):
    *told, last = many.inspect_uploads(fake_judge(), None, uploads, threshold, Limits())
    return told, last


def test_it_tells_how_far_it_is_and_ends_with_every_image_in_its_order(uploads):
    told, found = judged(uploads)
    assert [one.done for one in told] == [0, 16, 22] and told[-1].images == 22
    assert [tile.result["file"] for tile in found.tiles][-2:] == ["lot/light.png", HOSTILE]
    assert {tile.result["verdict"] for tile in found.tiles[:20]} == {"abnormal"}
    assert "leads out of the zip" in found.passed_over[0]
    assert Image.open(BytesIO(found.tiles[20].picture)).size == (240, 120)


def test_none_and_too_many_are_refused_with_the_way_to_do_it(uploads, monkeypatch):
    with pytest.raises(BatchError, match="found 0. Choose other files"):
        judged([])
    monkeypatch.setattr(many, "MOST", 10)
    with pytest.raises(BatchError, match="found 22. Use python -m chipdemo inspect"):
        judged(uploads)


def test_the_page_shows_counts_reasons_and_names_as_text(uploads):
    page = many_html(judged(uploads)[1])
    for count in ("<b>22</b> all", "<b>20</b> abnormal", "<b>1</b> normal", "<b>1</b> unreadable"):
        assert count in page
    assert page.count("<figure") == 22 and "<img src=x" not in page and "leads out of the zip" in page


def test_only_the_likeliest_are_pictures_on_the_page(uploads, monkeypatch):
    monkeypatch.setattr(many, "SHOWN", 5)
    page = many_html(judged(uploads)[1])
    assert page.count("<figure class='abnormal'") == 5 and "17 more are in the report" in page


def test_report_and_table_hold_all_of_them(uploads):
    files = many.report_files(judged(uploads)[1])
    assert files["report.html"].count(b"<figure>") == 21 and b"<img src=x" not in files["report.html"]
    assert files["inspections.csv"].count(b"\n") == 23


def test_progress_says_rate_and_time_left():
    assert "12 of 40 judged, 4.0 a second, about 7 s left" in progress_html(Progress(12, 40, 4.0))
    assert "0 of 40 judged</p>" in progress_html(Progress(0, 40, 0))


def test_another_threshold_gives_other_verdicts(uploads):
    found = judged(uploads, threshold=1.0)[1]
    assert isinstance(found, Many) and {t.result["verdict"] for t in found.tiles[:21]} == {"normal"}


def test_images_of_one_name_are_told_apart_and_no_path_of_the_server_is_told(uploads):
    twice = judged([*uploads[:2], ("0.png", uploads[1][1]), uploads[20]])[1]
    assert [tile.result["path"] for tile in twice.tiles] == [
        "0.png", "1.png", "0.png (2)", "lot.zip!lot/light.png",
    ]  # fmt: skip
