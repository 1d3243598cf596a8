"""A newer model is put in use while a page is open: what the visitor sees, in a real browser."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from chipdemo.models import Models
from tests.browser.test_inspect_page import choose, wait_for_word
from tests.fakes import INFO, FakeModel
from tests.serving import served


class NewerModel(FakeModel):
    info = replace(INFO, threshold=0.95, revision="fedcba987654", data="newer drawings", attention="none")
    methods = ("CAM", "Grad-CAM")


@pytest.fixture
def models() -> Models:
    return Models(FakeModel())


@pytest.fixture
def address(models) -> Iterator[str]:
    with served(models, hot_reload=60) as address:
        yield address


def threshold(page) -> float:
    return float(page.input_value("#threshold input[type=number]"))


def wait_for_revision(page, revision: str) -> None:
    page.wait_for_function(
        "revision => document.querySelector('#header').textContent.includes(revision)", arg=revision
    )


def wait_for_method(page, method: str) -> None:
    page.wait_for_function(
        "method => document.querySelector('.legend figcaption').textContent.startsWith(method + ': ')",
        arg=method,
    )


def test_a_newer_model_comes_with_the_next_image_and_not_before(open_page, models, images):
    page, older, newer = open_page(), models.first.model, NewerModel()
    choose(page, images / "dark.png")
    wait_for_word(page, "ABNORMAL")
    page.check("#method input[value='CBAM']")
    wait_for_method(page, "CBAM")
    models.first.replace(newer)
    page.check("#method input[value='Grad-CAM']")  # of the image on the page, by its own model
    wait_for_method(page, "Grad-CAM")
    assert older.explanations == 1 and newer.explanations == 0
    assert "0123456789ab" in page.inner_text("#header") and threshold(page) == 0.4
    page.check("#method input[value='CBAM']")
    wait_for_method(page, "CBAM")
    choose(page, images / "light.png")
    wait_for_word(page, "NORMAL")
    wait_for_revision(page, "fedcba987654")
    assert page.is_visible(".toast-wrap >> text=fedcba987654")
    assert threshold(page) == 0.95 and "0.95" in page.inner_text("#reset")
    assert page.locator("#verdict .probability strong").nth(1).inner_text() == "0.95"
    assert page.locator("#method input[value='CBAM']").count() == 0
    assert page.is_checked("#method input[value='CAM']")
    wait_for_method(page, "CAM")


def test_a_page_opened_after_the_change_shows_the_newer_model(open_page, models, images):
    models.first.replace(NewerModel())
    page = open_page()
    wait_for_revision(page, "fedcba987654")
    assert "newer drawings" in page.inner_text("#verdict")
    choose(page, images / "dark.png")
    assert page.locator("#verdict .probability strong").nth(1).inner_text() == "0.95"
    assert threshold(page) == 0.95 and "0.95" in page.inner_text("#reset")
    assert page.locator(".toast-wrap >> text=fedcba987654").count() == 0
