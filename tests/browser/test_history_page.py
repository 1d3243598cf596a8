"""Links, history and the example that the page opens with, in a real browser with a fake model."""

from collections.abc import Iterator

import pytest
from PIL import Image

from chipdemo.examples import Example, ExampleSet
from chipdemo.labeling.journal import Journal
from tests.browser.conftest import WAIT_MS
from tests.browser.test_inspect_page import FILE, choose, style, wait_for_word
from tests.fakes import INFO, FakeModel
from tests.serving import served

FIELD = "#threshold input[type=number]"


@pytest.fixture(scope="module")
def journal(tmp_path_factory) -> Iterator[Journal]:
    with Journal(tmp_path_factory.mktemp("journal") / "labels.db") as journal:
        yield journal


@pytest.fixture(scope="module")
def sets(images) -> tuple[ExampleSet, ...]:
    return (ExampleSet(INFO.name, "drawings", "", (Example(images / "dark.png", "a dark drawing"),)),)


@pytest.fixture(scope="module")
def address(journal, sets) -> Iterator[str]:
    with served(FakeModel(), sets, journal=journal, opens=True) as address:
        yield address


@pytest.fixture
def page(open_page, journal):
    with journal.write() as database:
        database.execute("DELETE FROM inspections")
    page = open_page()
    wait_for_word(page, "ABNORMAL")
    return page


def wait_for_name(page, name: str) -> None:
    page.wait_for_function(
        "name => document.querySelector('.stage[data-state=result] strong')?.textContent === name", arg=name
    )


def inspect(page, path) -> str:
    """Upload an image, and wait until the address has it; the address."""
    choose(page, path)
    page.wait_for_function(
        "name => document.querySelector('#history a[aria-current]')?.title.startsWith(name)", arg=path.name
    )
    return page.evaluate("location.hash")


@pytest.mark.parametrize("width, height", [(1440, 900), (390, 844)])
def test_the_page_opens_with_an_example_on_screen_and_what_to_do_next(open_page, width, height):
    page = open_page(width, height)
    wait_for_word(page, "ABNORMAL")
    assert "Example: a dark drawing. To inspect an image of your own" in page.inner_text("#note")
    assert "Finds defects" in page.inner_text("#header")
    top = {name: page.locator(name).bounding_box() for name in ("#note", "#verdict", ".viewer", "#image")}
    ends = {name: box["y"] + box["height"] for name, box in top.items()}
    assert ends["#verdict"] <= height and page.evaluate("scrollY") == 0
    if width == 1440:
        assert ends["#image"] <= height and ends[".viewer"] <= height
    else:
        assert ends["#note"] <= top["#verdict"]["y"] and ends["#verdict"] <= top[".viewer"]["y"] < height
    assert page.locator("#history a").count() == 0 and page.evaluate("location.hash") == "#inspect"


def test_back_forward_and_reload_show_what_was_inspected_with_its_choices(page, images):
    light = inspect(page, images / "light.png")
    assert not page.is_visible("#note")
    inspect(page, images / "dark.png")
    page.locator("#threshold input[type=range]").focus()
    page.keyboard.press("End")
    page.wait_for_selector("#history a[aria-current] .outcome.normal")
    page.go_back()
    wait_for_name(page, "light.png")
    assert page.evaluate("location.hash") == light and page.input_value(FIELD) == "0.4"
    page.go_back()
    page.get_by_text("Example: a dark drawing").wait_for()
    page.go_forward()
    wait_for_name(page, "light.png")
    page.go_forward()
    wait_for_name(page, "dark.png")
    wait_for_word(page, "NORMAL")
    page.reload()
    wait_for_name(page, "dark.png")
    wait_for_word(page, "NORMAL")
    assert page.input_value(FIELD) == "1" and page.locator("#history a").count() == 2


def test_the_address_survives_another_tab_and_back_leads_there(page, images):
    address = inspect(page, images / "light.png")
    page.click("#compare-button")
    page.wait_for_function("location.hash === '#compare'")
    page.click("#inspect-button")
    page.wait_for_function("hash => location.hash === hash", arg=address)
    page.go_back()
    page.wait_for_selector("#compare-button[aria-selected=true]")
    page.go_back()
    page.wait_for_selector("#inspect-button[aria-selected=true]")
    assert page.inner_text(".stage-name strong") == "light.png"


@pytest.fixture
def new_page(chromium):
    """Of another visit, to whatever address."""
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    yield page
    context.close()


def test_a_link_opens_after_a_restart(page, new_page, journal, sets, images):
    address = inspect(page, images / "light.png")
    with served(FakeModel(), sets, journal=journal, opens=True) as again:
        new_page.goto(f"{again}/{address}")
        wait_for_name(new_page, "light.png")
        new_page.wait_for_selector("#history a[aria-current]")


def test_a_link_into_another_history_says_so_and_the_page_goes_on(page, new_page, journal, sets, images):
    address = inspect(page, images / "light.png")
    with served(FakeModel(), sets, journal=journal, opens=True, history_images=0) as other:
        new_page.goto(f"{other}/{address}")
        new_page.get_by_text("This inspection is not in your history").wait_for()
        new_page.set_input_files(FILE, images / "dark.png")
        wait_for_name(new_page, "dark.png")


def test_the_strip_is_filtered_and_entries_are_opened_and_deleted(page, images):
    inspect(page, images / "light.png")
    inspect(page, images / "dark.png")
    page.select_option("#history select[name=outcome]", "normal")
    page.wait_for_function("document.querySelectorAll('#history a').length === 1")
    page.click("#history a")
    wait_for_name(page, "light.png")
    page.select_option("#history select[name=outcome]", "")
    page.wait_for_function("document.querySelectorAll('#history a').length === 2")
    page.get_by_role("button", name="Delete dark.png from the history").click()
    page.wait_for_function("document.querySelectorAll('#history a').length === 1")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete all").click()
    page.wait_for_function("document.querySelectorAll('#history a').length === 0")


def test_a_long_strip_leaves_a_phone_its_width(open_page, journal, tmp_path):
    page = open_page(width=390, height=844)
    wait_for_word(page, "ABNORMAL")
    for shade in range(8):
        Image.new("L", (40, 30), 200 + shade).save(tmp_path / f"{shade}.png")
        inspect(page, tmp_path / f"{shade}.png")
    for selector in (".viewer", "#verdict", "#history", "[data-zoom=in]"):
        box = page.locator(selector).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390


def test_the_chosen_explanation_keeps_its_dot_under_the_pointer(page):
    dot = "#method input:checked"
    before = style(page, dot, "backgroundColor")
    page.hover(dot)
    page.wait_for_selector(f"{dot}:hover")
    assert style(page, dot, "backgroundColor") == before
