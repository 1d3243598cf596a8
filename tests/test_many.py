"""Many images at once in the Inspect tab."""

import csv
import re
import zipfile
from io import BytesIO, StringIO
from pathlib import Path

import gradio as gr
import pyarrow.parquet as pq
import pytest
from PIL import Image

from chipdemo.batch.report import CSV, HTML, PARQUET
from chipdemo.errors import BatchError
from chipdemo.files import DEFAULT_LIMITS, Limits
from chipdemo.images import read_image
from chipdemo.inspection import Model
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.monitoring import Recent
from chipdemo.settings import Settings
from chipdemo.ui.inspect import tab as inspect_tab
from chipdemo.ui.inspect.layout import AUTOMATIC, IN_TILES
from chipdemo.ui.inspect.layout import layout as inspect_layout
from chipdemo.ui.label.adding import add_selected
from chipdemo.ui.many import logic, tab
from chipdemo.ui.many.html import gallery_view, judged_view, meaning_html, progress_html
from chipdemo.ui.many.logic import Many, Progress
from chipdemo.ui.tiles import Tiles
from chipdemo.ui.turns import Turns
from tests.drawn import picture
from tests.drawn_images import draw
from tests.fakes import INFO, FakeModel, Knows, TaughtModel, fake_judge

HOSTILE = "<img src=x onerror=alert(1)>.png"
LIGHT = 20  # the row of the image in the zip


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


@pytest.fixture
def grays(tmp_path) -> list[tuple[str, Path]]:
    """A dark and a light image, each known by one of two models: dark-parts flags from 0.1, light-parts
    from 0.9."""
    for name, level in (("dark", 26), ("light", 230)):
        Image.new("RGB", (40, 40), (level,) * 3).save(tmp_path / f"{name}.png")
    return [(f"{name}.png", tmp_path / f"{name}.png") for name in ("dark", "light")]


@pytest.fixture
def both() -> tuple[Model, ...]:
    return Knows("dark-parts", 0.1), Knows("light-parts", 0.9)


def inspected(uploads, threshold=0.4, models=None) -> tuple[list[Progress], Many]:
    models = models or [FakeModel()]
    *progress, many = logic.inspect_uploads(fake_judge(models[0]), models, uploads, threshold, Limits())
    return progress, many


def outcomes(many: Many) -> list[str]:
    return [tile.group for tile in many.tiles]


def handlers_of(*models: Model, labels: bool = False) -> tab.Handlers:
    judge = Judge(Models(*models))
    with gr.Blocks():
        chosen = inspect_layout(judge, gr.HTML(), Settings(), [], labels)
        parts = tab.layout(1 + len(models))
    return tab.Handlers(
        parts, inspect_tab.Handlers(chosen, judge, Settings(), Recent(), Tiles()), Settings(), labels
    )


@pytest.fixture
def handlers(monkeypatch) -> tab.Handlers:
    monkeypatch.setattr(tab, "uploaded_files", lambda payload: payload)
    return handlers_of(FakeModel())


def test_it_reports_progress_and_ends_with_every_image_in_its_order(uploads):
    progress, many = inspected(uploads)
    assert [one.done for one in progress] == [0, 16, 24] and progress[-1].images == 24
    names = [tile.result["file"] for tile in many.tiles]
    assert names[-4:] == ["lot/light.png", "../out.png", "red.png", HOSTILE]
    assert set(outcomes(many)[:20]) == {"abnormal"}
    assert len(many.passed_over) == 1 and "lot.zip" in many.passed_over[0]
    assert Image.open(many.tiles[LIGHT].picture).size == (240, 120)


def test_an_image_that_cannot_be_drawn_has_no_picture_and_all_else(uploads, monkeypatch):
    def overlay(image, *arguments):
        if image.size == (240, 120):
            raise ValueError("light")
        return drawn(image, *arguments)

    drawn = logic.overlay
    monkeypatch.setattr(logic, "overlay", overlay)
    _, many = inspected(uploads)
    assert many.tiles[LIGHT].picture is None and many.tiles[LIGHT].group == "normal"
    assert many.tiles[0].picture and b"light.png" in logic.report_file(many, HTML)


def test_results_without_pictures_have_what_a_zip_refuses(uploads, tmp_path):
    (tmp_path / "damaged").write_bytes(b"PK\x03\x04 and nothing more")
    given = [uploads[LIGHT], ("b.zip", tmp_path / "damaged")]
    results = logic.results_of(fake_judge(), [FakeModel()], given, 0.4, Limits())
    assert [(one["path"], bool(one["error"])) for one in results] == [
        ("lot.zip!lot/light.png", False),
        ("lot.zip!../out.png", True),
        ("b.zip", True),
    ]


