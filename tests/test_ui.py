"""The Inspect tab as functions of values, and what every page has."""

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from io import BytesIO
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from chipdemo.errors import CheckpointError, ImageTooLargeError, UnreadableImageError
from chipdemo.examples import (
    ELPV_CREDIT,
    Example,
    ExampleSet,
    elpv_example_set,
    elpv_examples,
    examples_of,
)
from chipdemo.images import decode_image
from chipdemo.inspection import CAM, CBAM, INVERSE, MeasuredOverlay, ModelInfo, OtherModel, default_method
from chipdemo.monitoring import Recent
from chipdemo.overlay import encode
from chipdemo.settings import Settings
from chipdemo.threshold import OperatingCurve, Target
from chipdemo.ui.html import header_html
from chipdemo.ui.inspect import html, logic, tab
from chipdemo.ui.inspect.example_strips import examples_html
from chipdemo.ui.inspect.layout import AUTOMATIC, layout
from chipdemo.ui.inspect.logic import Choices, Current
from chipdemo.ui.page import build_app
from chipdemo.ui.theme import stage_template
from chipdemo.ui.turns import Turns
from chipdemo.ui.uploads import uploaded_file, uploaded_path
from tests.fakes import INFO, METHODS, FakeModel, fake_judge

HOSTILE = "<img src=x onerror=alert(1)>${alert(2)}{{value}}{0}"


class MatchingModel(FakeModel):
    methods = (*METHODS, INVERSE)


@pytest.fixture
def dark(tmp_path) -> Path:
    """A black image: abnormal for the fake model, probability 1."""
    Image.new("RGB", (60, 40), "black").save(tmp_path / "dark.png")
    return tmp_path / "dark.png"


@pytest.fixture
def spot(tmp_path) -> Path:
    """Light, with a dark square at the left edge, which the fake matching finds 40 pixels further right."""
    image = Image.new("RGB", (90, 90), "white")
    image.paste("black", (0, 20, 30, 50))
    image.save(tmp_path / "spot.png")
    return tmp_path / "spot.png"


@pytest.fixture
def large(tmp_path) -> Path:
    """1600 x 1600, light with one dark square: abnormal in tiles, normal as a whole."""
    image = Image.new("RGB", (1600, 1600), (235, 235, 235))
    image.paste((20, 20, 20), (300, 300, 1000, 1000))
    image.save(tmp_path / "large.png")
    return tmp_path / "large.png"


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


def example_set(*examples: Example) -> ExampleSet:
    return ExampleSet(INFO.name, "drawings", "ours", examples)


def inspected(
    model: FakeModel, path: Path, threshold: float = 0.4, method: str = CAM, in_tiles: bool = True
) -> Current:
    choices = Choices(model.info.name, threshold, method, in_tiles)
    return logic.inspect_image(fake_judge(model), [model], (path.name, path), choices, 64)


def chosen(current: Current, method: str = CAM, in_tiles: bool = True) -> Current:
    choices = Choices(current.model.info.name, 0.4, method, in_tiles)
    return logic.computed_for(fake_judge(current.model), current, choices, 64)


