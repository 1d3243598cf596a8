"""Events that cross on the Inspect tab, in a real browser: the last choice wins, none is written back."""

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chipdemo.inspection import Prediction
from chipdemo.view import View
from tests.browser.test_inspect_page import FILE, choose, wait_for_word
from tests.fakes import FakeModel
from tests.serving import served

WAIT_S = 20  # for a condition, on a slow machine
FIELD = "#threshold input[type=number]"


class HeldModel(FakeModel):
    """Waits inside a prediction, or an explanation, while it is held."""

    def __init__(self):
        super().__init__()
        self.reached, self.released = threading.Event(), threading.Event()
        self.released.set()

    def hold(self) -> None:
        """The next call waits; later ones do not."""
        self.reached.clear()
        self.released.clear()

    def release(self) -> None:
        self.released.set()

    def predict(self, views: Sequence[View], methods: Sequence[str] = ()) -> list[Prediction]:
        self._wait()
        return super().predict(views, methods)

    def explain(self, view: View, method: str) -> np.ndarray:
        self._wait()
        return super().explain(view, method)

    def _wait(self) -> None:
        if not self.reached.is_set() and not self.released.is_set():
            self.reached.set()
            self.released.wait(WAIT_S)


@pytest.fixture
def model() -> Iterator[HeldModel]:
    model = HeldModel()
    yield model
    model.release()


@pytest.fixture
def address(model) -> Iterator[str]:
    with served(model) as address:
        yield address


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """large.png and again.png: light with a dark square, abnormal in tiles, normal as a whole."""
    path = tmp_path_factory.mktemp("large") / "large.png"
    image = Image.new("RGB", (1600, 1600), (235, 235, 235))
    image.paste((20, 20, 20), (300, 300, 1000, 1000))
    image.save(path)
    image.save(path.with_name("again.png"))
    return path


def hold(model: HeldModel, act) -> None:
    """Act, and come back when the model waits."""
    model.hold()
    act()
    assert model.reached.wait(WAIT_S)


def result(page, path: Path) -> dict:
    """What the download says."""
    with page.expect_download() as download:
        page.click("#get-json")
    download.value.save_as(path)
    return json.loads(path.read_text(encoding="utf-8"))


def set_threshold(page, key: str) -> None:
    page.locator("#threshold input[type=range]").focus()
    page.keyboard.press(key)


def wait_for_threshold(page, shown: str) -> None:
    page.wait_for_function(
        "shown => document.querySelectorAll('#verdict .probability strong')[1].textContent === shown",
        arg=shown,
    )


def legend(page, method: str) -> None:
    page.wait_for_function(
        "start => document.querySelector('.legend figcaption').textContent.startsWith(start)",
        arg=f"{method}: ",
    )


def test_the_last_image_wins_though_the_first_is_answered_later(open_page, model, images, tmp_path):
    page = open_page()
    hold(model, lambda: page.set_input_files(FILE, images / "dark.png"))
    choose(page, images / "light.png")
    wait_for_word(page, "NORMAL")
    model.release()
    set_threshold(page, "Home")  # answered after the first image
    wait_for_word(page, "ABNORMAL")
    assert page.inner_text(".stage-name strong") == "light.png"
    assert result(page, tmp_path / "result.json")["file"] == "light.png"


def test_an_explanation_of_an_image_that_is_gone_changes_nothing(open_page, model, images, tmp_path):
    page = open_page()
    choose(page, images / "dark.png")
    hold(model, lambda: page.check("#method input[value='Grad-CAM']"))
    choose(page, images / "light.png")
    wait_for_word(page, "NORMAL")
    model.release()
    set_threshold(page, "Home")
    wait_for_word(page, "ABNORMAL")
    told = result(page, tmp_path / "result.json")
    assert (told["file"], told["method"]) == ("light.png", "Grad-CAM")
    assert page.inner_text(".stage-name strong") == "light.png"


def test_a_threshold_moved_during_a_slow_explanation_stays(open_page, model, images, tmp_path):
    page = open_page()
    choose(page, images / "dark.png")
    wait_for_word(page, "ABNORMAL")
    hold(model, lambda: page.check("#method input[value='Grad-CAM']"))
    set_threshold(page, "End")
    wait_for_word(page, "NORMAL")
    model.release()
    legend(page, "Grad-CAM")
    assert page.input_value(FIELD) == "1" and page.inner_text("#verdict .word") == "NORMAL"
    told = result(page, tmp_path / "result.json")
    assert (told["threshold"], told["verdict"], told["method"]) == (1, "normal", "Grad-CAM")


def test_a_threshold_moved_while_tiles_are_inspected_stays(open_page, model, large, tmp_path):
    page = open_page()
    choose(page, large)
    wait_for_word(page, "ABNORMAL")
    page.check("#tiles input[value='whole']")
    wait_for_word(page, "NORMAL")
    choose(page, large.with_name("again.png"))
    wait_for_word(page, "NORMAL")
    hold(model, lambda: page.check("#tiles input[value='tiles']"))
    set_threshold(page, "End")
    page.wait_for_function(
        "document.querySelectorAll('#verdict .probability strong')[1].textContent === '1.00'"
    )
    model.release()
    page.wait_for_function("+document.querySelector('#verdict .probability strong').textContent > 0.5")
    assert page.input_value(FIELD) == "1" and page.inner_text("#verdict .word") == "NORMAL"
    told = result(page, tmp_path / "result.json")
    assert (told["threshold"], told["verdict"]) == (1, "normal") and told["tiles"]["seen"] > 0


@pytest.mark.parametrize(
    "typed, threshold, word",
    [("5", "1", "NORMAL"), ("-1", "0", "ABNORMAL"), ("0,9", "0.9", "NORMAL"), ("0.3", "0.3", "ABNORMAL")],
)
def test_a_typed_threshold_is_kept_in_range_and_judged(open_page, images, tmp_path, typed, threshold, word):
    page = open_page()
    choose(page, images / "dark.png")  # probability 0.86
    page.locator(FIELD).focus()
    page.keyboard.press("Control+A")
    page.keyboard.type(typed)
    shown = f"{float(threshold):.2f}"
    page.wait_for_function(
        "shown => document.querySelectorAll('#verdict .probability strong')[1].textContent === shown",
        arg=shown,
    )
    page.keyboard.press("Tab")
    wait_for_word(page, word)
    assert page.input_value(FIELD) == threshold == page.input_value("#threshold input[type=range]")
    told = result(page, tmp_path / "result.json")
    assert (told["threshold"], told["verdict"].upper()) == (float(threshold), word)


def test_an_empty_threshold_field_keeps_the_last_number(open_page, images, tmp_path):
    page = open_page()
    choose(page, images / "dark.png")
    page.locator(FIELD).focus()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.press("Tab")
    page.wait_for_function("field => document.querySelector(field).value === '0.4'", arg=FIELD)
    assert result(page, tmp_path / "result.json")["threshold"] == 0.4


def test_of_many_images_the_last_ones_chosen_win(open_page, model, images):
    page, files = open_page(), "#many-files input[type=file]"
    page.get_by_text("Many images at once").click()
    hold(model, lambda: page.set_input_files(files, [images / "dark.png", images / "red.png"]))
    page.locator("#many-files").get_by_label("Clear").click()
    page.set_input_files(files, [images / "light.png"])
    page.locator("#many-files").get_by_text("light").wait_for()
    model.release()
    page.locator(".many-tiles bdi").get_by_text("light.png").wait_for()
    assert page.locator(".many-tiles figure").count() == 1
