"""The Label tab in a real browser, with a fake inspector."""

import statistics
from collections.abc import Iterator
from io import BytesIO

import httpx
import numpy as np
import pytest
from huggingface_hub import HfApi
from PIL import Image

from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Label, ModelPrediction
from tests.drawn import picture
from tests.drawn_images import draw, fill
from tests.fakes import FakeInspector
from tests.hub import Account, Hub
from tests.serving import served

READY = ("#desk .desk:not([data-state=loading])",)
NAME, KEPT, PAPER, BOX = ".desk-name strong", ".desk-kept", ".paper", ".mark"
HOSTILE = "<img src=x onerror=document.title=1>.png"
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


@pytest.fixture
def shas(journal, tmp_path) -> list[str]:
    return fill(journal, tmp_path, 8)


@pytest.fixture
def address(journal) -> Iterator[str]:
    with served(FakeInspector(), journal=journal, annotator="ada") as address:
        yield address


@pytest.fixture
def open_desk(open_page):
    """A page with the Label tab open, and its images there."""

    def open_(**options):
        options.setdefault("path", "/#label")
        return open_page(ready=READY, **options)

    return open_


def wait_for(page, selector: str, text: str) -> None:
    page.wait_for_function(
        "([s, t]) => document.querySelector(s)?.textContent.includes(t)", arg=[selector, text]
    )


def press(page, key: str, then: str) -> None:
    """A key, and the image that is to be on the screen after it."""
    page.keyboard.press(key)
    wait_for(page, NAME, then)


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


def test_an_empty_queue_says_how_to_add_and_an_upload_begins_it(open_desk, journal, tmp_path):
    page = open_desk()
    assert page.inner_text(".desk-empty .word") == "The queue is empty"
    paths = [draw(tmp_path / f"{number}.png", number) for number in range(3)]
    (tmp_path / HOSTILE).write_bytes(b"no image")
    page.set_input_files("#label-files input[type=file]", [*paths, tmp_path / HOSTILE])
    wait_for(page, NAME, "0.png")
    wait_for(page, "#label-added", "3 new in the queue; 1 not taken")
    assert page.locator("#label-added img").count() == 0 and page.title() == "Chip Inspector"
    assert journal.counts().images == 3


def test_thirty_images_are_labeled_by_keyboard_alone(open_desk, journal, tmp_path):
    fill(journal, tmp_path, 31, "wafer{:02}.png")
    page = open_desk()
    wait_for(page, NAME, "wafer00.png")
    keys = ("1", "2", "3", "c", "f")
    for number in range(30):
        press(page, keys[number % 5], f"wafer{number + 1:02}.png")
    wait_for(page, ".facts", "30 of 31 done")
    said = [(event.label, event.defect_type) for event in events(journal)]
    turn = [("normal", ""), ("abnormal", ""), ("unsure", ""), ("abnormal", "crack"), ("abnormal", "finger")]
    assert said == turn * 6 and {event.annotator for event in events(journal)} == {"ada"}
    page.keyboard.press("1")
    wait_for(page, ".desk-empty .word", "All done")
    assert "31 in the last hour" in page.inner_text(".facts")
    assert "31 kept here, not published" in page.inner_text(".facts")


def test_the_next_image_is_there_at_once(open_desk, journal, tmp_path, record_property):
    fill(journal, tmp_path, 25)
    page = open_desk()
    wait_for(page, NAME, "chip00.png")
    times = []
    for number in range(20):
        times.append(page.evaluate(PRESS, "1"))
        wait_for(page, ".facts", f"{number + 1} of 25 done")
    record_property("next_ms", times)
    print(f"next image: median {statistics.median(times):.0f} ms, longest {max(times):.0f} ms")
    assert statistics.median(times) < NEXT_MS


def test_the_models_verdict_is_hidden_until_the_label_is_given(open_desk, shas):
    page = open_desk()
    wait_for(page, NAME, "chip00.png")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    assert "model" not in page.inner_text(".desk-stage") and page.inner_text(".desk-kept") == ""
    press(page, "1", "chip01.png")
    wait_for(page, KEPT, "Saved: chip00.png, normal. The model said 0.")
    assert not any("label_look" in url for url in asked)
    page.keyboard.press("v")
    wait_for(page, ".verdict-first", "The model says abnormal")


def test_heat_comes_on_demand_and_goes_with_the_image(open_desk, shas):
    page = open_desk()
    wait_for(page, NAME, "chip00.png")
    assert page.is_hidden(".paper .heat")
    page.keyboard.press("h")
    page.wait_for_selector(".paper .heat[src^='data:image/png']", state="visible")
    press(page, "1", "chip01.png")
    assert page.is_hidden(".paper .heat")