def picture(uri: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_another_threshold_changes_the_verdict_without_running_the_model(model, tmp_path):
    Image.new("RGB", (60, 40), (128, 128, 128)).save(tmp_path / "gray.png")
    current = inspected(model, tmp_path / "gray.png", threshold=0.4)
    assert [current.to_json(threshold)["verdict"] for threshold in (0.4, 0.6)] == ["abnormal", "normal"]
    assert model.predictions == 1


def test_the_maps_at_hand_cost_no_explanation(model, dark):
    current = inspected(model, dark)
    chosen(current, CBAM)
    assert (model.predictions, model.explanations) == (1, 0)
    chosen(current, "Grad-CAM")
    assert (model.predictions, model.explanations) == (1, 1)


def test_an_image_with_a_matching_explanation_runs_the_network_once(dark):
    model = MatchingModel()
    current = inspected(model, dark, method=INVERSE)
    assert current.explanation.method == INVERSE and model.predictions == 1


def measured(*overlays: tuple[str, float], data: str = "chips") -> ModelInfo:
    return replace(INFO, overlays=tuple(MeasuredOverlay(*one, data) for one in overlays))


def test_the_overlay_that_measured_best_is_the_default_and_the_page_says_why(spot):
    model = MatchingModel()
    assert default_method(model) == CAM and html.overlay_reason(model) is None
    model.info = measured((INVERSE, 0.961), ("Grad-CAM", 0.5), (CAM, 0.457))
    assert default_method(model) == INVERSE
    assert html.overlay_reason(model) == (
        "Inverse matching: AUPRO 0.96 on chips, the best of 3 overlays measured."
    )
    assert inspected(model, spot, method="guess").explanation.method == INVERSE
    assert logic.carried_over(INFO, model, 0.4, "guess") == (0.4, INVERSE)
    assert logic.carried_over(INFO, model, 0.4, CBAM) == (0.4, CBAM)


def test_a_model_without_the_best_overlay_shows_the_next_best():
    model = FakeModel()  # without a memory bank
    model.info = measured((INVERSE, 0.961), ("Grad-CAM", 0.5), (CAM, 0.457), data="<b>chips</b>")
    assert default_method(model) == "Grad-CAM"
    assert html.overlay_reason(model) == (
        "Grad-CAM: AUPRO 0.50 on &lt;b&gt;chips&lt;/b&gt;, the best that this model offers of 3 overlays "
        "measured."
    )


def test_the_page_opens_with_the_default_overlay_and_its_reason():
    model = MatchingModel()
    model.info = measured((INVERSE, 0.961), (CAM, 0.457))
    app = build_app(fake_judge(model), Settings(), Recent(), [])
    (radio,) = (block for block in app.blocks.values() if getattr(block, "elem_id", "") == "method")
    assert radio.value == INVERSE and radio.info == html.overlay_reason(model)


def test_a_matching_shows_what_it_finds_and_other_explanations_the_regions_of_the_verdict(spot):
    current = inspected(MatchingModel(), spot)
    assert current.view()["regions"][0]["left"] == 0
    matched = chosen(current, INVERSE)
    assert 40 < matched.view()["regions"][0]["left"] < 50
    back = chosen(matched, CBAM)
    assert back.regions == current.regions == current.inspection.regions


def test_the_json_is_what_the_screen_shows(spot):
    current = inspected(MatchingModel(), spot)
    (verdicts,) = current.to_json(0.4)["regions"]
    for method, regions_method, left in ((CAM, CAM, 0), (INVERSE, INVERSE, 40), ("Grad-CAM", CAM, 0)):
        current = chosen(current, method)
        told = current.to_json(0.3)
        assert (told["method"], told["regions_method"]) == (method, regions_method)
        assert told["threshold"] == 0.3
        assert abs(told["regions"][0]["x"] - left) < 3
        assert len(told["regions"]) == len(current.view()["regions"])
    assert told["regions"] == [verdicts]


def test_the_json_names_the_file_and_the_date_with_its_time_zone(model, dark):
    before = datetime.now().astimezone().replace(microsecond=0)
    told = json.loads(json.dumps(inspected(model, dark).to_json(0.4)))
    date = datetime.fromisoformat(told["date"])
    assert told["file"] == "dark.png" and date.utcoffset() is not None
    assert before <= date <= datetime.now().astimezone()


def test_a_large_image_as_a_whole_and_in_tiles_runs_each_view_once(model, large):
    current = inspected(model, large)
    tiles = current.inspection.tiles.count
    assert current.to_json(0.4)["verdict"] == "abnormal" and model.predictions == 1 + tiles
    whole = chosen(current, in_tiles=False)
    assert whole.to_json(0.4)["verdict"] == "normal" and whole.to_json(0.4)["tiles"]["seen"] == 0
    assert chosen(whole).to_json(0.4)["regions"] == current.to_json(0.4)["regions"]
    assert model.predictions == 1 + tiles


def test_an_image_inspected_as_a_whole_is_inspected_in_tiles_when_that_is_chosen(model, large):
    whole = inspected(model, large, in_tiles=False)
    assert model.predictions == 1
    assert chosen(whole).to_json(0.4)["tiles"]["seen"] == whole.inspection.tiles.count


class Waiting(FakeModel):
    """Inspects dark images when it is told to."""

    def __init__(self):
        super().__init__()
        self.reached, self.go_on = threading.Event(), threading.Event()

    def predict(self, views, methods=()):
        if views[0].pixels.mean() < 50:
            self.reached.set()
            self.go_on.wait(20)
        return super().predict(views, methods)


def test_an_image_that_is_answered_after_a_newer_one_changes_nothing(dark, spot):
    model, turns = Waiting(), Turns()
    examples = [example_set(Example(dark, ""), Example(spot, ""))]
    with gr.Blocks():
        parts = layout(fake_judge(model), gr.HTML(), Settings(), examples)
    handlers = tab.Handlers(parts, fake_judge(model), Settings(), Recent())

    def inspect(index: int) -> dict:
        chosen = gr.SelectData(None, {"index": index, "value": ""})
        return handlers.on_example(turns, None, AUTOMATIC, INFO, 0.4, CAM, "tiles", chosen)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(inspect, 0)
        assert model.reached.wait(20)
        current = inspect(1)[parts.current]
        model.go_on.set()
        assert not isinstance(first.result()[parts.current], Current)
    assert current.name == "spot.png"
    shown = handlers.on_computed(current, turns, INFO, 0.4, CAM)
    assert shown[parts.stage]["name"] == "spot.png"
    turns.begin("image")  # a third image is being inspected: nothing is shown meanwhile
    assert parts.verdict not in handlers.on_computed(current, turns, INFO, 0.4, CAM)


def test_what_is_shown_has_the_threshold_of_that_moment(dark):
    model, turns = FakeModel(), Turns()
    with gr.Blocks():
        parts = layout(fake_judge(model), gr.HTML(), Settings(), [example_set(Example(dark, ""))])
    handlers = tab.Handlers(parts, fake_judge(model), Settings(), Recent())
    chosen = gr.SelectData(None, {"index": 0, "value": ""})
    current = handlers.on_example(turns, None, AUTOMATIC, INFO, 0.4, CAM, "tiles", chosen)[parts.current]
    for typed, threshold in ((1, 1), ("0,3", 0.3), (5, 1), (-1, 0), (None, 0.4), ("abc", 0.4)):
        shown = handlers.on_computed(current, turns, INFO, typed, CAM)
        assert shown[parts.raw]["threshold"] == threshold and parts.threshold not in shown
        assert handlers.on_threshold(current, turns, INFO, typed)[parts.raw] == shown[parts.raw]


@pytest.fixture
def shown_meanwhile(dark, monkeypatch):
    """(current, turns, handlers, during); during(act): act while the next verdict is made."""
    model, turns = FakeModel(), Turns()
    with gr.Blocks():
        parts = layout(fake_judge(model), gr.HTML(), Settings(), [])
    handlers = tab.Handlers(parts, fake_judge(model), Settings(), Recent())
    verdict_html = html.verdict_html

    def during(act):
        def act_first(*arguments):
            monkeypatch.setattr(html, "verdict_html", verdict_html)
            act()
            return verdict_html(*arguments)

        monkeypatch.setattr(html, "verdict_html", act_first)

    return replace(inspected(model, dark), turn=turns.begin("image")), turns, handlers, during


def test_a_verdict_that_comes_late_does_not_replace_the_one_of_a_newer_threshold(shown_meanwhile):
    current, turns, handlers, during = shown_meanwhile
    raw, newer = handlers.parts.raw, []
    during(lambda: newer.append(handlers.on_threshold(current, turns, INFO, 1)))
    late = handlers.on_computed(current, turns, INFO, 0.4, CAM)
    assert late[handlers.parts.stage]["name"] == "dark.png" and raw not in late
    assert newer[0][raw]["threshold"] == 1


@pytest.mark.parametrize("event", ["on_computed", "on_threshold", "on_reset"])
def test_a_verdict_that_comes_late_does_not_replace_the_one_of_a_newer_image(shown_meanwhile, event):
    current, turns, handlers, during = shown_meanwhile
    choices = {"on_computed": (0.4, CAM), "on_threshold": (0.4,), "on_reset": ()}[event]
    handle = partial(getattr(handlers, event), current, turns, INFO, *choices)
    assert handlers.parts.raw in handle()
    during(lambda: turns.begin("image"))
    late = handle()
    assert handlers.parts.raw not in late and late.get(handlers.parts.stage, gr.skip()) == gr.skip()


def test_what_judges_at_a_threshold_starts_in_the_order_of_the_requests():
    app = build_app(fake_judge(FakeModel()), Settings(), Recent(), [])
    in_order = {fn.name for fn in app.fns.values() if fn.concurrency_id == "threshold"}
    assert in_order >= {"on_computed", "on_threshold", "on_reset"}


@pytest.mark.parametrize("method", METHODS)
def test_each_explanation_says_what_it_shows(model, dark, method):
    view = inspected(model, dark, method=method).view()
    assert view["method"] == method and view["explanation"].startswith(f"{method}: ")


@pytest.mark.parametrize("method", METHODS[1:])
def test_only_the_cam_may_be_red(model, dark, method):
    pixels = np.asarray(picture(inspected(model, dark, method=method).view()["heat"])).astype(int)
    assert (pixels[..., 0] <= pixels[..., 2]).all()


def test_the_page_shows_the_decoded_upright_image_and_not_the_upload(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), "gray").save(tmp_path / "turned.jpg", exif=exif)
    current = inspected(model, tmp_path / "turned.jpg")
    view = current.view()
    assert (view["width"], view["height"]) == (40, 60) == picture(view["photo"]).size
    assert current.notes and all(note in view["about"] for note in current.notes)


