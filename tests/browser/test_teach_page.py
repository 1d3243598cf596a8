"""The Teach tab in a real browser, with a fake teacher: images called odd are outliers."""

import threading
from pathlib import Path

import pytest

from chipdemo.labeling.journal import Journal
from tests.drawn import picture
from tests.fakes import FakeModel, FakeTeacher
from tests.serving import served

GOODS = "#teach-goods input[type=file]"
READY = ("#teach-goods input[type=file]", "#stage .stage")
MODEL = ".chip-header strong"


@pytest.fixture(scope="module")
def teacher():
    return FakeTeacher()


@pytest.fixture(scope="module")
def address(teacher, tmp_path_factory):
    with (
        Journal(tmp_path_factory.mktemp("journal") / "labels.db") as journal,
        served(FakeModel(), journal=journal, teacher=lambda: teacher) as address,
    ):
        yield address


@pytest.fixture(scope="module")
def goods(tmp_path_factory):
    folder = tmp_path_factory.mktemp("goods")
    for number in range(12):
        (folder / (f"{number}.png" if number < 11 else "odd.png")).write_bytes(picture(number, (60, 40)))
    return sorted(folder.iterdir())


def listed(page, count: int) -> None:
    page.wait_for_function("n => document.querySelectorAll('#teach-goods tr.file').length === n", arg=count)


def test_an_address_opens_its_tab_and_each_tab_is_there_once(open_page):
    page = open_page(path="/#teach", ready=READY)
    page.wait_for_selector("#teach-start")
    names = [tab.inner_text() for tab in page.query_selector_all("button[role=tab]") if tab.is_visible()]
    assert names == ["Inspect", "Compare", "Label", "Teach"]


def test_a_taught_chip_is_inspected_with_by_its_visitor_alone_and_downloaded(open_page, goods, images):
    page, other = (open_page(path="/#teach", ready=READY) for _ in range(2))
    page.set_input_files(GOODS, goods)
    listed(page, 12)
    page.fill("#teach-name input, #teach-name textarea", "Board 7")
    page.click("#teach-start")
    page.wait_for_selector(".outliers")
    assert page.inner_text(".outliers bdi") == "odd.png"
    page.uncheck(".outliers input")
    page.click("#teach-go-on")
    page.wait_for_selector(".teach-done")
    results = page.inner_text("#teach-results")
    assert "Board-7" in results and "odd.png" in results
    with page.expect_download() as download:
        page.click("#teach-download")
    assert download.value.suggested_filename == "Board-7.zip"
    assert Path(download.value.path()).read_bytes() == b"a zip of Board-7"
    page.click("#teach-use")
    page.wait_for_selector("#own-model")
    assert page.inner_text(MODEL) == "Board-7" and page.url.endswith("#inspect")
    page.set_input_files("#image input[type=file]", images / "dark.png")
    page.wait_for_function("document.querySelector('#verdict .word')?.textContent === 'ABNORMAL'")
    page.get_by_text("threshold 0.50").first.wait_for()
    assert page.is_visible("#get-nearest")
    assert other.inner_text(MODEL) == "fake-model" and not other.is_visible("#own-model")
    page.click("#own-back")
    page.wait_for_function("document.querySelector('.chip-header strong').textContent === 'fake-model'")
    page.wait_for_selector("#own-model", state="hidden")
    page.wait_for_selector("#get-nearest", state="hidden")  # this one keeps no images
    page.wait_for_function("document.querySelector('#verdict .word').textContent === 'No image yet'")


def test_stop_ends_the_teaching_and_the_files_stay(open_page, teacher, goods):
    page = open_page(path="/#teach", ready=READY)
    page.set_input_files(GOODS, goods[:5])
    listed(page, 5)
    page.click("#teach-start")
    page.wait_for_selector(".teach-refused")
    assert "5 good images" in page.inner_text(".teach-refused")
    page.set_input_files(GOODS, goods[5:])
    listed(page, 12)
    teacher.hold = threading.Event()
    page.click("#teach-start")
    page.wait_for_selector("#teach-stop")
    page.wait_for_selector(".teach-card .meter")
    page.click("#teach-stop")
    page.wait_for_selector(".teach-refused")
    page.wait_for_selector("#teach-start")
    teacher.hold.set()
    assert page.is_visible("#teach-start") and not page.is_visible("#teach-stop")
    listed(page, 12)
