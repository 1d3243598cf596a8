"""The Inspect tab in a real browser, with a fake model: dark is abnormal, light is normal."""

import base64
import json

import pytest
from PIL import Image

from tests.fakes import METHODS

FILE = "#image input[type=file]"
WORD = "#verdict .word"
SHOWN = (  # the image and the controls come with the state, the verdict on its own; each may be the first
    "/result|error/.test(document.querySelector('.stage').dataset.state)"
    " && document.querySelector('#verdict .word')?.innerText"  # hidden while it is judged
)


def choose(page, path) -> None:
    """Upload an image and wait for its own result."""
    page.set_input_files(FILE, path)
    page.wait_for_function(
        f"name => document.querySelector('.stage-name strong').textContent === name && {SHOWN}",
        arg=path.name,
    )


def wait_for_word(page, word: str) -> None:
    page.wait_for_function(
        f"word => document.querySelector('#verdict .word')?.textContent === word && {SHOWN}", arg=word
    )


def style(page, selector: str, name: str) -> str:
    return page.evaluate("([s, n]) => getComputedStyle(document.querySelector(s))[n]", [selector, name])


@pytest.fixture
def page(open_page):
    return open_page()


def test_the_empty_page_shows_what_the_model_was_tested_on(page):
    assert "drawn chips, test, 10 images" in page.inner_text("#verdict")
    assert not page.is_visible(".viewer") and not page.is_visible("#threshold")


def test_an_upload_gets_a_verdict_with_its_overlay_and_regions(page, images):
    choose(page, images / "dark.png")
    wait_for_word(page, "ABNORMAL")
    assert page.is_visible(".viewer .photo") and page.locator(".box").count() == 1
    assert page.get_attribute(".viewer .photo", "alt") == "dark.png"
    assert "drawn chips, validation, 9 images" in page.inner_text("#verdict")
    assert page.locator("#regions tbody tr").count() == 1
    choose(page, images / "light.png")
    wait_for_word(page, "NORMAL")
    assert page.locator(".box").count() == 0


def test_an_example_is_inspected_by_one_click(page):
    page.click("#examples button")
    wait_for_word(page, "ABNORMAL")
    assert page.inner_text(".stage-name strong") == "dark.png"


@pytest.mark.parametrize("name", ["dark.png", "bad.png"])
def test_the_same_file_again_is_answered_again(page, images, name):
    page.evaluate(
        "() => { window.seen = []; const stage = document.querySelector('.stage');"
        "new MutationObserver(() => seen.push(stage.dataset.state)).observe(stage, {attributes: true}); }"
    )
    ended = "error" if name == "bad.png" else "result"
    for times in (1, 2):
        page.set_input_files(FILE, images / name)
        page.wait_for_function(
            "([end, n]) => seen.filter((state) => state === end).length >= n", arg=[ended, times]
        )
    assert page.evaluate("() => document.querySelector('.stage').dataset.state") == ended


def test_a_tiff_is_shown_though_browsers_cannot_show_it(page, images):
    choose(page, images / "deep.tif")
    page.wait_for_function("document.querySelector('.photo').naturalWidth === 120")
    assert "16-bit" in page.inner_text(".stage-name span")


def test_an_image_out_of_distribution_gets_no_confident_verdict(page, images):
    choose(page, images / "red.png")
    wait_for_word(page, "Out of distribution")
    assert page.is_visible("#verdict .verdict.out_of_distribution") and "2.5" in page.inner_text("#verdict")


def test_a_promise_chooses_the_threshold_or_offers_what_can_be_promised(page, images, model):
    choose(page, images / "dark.png")
    wait_for_word(page, "ABNORMAL")
    before = model.predictions
    page.click("#choose-recall")  # 95 %, which 4 abnormal images cannot promise
    page.get_by_text("They are enough for 56.2 %").wait_for()
    percent = page.locator("#target-recall input")
    assert percent.input_value() == "56.2"
    percent.press("Enter")
    page.get_by_text("detect at least 56.2 % of new abnormal images").wait_for()
    assert page.locator("#threshold input[type=number]").input_value() == "0.37999"
    assert "detects 4 of 4 abnormal images" in page.inner_text("#verdict")
    page.locator("#threshold input[type=range]").focus()
    page.keyboard.press("End")
    wait_for_word(page, "NORMAL")
    page.wait_for_function("!document.querySelector('#promise p')")
    assert model.predictions == before