def test_a_16_bit_image_is_shown_scaled_with_a_note(model, tmp_path):
    values = np.linspace(1000, 4000, 2400).astype(np.uint16).reshape(40, 60)
    Image.fromarray(values).save(tmp_path / "deep.tif")
    current = inspected(model, tmp_path / "deep.tif")
    assert picture(current.view()["photo"]).convert("L").getextrema() == (0, 255)
    assert current.to_json(0.4)["notes"] == list(current.notes) != []


def test_a_large_image_travels_as_a_bounded_preview_and_regions_keep_their_position(model, tmp_path):
    Image.new("RGB", (4000, 1000), "black").save(tmp_path / "large.png")
    view = inspected(model, tmp_path / "large.png").view()
    assert picture(view["photo"]).size == (1600, 400)
    assert view["regions"] == [{"left": 0, "top": 0, "width": 100, "height": 100}]


def test_an_image_over_the_limit_is_refused(model, tmp_path):
    Image.new("1", (2000, 1000)).save(tmp_path / "large.png")
    file, choices = ("large.png", tmp_path / "large.png"), Choices(model.info.name, 0.4, CAM, True)
    with pytest.raises(ImageTooLargeError):
        logic.inspect_image(fake_judge(model), [model], file, choices, 1)
    assert model.predictions == 0


