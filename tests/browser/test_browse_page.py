"""The gallery of the Label tab, settled disagreements, and the sign-in page in a real browser."""

from collections.abc import Iterator

import pytest

from chipdemo.labeling.browse import Filters, Viewer, find
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Label
from tests.drawn_images import fill
from tests.fakes import FakeModel
from tests.serving import served

DESK, GALLERY = "#desk .desk:not([data-state=loading])", ".browse-views [data-view=gallery]"
NAME = ".desk-name strong"
HOSTILE = "<img src=x onerror=document.title=1>"
ACCOUNTS = (("ada", "a"), ("bob", "b"))


@pytest.fixture(scope="module")
def shared_journal(tmp_path_factory) -> Iterator[Journal]:
    with Journal(tmp_path_factory.mktemp("journal") / "labels.db") as journal:
        yield journal


@pytest.fixture(scope="module")
def address(shared_journal) -> Iterator[str]:
    with served(FakeModel(), journal=shared_journal, annotator="ada") as address:
        yield address


@pytest.fixture
def shas(shared_journal, tmp_path) -> list[str]:
    """65 images in the journal of the app that runs for all tests, which is emptied before."""
    with shared_journal.write() as database:
        for table in ("votes", "events", "leases", "skips", "contents", "images", "tallies"):
            database.execute(f"DELETE FROM {table}")
    return fill(shared_journal, tmp_path, 65, "{:02}" + HOSTILE + ".png")


@pytest.fixture
def journal(shared_journal, shas) -> Journal:
    return shared_journal


def open_gallery(open_page, **options):
    page = open_page(ready=(DESK,), path="/#label", **options)
    page.click(GALLERY)
    page.wait_for_selector(".card img[src]")
    return page


def wait_for(page, selector: str, text: str) -> None:
    page.wait_for_function(
        "([s, t]) => document.querySelector(s)?.textContent.includes(t)", arg=[selector, text]
    )


def names(page) -> list[str]:
    return [name[:2] for name in page.locator(".card bdi").all_text_contents()]


def test_images_are_found_opened_and_labeled_by_keyboard_alone(open_page, journal, shas):
    page = open_gallery(open_page)
    wait_for(page, ".browse-found", "65 images")
    assert len(names(page)) == 60 and names(page)[:2] == ["64", "63"]
    page.click("[data-do=next]")
    wait_for(page, ".browse-pages span", "Page 2 of 2")
    assert names(page) == ["04", "03", "02", "01", "00"]
    page.keyboard.press("/")
    page.keyboard.type("03")
    wait_for(page, ".browse-found", "1 image")
    page.keyboard.press("Tab")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    wait_for(page, NAME, "03")
    page.keyboard.press("2")
    wait_for(page, ".desk-kept[data-state=saved]", "03")
    assert journal.vote(shas[3], "ada").label == "abnormal"
    page.click(GALLERY)
    wait_for(page, ".card .abnormal", "abnormal")
    page.reload()
    page.wait_for_selector(".card .abnormal")  # the filter and the view stay
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    wait_for(page, ".desk-kept", "your label is abnormal")
    page.keyboard.press("1")
    wait_for(page, ".desk-kept[data-state=saved]", "Saved")
    assert journal.vote(shas[3], "ada").label == "normal" and page.title() == "Chip Inspector"


def test_images_are_deleted_after_a_question_and_brought_back(open_page, journal, shas):
    page = open_gallery(open_page, width=390, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".pick").nth(0).tap()
    page.locator(".pick").nth(2).tap()
    page.tap("[data-do=delete]")
    wait_for(page, "#browse-question", "Delete 2 images")
    page.tap("[data-do=cancel]")
    assert journal.counts().images == 65
    page.tap("[data-do=delete]")
    page.tap("[data-do=confirm]")
    wait_for(page, ".browse-found", "63 images")
    assert names(page)[:2] == ["63", "61"] and journal.counts().images == 63
    page.tap("[data-do=undo]")
    wait_for(page, ".browse-found", "65 images")
    page.locator(".card").nth(0).focus()
    page.keyboard.press("Delete")
    page.keyboard.press("Enter")
    wait_for(page, ".browse-found", "64 images")
    page.select_option("[name=show]", "deleted")
    wait_for(page, ".browse-found", "1 image")
    page.tap("[data-do=all]")
    page.tap("[data-do=delete]")
    wait_for(page, ".browse-done", "Brought back: 1 image")
    assert find(journal, Filters(show="deleted"), Viewer("ada"))[1] == 0


def test_an_image_deleted_while_it_is_at_the_desk_leaves_it(open_page, journal, shas):
    page = open_gallery(open_page)
    wait_for(page, NAME, "00")
    page.fill("[name=name]", "00")
    wait_for(page, ".browse-found", "1 image")
    page.locator(".pick").click()
    page.click("[data-do=delete]")
    page.click("[data-do=confirm]")
    wait_for(page, NAME, "01")


def test_a_decision_is_shown_as_settled_without_losing_the_place(open_page, journal, shas):
    for sha256, note in zip(shas[:2], ("bent", "")):
        journal.append(
            Label(sha256, "normal", "cy", note="fine"), Label(sha256, "abnormal", "bob", note=note)
        )
    page = open_page(ready=(DESK,), path="/#label", height=500)
    page.select_option(".order", "review")
    wait_for(page, NAME, "00")
    page.click("#review-count")
    page.wait_for_selector(".review")
    assert page.locator("[data-settled]").count() == 0
    page.evaluate("scrollTo(0, 300)")
    page.keyboard.press("2")
    page.wait_for_selector(f"[data-settled='{shas[0]}']")
    assert page.evaluate("scrollY") == 300
    settled = page.inner_text("[data-settled]")
    assert "by ada" in settled and "cy: normal" in settled and "bob: abnormal" in settled
    assert "bent" in settled and HOSTILE in settled
    page.keyboard.press("z")
    page.wait_for_selector("[data-settled]", state="detached")


def test_the_user_name_stays_after_a_wrong_password_and_one_signs_out(chromium, journal, shas):
    with served(FakeModel(), journal=journal, auth=ACCOUNTS) as address:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("text=Chip Inspector")
        assert page.title() == "Chip Inspector"
        for word in ("wrong", "wrong again"):
            page.fill("input[type=text]", "ada" if word == "wrong" else page.input_value("input[type=text]"))
            page.fill("input[type=password]", word)
            page.keyboard.press("Enter")
            page.wait_for_selector(".creds")
            page.wait_for_function("document.querySelector('input[type=password]').value === ''")
            page.wait_for_function("document.querySelector('input[type=text]').value === 'ada'")
        page.keyboard.type("a")  # the password is to be typed next
        page.keyboard.press("Enter")
        wait_for(page, ".account", "signed in as ada")
        page.click(".account a")
        page.wait_for_selector("input[type=password]")
        page.reload()
        page.wait_for_selector("input[type=password]")
        context.close()
