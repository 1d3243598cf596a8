"""Zoom and pan in a real browser: the original's pixels, regions, shapes at pixel precision."""

import numpy as np
import pytest
from PIL import Image

from chipdemo.images import read_image
from chipdemo.labeling.journal import Journal
from tests.browser.test_inspect_page import choose
from tests.browser.test_label_page import KEPT, NAME, events, wait_for, wait_saved
from tests.fakes import FakeModel
from tests.serving import served

WIDTH, HEIGHT = 3000, 2000
SPOT = (1801, 903)  # left, top of a 5 px defect


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A dark image with a white spot of 5 x 5 pixels, which no preview shows whole."""
    values = np.full((HEIGHT, WIDTH), 40, np.uint8)
    values[SPOT[1] : SPOT[1] + 5, SPOT[0] : SPOT[0] + 5] = 255
    path = tmp_path_factory.mktemp("large") / "large.png"
    Image.fromarray(values).save(path)
    return path


def per_pixel(page, area: str) -> float:
    """Pixels of the screen for one of the image."""
    width = page.evaluate("s => document.querySelector(s + ' .layers').getBoundingClientRect().width", area)
    return width / WIDTH


def on_screen(page, area: str, x: float, y: float) -> tuple[float, float]:
    corner, scale = page.locator(f"{area} .layers").bounding_box(), per_pixel(page, area)
    return corner["x"] + x * scale, corner["y"] + y * scale


def zoom_at(page, area: str, x: float, y: float, least: float) -> None:
    """By the wheel, until a pixel of the image is so large."""
    page.mouse.move(*on_screen(page, area, x, y))
    for _ in range(80):
        if per_pixel(page, area) >= least:
            break
        page.mouse.wheel(0, -200)
        page.evaluate("new Promise(requestAnimationFrame)")
    page.wait_for_selector(f"{area}.original")


def settled(page, area: str) -> None:
    """Until the image has come to rest."""
    page.wait_for_function(
        """s => new Promise((resolve) => {
          const rect = () => JSON.stringify(document.querySelector(s + ' .layers').getBoundingClientRect());
          let [last, same] = [rect(), 0];
          const look = () => {
            same = rect() === last ? same + 1 : 0;
            last = rect();
            if (same > 10) resolve(true);
            else requestAnimationFrame(look);
          };
          look();
        })""",
        arg=area,
    )


def test_the_original_is_asked_for_piece_by_piece_and_only_when_zoomed(open_page, large):
    page = open_page()
    tiles = []
    page.on("request", lambda request: "/tiles/" in request.url and tiles.append(request.url))
    choose(page, large)
    settled(page, ".viewer")
    assert tiles == []
    zoom_at(page, ".viewer", SPOT[0] + 2, SPOT[1] + 2, 10)
    settled(page, ".viewer")
    assert 0 < len(set(tiles)) < 40
    shade = page.evaluate(
        """() => {
          const canvas = document.querySelector('.viewer .zoom canvas');
          const [x, y] = [canvas.width, canvas.height].map((side) => Math.round(side / 2));
          const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          let white = 0;
          for (let i = 0; i < data.length; i += 4) white += data[i] > 128;
          return white;
        }"""
    )
    side = 5 * per_pixel(page, ".viewer")
    assert abs(shade / side**2 - 1) < 0.2  # the spot, as large as it is


def test_keys_zoom_and_a_region_answers_its_row(open_page, tmp_path):
    values = np.full((90, 120), 240, np.uint8)
    values[40:60, 60:80] = 0
    Image.fromarray(values).save(tmp_path / "spot.png")
    page = open_page()
    choose(page, tmp_path / "spot.png")
    home = page.locator(".viewer .layers").bounding_box()["width"]
    page.keyboard.press("+")
    page.wait_for_selector(".viewer.zoomed")
    page.keyboard.press("0")
    page.wait_for_selector(".viewer:not(.zoomed)")
    page.locator("#regions tbody tr").focus()
    page.wait_for_selector(".stage .box.pointed")
    page.keyboard.press("Enter")
    page.wait_for_selector(".viewer.zoomed")
    settled(page, ".viewer")
    assert page.locator(".viewer .layers").bounding_box()["width"] > home
    page.locator(".stage .box").hover()
    page.wait_for_selector("#regions tr.pointed")


PLUS_AT_THE_RESULT = """new MutationObserver(() => {
  if (document.querySelector('.stage').dataset.state !== 'result') return;
  document.dispatchEvent(new KeyboardEvent('keydown', { key: '+' }));
}).observe(document.querySelector('.stage'), { attributeFilter: ['data-state'] })"""


def test_an_image_is_zoomed_by_a_key_that_comes_before_it_is_open(open_page, images):
    page = open_page()
    page.evaluate(PLUS_AT_THE_RESULT)
    choose(page, images / "dark.png")
    page.wait_for_selector(".viewer.zoomed")


def test_another_image_is_shown_whole(open_page, images):
    page = open_page()
    choose(page, images / "dark.png")
    page.keyboard.press("+")
    page.wait_for_selector(".viewer.zoomed")
    choose(page, images / "light.png")
    page.wait_for_selector(".viewer:not(.zoomed)")


def test_an_image_of_another_shape_fills_its_place(open_page, tmp_path):
    page = open_page()
    for width, height in ((200, 200), (300, 100), (90, 180)):
        path = tmp_path / f"{width}x{height}.png"
        Image.new("L", (width, height), 20).save(path)
        choose(page, path)
        settled(page, ".viewer")
        place, image = (page.locator(f".viewer{part}").bounding_box() for part in ("", " .layers"))
        assert all(abs(place[side] - image[side]) <= 1.5 for side in ("x", "y", "width", "height"))


@pytest.fixture(scope="module")
def journal(tmp_path_factory, large):
    with Journal(tmp_path_factory.mktemp("journal") / "labels.db") as journal:
        decoded = read_image(large)
        journal.add_image(decoded.sha256, decoded.image.size, large.name, large.read_bytes())
        yield journal


@pytest.fixture(scope="module")
def address(journal, images):
    with served(FakeModel(), journal=journal, annotator="ada") as address:
        yield address


def test_a_box_of_3_px_and_a_polygon_are_drawn_with_types_of_their_own(open_page, journal):
    page = open_page(path="/#label", ready=("#desk .desk[data-state=ready]",))
    wait_for(page, NAME, "large.png")
    zoom_at(page, ".paper", SPOT[0] + 2, SPOT[1] + 2, 12)
    settled(page, ".paper")
    page.mouse.move(*on_screen(page, ".paper", SPOT[0] + 1, SPOT[1] + 1))
    page.mouse.down()
    page.mouse.move(*on_screen(page, ".paper", SPOT[0] + 4, SPOT[1] + 4), steps=3)
    page.mouse.up()
    page.wait_for_selector(".mark")
    page.keyboard.press("Shift+C")
    page.keyboard.press("g")
    corners = [(SPOT[0] + right, SPOT[1] + down) for right, down in ((-6, -6), (14, -6), (14, 12))]
    for corner in corners:
        page.mouse.click(*on_screen(page, ".paper", *corner))
    page.keyboard.press("Enter")
    page.wait_for_selector(".mark.outline")
    page.keyboard.press("Escape")
    page.reload()  # the draft is kept
    wait_for(page, NAME, "large.png")
    page.wait_for_selector(".mark.outline")
    page.keyboard.press("f")
    wait_saved(page, "large.png")
    (event,) = events(journal)
    (box,), (polygon,) = event.boxes, event.polygons
    assert (box.x, box.y, box.width, box.height) == (SPOT[0] + 1, SPOT[1] + 1, 3, 3)
    assert box.defect_type == "crack" and event.defect_type == "finger"
    assert [tuple(point) for point in polygon.points] == corners and polygon.defect_type == ""
    page.wait_for_selector(".desk[data-state=empty] .undo-last", state="visible")
    page.click(".undo-last")
    wait_for(page, KEPT, "Undone")
    assert page.locator(".mark").count() == 2