def test_the_overlay_shows_boxes_and_heat_as_the_screen_does(model, spot):
    current = inspected(model, spot)

    def overlay(opacity: float, boxes: bool) -> bytes:
        content = logic.overlay_file(current, 0.4, opacity, boxes, 64)
        with Image.open(BytesIO(content)) as image:
            assert (image.format, image.width) == ("PNG", 90)
            return image.crop((0, 0, 90, 90)).tobytes()

    with Image.open(spot) as image:
        plain = image.convert("RGB").tobytes()
    assert overlay(0, False) == plain
    assert overlay(0, True) != plain != overlay(0.8, False)
    assert len({overlay(0.8, True), overlay(0.8, False), overlay(0.4, False)}) == 3


def test_the_caption_of_the_overlay_has_the_facts_at_the_threshold_that_is_shown(model, spot):
    inspection = inspected(model, spot).inspection
    caption = " ".join(html.caption_of(inspection.at_threshold(0.05), "Grad-CAM"))
    for fact in ("abnormal", f"{inspection.abnormal_probability:.2f}", "0.05", "fake-model", "Grad-CAM"):
        assert fact in caption
    red = replace(inspection, out_of_distribution=True)
    assert html.caption_of(red, CAM)[0] == "out of distribution"


def test_the_verdict_says_what_its_threshold_means_and_on_what(model, dark):
    text = html.verdict_html(inspected(model, dark).inspection, INFO)
    assert "class='verdict abnormal'" in text
    for rate in (
        "detects <strong>3 of 4</strong> abnormal images",
        "(75 %, 95 % interval 19–99 %)",
        "flags <strong>1 of 5</strong> normal images",
        "(20 %, 95 % interval 1–72 %)",
    ):
        assert rate in text
    assert "drawn chips, validation, 9 images" in text


