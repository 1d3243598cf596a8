"""Take the pictures of the documents: the running app in headless Chromium.

    python docs/screenshots.py

The ELPV images may be shown by the app but not committed. The pictures therefore show drawings of a
monocrystalline cell under electroluminescence, with a crack that cuts off a dark area.
"""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import Page, sync_playwright

from app import network_teacher
from chipdemo.labeling.intake import add_paths
from chipdemo.labeling.journal import Journal
from chipdemo.models import Models
from chipdemo.settings import AUTO, SHIPPED
from chipdemo.vision.predictor import load_model
from tests.serving import served

ROOT = Path(__file__).resolve().parent.parent
ABLATION = ROOT / "chipdemo" / "ablation" / "elpv.json"
SEEDS = (3, 4, 5, 6, 7, 8, 9)  # of the drawn cells; the first is inspected, the others are for labeling
SIDE = 300  # pixels, as the ELPV images
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


def drawn_cell(seed: int) -> Image.Image:
    """A gray cell with busbars, finger lines and grain, one crack, and the dark area that it cuts off."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    cell = 110 - 70 * (x**2 + y**2) + np.sin(np.arange(SIDE) * 2 * np.pi / 5)[None]
    blotches = np.asarray(
        Image.fromarray(generator.normal(128, 40, (12, 12)).clip(0, 255).astype(np.uint8)).resize(
            (SIDE, SIDE), 3
        )
    )
    cell = cell + (blotches.astype(float) - 128) * 0.15 + generator.normal(0, 4, (SIDE, SIDE))
    image = Image.fromarray(cell.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for bar in (0.17, 0.5, 0.83):
        draw.line((0, bar * SIDE, SIDE, bar * SIDE), fill=45, width=7)
    corner = 26
    for cx, cy in ((0, 0), (SIDE, 0), (0, SIDE), (SIDE, SIDE)):
        draw.polygon(((cx, cy), (abs(cx - corner), cy), (cx, abs(cy - corner))), fill=8)
    draw.polygon(
        ((172, 159), (214, 174), (262, 168), (282, 200), (262, 236), (205, 244), (178, 215)), fill=26
    )
    crack = ((118, 60), (131, 92), (150, 118), (158, 148), (172, 159), (178, 215), (205, 244))
    draw.line(crack, fill=30, width=3, joint="curve")
    return image.filter(ImageFilter.GaussianBlur(1.6)).convert("RGB")


def draw_shapes(page: Page) -> None:
    """A box with a type of its own, and a polygon."""
    box = page.locator(".paper").bounding_box()

    def place(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*place(0.36, 0.17))
    page.mouse.down()
    page.mouse.move(*place(0.6, 0.56), steps=4)
    page.mouse.up()
    page.keyboard.press("Shift+C")
    page.keyboard.press("g")
    for corner in ((0.57, 0.52), (0.71, 0.57), (0.94, 0.66), (0.87, 0.8), (0.68, 0.82), (0.59, 0.72)):
        page.mouse.click(*place(*corner))
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+D")
    page.keyboard.press("Escape")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        cells = [Path(folder) / f"drawn-cell-{seed}.png" for seed in SEEDS]
        for path, seed in zip(cells, SEEDS):
            drawn_cell(seed).save(path)
        journal = closing.enter_context(Journal(Path(folder) / "labels.db"))
        add_paths(journal, cells[1:])
        address = closing.enter_context(
            served(
                Models(*(load_model(str(source), runtime=AUTO) for source in SHIPPED)),
                ablation=ABLATION,
                journal=journal,
                annotator="ada",
                teacher=network_teacher,
            )
        )
        browser = closing.enter_context(sync_playwright()).chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )

        def open_page(width: int, height: int, scheme: str, tab: str = "inspect") -> Page:
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(f"{address}/?__theme={scheme}#{tab}")
            return page

        def picture(page: Page, name: str) -> None:
            page.wait_for_timeout(1500)  # until all transitions have ended
            page.screenshot(path=ROOT / "docs" / f"{name}.png")
            page.close()

        for name, width, height, scheme in (
            ("inspect", 1440, 1000, "light"),
            ("inspect-dark", 1440, 1000, "dark"),
            ("inspect-phone", 390, 844, "light"),
        ):
            page = open_page(width, height, scheme)
            page.set_input_files("#image input[type=file]", cells[0])
            page.locator('.inspect[data-state="result"] #verdict .probability').wait_for()
            picture(page, name)
        page = open_page(1440, 1000, "light", "compare")
        page.locator("#compare-table tbody tr").first.wait_for()
        picture(page, "compare")
        page = open_page(1440, 900, "light", "label")
        page.locator('.desk[data-state="ready"]').wait_for()
        for key in "212":
            page.keyboard.press(key)
            page.wait_for_timeout(1000)
        draw_shapes(page)
        picture(page, "label")


if __name__ == "__main__":
    main()