def test_boxes_are_drawn_moved_and_kept_in_pixels_of_the_image(open_desk, journal, shas):
    page = open_desk()
    wait_for(page, NAME, "chip00.png")
    drag(page, (0.25, 0.5), (0.75, 0.9))  # of 120 x 90
    drag(page, (0.1, 0.1), (0.2, 0.2))
    page.keyboard.press("x")
    assert page.locator(BOX).count() == 1
    page.keyboard.press("b")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    press(page, "c", "chip01.png")
    wait_for(page, KEPT, "Saved")
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
    wait_for(page, NAME, "chip00.png")
    session = page.context.new_cdp_session(page)
    swipe(page, session, 0.2, 0.6)
    page.wait_for_selector(BOX)
    page.click("[data-do=paint]")
    page.wait_for_selector("[data-do=paint][aria-pressed=true]")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function("scrollY === 0")
    swipe(page, session, 0.3, 0.7)
    page.click(".choice.abnormal")
    wait_for(page, KEPT, "Saved")
    (event,) = events(journal)
    (box,) = event.boxes
    assert abs(box.x - 24) <= 1 and abs(box.width - 48) <= 1
    painted = np.asarray(Image.open(BytesIO(event.mask)))  # (h, w)
    assert painted[45, 60] == 255 and painted[18, 24] == painted[72, 96] == 0


def test_a_mask_is_painted_and_survives_a_reload_and_going_back(open_desk, journal, shas):
    page = open_desk()
    wait_for(page, NAME, "chip00.png")
    page.keyboard.press("p")
    wait_for(page, ".brush-size output", "5 px")
    for _ in range(3):
        page.keyboard.press("]")
    wait_for(page, ".brush-size output", "14 px")
    draft = "JSON.parse(sessionStorage.getItem('chip-label-draft'))?.mask"
    drag(page, (0.25, 0.5), (0.75, 0.5))  # of 120 x 90
    page.wait_for_function(draft)
    painted = page.evaluate(draft)
    page.keyboard.press("e")
    drag(page, (0.5, 0.3), (0.5, 0.7))
    page.wait_for_function(f"before => {draft} !== before", arg=painted)
    page.reload()
    wait_for(page, NAME, "chip00.png")
    assert page.locator(BOX).count() == 0
    press(page, "2", "chip01.png")
    wait_for(page, KEPT, "Saved")
    press(page, "ArrowLeft", "chip00.png")
    page.wait_for_function(
        "document.querySelector('canvas.mask').getContext('2d').getImageData(36, 45, 1, 1).data[3] === 255"
    )
    press(page, "3", "chip01.png")  # again, with the same mask
    wait_for(page, KEPT, "Saved: chip00.png, unsure")
    first, second = events(journal)
    painted = np.asarray(Image.open(BytesIO(first.mask)))  # (h, w)
    assert painted.shape == (90, 120) and set(np.unique(painted)) == {0, 255}
    assert (
        painted[45, [30, 45, 75, 89]].tolist() == [255] * 4 and painted[45, [10, 60, 110]].tolist() == [0] * 3
    )
    assert painted[[30, 60], 36].tolist() == [0, 0] and second.mask == first.mask


def test_undo_skip_and_back_and_forth(open_desk, journal, shas):
    page = open_desk()
    wait_for(page, NAME, "chip00.png")
    press(page, "1", "chip01.png")
    press(page, "s", "chip02.png")
    press(page, "z", "chip01.png")  # the skip
    press(page, "2", "chip02.png")
    press(page, "z", "chip01.png")  # the label
    wait_for(page, KEPT, "Undone: chip01.png, abnormal")
    press(page, "3", "chip02.png")
    press(page, "ArrowLeft", "chip01.png")
    wait_for(page, ".desk-given", "You said: unsure")
    press(page, "ArrowLeft", "chip00.png")
    press(page, "ArrowRight", "chip01.png")
    press(page, "ArrowLeft", "chip00.png")
    press(page, "c", "chip01.png")  # again: a new event takes the place of the old one
    press(page, "ArrowRight", "chip02.png")
    wait_for(page, KEPT, "Saved: chip00.png, abnormal, crack")
    assert len(events(journal)) == 5 and journal.vote(shas[0], "ada").defect_type == "crack"
    assert journal.vote(shas[1], "ada").label == "unsure"


def test_a_new_type_is_typed_and_keys_do_nothing_meanwhile(open_desk, journal, shas):
    page = open_desk()
    wait_for(page, NAME, "chip00.png")
    page.keyboard.press("n")
    page.keyboard.type(f"123 czs {HOSTILE}")
    page.keyboard.press("Escape")
    assert page.inner_text(NAME) == "chip00.png" and events(journal) == []
    page.fill(".other", "bent pin")
    page.keyboard.press("Enter")
    wait_for(page, NAME, "chip01.png")
    wait_for(page, KEPT, "Saved: chip00.png, abnormal, bent pin")
    (event,) = events(journal)
    assert (event.defect_type, event.note) == ("bent pin", f"123 czs {HOSTILE}")
    press(page, "ArrowLeft", "chip00.png")
    assert page.input_value(".note") == f"123 czs {HOSTILE}" and page.title() == "Chip Inspector"