def test_a_threshold_that_flags_nothing_shows_no_nan():
    assert "<strong>0 of 4</strong>" in html.meaning(INFO, 1.0) and "nan" not in html.meaning(INFO, 1.0)


def test_before_an_image_the_rates_on_the_test_split_are_shown_with_their_intervals():
    text = html.intro_html(INFO)
    for rate in (
        "Right about <strong>9 of 10</strong> images",
        "(90 %, 95 % interval 55–100 %)",
        "Detects <strong>4 of 5</strong> abnormal images",
        "Flags <strong>0 of 5</strong> normal images",
        "(0 %, 95 % interval 0–52 %)",
        "AUROC <strong>0.960</strong> <small class='uncertainty'>(95 % interval ",
    ):
        assert rate in text
    untested = replace(INFO, test=OperatingCurve("no test images", (), ()))
    assert "<li>" not in html.intro_html(untested)


@pytest.mark.parametrize(
    "probability, threshold, shown",
    [(0.8, 0.4, ("0.80", "0.40")), (0.9962, 0.9958, ("0.9962", "0.9958")), (0.4, 0.4, ("0.40000",) * 2)],
)
def test_the_verdict_shows_as_many_decimals_as_it_takes(probability, threshold, shown):
    assert html.told_apart(probability, threshold) == shown


LINE = replace(  # 100 normal images and 40 abnormal ones, evenly spread
    INFO,
    validation=OperatingCurve(
        "a line, 140 images",
        (*(n / 200 for n in range(100)), *(0.3 + n / 100 for n in range(40))),
        (*[False] * 100, *[True] * 40),
    ),
)


@pytest.fixture
def chooser(dark):
    """A function: metric, percent, ModelInfo -> (updates of parts, parts), after an image was inspected."""
    model = FakeModel()
    with gr.Blocks():
        parts = layout(fake_judge(model), gr.HTML(), Settings(), [])
    handlers, current = (
        tab.Handlers(parts, fake_judge(model), Settings(), Recent()),
        inspected(model, dark),
    )

    def choose(metric, percent, info=LINE):
        return handlers.on_target(metric, current, Turns(), info, percent), parts

    return choose


@pytest.mark.parametrize("percent", [90, "90", "90,0"])
def test_a_threshold_is_chosen_by_the_recall_it_promises_and_its_cost_is_shown(chooser, percent):
    updates, parts = chooser("recall", percent)
    # Of 40 images, 2 or more are among the lowest tenth in 92 % of draws, 3 or more in 78 %
    assert updates[parts.threshold] == 0.30999 and updates[parts.raw]["threshold"] == 0.30999
    assert "to detect at least 90 % of new abnormal images, with 90 % confidence" in updates[parts.promise]
    assert "Cost: flags <strong>38 of 100</strong> normal images" in updates[parts.promise]


def test_a_threshold_is_chosen_by_the_false_positive_rate_it_promises(chooser):
    updates, parts = chooser("fpr", 5)
    # Of 100 images, 3 or more are among the highest twentieth in 88 % of draws, 2 or more in 96 %
    assert updates[parts.threshold] == 0.49001
    assert "Detects <strong>20 of 40</strong> abnormal images" in updates[parts.promise]


def test_where_the_images_are_too_few_the_nearest_promise_is_offered_and_the_threshold_stays(chooser):
    updates, parts = chooser("recall", 99)
    assert parts.threshold not in updates and parts.verdict not in updates
    text = updates[parts.promise]
    assert "that takes 230 abnormal validation images, and there are 40. They are enough for 94.4 %." in text
    assert updates[parts.targets["recall"].percent] == 94.4
    assert parts.threshold in chooser("recall", 94.4)[0]