def test_out_of_distribution_is_a_group_of_its_own_and_the_groups_add_up(uploads):
    _, many = inspected(uploads)
    assert many.counts == {"abnormal": 20, "out_of_distribution": 1, "normal": 1, "unreadable": 2}
    judged = judged_view(many)
    assert judged["counts"] == many.counts and len(judged["groups"]) == 24
    assert judged["groups"].count("out_of_distribution") == 1


def test_the_gallery_shows_defects_first_and_what_cannot_be_read_last(uploads):
    _, many = inspected(uploads)
    shown = [many.tiles[row] for row in judged_view(many)["order"]]
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


def test_what_was_chosen_later_ends_what_is_being_inspected(uploads, handlers):
    turns, parts = Turns(), handlers.parts
    first = handlers.on_files(uploads, turns, None, AUTOMATIC, INFO, 0.4)
    assert parts.progress in next(first) and parts.progress in next(first)
    handlers.on_newer(turns)
    assert list(first) == []
    *_, last = handlers.on_files(uploads[:2], turns, None, AUTOMATIC, INFO, 0.4)
    assert len(last[parts.many].tiles) == 2


def test_stop_ends_it_too(uploads, handlers):
    turns = Turns()
    running = handlers.on_files(uploads, turns, None, AUTOMATIC, INFO, 0.4)
    next(running)
    assert "many-refused" in handlers.on_stop(turns)[handlers.parts.message]
    assert list(running) == []


def test_an_image_as_large_as_a_photograph_leaves_little_in_the_memory_of_the_app(tmp_path):
    Image.new("RGB", (1600, 1600), (20, 20, 20)).save(tmp_path / "large.png")
    (tile,) = inspected([("large.png", tmp_path / "large.png")])[1].tiles
    kept = tile.inspected.inspection
    assert kept.tiles.seen and kept.tiles.whole is None and tile.inspected.prepared is None
    assert not kept.embedding.size and not any(heatmap.size for heatmap in kept.heatmaps.values())
    assert tile.inspected.image.file.source == b""


def test_report_and_tables_hold_all_of_them(uploads):
    many = inspected(uploads)[1]
    page = logic.report_file(many, HTML)
    assert page.count(b"<figure>") == 22 and b"<img src=x" not in page
    assert logic.report_file(many, CSV).count(b"\n") == 25
    assert pq.read_table(BytesIO(logic.report_file(many, PARQUET))).num_rows == 24


def test_progress_has_rate_and_time_left():
    page = progress_html(Progress(12, 40, 4.0))
    assert "width: 30.0%" in page and re.findall(r"\d+(?:\.\d+)?", page)[-4:] == ["12", "40", "4.0", "7"]
    assert "width: 0.0%" in progress_html(Progress(0, 40, 0))


def test_a_moved_threshold_judges_gallery_and_files_anew_and_runs_no_model(uploads):
    model = FakeModel()
    many = inspected(uploads, models=[model])[1]
    ran = model.predictions
    moved = many.at_thresholds([1.0])
    assert moved.counts == {"abnormal": 0, "out_of_distribution": 1, "normal": 21, "unreadable": 2}
    assert judged_view(moved)["order"][0] == 22 and many.counts["abnormal"] == 20
    rows = list(csv.DictReader(StringIO(logic.report_file(moved, CSV).decode("utf-8-sig"))))
    assert (rows[0]["outcome"], rows[0]["verdict"], rows[0]["threshold"]) == ("normal", "normal", "1.0")
    page = logic.report_file(moved, HTML).decode()
    assert "decision threshold 1.000" in page and "Threshold 1. On drawn chips, validation" in page
    assert model.predictions == ran


def test_a_moved_threshold_says_what_it_does_to_held_out_images(uploads, handlers):
    *_, last = handlers.on_files(uploads[:2], Turns(), None, AUTOMATIC, INFO, 0.4)
    parts = handlers.parts
    meaning = parts.thresholds[0].meaning
    assert "3 of 4" in last[meaning] and "1 of 5" in last[meaning]
    moved = handlers.on_threshold(last[parts.many], 0.7, 0.5)
    assert "2 of 4" in moved[meaning] and "0 of 5" in moved[meaning]
    assert parts.thresholds[1].meaning not in moved  # no other model judged


def test_each_model_that_judged_has_a_threshold_of_its_own(grays, both):
    many = inspected(grays, None, both)[1]
    assert [info.name for info in many.judges] == ["dark-parts", "light-parts"]
    assert many.thresholds == (0.1, 0.9) and outcomes(many) == ["abnormal", "normal"]
    assert outcomes(many.at_thresholds([0.95, 0.9])) == ["normal", "normal"]
    moved = many.at_thresholds([0.1, 0.05])
    assert outcomes(moved) == ["abnormal", "abnormal"]
    page = logic.report_file(moved, HTML).decode()
    assert "dark-parts: Threshold 0.1." in page and "light-parts: Threshold 0.05." in page
    assert "decision threshold" not in page  # there is not one
    assert [tile["model"] for tile in gallery_view(many, labels=False)["tiles"]] == [
        "dark-parts",
        "light-parts",
    ]


