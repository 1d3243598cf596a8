"""The Label tab in a real browser, with a fake model."""

import statistics
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from huggingface_hub import HfApi
from PIL import Image

from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Label, ModelPrediction
from tests.drawn import picture
from tests.drawn_images import draw, fill
from tests.fakes import FakeModel
from tests.hub import Account, Hub
from tests.serving import served

READY = ("#desk .desk:not([data-state=loading])",)
NAME, KEPT, PAPER, BOX, TROUBLE = ".desk-name strong", ".desk-kept", ".paper", ".mark", ".desk-trouble"
EMPTY = ".desk[data-state=empty]"
HOSTILE = "<img src=x onerror=document.title=1>.png"
TITLE = "Chip Inspector"
NEXT_MS = 150  # from the key to the next image
# Presses a key in the page; gives the time until the next image has been painted, in ms
PRESS = """key => new Promise((resolve) => {
  const before = document.querySelector('.desk-name strong').textContent;
  const began = performance.now();
  document.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  const look = () => {
    const photo = document.querySelector('.paper .photo');
    const there = document.querySelector('.desk-name strong').textContent !== before
      && photo.complete && photo.naturalWidth > 0;
    if (there) requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - began)));
    else requestAnimationFrame(look);
  };
  look();
})"""
FRAME = "new Promise(requestAnimationFrame)"
MASK = "JSON.parse(localStorage.getItem('chip-label-drafts'))?.at(-1)?.mask"


@pytest.fixture(scope="module")
def shared_journal(tmp_path_factory) -> Iterator[Journal]:
    with Journal(tmp_path_factory.mktemp("journal") / "labels.db") as journal:
        yield journal


@pytest.fixture(scope="module")
def address(shared_journal) -> Iterator[str]:
    with served(FakeModel(), journal=shared_journal, annotator="ada") as address:
        yield address


@pytest.fixture
def journal(shared_journal) -> Journal:
    """That of the app that runs for all tests, emptied."""
    with shared_journal.write() as database:
        for table in ("votes", "events", "leases", "skips", "scores", "contents", "images", "tallies"):
            database.execute(f"DELETE FROM {table}")
    return shared_journal


@pytest.fixture
def shas(journal, tmp_path) -> list[str]:
    return fill(journal, tmp_path, 8)


@pytest.fixture
def open_desk(journal, open_page):
    """A page with the Label tab open. first: the name of the image that it shows."""
    pages, calls = [], set()

    def open_(first: str = "chip00.png", **options):
        options.setdefault("path", "/#label")
        page = open_page(ready=READY, **options)
        pages.append(page)
        page.on("request", lambda call: "/run/" in call.url and calls.add(call))
        for ending in ("requestfinished", "requestfailed"):
            page.on(ending, lambda call: calls.discard(call))
        if first:
            wait_for(page, NAME, first)
        return page

    yield open_
    quiet = 0  # frames; a call that is still on its way would lease images of the next test
    while pages and quiet < 5:
        pages[0].evaluate(FRAME)
        quiet = 0 if calls else quiet + 1


def wait_for(page, selector: str, text: str) -> None:
    page.wait_for_function(
        "([s, t]) => document.querySelector(s)?.textContent.includes(t)", arg=[selector, text]
    )


def press(page, key: str, then: str) -> None:
    """A key, and the image that is to be on the screen after it."""
    page.keyboard.press(key)
    wait_for(page, NAME, then)


def wait_saved(page, name: str, state: str = "saved") -> None:
    """Until the line that tells of labels has come to this image."""
    wait_for(page, f"{KEPT}[data-state={state}]", name)