@pytest.mark.parametrize("percent", ["", None, "many", 0, 100, "nan"])
def test_what_is_no_percentage_is_refused(chooser, percent):
    updates, parts = chooser("fpr", percent)
    assert "above 0 and below 100" in updates[parts.promise] and parts.threshold not in updates


def test_a_model_of_good_images_alone_can_only_promise_a_false_positive_rate(chooser):
    goods = replace(
        INFO, validation=OperatingCurve("good chips", tuple(n / 99 for n in range(99)), (False,) * 99)
    )
    assert (tab.has_images(goods, "recall"), tab.has_images(goods, "fpr")) == (False, True)
    updates, parts = chooser("fpr", 5, goods)
    assert "How many abnormal images it detects is not known" in updates[parts.promise]
    assert "has no abnormal validation images" in chooser("recall", 95, goods)[0][parts.promise]


def test_moving_the_slider_takes_the_promise_back_and_reset_shows_the_one_of_the_start(dark):
    model = FakeModel()
    with gr.Blocks():
        parts = layout(fake_judge(model), gr.HTML(), Settings(), [])
    handlers, current = (
        tab.Handlers(parts, fake_judge(model), Settings(), Recent()),
        inspected(model, dark),
    )
    info = replace(LINE, threshold=0.30999, target=Target("recall", 0.9))
    assert handlers.on_threshold(current, Turns(), info, 0.2)[parts.promise] == ""
    reset = handlers.on_reset(current, Turns(), info)
    assert reset[parts.threshold] == 0.30999 and "at least 90 %" in reset[parts.promise]
    assert handlers.on_reset(current, Turns(), LINE)[parts.promise] == ""
    assert (tab.reset_label(info), tab.reset_label(LINE)) == ("Back to 0.31", "Model's own 0.40")


def test_without_a_known_defect_there_is_only_a_false_positive_rate():
    goods = replace(INFO, validation=OperatingCurve("5 good chips", (0.1, 0.2, 0.3, 0.4, 0.6), (False,) * 5))
    text = html.meaning(goods, 0.5)
    assert "<strong>1 of 5</strong>" in text and text.count("<strong>") == 1


def test_an_image_out_of_distribution_gets_no_verdict_in_red(model, tmp_path):
    Image.new("RGB", (60, 40), "red").save(tmp_path / "red.png")
    text = html.verdict_html(inspected(model, tmp_path / "red.png").inspection, INFO)
    assert "class='verdict out_of_distribution'" in text and "2.5" in text
    assert "ABNORMAL" not in text


def test_names_from_outside_are_escaped(model, dark):
    info = replace(INFO, name=HOSTILE, data=HOSTILE, test=replace(INFO.test, split=HOSTILE))
    info = replace(info, validation=replace(INFO.validation, split=HOSTILE))
    strange = replace(inspected(model, dark).inspection, out_of_distribution=True)
    verdict = html.verdict_html(strange, info)
    for text in (header_html(info), html.intro_html(info), html.own_model_html(info), verdict):
        assert "<img" not in text and "{0}" in text


def test_no_value_passes_through_the_template_that_gradio_evaluates():
    assert not any(part in stage_template() for part in ("${", "{{", "`"))


def test_examples_name_their_license_and_a_missing_package_its_name():
    assert ELPV_CREDIT in examples_html(FakeModel(), [elpv_example_set("elpv")])
    assert "<code>elpv-dataset</code>" in examples_html(FakeModel(), ())


def test_the_examples_of_the_model_that_judged_come_first_and_keep_their_numbers(dark, spot):
    sets = [
        ExampleSet("other", "cells", "A", (Example(spot, "of others"),)),
        example_set(Example(dark, "own")),
    ]
    shown = examples_html(FakeModel(), sets)
    assert shown.index("data-index='1'") < shown.index("data-index='0'")
    assert shown.index("drawings · ours") < shown.index("cells · A")


