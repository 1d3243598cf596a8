"""A newer model takes over while a page is open: what the visitor sees, in a real browser."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.browser.test_inspect_page import choose, wait_for_word
from tests.fakes import INFO, FakeModel
from tests.serving import served


class Replaceable(FakeModel):
    """Hands out another inspector once it has a newer one."""

    newer: FakeModel | None = None

    def current(self) -> FakeModel:
        return self.newer or self

    def replace(self) -> None:
        newer = FakeModel()
        changes = {"revision": "fedcba987654", "data": "newer drawings", "attention": "none"}
        newer.info = replace(INFO, threshold=0.95, **changes)
        newer.methods = ("CAM", "Grad-CAM")
        self.newer = newer


@pytest.fixture
def inspector() -> Replaceable:
    return Replaceable()


@pytest.fixture
def address(inspector) -> Iterator[str]:
    with served(inspector, watch=60) as address:
        yield address


def threshold(page) -> float:
    return float(page.input_value("#threshold input[type=number]"))


def test_a_newer_model_comes_with_the_next_image_and_not_before(open_page, inspector, images):
    page = open_page()
    choose(page, images / "dark.png")
    wait_for_word(page, "ABNORMAL")
    page.check("#method input[value='CBAM']")
    page.wait_for_function("document.querySelector('.legend figcaption').textContent.startsWith('CBAM')")
    inspector.replace()
    page.check("#method input[value='Grad-CAM']")  # of the image on the page, by its own model
    page.wait_for_function("document.querySelector('.legend figcaption').textContent.startsWith('Grad')")
    assert inspector.explanations == 1 and inspector.newer.explanations == 0
    assert "0123456789ab" in page.inner_text("#header") and threshold(page) == 0.4
    page.check("#method input[value='CBAM']")
    choose(page, images / "light.png")
    wait_for_word(page, "NORMAL")
    page.wait_for_function("document.querySelector('#header').textContent.includes('fedcba987654')")
    assert page.is_visible("text=A newer model judges from now on: fake-model fedcba987654")
    assert threshold(page) == 0.95 and page.inner_text("#reset") == "Model's own 0.95"
    assert "threshold 0.95" in page.inner_text("#verdict")
    assert page.locator("#method input[value='CBAM']").count() == 0
    assert page.is_checked("#method input[value='CAM']")
    assert page.inner_text(".legend figcaption").startswith("CAM")


def test_a_page_opened_after_the_change_shows_the_newer_model(open_page, inspector, images):
    inspector.replace()
    page = open_page()
    page.wait_for_function("document.querySelector('#header').textContent.includes('fedcba987654')")
    assert "The model knows newer drawings images" in page.inner_text("#verdict")
    choose(page, images / "dark.png")
    assert "threshold 0.95" in page.inner_text("#verdict") and threshold(page) == 0.95
    assert page.inner_text("#reset") == "Model's own 0.95"
    assert page.locator("text=A newer model").count() == 0