def drag(page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Over the image, in shares of it."""
    box = page.locator(PAPER).bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=3)
    page.mouse.up()


def events(journal: Journal) -> list[Label]:
    return [event for _, event in journal.events()]


class Held:
    """Calls of the page to an endpoint, held back until they are let go or aborted."""

    def __init__(self, page, endpoint: str):
        self.page, self.url, self.routes = page, f"**/run/{endpoint}", []
        page.route(self.url, lambda route: self.routes.append(route))

    def wait(self) -> None:
        while not self.routes:
            self.page.evaluate(FRAME)

    def let_go(self) -> None:
        with self.page.expect_response(self.url) as response:
            self.routes.pop(0).continue_()
        response.value.finished()
        self.page.unroute(self.url)

    def abort(self) -> None:
        self.routes.pop(0).abort()
        self.page.unroute(self.url)


# Labeling


def test_images_are_labeled_by_keyboard_alone_and_the_next_one_is_there_at_once(
    open_desk, journal, tmp_path, record_property
):
    fill(journal, tmp_path, 11, "wafer{:02}.png")
    page = open_desk("wafer00.png")
    times = []
    for number, key in enumerate(("1", "2", "3", "c", "f") * 2):
        times.append(page.evaluate(PRESS, key))
        wait_for(page, NAME, f"wafer{number + 1:02}.png")
        wait_saved(page, f"wafer{number:02}.png")
    labels = [(event.label, event.defect_type) for event in events(journal)]
    turn = [("normal", ""), ("abnormal", ""), ("unsure", ""), ("abnormal", "crack"), ("abnormal", "finger")]
    assert labels == turn * 2 and {event.annotator for event in events(journal)} == {"ada"}
    page.keyboard.press("1")
    page.wait_for_selector(EMPTY)
    wait_for(page, ".facts", "11 of 11")
    record_property("next_ms", times)
    print(f"next image: median {statistics.median(times):.0f} ms, longest {max(times):.0f} ms")
    assert statistics.median(times) < NEXT_MS


def test_prediction_and_heatmap_are_hidden_until_they_are_asked_for(open_desk, shas):
    page = open_desk()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    assert page.is_hidden(".paper .heat") and page.inner_text(".verdict-first") == ""
    press(page, "1", "chip01.png")
    wait_saved(page, "chip00.png")
    assert not any("label_look" in url for url in asked)
    page.keyboard.press("h")
    page.wait_for_selector(".paper .heat[src^='data:image/png']", state="visible")
    press(page, "1", "chip02.png")
    assert page.is_hidden(".paper .heat")
    page.keyboard.press("v")
    wait_for(page, ".verdict-first", "abnormal")


def test_boxes_are_drawn_moved_and_saved_in_pixels_of_the_image(open_desk, journal, shas):
    page = open_desk()
    drag(page, (0.25, 0.5), (0.75, 0.9))  # of 120 x 90
    drag(page, (0.1, 0.1), (0.2, 0.2))
    page.keyboard.press("x")
    assert page.locator(BOX).count() == 1
    page.keyboard.press("b")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    press(page, "c", "chip01.png")
    wait_saved(page, "chip00.png")
    first, second = events(journal)[0].boxes
    assert abs(first.x - 30) <= 1 and abs(first.y - 45) <= 1
    assert abs(first.width - 60) <= 1 and abs(first.height - 36) <= 1
    assert (second.x, second.y, second.width, second.height) == (46, 33, 30, 24)
    assert page.locator(BOX).count() == 0


def swipe(page, session, start: float, end: float) -> None:
    """A finger over the image, from one share of both sides to another."""
    box = page.locator(PAPER).bounding_box()
    places = (("touchStart", start), ("touchMove", (start + end) / 2), ("touchMove", end - 0.001))
    for kind, share in (*places, ("touchMove", end)):
        point = {"x": box["x"] + share * box["width"], "y": box["y"] + share * box["height"]}
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_box_and_a_mask_are_drawn_by_touch(open_desk, journal, shas):
    page = open_desk(width=390, height=844, has_touch=True, is_mobile=True)
    session = page.context.new_cdp_session(page)
    swipe(page, session, 0.2, 0.6)
    page.wait_for_selector(BOX)
    page.click("[data-do=paint]")
    page.wait_for_selector("[data-do=paint][aria-pressed=true]")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function("scrollY === 0")
    swipe(page, session, 0.3, 0.7)
    page.click(".choice.abnormal")
    wait_saved(page, "chip00.png")
    (event,) = events(journal)
    (box,) = event.boxes
    assert abs(box.x - 24) <= 1 and abs(box.width - 48) <= 1
    painted = np.asarray(Image.open(BytesIO(event.mask)))  # (h, w)
    assert painted[45, 60] == 255 and painted[18, 24] == painted[72, 96] == 0


def test_a_mask_is_painted_and_survives_a_reload_and_going_back(open_desk, journal, shas):
    page = open_desk()
    page.keyboard.press("p")
    wait_for(page, ".brush-size output", "5 px")
    for _ in range(3):
        page.keyboard.press("]")
    wait_for(page, ".brush-size output", "14 px")
    drag(page, (0.25, 0.5), (0.75, 0.5))  # of 120 x 90
    page.keyboard.press("e")
    drag(page, (0.5, 0.3), (0.5, 0.7))
    assert page.evaluate(MASK)
    page.reload()
    wait_for(page, NAME, "chip00.png")
    assert page.locator(BOX).count() == 0
    press(page, "2", "chip01.png")
    wait_saved(page, "chip00.png")
    press(page, "ArrowLeft", "chip00.png")
    page.wait_for_function(
        "document.querySelector('canvas.mask').getContext('2d').getImageData(36, 45, 1, 1).data[3] === 255"
    )
    press(page, "3", "chip01.png")  # again, with the same mask
    wait_for(page, KEPT, "unsure")
    wait_saved(page, "chip00.png")
    first, second = events(journal)
    image = Image.open(BytesIO(first.mask))
    painted = np.asarray(image)  # (h, w)
    assert image.mode == "L" and painted.shape == (90, 120) and set(np.unique(painted)) == {0, 255}
    assert painted[45, [30, 45, 75, 89]].tolist() == [255] * 4
    assert painted[45, [10, 60, 110]].tolist() == [0] * 3
    assert painted[[30, 60], 36].tolist() == [0, 0] and second.mask == first.mask


def test_undo_skip_and_back_and_forth(open_desk, journal, shas):
    page = open_desk()
    press(page, "1", "chip01.png")
    press(page, "s", "chip02.png")
    press(page, "z", "chip01.png")  # the skip
    press(page, "2", "chip02.png")
    press(page, "z", "chip01.png")  # the label
    press(page, "3", "chip02.png")
    press(page, "ArrowLeft", "chip01.png")
    wait_for(page, ".desk-given", "unsure")
    press(page, "ArrowLeft", "chip00.png")
    press(page, "ArrowRight", "chip01.png")
    press(page, "ArrowLeft", "chip00.png")
    press(page, "c", "chip01.png")  # again: a new event takes the place of the old one
    press(page, "ArrowRight", "chip02.png")
    wait_saved(page, "chip00.png")
    assert len(events(journal)) == 5 and journal.vote(shas[0], "ada").defect_type == "crack"
    assert journal.vote(shas[1], "ada").label == "unsure"
    page.keyboard.press("z")
    wait_for(page, ".desk-given", "normal")  # the first label of it stands again
    assert page.inner_text(NAME) == "chip00.png" and journal.vote(shas[0], "ada").label == "normal"


def test_keys_do_nothing_while_somebody_types_or_reads_or_is_elsewhere(open_desk, journal, shas):
    page = open_desk()
    page.keyboard.press("n")
    page.keyboard.type(f"123 czs {HOSTILE}")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert "crack" in page.inner_text("#chip-keys")
    page.keyboard.press("1")
    page.keyboard.press("?")
    page.click("#inspect-button")
    page.wait_for_selector("#image", state="visible")
    for key in "12cz":
        page.keyboard.press(key)
    page.click("#label-button")
    assert page.inner_text(NAME) == "chip00.png" and events(journal) == []
    page.fill(".other", "bent pin")
    page.keyboard.press("Enter")
    wait_for(page, NAME, "chip01.png")
    wait_saved(page, "chip00.png")
    (event,) = events(journal)
    assert (event.defect_type, event.note) == ("bent pin", f"123 czs {HOSTILE}")
    press(page, "ArrowLeft", "chip00.png")
    assert page.input_value(".note") == f"123 czs {HOSTILE}" and page.title() == TITLE


def test_a_reload_loses_nothing(open_desk, journal, shas):
    page = open_desk()
    press(page, "1", "chip01.png")
    press(page, "2", "chip02.png")
    drag(page, (0.2, 0.2), (0.6, 0.6))
    page.keyboard.press("n")
    page.keyboard.type("half a note")
    wait_saved(page, "chip01.png")
    page.reload()
    wait_for(page, NAME, "chip02.png")
    assert page.locator(BOX).count() == 1 and page.input_value(".note") == "half a note"
    assert page.locator(".previous button").count() == 2
    press(page, "ArrowLeft", "chip01.png")
    wait_for(page, ".desk-given", "abnormal")
    press(page, "z", "chip01.png")  # still the same page
    page.wait_for_function("document.querySelector('.desk-given').textContent === ''")
    assert journal.vote(shas[1], "ada") is None and journal.vote(shas[0], "ada").label == "normal"


# Answers that come late


def test_a_late_heatmap_is_not_laid_over_the_next_image(open_desk, journal, shas):
    page = open_desk()
    look = Held(page, "label_look")
    page.keyboard.press("h")
    look.wait()
    press(page, "1", "chip01.png")
    look.let_go()
    press(page, "1", "chip02.png")  # after everything that the answer may have caused
    assert page.is_hidden(".paper .heat")


def test_a_label_that_fails_comes_back_next_and_not_in_place_of_the_image_on_the_screen(
    open_desk, journal, shas
):
    page = open_desk()
    label = Held(page, "label")
    drag(page, (0.2, 0.2), (0.6, 0.6))
    press(page, "2", "chip01.png")
    label.wait()
    label.abort()
    wait_saved(page, "chip00.png", "failed")
    assert page.inner_text(NAME) == "chip01.png" and page.is_hidden(TROUBLE)
    press(page, "1", "chip00.png")
    page.wait_for_selector(TROUBLE)
    assert page.locator(BOX).count() == 1
    press(page, "2", "chip02.png")
    wait_saved(page, "chip00.png")
    assert [(event.label, len(event.boxes)) for event in events(journal)] == [("normal", 0), ("abnormal", 1)]


def test_a_label_whose_answer_is_lost_is_saved_once(open_desk, journal, shas):
    page = open_desk()

    def lose_answer(route) -> None:
        route.fetch()
        route.abort()

    page.route("**/run/label", lose_answer)
    press(page, "2", "chip01.png")
    wait_saved(page, "chip00.png")
    assert len(events(journal)) == 1


def test_no_key_labels_an_image_while_another_is_to_come(open_desk, journal, shas):
    page = open_desk()
    press(page, "1", "chip01.png")
    wait_saved(page, "chip00.png")
    undo = Held(page, "undo")
    page.keyboard.press("z")
    page.keyboard.press("2")  # meant for chip00
    undo.wait()
    undo.let_go()
    wait_for(page, NAME, "chip00.png")
    order = Held(page, "label_give_back")
    page.select_option(".order", "plain")
    order.wait()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("2")
    order.let_go()
    page.wait_for_selector(".desk[data-state=ready]")
    assert page.inner_text(NAME) == "chip00.png"
    assert [event.label for event in events(journal)] == ["normal", ""]


# Several pages and annotators


def test_two_pages_of_an_annotator_share_no_image_and_undo_their_own_labels(open_desk, journal, shas):
    one = open_desk()
    with one.expect_popup() as opened:
        one.evaluate("open(location.href)")  # copies the storage, as duplicating the tab does
    two = opened.value
    wait_for(two, NAME, "chip04.png")
    press(one, "1", "chip01.png")
    wait_saved(one, "chip00.png")
    press(two, "2", "chip05.png")
    wait_saved(two, "chip04.png")
    press(one, "z", "chip00.png")
    one.keyboard.press("z")
    one.wait_for_selector(f"{KEPT}[data-state=failed]")  # nothing else was labeled here
    assert journal.vote(shas[0], "ada") is None and journal.vote(shas[4], "ada").label == "abnormal"
    two.close()
    for number in range(4):
        one.keyboard.press("1")
        wait_saved(one, f"chip0{number}.png")
    wait_for(one, NAME, "chip05.png")  # a page that is closed gives its images back


def test_a_label_of_another_page_stands_until_it_is_replaced(open_desk, journal, shas):
    page = open_desk()
    journal.append(Label(shas[0], "unsure", "ada"), Label(shas[1], "unsure", "ada"), page="another")
    press(page, "1", "chip01.png")
    wait_saved(page, "chip00.png", "failed")
    press(page, "2", "chip00.png")
    wait_saved(page, "chip01.png", "failed")
    page.click(f"{TROUBLE} button")  # keep it
    wait_for(page, NAME, "chip01.png")
    page.wait_for_selector(TROUBLE)
    assert [journal.vote(sha256, "ada").label for sha256 in shas[:2]] == ["unsure", "unsure"]
    press(page, "2", "chip02.png")  # replace it
    wait_saved(page, "chip01.png")
    assert [journal.vote(sha256, "ada").label for sha256 in shas[:2]] == ["unsure", "abnormal"]


def test_two_annotators_get_different_images(chromium, tmp_path):
    accounts, names = (("ada", "secret"), ("bob", "word")), []
    with Journal(tmp_path / "own" / "labels.db") as journal:
        shas = fill(journal, tmp_path, 8)
        with served(FakeModel(), journal=journal, auth=accounts) as address:
            pages = [chromium.new_context().new_page() for _ in accounts]
            for page, (user, word) in zip(pages, accounts):
                page.goto(address)
                page.get_by_label("username").fill(user)
                page.get_by_label("password").fill(word)
                page.get_by_role("button", name="Login").click()
                page.click("#label-button")
                wait_for(page, NAME, "chip0")
                names.append(page.inner_text(NAME))
                page.keyboard.press("1")
                wait_saved(page, names[-1])
            for page in pages:
                page.context.close()
        assert names[0] == "chip00.png" and names[1] >= "chip04.png"  # four are leased to the first
        assert {event.annotator: event.image_sha256 for event in events(journal)} == {
            "ada": shas[0], "bob": shas[int(names[1][5])],
        }  # fmt: skip


def test_where_nobody_may_label_the_page_says_how_to_set_it_up(open_desk, shas):
    page = open_desk("", extra_http_headers={"X-Forwarded-For": "10.0.0.1"})
    wait_for(page, ".desk-empty .next", "CHIPDEMO_AUTH")
    assert page.is_hidden(".choices")


# Adding images


def test_images_are_added_by_upload_and_from_a_dataset_of_the_hub(open_desk, journal, tmp_path, monkeypatch):
    page = open_desk("")
    page.wait_for_selector(EMPTY)
    paths = [draw(tmp_path / f"{number}.png", number) for number in range(3)]
    (tmp_path / HOSTILE).write_bytes(b"no image")
    page.set_input_files("#label-files input[type=file]", [*paths, tmp_path / HOSTILE])
    wait_for(page, NAME, "0.png")
    wait_for(page, "#label-added li", HOSTILE[:4])
    assert page.inner_text("#label-added strong") == "3" and journal.counts().images == 3
    with Hub({"hf_ada": Account("ada")}) as hub:
        hub.serve(monkeypatch, tmp_path / "home", "hf_ada")
        HfApi().create_repo("ada/chips", repo_type="dataset")
        for number in range(2):
            api = {"repo_id": "ada/chips", "repo_type": "dataset", "path_in_repo": f"{number}.png"}
            HfApi().upload_file(path_or_fileobj=picture(number), **api)
        for name, answer in ((HOSTILE, ".refused"), ("hf:ada/chips", "strong")):
            page.fill("#label-dataset input, #label-dataset textarea", name)
            page.keyboard.press("Enter")
            page.wait_for_selector(f"#label-added {answer}")
        wait_for(page, "#label-added strong", "2")
        page.wait_for_selector("#label-dataset button:has-text('Stop')", state="hidden")
    assert journal.counts().images == 5 and page.title() == TITLE
    assert page.locator("#label-added img").count() == 0


def test_an_image_is_sent_from_inspect_under_its_hostile_name(open_page, journal, images):
    page = open_page()
    page.set_input_files("#image input[type=file]", images / HOSTILE)
    page.wait_for_selector(".stage[data-state=result]")
    page.click("#send-to-labeling")
    page.wait_for_selector(".toast-wrap")
    page.click("#label-button")
    wait_for(page, NAME, "onerror")
    page.keyboard.press("1")
    page.wait_for_selector(EMPTY)
    wait_saved(page, "onerror")
    assert page.locator(".desk img[src=x]").count() == 0 and page.title() == TITLE
    assert journal.counts().labeled == 1


def test_a_missing_file_is_reported_and_skipped(open_desk, journal, tmp_path):
    path = draw(tmp_path / "gone.png", 1)
    journal.add_image("f" * 64, (120, 90), "gone.png", path=path)
    fill(journal, tmp_path, 2)
    path.unlink(missing_ok=True)
    page = open_desk("gone.png")
    wait_for(page, TROUBLE, "gone.png")
    page.keyboard.press("1")
    assert events(journal) == []
    press(page, "s", "chip00.png")


# Layout, order and review


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_page_and_red_comes_with_the_word(open_desk, journal, tmp_path, scheme):
    long = "a" * 300 + ".png"
    fill(journal, tmp_path, 3, long)
    page = open_desk(long, path=f"/?__theme={scheme}#label", color_scheme=scheme)
    drag(page, (0.2, 0.2), (0.6, 0.6))
    page.keyboard.press("2")
    wait_saved(page, long)
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        reds = page.evaluate("""() => {
          const red = getComputedStyle(document.querySelector('.choice.abnormal')).color;
          return [...document.querySelectorAll('#label *')].filter((e) => e.offsetParent
            && !e.children.length && getComputedStyle(e).color === red)
            .map((e) => e.closest('button').textContent.toLowerCase());
        }""")
        assert reds and all("abnormal" in text for text in reds)


def test_the_order_can_be_changed_and_the_reason_is_shown(open_desk, journal, shas):
    with journal.write() as database:
        database.execute(
            "UPDATE images SET priority = 1, reason = 'the model is undecided' WHERE sha256 = ?", (shas[6],)
        )
    page = open_desk("chip06.png")
    assert "the model is undecided" in page.inner_text(".reason")
    page.select_option(".order", "plain")
    wait_for(page, NAME, "chip00.png")


def test_likely_errors_and_disputed_images_are_reviewed(open_desk, journal, shas):
    predictions = [0.1, 0.2, 0.95, 0.1, 0.9, 0.8]  # of the third, ada labels otherwise
    for sha256, label, probability in zip(shas, ["normal"] * 4 + ["abnormal"] * 2, predictions):
        journal.append(Label(sha256, label, "ada", prediction=ModelPrediction("model", "r", probability)))
    journal.append(Label(shas[0], "abnormal", "bob"), Label(shas[1], "normal", "bob"))
    page = open_desk("chip06.png", width=390)
    page.click("#review-count")
    page.wait_for_selector(".review .kappas table")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".looks li").count() == 1
    page.click(".looks [data-again]")
    wait_for(page, NAME, "chip02.png")
    press(page, "2", "chip06.png")
    wait_saved(page, "chip02.png")
    assert journal.vote(shas[2], "ada").label == "abnormal"
    page.click("[data-order=review]")
    wait_for(page, NAME, "chip00.png")
    assert page.input_value(".order") == "review"
    page.keyboard.press("2")
    page.wait_for_selector(EMPTY)
    wait_for(page, KEPT, "2 abnormal")  # the votes, now that it is decided
    assert events(journal)[-1].decides