def test_the_examples_of_a_checkpoint_are_read_from_its_folder(dark, tmp_path):
    assert examples_of(tmp_path, "chips") is None
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "one.png").write_bytes(dark.read_bytes())
    about = {"title": "drawings", "credit": "ours", "images": {"one.png": "one", "gone.png": "missing"}}
    (tmp_path / "examples" / "examples.json").write_text(json.dumps(about))
    path = tmp_path / "examples" / "one.png"
    assert examples_of(tmp_path, "chips") == ExampleSet("chips", "drawings", "ours", (Example(path, "one"),))


@pytest.mark.parametrize(
    "content", ["no JSON", "[]", '{"images": {}}', '{"images": 5, "title": "", "credit": ""}']
)
def test_damaged_examples_of_a_checkpoint_are_an_error_that_names_the_file(tmp_path, content):
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "examples.json").write_text(content)
    with pytest.raises(CheckpointError, match="examples.json is damaged"):
        examples_of(tmp_path, "chips")


def test_an_example_that_lies_outside_its_folder_is_not_shown(dark, tmp_path):
    (tmp_path / "examples").mkdir()
    (tmp_path / "private.png").write_bytes(dark.read_bytes())
    (tmp_path / "examples" / "link.png").symlink_to(tmp_path / "private.png")
    images = {"../private.png": "", str(tmp_path / "private.png"): "", "link.png": ""}
    about = {"title": "", "credit": "", "images": images}
    (tmp_path / "examples" / "examples.json").write_text(json.dumps(about))
    assert examples_of(tmp_path, "chips").examples == ()


def test_the_verdict_says_which_of_several_models_judged():
    inspection = fake_judge().inspect(decode_image(Image.new("RGB", (8, 8), "black")))
    assert "Judged by" not in html.verdict_html(inspection, INFO)
    inspection = replace(inspection, other_models=(OtherModel("other", "0", 3.0),))
    assert "<strong>fake-model</strong>, which knows this image best of 2" in html.verdict_html(
        inspection, INFO
    )
    unknown = replace(inspection, out_of_distribution=True, distance=2.5)
    assert (
        "None of the 2 models knows such images. <strong>fake-model</strong> comes nearest."
        in html.verdict_html(unknown, INFO)
    )


def test_the_examples_of_a_taught_model_are_images_of_its_part():
    model = FakeModel()
    model.methods, model.copies = (
        (INVERSE,),
        tuple(encode(Image.new("RGB", (8, 8), (gray,) * 3), "JPEG") for gray in range(20)),
    )
    shown = examples_html(model, ())
    assert shown.count("<img") == 6 and "good image 20" in shown
    assert "<button" not in shown
    model.copies = ()
    assert "<img" not in examples_html(model, ())


def test_the_examples_are_there_and_readable(model):
    examples = elpv_examples()
    assert len(examples) == 6
    for example in examples:
        assert inspected(model, example.path).inspection.image_size == (300, 300)


def test_a_path_that_was_not_uploaded_is_refused(dark):
    for payload in (
        str(dark),
        {"path": str(dark)},
        {"path": f"{get_upload_folder()}/../../etc/passwd"},
        None,
        {},
    ):
        with pytest.raises(UnreadableImageError):
            uploaded_path(payload)


def test_an_upload_has_the_name_that_its_visitor_knows_it_by():
    path = Path(get_upload_folder()).resolve() / "0123" / "cell 1.png"
    assert uploaded_file({"path": str(path), "orig_name": "zelle #1.png"}) == ("zelle #1.png", path)
    assert uploaded_file({"path": str(path)}) == ("cell 1.png", path)


@pytest.mark.parametrize(
    "name, stem",
    [
        ("cell0001.png", "cell0001"),
        ("../../etc/passwd", "passwd"),
        ("a b;rm.png", "a_b_rm"),
        (".png", "png"),
        ("", "image"),
    ],
)
def test_a_download_has_a_harmless_name(name, stem):
    assert logic.file_stem(name) == stem


def test_only_what_judges_images_is_part_of_the_api(model, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "example.png")
    app = build_app(
        fake_judge(model), Settings(), Recent(), [example_set(Example(tmp_path / "example.png", "drawn"))]
    )
    assert list(app.get_api_info()["named_endpoints"]) == ["/inspect", "/inspect_batch", "/compare"]
    assert not app.get_api_info()["unnamed_endpoints"]
