"""The Compare tab in a real browser: two fake models, one that cannot be loaded, an imagined ablation."""

import base64
import json
import threading
from pathlib import Path

import pytest
from PIL import Image

from chipdemo.ablation.format import write_ablation
from chipdemo.errors import CheckpointError
from tests.ablations import ablation_json, small_ablation
from tests.browser.test_inspect_page import TRANSFER, contrast, style
from tests.fakes import FakeModel
from tests.serving import served

IMAGE = "#compare-image input[type=file]"
FILE = ".compare-load input[type=file]"
HOSTILE = "<img src=x onerror=document.title=1>${document.title=2}{{value}}"


@pytest.fixture(scope="module")
def ablation(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ablation")
    rows = ablation_json()["rows"]
    rows[0]["checkpoint"], rows[2]["checkpoint"] = "plain-cbam", "svm"
    for name in ("plain-cbam", "svm"):
        (folder / name).mkdir()
    write_ablation(folder / "ablation.json", small_ablation(rows=rows))
    return folder / "ablation.json"


def load(folder: Path) -> FakeModel:
    if folder.name == "svm":
        raise CheckpointError("svm has no model.safetensors.")
    return FakeModel()


@pytest.fixture(scope="module")
def address(ablation):
    with served(FakeModel(), ablation=ablation, load=load) as address:
        yield address


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Images, another ablation, a hostile one, and files that are none."""
    folder = tmp_path_factory.mktemp("files")
    Image.new("RGB", (120, 90), "black").save(folder / "dark.png")
    Image.new("RGB", (120, 90), (240, 240, 240)).save(folder / "light.png")
    (folder / "bad.png").write_bytes(b"this is no image")
    rows = ablation_json()["rows"]
    for row in rows:
        row["name"] = f"Other {row['name']}"
    write_ablation(folder / "other.json", small_ablation(machine="another machine", rows=rows))
    for row in rows:
        row["name"] = HOSTILE
    data = {**ablation_json()["data"], "name": HOSTILE}
    write_ablation(folder / "hostile.json", small_ablation(rows=rows, data=data))
    (folder / "text.json").write_text("this is no JSON")
    (folder / "wrong.json").write_text(json.dumps(ablation_json(date="yesterday")))
    return folder


@pytest.fixture
def page(open_compare):
    return open_compare()


@pytest.fixture
def open_compare(open_page):
    """open_compare(...) as open_page(...), but at #compare with its table there."""

    def open_(width: int = 1440, **options):
        page = open_page(width, path="/#compare", ready=("#compare-image input[type=file]",), **options)
        page.wait_for_selector("#compare-table table")
        return page

    return open_


def names(page) -> list[str]:
    return [text.split(" ", 1)[1] for text in page.locator(".ablation .name").all_inner_texts()]


def sort_by(page, title: str) -> str:
    """Click a column's heading; what it then says of its order."""
    heading = page.locator(".scroll thead th", has_text=title)
    heading.locator("button").click()
    return heading.get_attribute("aria-sort")


def test_the_tab_opens_by_its_address_and_keeps_it(page):
    assert page.get_attribute("#compare-button", "aria-selected") == "true"
    assert page.evaluate("location.hash") == "#compare"
    page.click("#inspect-button")
    page.wait_for_function("location.hash === '#inspect'")
    page.evaluate("location.hash = '#compare'")
    page.wait_for_function(
        "document.querySelector('#compare-button').getAttribute('aria-selected') === 'true'"
    )


def test_data_seeds_date_machine_and_command_are_on_screen(page):
    text = page.inner_text("#compare-about")
    for part in (
        "drawn chips, test split, 6 images",
        "0, 1",
        "2026-11-21",
        "imagined machine",
        "ablate.py --seeds 2",
    ):
        assert part in text


def test_the_table_sorts_down_up_and_back_and_empty_cells_stay_last(page):
    start = ["Plain", "Plain + CBAM", "SVM"]
    assert names(page) == start
    assert sort_by(page, "time") == "descending" and names(page) == ["Plain + CBAM", "Plain", "SVM"]
    assert sort_by(page, "time") == "ascending" and names(page) == ["SVM", "Plain", "Plain + CBAM"]
    assert sort_by(page, "baseline") == "descending" and names(page)[0] == "Plain + CBAM"
    assert sort_by(page, "baseline") == "ascending" and names(page)[0] == "Plain + CBAM"
    assert sort_by(page, "model") == "ascending" and names(page) == start
    assert sort_by(page, "model") == "descending" and names(page) == start[::-1]
    assert sort_by(page, "model") == "none" and names(page) == start


def test_an_image_gets_an_answer_of_each_model_and_the_same_one_again(page, files):
    for times in (1, 2):
        page.set_input_files(IMAGE, files / "dark.png")
        page.wait_for_function("document.querySelectorAll('.answers:not(.seen) .answer').length === 3")
        if times == 1:
            page.evaluate("document.querySelector('.answers').classList.add('seen')")
    assert [card.get_attribute("class") for card in page.locator(".answer").all()] == [
        "answer abnormal", "answer abnormal", "answer failed",
    ]  # fmt: skip
    assert "svm has no model.safetensors." in page.inner_text(".answer.failed")
    assert page.locator(".answer img").count() == 2
    assert "0.40" in page.inner_text(".answers")
    page.set_input_files(IMAGE, files / "light.png")
    page.wait_for_function("document.querySelector('.answers h2')?.textContent.startsWith('light.png')")
    page.wait_for_function("document.querySelectorAll('.answer.normal').length === 2")
    page.wait_for_selector("#compare-stop", state="hidden")


class Held(FakeModel):
    """Waits for `release` where the image is black."""

    def __init__(self):
        super().__init__()
        self.started, self.release, self.finished = threading.Event(), threading.Event(), threading.Event()

    def predict(self, views, methods=()):
        if not any(view.pixels.any() for view in views):
            self.started.set()
            assert self.release.wait(60)
            self.finished.set()
        return super().predict(views, methods)


@pytest.fixture
def held(ablation):
    """(address, model) of an app where the model of the row svm is Held."""
    model = Held()
    with served(
        FakeModel(), ablation=ablation, load=lambda f: model if f.name == "svm" else FakeModel()
    ) as address:
        yield address, model
        model.release.set()


def open_at(chromium, address: str):
    page = chromium.new_context().new_page()
    page.goto(address + "/#compare")
    page.wait_for_selector("#compare-table table")
    return page


def test_the_last_image_chosen_wins(chromium, held, files):
    address, model = held
    page = open_at(chromium, address)
    page.set_input_files(IMAGE, files / "dark.png")
    assert model.started.wait(20)
    page.set_input_files(IMAGE, files / "light.png")
    page.wait_for_function("document.querySelectorAll('.answer.normal').length === 3")
    page.wait_for_selector("#compare-stop", state="hidden")
    model.release.set()
    assert model.finished.wait(20)
    page.get_by_role("radio", name="AUROC").check()  # its answer comes after what was held
    page.wait_for_function("document.querySelector('figure.scatter .y-title').textContent === 'AUROC'")
    assert page.inner_text(".answers h2").startswith("light.png")
    assert page.locator(".answer.normal").count() == 3
    page.context.close()


def test_an_image_dropped_right_after_stop_is_inspected(chromium, held, files):
    address, model = held
    page = open_at(chromium, address)
    page.set_input_files(IMAGE, files / "dark.png")
    assert model.started.wait(20)
    page.wait_for_function("document.querySelectorAll('.answer').length === 2")
    page.click("#compare-stop")
    page.set_input_files(IMAGE, files / "light.png")
    page.wait_for_function("document.querySelectorAll('.answer.normal').length === 3")
    page.wait_for_selector("#compare-stop", state="hidden")
    page.context.close()


def test_stop_keeps_the_answers_so_far(chromium, held, files):
    address, model = held
    page = open_at(chromium, address)
    page.set_input_files(IMAGE, files / "dark.png")
    assert model.started.wait(20)
    page.wait_for_function("document.querySelectorAll('.answer').length === 2")
    page.click("#compare-stop")
    page.wait_for_selector("#compare-stop", state="hidden")
    assert page.locator(".answer").count() == 2
    page.context.close()


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_an_image_may_be_pasted_or_dropped_anywhere(page, files, kind):
    data = base64.b64encode((files / "light.png").read_bytes()).decode()
    page.evaluate(TRANSFER, [kind, f"{kind}.png", data, "image/png", "body"])
    page.wait_for_function("document.querySelectorAll('.answer.normal').length === 2")
    assert page.inner_text(".answers h2").startswith(f"{kind}.png")


def test_a_bad_image_says_why_and_the_page_goes_on(page, files):
    page.set_input_files(IMAGE, files / "bad.png")
    page.wait_for_selector("#compare-answers .message")
    assert page.inner_text("#compare-answers .message")
    page.set_input_files(IMAGE, files / "dark.png")
    page.wait_for_function("document.querySelectorAll('.answer.abnormal').length === 2")


def test_checked_models_are_plotted(page):
    assert page.locator(".confusions table").count() == 3
    page.locator(".ablation tbody input").nth(1).uncheck()
    page.wait_for_function("document.querySelectorAll('.confusions table').length === 2")
    assert page.locator(".legend-list li").all_inner_texts()[1].startswith("SVM")
    page.evaluate("document.querySelectorAll('.ablation tbody input:checked').forEach((box) => box.click())")
    page.wait_for_selector("#compare-plots .note")


def test_disagreements_are_those_of_the_checked_models(page):
    assert page.locator(".disagreements article").count() == 2
    page.locator(".ablation tbody input").nth(1).uncheck()
    page.wait_for_function("/^0 of 6/.test(document.querySelector('.disagreements small').textContent)")


def test_the_chart_shows_accuracy_or_auroc_against_time(page):
    assert page.locator("figure.scatter circle").count() == 3
    page.get_by_role("radio", name="AUROC").check()
    page.wait_for_function("document.querySelector('figure.scatter .y-title').textContent === 'AUROC'")


def test_another_ablation_is_shown_and_left_again(page, files):
    page.set_input_files(FILE, files / "other.json")
    page.get_by_text("another machine").wait_for()
    page.locator(".ablation tbody input").nth(0).uncheck()
    page.wait_for_function("document.querySelectorAll('.confusions table').length === 2")
    assert page.locator(".legend-list li").first.inner_text().startswith("Other Plain + CBAM")
    page.click("#compare-back")
    page.get_by_text("2 cores of an imagined machine").wait_for()
    assert not page.is_visible("#compare-back")


@pytest.mark.parametrize("name, message", [("text.json", "text.json"), ("wrong.json", "date")])
def test_a_bad_ablation_says_why_and_what_was_shown_stays(page, files, name, message):
    for _ in (1, 2):
        page.set_input_files(FILE, files / name)
        page.wait_for_selector("#compare-message .message")
    assert message in page.inner_text("#compare-message")
    assert "2 cores of an imagined machine" in page.inner_text("#compare-about")
    page.set_input_files(FILE, files / "other.json")
    page.get_by_text("another machine").wait_for()
    assert not page.is_visible("#compare-message .message")


def test_hostile_names_are_shown_as_text(page, files):
    page.set_input_files(FILE, files / "hostile.json")
    page.wait_for_function("document.querySelector('#compare-about h2').textContent.includes('onerror')")
    assert names(page) == [HOSTILE] * 3
    assert page.locator("img[src='x']").count() == 0
    assert page.title() == "Chip Inspector"


def test_the_tab_works_by_keyboard_alone(page):
    page.locator(".scroll thead button").nth(1).focus()
    assert style(page, ":focus-visible", "outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert names(page)[0] == "Plain + CBAM"
    page.locator(".ablation tbody input").nth(0).focus()
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelectorAll('.confusions table').length === 2")
    reached = set()
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.closest('[id^=compare]')?.id"))
    assert {"compare-load", "compare-image", "compare-table", "compare-metric"} <= reached


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_only_the_table_scrolls_sideways(open_compare, files, width, color_scheme):
    page = open_compare(width, color_scheme=color_scheme)
    page.set_input_files(IMAGE, files / "dark.png")
    page.wait_for_function("document.querySelectorAll('.answer').length === 3")
    assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
    name = page.locator(".ablation tbody th").first.bounding_box()
    page.evaluate("document.querySelector('.ablation .scroll').scrollLeft = 300")
    assert page.locator(".ablation tbody th").first.bounding_box()["x"] == name["x"]
    assert (
        contrast(style(page, ".answer.abnormal .word", "color"), style(page, ".answer", "backgroundColor"))
        >= 4.5
    )


def test_without_an_ablation_the_page_says_how_to_make_one_and_still_inspects(chromium, files):
    with served(FakeModel()) as address:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(address + "/#compare")
        page.get_by_text("training/ablate.py").wait_for()
        page.set_input_files(IMAGE, files / "dark.png")
        page.wait_for_selector(".answer.abnormal")
        context.close()
