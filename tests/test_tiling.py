"""Large photographs, tile by tile. The fake inspector's tiles are 672 pixels wide; dark is abnormal."""

import numpy as np
import pytest
from PIL import Image

from chipdemo.inspection import Region
from chipdemo.tiling import TiledInspector, merged, stitched, tiles_of
from tests.fakes import FakeInspector

SIDE = 672


def photograph(size=(1600, 1600), dark=(1200, 300, 1300, 400)) -> Image.Image:
    """Light, with a dark square: (left, top, right, bottom)."""
    image = Image.new("RGB", size, (240, 240, 240))
    image.paste((0, 0, 0), dark)
    return image


@pytest.mark.parametrize("size", [(1344, 1344), (4000, 3000), (3001, 700), (500, 2500)])
def test_tiles_cover_every_pixel_and_overlap(size):
    covered = np.zeros(size[::-1], int)
    for left, top, right, bottom in tiles_of(size, SIDE):
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        assert (right - left, bottom - top) == (min(SIDE, size[0]), min(SIDE, size[1]))
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1
    lefts = sorted({box[0] for box in tiles_of(size, SIDE)})
    assert all(b - a <= 0.75 * SIDE + 1 for a, b in zip(lefts, lefts[1:]))


def test_a_photograph_of_one_tile_is_one_tile():
    assert tiles_of((300, 200), SIDE) == ((0, 0, 300, 200),)


def test_a_small_photograph_is_inspected_as_ever():
    inner = FakeInspector()
    tiled = TiledInspector(inner)
    image = photograph((1300, 1000), (0, 0, 400, 400))
    assert tiled.tiles(image.size) == () and tiled.inspect(image).to_json() == inner.inspect(image).to_json()
    assert inner.inspections == 2
    np.testing.assert_array_equal(tiled.explain(image, "Grad-CAM"), inner.explain(image, "Grad-CAM"))


def test_a_defect_that_vanishes_in_the_whole_is_found_in_its_tile():
    inner, image = FakeInspector(), photograph(dark=(1000, 100, 1590, 690))
    tiled = TiledInspector(inner)
    assert inner.inspect(image).verdict == "normal"
    inspection = tiled.inspect(image)
    assert inspection.verdict == "abnormal" and inspection.abnormal_probability > 0.6
    assert inspection.image_size == (1600, 1600)
    assert any(
        1000 <= r.x + r.width / 2 <= 1590 and 100 <= r.y + r.height / 2 <= 690 for r in inspection.regions
    )


def test_the_cost_is_one_inspection_a_tile_and_one_for_the_whole():
    inner = FakeInspector()
    tiled = TiledInspector(inner)
    inspection = tiled.inspect(photograph())
    assert len(tiled.tiles((1600, 1600))) == 9 and inner.inspections == 10
    assert inspection.timing_ms["network, 10 times"] == pytest.approx(125)


def test_heat_is_where_the_defect_is_and_as_fine_as_that_of_a_tile():
    heat = TiledInspector(FakeInspector()).inspect(photograph()).heat["evidence"]
    assert heat.shape == (22, 22)  # 9 places a tile of 672 pixels
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert 1150 < (x + 0.5) / 22 * 1600 < 1350 and 250 < (y + 0.5) / 22 * 1600 < 450


def test_an_explanation_is_stitched_too():
    inner = FakeInspector()
    assert TiledInspector(inner).explain(photograph(), "Grad-CAM").shape == (22, 22)
    assert inner.explanations == 10


def test_the_threshold_that_was_asked_for_counts():
    tiled, image = TiledInspector(FakeInspector()), photograph()
    assert tiled.inspect(image, 0.999).verdict == "normal" and tiled.inspect(image, 0.999).threshold == 0.999


def test_a_defect_in_two_tiles_is_one_region():
    region = Region(x=10, y=10, width=20, height=20, score=0.9, area=400)
    again = Region(x=12, y=10, width=20, height=20, score=0.7, area=380)
    beside = Region(x=60, y=10, width=20, height=20, score=0.8, area=400)
    assert merged([again, beside, region]) == (region, beside)


def test_of_overlapping_maps_the_highest_counts():
    left, right = np.full((2, 2), 0.2, np.float32), np.full((2, 2), 0.6, np.float32)
    whole = np.full((1, 1), 0.3, np.float32)
    parts = [((0, 0, 20, 20), left), ((10, 0, 30, 20), right)]
    expected = np.array([[0.3, 0.6, 0.6]] * 2, np.float32)
    np.testing.assert_array_equal(stitched(parts, ((0, 0, 30, 20), whole)), expected)