def test_keys_do_nothing_while_another_tab_is_open(open_desk, journal, shas):
    page = open_desk()
    wait_for(page, NAME, "chip00.png")
    page.click("#inspect-button")
    page.wait_for_selector("#image", state="visible")
    for key in "12cz":
        page.keyboard.press(key)
    page.click("#label-button")
    press(page, "1", "chip01.png")
    wait_for(page, KEPT, "Saved")
    assert len(events(journal)) == 1


def test_a_reload_loses_nothing(open_desk, journal, shas):
    page = open_desk()
    wait_for(page, NAME, "chip00.png")
    press(page, "1", "chip01.png")
    press(page, "2", "chip02.png")
    drag(page, (0.2, 0.2), (0.6, 0.6))
    page.keyboard.press("n")
    page.keyboard.type("half a note")
    wait_for(page, ".facts", "2 of 8 done")
    page.reload()
    wait_for(page, NAME, "chip02.png")
    assert page.locator(BOX).count() == 1 and page.input_value(".note") == "half a note"
    assert page.locator(".previous button").count() == 2
    press(page, "ArrowLeft", "chip01.png")
    wait_for(page, ".desk-given", "You said: abnormal")


def test_a_label_that_fails_brings_its_image_back_with_the_reason(open_desk, journal, shas):
    page = open_desk()
    wait_for(page, NAME, "chip00.png")
    page.route("**/run/label", lambda route: route.abort())
    drag(page, (0.2, 0.2), (0.6, 0.6))
    page.keyboard.press("2")
    wait_for(page, ".desk-trouble", "Not saved: The server does not answer.")
    assert page.inner_text(NAME) == "chip00.png" and page.locator(BOX).count() == 1
    page.unroute("**/run/label")
    press(page, "2", "chip01.png")
    wait_for(page, KEPT, "Saved")
    assert len(events(journal)) == 1 and len(events(journal)[0].boxes) == 1


def test_two_visitors_get_different_images(chromium, journal, shas):
    accounts = (("ada", "secret"), ("bob", "word"))
    names = []
    with served(FakeInspector(), journal=journal, auth=accounts) as address:
        for user, word in accounts:
            context = chromium.new_context()
            page = context.new_page()
            page.goto(address)
            page.get_by_label("username").fill(user)
            page.get_by_label("password").fill(word)
            page.get_by_role("button", name="Login").click()
            page.click("#label-button")
            wait_for(page, NAME, "chip0")
            wait_for(page, ".facts", f"as {user}")
            names.append(page.inner_text(NAME))
            page.keyboard.press("1")
            wait_for(page, KEPT, "Saved")
            context.close()
    assert names[0] == "chip00.png" and names[1] not in (
        "chip00.png",
        "chip01.png",
        "chip02.png",
        "chip03.png",
    )
    assert [event.annotator for event in events(journal)] == ["ada", "bob"]


def test_where_nobody_may_label_the_page_says_how_to_set_it_up(open_page, journal, shas, address):
    page = open_page(ready=READY, path="/#label", extra_http_headers={"X-Forwarded-For": "10.0.0.1"})
    wait_for(page, ".desk-empty .next", "Start it with accounts (CHIPDEMO_AUTH=user:password)")
    assert page.is_hidden(".choices")


def test_a_data_set_of_the_hub_is_added_by_its_name(open_desk, journal, tmp_path, monkeypatch):
    with Hub({"hf_ada": Account("ada")}) as hub:
        hub.serve(monkeypatch, tmp_path / "home", "hf_ada")
        HfApi().create_repo("ada/chips", repo_type="dataset")
        for number in range(2):
            api = {"repo_id": "ada/chips", "repo_type": "dataset", "path_in_repo": f"{number}.png"}
            HfApi().upload_file(path_or_fileobj=picture(number), **api)
        page = open_desk()
        for name, answer in ((HOSTILE, "owner/name"), ("hf:ada/chips", "2 new in the queue.")):
            page.get_by_label("Or a dataset of the Hugging Face Hub").fill(name)
            page.keyboard.press("Enter")
            wait_for(page, "#label-added", answer)
        wait_for(page, NAME, "0.png")
    assert page.is_hidden("#label-dataset button:has-text('Stop')") and page.title() == "Chip Inspector"