def test_the_threshold_rejudges_at_once_and_without_the_model(page, images, model):
    choose(page, images / "dark.png")
    wait_for_word(page, "ABNORMAL")
    before = model.predictions
    slider = page.locator("#threshold input[type=range]")
    slider.focus()
    page.keyboard.press("End")
    wait_for_word(page, "NORMAL")
    assert "nan" not in page.inner_text("#verdict")
    page.click("#reset")
    wait_for_word(page, "ABNORMAL")
    assert slider.input_value() == "0.4"
    assert model.predictions == before


def test_each_explanation_changes_the_picture_and_says_what_it_shows(page, images):
    choose(page, images / "dark.png")
    seen = {page.get_attribute(".heat", "src")}
    for method in METHODS[1:]:
        page.get_by_role("radio", name=method, exact=True).check()
        page.wait_for_function(
            "start => document.querySelector('.legend figcaption').textContent.startsWith(start)",
            arg=f"{method}: ",
        )
        seen.add(page.get_attribute(".heat", "src"))
    assert len(seen) == len(METHODS)


def test_opening_the_camera_keeps_the_last_result_and_a_snap_is_inspected(open_page, images):
    page = open_page(permissions=["camera"])
    choose(page, images / "dark.png")
    page.get_by_role("button", name="Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#image video')?.videoWidth > 0")
    assert page.inner_text(WORD) == "ABNORMAL" and page.inner_text(".stage-name strong") == "dark.png"
    page.get_by_role("button", name="capture photo").click()
    page.wait_for_function("!/dark/.test(document.querySelector('.stage-name').textContent)")
    page.wait_for_selector(".stage[data-state=result]")


def test_a_bad_file_says_so_leaves_nothing_of_the_last_result_and_the_page_goes_on(page, images):
    choose(page, images / "dark.png")
    wait_for_word(page, "ABNORMAL")
    choose(page, images / "bad.png")
    wait_for_word(page, "Not inspected")
    assert "text" in page.inner_text(".stage-message")
    assert not page.is_visible(".viewer") and not page.is_visible("#regions")
    assert "ABNORMAL" not in page.inner_text("#verdict")
    choose(page, images / "light.png")
    wait_for_word(page, "NORMAL")


def test_a_hostile_name_is_shown_as_text(page, images):
    name = "<img src=x onerror=document.title=1>.png"
    page.set_input_files(FILE, images / name)
    wait_for_word(page, "ABNORMAL")
    assert page.locator("img[src='x']").count() == 0
    assert page.title() == "Chip Inspector"


def test_the_page_works_by_keyboard_alone(page, images):
    page.locator("#examples button").focus()
    page.keyboard.press("Enter")
    wait_for_word(page, "ABNORMAL")
    page.keyboard.press("o")
    assert style(page, ".veil", "opacity") == "0"
    page.keyboard.press("o")
    assert style(page, ".veil", "opacity") == "0.8"
    page.keyboard.press("[")
    assert style(page, ".veil", "opacity") == "0.7"
    page.keyboard.press("]")
    assert style(page, ".veil", "opacity") == "0.8"
    page.keyboard.press("b")
    assert style(page, ".boxes", "display") == "none"
    page.keyboard.press("t")
    page.keyboard.press("End")
    wait_for_word(page, "NORMAL")
    page.locator(".split").focus()
    page.keyboard.press("End")
    assert page.locator(".viewer.comparing").count() == 1
    page.keyboard.press("?")
    assert page.is_visible("#chip-keys")
    page.keyboard.press("Escape")
    assert not page.is_visible("#chip-keys")


def test_keys_do_nothing_while_a_number_is_typed(page, images):
    choose(page, images / "dark.png")
    page.locator("#threshold input[type=number]").focus()
    page.keyboard.press("b")
    assert style(page, ".boxes", "display") != "none"


def test_focus_is_visible(page):
    page.locator("#examples button").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert style(page, "#examples button", "outlineStyle") == "solid"


