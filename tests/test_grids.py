"""Drawn modules: cells with busbars, dark edges and noise."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from chipdemo.grids import cells_of
from chipdemo.images import decode_image
from chipdemo.tiling import tiles_for, tiles_of
from chipdemo.ui.inspect.html import verdict_html
from tests.fakes import INFO, FakeModel, fake_judge


def draw_cell(seed: int, side: int = 90) -> np.ndarray:
    """Gray with a random texture, three busbars and a slightly darker edge."""
    generator = np.random.default_rng(seed)
    cell = generator.normal(generator.integers(110, 190), 8, (side, side))
    cell[:2] = cell[-2:] = cell[:, :2] = cell[:, -2:] = 70
    for bar in (1, 3, 5):
        cell[bar * side // 6] = 60
    return cell


def draw_module(rows=3, columns=4, gap=0, margin=0, side=90) -> Image.Image:
    height, width = (n * side + (n - 1) * gap + 2 * margin for n in (rows, columns))
    module = np.full((height, width), 10.0)
    for row in range(rows):
        for column in range(columns):
            top, left = margin + row * (side + gap), margin + column * (side + gap)
            module[top : top + side, left : left + side] = draw_cell(10 * row + column, side)
    return Image.fromarray(np.clip(module, 0, 255).astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize(("gap", "margin"), [(0, 0), (4, 0), (3, 12)])
@pytest.mark.parametrize("scale", [0.75, 1, 1.3])
def test_the_cells_of_a_module_are_found_at_about_the_expected_size(gap, margin, scale):
    module = draw_module(gap=gap, margin=margin)
    module = module.resize((round(scale * module.width), round(scale * module.height)))
    cells = cells_of(module, 90, module.size)
    assert len(cells) == 12
    for number, (left, top, right, bottom) in enumerate(cells):
        row, column = divmod(number, 4)
        expected = [margin + column * (90 + gap) - gap / 2, margin + row * (90 + gap) - gap / 2]
        assert (left, top) == pytest.approx([scale * value for value in expected], abs=5)
        assert right - left == pytest.approx(scale * (90 + gap), abs=4)
        assert bottom - top == pytest.approx(scale * (90 + gap), abs=4)


def test_a_row_of_cells_is_a_grid_too():
    module = draw_module(rows=1, columns=5)
    cells = cells_of(module, 90, module.size)
    assert len(cells) == 5 and {(top, bottom) for _, top, _, bottom in cells} == {(0, 90)}


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)),
        Image.new("RGB", (400, 300), "gray"),
        draw_module(rows=1, columns=1, side=400),
        draw_module().resize((90, 90)),
        Image.new("RGB", (1, 1)),
    ],
    ids=["noise", "plain", "one large cell", "much smaller cells", "a pixel"],
)
def test_an_image_without_a_grid_has_no_cells(image):
    assert cells_of(image, 90, image.size) == ()


def test_a_module_is_inspected_cell_by_cell_where_the_model_knows_the_size_of_cells():
    module, info = draw_module(gap=4, side=240), replace(INFO, image_side=240)
    layout = tiles_for(decode_image(module), info)
    assert layout.cells and layout.boxes == cells_of(module, 240, module.size) and len(layout.boxes) == 12
    assert tiles_for(decode_image(module), replace(info, image_side=0)).boxes == ()  # a tile would be 672 px
    plain = Image.new("RGB", module.size, "gray")
    assert tiles_for(decode_image(plain), info) == (tiles_of(module.size, 240), False)


class KnowsCells(FakeModel):
    """Learned from images of 240 px."""

    info = replace(INFO, image_side=240, threshold=0.7)


def test_the_most_abnormal_cell_decides_and_the_whole_has_no_say():
    """Cells are gray, and the fake model says how dark a view is; the frame is darker than all of them."""
    module = draw_module(gap=4, side=240)
    module.paste((20, 20, 20), (500, 260, 700, 470))  # in row 2, column 3
    inspection = fake_judge(KnowsCells()).inspect(decode_image(module))
    left, top, right, bottom = inspection.tiles.most_abnormal
    assert inspection.tiles.cells and inspection.tiles.count == 12 and inspection.tiles.decide
    assert (left, top, right, bottom) == pytest.approx((486, 242, 730, 486), abs=6)
    whole = inspection.tiles.whole.abnormal_probability
    assert inspection.abnormal_probability > whole and inspection.verdict == "abnormal"
    text = verdict_html(inspection, INFO)
    assert f"Inspected in 12 cells. The most abnormal one decides: x {left:,}–{right:,}" in text
    as_a_whole = fake_judge(KnowsCells()).inspect(decode_image(module), tiles=False)
    assert (as_a_whole.tiles.count, as_a_whole.tiles.cells, as_a_whole.tiles.seen) == (12, True, 0)


class AlarmedByTheWhole(KnowsCells):
    """The whole module, seen alone, is abnormal; no cell is."""

    def predict(self, pixels, methods=()):
        probability = 0.9 if len(pixels) == 1 else 0.1
        return [replace(one, abnormal_probability=probability) for one in super().predict(pixels, methods)]


def test_a_view_of_all_cells_is_no_view_of_a_cell():
    inspection = fake_judge(AlarmedByTheWhole()).inspect(decode_image(draw_module(gap=4, side=240)))
    assert inspection.abnormal_probability == 0.1 and inspection.verdict == "normal"
    assert inspection.tiles.whole.verdict == "abnormal"