def test_a_image_is_sent_from_inspect_under_its_hostile_name(open_page, journal, images):
    page = open_page()
    page.set_input_files("#image input[type=file]", images / HOSTILE)
    page.wait_for_selector(".stage[data-state=result]")
    page.click("#send-to-labeling")
    page.get_by_text("In the queue of the Label tab.").first.wait_for()
    page.click("#label-button")
    wait_for(page, NAME, "onerror")
    page.keyboard.press("1")
    wait_for(page, ".desk-empty .word", "All done")
    wait_for(page, KEPT, "Saved")
    assert page.locator(".desk img[src=x]").count() == 0 and page.title() == "Chip Inspector"
    assert journal.counts().labeled == 1


def test_a_file_that_is_gone_is_told_of_and_skipped(open_desk, journal, tmp_path):
    path = draw(tmp_path / "gone.png", 1)
    journal.add_image("f" * 64, (120, 90), "gone.png", path=path)
    fill(journal, tmp_path, 2)
    path.unlink(missing_ok=True)
    page = open_desk()
    wait_for(page, ".desk-trouble", "gone.png")
    page.keyboard.press("1")
    assert events(journal) == []
    press(page, "s", "chip00.png")


def test_the_keys_are_shown(open_desk, shas):
    page = open_desk()
    wait_for(page, NAME, "chip00.png")
    page.keyboard.press("?")
    assert "abnormal, crack" in page.inner_text("#chip-keys") and "undo" in page.inner_text("#chip-keys")
    page.keyboard.press("1")
    assert page.inner_text(NAME) == "chip00.png"
    page.keyboard.press("?")
    press(page, "1", "chip01.png")


@pytest.mark.parametrize("width, scheme", [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_nothing_is_wider_than_the_page_and_red_comes_with_the_word(
    open_desk, journal, tmp_path, width, scheme
):
    long = "a" * 300 + ".png"
    fill(journal, tmp_path, 3, long)
    page = open_desk(width=width, path=f"/?__theme={scheme}#label", color_scheme=scheme)
    wait_for(page, NAME, long)
    drag(page, (0.2, 0.2), (0.6, 0.6))
    page.keyboard.press("2")
    wait_for(page, KEPT, "Saved")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    reds = page.evaluate("""() => {
      const red = getComputedStyle(document.querySelector('.choice.abnormal')).color;
      return [...document.querySelectorAll('#label *')].filter((e) => e.offsetParent && !e.children.length
        && getComputedStyle(e).color === red).map((e) => e.closest('button').textContent.toLowerCase());
    }""")
    assert reds and all("abnormal" in text for text in reds)


def test_the_order_can_be_changed_and_the_reason_is_shown(open_desk, journal, shas):
    with journal.write() as database:
        database.execute(
            "UPDATE images SET priority = 1, reason = 'the model is undecided' WHERE sha256 = ?",
            (shas[6],),
        )
    page = open_desk()
    wait_for(page, NAME, "chip06.png")
    assert "why this one: the model is undecided" in page.inner_text(".desk-name")
    page.select_option(".order", "plain")
    wait_for(page, NAME, "chip00.png")


def test_second_looks_are_asked_for_and_open_at_the_desk(open_desk, journal, shas):
    said = [0.1, 0.2, 0.95, 0.1, 0.9, 0.8]  # of the third, ada says otherwise
    for sha256, label, probability in zip(shas, ["normal"] * 4 + ["abnormal"] * 2, said):
        journal.append(Label(sha256, label, "ada", said=ModelPrediction("model", "r", probability)))
    journal.append(Label(shas[0], "abnormal", "bob"), Label(shas[1], "normal", "bob"))
    page = open_desk(width=390)
    wait_for(page, NAME, "chip06.png")
    page.click("#review-count")
    wait_for(page, "#review", "ada and bob (Cohen)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".looks li").count() == 1
    page.click("text=Look again >> nth=-1")
    wait_for(page, NAME, "chip02.png")
    wait_for(page, KEPT, "you said normal")
    press(page, "2", "chip06.png")
    wait_for(page, KEPT, "Saved: chip02.png, abnormal")
    assert journal.vote(shas[2], "ada").label == "abnormal"
    page.click("text=Settle the disagreement")
    wait_for(page, NAME, "chip00.png")
    assert page.input_value(".order") == "review"


def test_a_reviewer_settles_what_people_differ_on(open_desk, journal, shas):
    journal.append(Label(shas[3], "normal", "bob"), Label(shas[3], "abnormal", "cy"))
    page = open_desk()
    page.select_option(".order", "review")
    wait_for(page, NAME, "chip03.png")
    page.keyboard.press("2")
    wait_for(page, KEPT, "Votes now: 1 normal, 2 abnormal.")
    wait_for(page, ".desk-empty .word", "No disagreement waits")
    assert events(journal)[-1].decides
    assert httpx.get(page.url.partition("?")[0].partition("#")[0]).status_code == 200