def test_a_model_that_judged_none_has_no_threshold_there(grays, both):
    many = inspected(grays[:1], None, both)[1]
    assert [info.name for info in many.judges] == ["dark-parts"] and len(many.thresholds) == 1


def test_a_model_that_was_taught_judges_them(uploads, handlers):
    own = TaughtModel("my-chip")
    *_, last = handlers.on_files(uploads, Turns(), own, "my-chip", INFO, 0.4)
    many = last[handlers.parts.many]
    assert [info.name for info in many.judges] == ["my-chip"] and many.thresholds == (0.5,)
    assert last[handlers.parts.thresholds[0].slider].label == "Decision threshold of my-chip"


def test_a_promise_is_said_at_the_threshold_that_keeps_it():
    assert "held-out images" in meaning_html(INFO, 0.4)


def test_images_of_one_name_are_told_apart_and_no_path_of_the_server_is_told(uploads):
    _, twice = inspected([*uploads[:2], ("0.png", uploads[1][1]), uploads[LIGHT]])
    assert [tile.result["path"] for tile in twice.tiles] == [
        "0.png", "1.png", "0.png (2)", "lot.zip!lot/light.png", "lot.zip!../out.png",
    ]  # fmt: skip


def opened(handlers: tab.Handlers, many: Many, row: int, *thresholds: float) -> inspect_tab.Updates:
    chosen = gr.SelectData(None, {"index": row, "value": ""})
    return handlers.on_open(many, Turns(), INFO, "Grad-CAM", IN_TILES, chosen, *thresholds)


def test_an_image_of_the_gallery_opens_at_the_threshold_that_it_has_there(uploads, handlers):
    many, chosen = inspected(uploads)[1], handlers.inspecting.parts
    updates = opened(handlers, many, 3, 0.9)
    current = updates[chosen.current]
    assert (current.name, current.path) == uploads[3] and current.explanation.method == "Grad-CAM"
    assert current.inspection.threshold == 0.9 == updates[chosen.threshold]
    assert updates[chosen.back].visible


def test_an_image_in_a_zip_opens_too(uploads, handlers):
    many, chosen = inspected(uploads)[1], handlers.inspecting.parts
    current = opened(handlers, many, LIGHT, 0.4)[chosen.current]
    assert current.name == "lot/light.png" and current.inspection.verdict == "normal"
    assert read_image(current.path).image.size == (40, 20)


def test_an_image_opens_with_the_model_that_judged_it(grays, both):
    handlers = handlers_of(*both)
    many, chosen = inspected(grays, None, both)[1], handlers.inspecting.parts
    updates = opened(handlers, many, 1, 0.1, 0.05)
    current = updates[chosen.current]
    assert current.model is both[1] and updates[chosen.shown_model] == both[1].info
    assert updates[chosen.threshold] == 0.05 and current.explanation.method == "CAM"
    shown = handlers.inspecting.on_computed(current, turns_at(current.turn), both[1].info, 0.05, "CAM")
    assert "ABNORMAL" in shown[chosen.verdict] and "best of 2 models" in shown[chosen.verdict]


def turns_at(turn: int) -> Turns:
    turns = Turns()
    assert turns.begin(inspect_tab.IMAGE) == turn
    return turns


def test_an_image_whose_upload_is_gone_says_so(uploads, handlers):
    many, chosen = inspected(uploads)[1], handlers.inspecting.parts
    uploads[LIGHT][1].unlink()
    assert "Drop them again" in opened(handlers, many, LIGHT, 0.4)[chosen.current].message
    with pytest.raises(gr.Error, match="Drop them again"):
        opened(handlers, None, LIGHT, 0.4)


@pytest.mark.parametrize("row", [-1, 24, "1", None, 0.5])
def test_a_row_that_is_none_is_refused(uploads, handlers, row):
    with pytest.raises(gr.Error):
        opened(handlers, inspected(uploads)[1], row, 0.4)


def test_selected_images_go_to_the_queue_those_in_a_zip_too(uploads, journal):
    many = inspected(uploads)[1]
    added = add_selected(journal, many, [3, LIGHT, 23], DEFAULT_LIMITS)
    assert (added.added, added.known) == (2, 0) and added.refused[0].startswith(HOSTILE)
    again = add_selected(journal, many, [LIGHT], DEFAULT_LIMITS)
    assert (again.added, again.known) == (0, 1)
