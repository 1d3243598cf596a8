"""Many images at once in a real browser: the gallery, an image opened from it, and what is sent and saved."""

import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipdemo.errors import LabelError
from chipdemo.images import read_image
from chipdemo.labeling.journal import Journal
from tests.browser.test_inspect_page import choose, wait_for_word
from tests.drawn_images import draw
from tests.fakes import FakeModel
from tests.serving import served

FILES = "#many-files input[type=file]"
SLIDER = "#many-threshold-0 input[type=range]"
HOSTILE = "<img src=x onerror=document.title=1>.png"
WAIT_S = 20  # for a condition, on a slow machine


class Gated(FakeModel):
    """Waits before each batch while the gate is closed."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, views, methods=()):
        self.gate.wait(WAIT_S)
        return super().predict(views, methods)


@pytest.fixture(scope="module")
def model() -> Gated:
    return Gated()


@pytest.fixture(scope="module")
def journal(tmp_path_factory) -> Iterator[Journal]:
    with Journal(tmp_path_factory.mktemp("journal") / "labels.db") as journal:
        yield journal


@pytest.fixture(scope="module")
def address(model, journal) -> Iterator[str]:
    with served(model, journal=journal) as address:
        yield address


@pytest.fixture
def lot(tmp_path) -> Path:
    """A zip of 30 dark images."""
    with zipfile.ZipFile(tmp_path / "lot.zip", "w") as archive:
        for number in range(30):
            archive.write(draw(tmp_path / f"{number}.png", number), f"lot/{number}.png")
    return tmp_path / "lot.zip"


def opened_panel(page, *files: Path):
    page.get_by_text("Many images at once").click()
    page.set_input_files(FILES, files)
    return page


def gallery(page, *files: Path):
    opened_panel(page, *files).locator(".many-tiles figure").first.wait_for()
    return page


def counts(page) -> list[str]:
    return [one.inner_text() for one in page.query_selector_all(".many-filters b")]


def wait_for_counts(page, *expected: str) -> None:
    page.wait_for_function(
        "counts => [...document.querySelectorAll('.many-filters b')].map((one) => one.textContent).join() "
        "=== counts",
        arg=",".join(expected),
    )


def in_window(page, selector: str) -> bool:
    box, size = page.locator(selector).bounding_box(), page.viewport_size
    return box["y"] >= 0 and box["y"] + box["height"] <= size["height"]


def test_images_are_judged_filtered_and_shown_as_text(open_page, images):
    page = gallery(open_page(), *(images / name for name in ("dark.png", "light.png", "bad.png", HOSTILE)))
    wait_for_counts(page, "4", "2", "0", "1", "1")
    assert page.locator(".many-tiles figure").count() == 4 and page.title() == "Chip Inspector"
    page.locator(".many-filters").get_by_text("unreadable").click()
    assert "bad.png" in page.locator(".many-tiles figure:visible").inner_text()
    page.wait_for_function("document.querySelector('.many-tiles img').naturalWidth === 240")


def test_the_threshold_judges_the_gallery_and_the_files_anew_without_the_model(
    open_page, images, model, tmp_path
):
    page = gallery(open_page(), images / "dark.png", images / "light.png", images / "red.png")
    wait_for_counts(page, "3", "1", "1", "1", "0")
    ran = model.predictions
    page.locator(SLIDER).focus()
    page.keyboard.press("End")
    wait_for_counts(page, "3", "0", "1", "2", "0")
    assert "0 of 4" in page.inner_text("#many-thresholds")
    words = [one.inner_text() for one in page.query_selector_all(".many-tiles strong")]
    assert words == ["out of distribution 0.70", "normal 0.86", "normal 0.06"]
    for name, text in (("html", b"decision threshold 1.000"), ("csv", b"normal"), ("parquet", b"PAR1")):
        with page.expect_download() as download:
            page.click(f"#many-{name}")
        download.value.save_as(tmp_path / name)
        assert text in (tmp_path / name).read_bytes()
    assert model.predictions == ran


def test_an_image_opens_by_enter_and_the_way_back_leads_to_where_it_was(open_page, lot, images):
    page = gallery(open_page(), lot)
    page.locator(SLIDER).focus()
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('#many-thresholds').textContent.includes('5 of 5')")
    figure = page.locator(".many-tiles figure").nth(25)
    figure.scroll_into_view_if_needed()
    top, name = figure.bounding_box()["y"], figure.locator("bdi").inner_text()
    figure.locator("button").focus()
    page.keyboard.press("Enter")
    wait_for_word(page, "ABNORMAL")
    assert page.inner_text(".stage-name strong") == name
    assert page.input_value("#threshold input[type=number]") == "0"
    page.wait_for_function("document.activeElement.id === 'back-to-many'")
    assert in_window(page, "#back-to-many")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.className === 'many-open'")
    assert abs(figure.bounding_box()["y"] - top) < 5
    assert page.locator(".many-tiles figure").count() == 30
    choose(page, images / "light.png")
    page.locator("#back-to-many").wait_for(state="hidden")


def test_selected_images_are_sent_to_labeling(open_page, images, journal):
    page = gallery(open_page(), images / "dark.png", images / "light.png", images / "red.png")
    assert page.locator(".many-send").is_disabled()
    page.click("[data-select=abnormal]")
    assert page.inner_text(".many-selected") == "1 selected"
    page.locator(".many-tiles figure", has_text="light.png").get_by_role("checkbox").focus()
    page.keyboard.press("Space")
    page.click("text=Send 2 to labeling")
    page.locator("#many-sent").get_by_text("added to the queue").wait_for()
    for name in ("dark.png", "light.png"):
        assert journal.image(read_image(images / name).sha256).name == name
    with pytest.raises(LabelError):
        journal.image(read_image(images / "red.png").sha256)
    page.click("[data-select=none]")
    page.locator(".many-filters").get_by_text("out of distribution").click()
    page.click("[data-select=shown]")
    assert page.inner_text(".many-selected") == "1 selected"


def test_whoever_may_not_label_sends_nothing(chromium, images, tmp_path):
    with (
        Journal(tmp_path / "labels.db") as journal,
        served(FakeModel(), journal=journal, annotator="ada", labelers=("bob",)) as address,
    ):
        page = chromium.new_page()
        page.goto(address)
        gallery(page, images / "dark.png")
        page.click("[data-select=shown]")
        page.click(".many-send")
        page.locator("#many-sent").get_by_text("may not label here").wait_for()
        assert journal.counts().images == 0
        page.close()


def test_without_a_label_tab_nothing_can_be_selected(chromium, images):
    with served(FakeModel()) as address:
        page = chromium.new_page()
        page.goto(address)
        gallery(page, images / "dark.png")
        assert page.locator(".many-selection").is_hidden()
        assert page.locator(".many-tiles input").is_hidden()
        page.close()


@pytest.mark.parametrize("width, height", [(1440, 900), (390, 844)])
def test_progress_and_stop_are_in_the_window_while_it_runs(open_page, lot, model, width, height):
    page = open_page(width, height)
    model.gate.clear()
    try:
        opened_panel(page, lot).locator("#many-progress").get_by_text("0 of 30").wait_for()
        assert in_window(page, "#many-progress") and in_window(page, "#many-stop")
        page.click("#many-stop")
        page.locator("#many-message").get_by_text("Stopped").wait_for()
        assert page.locator("#many-stop").is_hidden()
    finally:
        model.gate.set()