TRANSFER = """([kind, name, data, type, onto]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const more = kind === 'paste' ? { clipboardData: transfer } : { dataTransfer: transfer };
  const Kind = kind === 'paste' ? ClipboardEvent : DragEvent;
  document.querySelector(onto).dispatchEvent(new Kind(kind, { bubbles: true, cancelable: true, ...more }));
}"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_an_image_may_be_pasted_or_dropped_anywhere(page, images, kind):
    data = base64.b64encode((images / "light.png").read_bytes()).decode()
    page.evaluate(TRANSFER, [kind, f"{kind}.png", data, "image/png", "body"])
    wait_for_word(page, "NORMAL")
    assert page.inner_text(".stage-name strong") == f"{kind}.png"


PGM = b"P5 40 30 255\n" + bytes([240]) * 1200


@pytest.mark.parametrize("onto", ["body", "#image"])
def test_a_file_that_the_browser_calls_no_image_is_read_where_it_is_one(page, onto):
    page.evaluate(TRANSFER, ["drop", "camera.pgm", base64.b64encode(PGM).decode(), "", onto])
    wait_for_word(page, "NORMAL")
    assert page.inner_text(".stage-name strong") == "camera.pgm"


@pytest.mark.parametrize("how", ["drop", "choose"])
def test_a_file_that_is_no_image_is_told_in_a_sentence_in_the_place_of_the_last_result(
    page, images, how, tmp_path
):
    choose(page, images / "dark.png")
    (tmp_path / "notes.txt").write_text("chip 5 is fine")
    if how == "drop":
        content = base64.b64encode(b"chip 5 is fine").decode()
        page.evaluate(TRANSFER, ["drop", "notes.txt", content, "text/plain", "#image"])
    else:
        page.set_input_files("#image input[type=file]", tmp_path / "notes.txt")
    wait_for_word(page, "Not inspected")
    assert page.inner_text(".stage-message").startswith("The file is text. Use a PNG,")
    assert page.locator(".toast-wrap >> text=Invalid").count() == 0


def test_overlay_and_result_can_be_downloaded(page, images, tmp_path):
    choose(page, images / "dark.png")
    with page.expect_download() as download:
        page.click("#get-overlay")
    assert download.value.suggested_filename == "dark-overlay.png"
    download.value.save_as(tmp_path / "overlay.png")
    with Image.open(tmp_path / "overlay.png") as image:
        assert image.width == 120 and image.height > 90
    with page.expect_download() as download:
        page.click("#get-json")
    assert download.value.suggested_filename == "dark-inspection.json"
    download.value.save_as(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["verdict"] == "abnormal"


def test_the_details_show_channels_timings_and_the_raw_json(page, images):
    choose(page, images / "dark.png")
    page.get_by_role("button", name="Details").click()
    page.wait_for_selector("#details .channels img")
    assert page.locator("#details .channels img").count() == 6
    assert page.locator("#details tbody tr").count() == 5
    assert "abnormal_probability" in page.inner_text("#raw")


def test_two_visitors_do_not_see_each_other(open_page, images):
    first, second = open_page(), open_page()
    choose(first, images / "dark.png")
    choose(second, images / "light.png")
    first.locator("#threshold input[type=range]").focus()
    first.keyboard.press("End")
    wait_for_word(first, "NORMAL")
    assert "dark.png" in first.inner_text(".stage-name") and "light.png" in second.inner_text(".stage-name")
    assert second.inner_text("#verdict .probability strong >> nth=1") == "0.40"


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_scrolls_sideways(open_page, images, width, color_scheme):
    page = open_page(width, color_scheme=color_scheme)
    wide = "() => document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate(wide) <= 0
    choose(page, images / "dark.png")
    wait_for_word(page, "ABNORMAL")
    assert page.evaluate(wide) <= 0
    word, panel = page.locator(WORD).bounding_box(), page.locator("#verdict").bounding_box()
    assert page.evaluate("() => document.querySelector('#verdict .word').scrollWidth") <= word["width"] + 1
    assert word["width"] <= panel["width"]


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_verdict_has_contrast_enough_to_be_read(open_page, images, color_scheme):
    page = open_page(color_scheme=color_scheme)
    for name, word in (
        ("dark.png", "ABNORMAL"),
        ("light.png", "NORMAL"),
        ("red.png", "Out of distribution"),
    ):
        choose(page, images / name)
        wait_for_word(page, word)
        assert (
            contrast(style(page, WORD, "color"), style(page, "#verdict .verdict", "backgroundColor")) >= 4.5
        )


def contrast(one: str, other: str) -> float:
    """Contrast of two "rgb(r, g, b)" as WCAG 2 defines it, 1-21."""

    def luminance(color: str) -> float:
        parts = [int(part) / 255 for part in color[4:-1].split(",")]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_address_keeps_the_tab(open_page):
    page = open_page(path="/#inspect")
    assert page.get_attribute("#inspect-button", "aria-selected") == "true"
