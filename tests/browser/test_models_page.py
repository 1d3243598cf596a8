"""Several models in one app: which one judges, and what the page says of it, in a real browser."""

from collections.abc import Iterator

import pytest

from chipdemo.models import Models
from tests.browser.test_inspect_page import choose, wait_for_word
from tests.fakes import Knows
from tests.serving import served


@pytest.fixture
def models() -> Models:
    return Models(Knows("dark-parts", 0.1), Knows("light-parts", 0.9))


@pytest.fixture
def address(models) -> Iterator[str]:
    with served(models) as address:
        yield address


def wait_for_header(page, name: str) -> None:
    page.wait_for_function("name => document.querySelector('#header').textContent.includes(name)", arg=name)


def test_the_page_speaks_of_the_model_that_knows_the_image_best(open_page, images):
    page = open_page()
    assert page.is_checked("#model input[value='*']")
    choose(page, images / "light.png")
    wait_for_word(page, "NORMAL")
    wait_for_header(page, "light-parts")
    assert "light-parts, which knows this image best of 2 models" in page.inner_text("#verdict")
    assert page.input_value("#threshold input[type=number]") == "0.9"
    choose(page, images / "dark.png")
    wait_for_word(page, "ABNORMAL")
    wait_for_header(page, "dark-parts")
    assert page.input_value("#threshold input[type=number]") == "0.1"


def test_a_model_that_is_fixed_judges_the_image_on_the_page_and_the_next(open_page, images, models):
    page = open_page()
    choose(page, images / "dark.png")
    wait_for_word(page, "ABNORMAL")
    page.check("#model input[value='light-parts']")
    wait_for_word(page, "Out of distribution")
    wait_for_header(page, "light-parts")
    before = models.first.model.predictions
    choose(page, images / "light.png")
    wait_for_word(page, "NORMAL")
    assert "best of" not in page.inner_text("#verdict") and models.first.model.predictions == before
