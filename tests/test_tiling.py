from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from chipdemo.images import decode_image
from chipdemo.inspection import Region
from chipdemo.tiling import spread, stitch, tile_around, tiles_for, tiles_of
from tests.fakes import INFO

SIDE = 672


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


def test_an_image_of_one_tile_is_one_tile():
    assert tiles_of((300, 200), SIDE) == ((0, 0, 300, 200),)


def test_a_tile_is_as_large_as_the_training_images():
    for side, shown, count in ((300, 600, 9), (300, 599, 0), (1000, 1999, 0), (100, 448, 9)):
        image = decode_image(Image.new("RGB", (shown, shown)))
        assert len(tiles_for(image, replace(INFO, image_side=side)).boxes) == count


@pytest.mark.parametrize("size", [(8000, 8000), (64_000_000, 1), (32_000, 2000), (5000, 5000)])
def test_no_image_has_more_than_256_tiles(size):
    image = replace(decode_image(Image.new("RGB", (64, 64))), size=size)
    assert 0 < len(tiles_for(image, replace(INFO, image_side=224)).boxes) <= 256


def test_the_first_batch_is_spread_over_all_tiles():
    order = spread(range(64))
    assert order[:16] == list(range(0, 64, 4)) and sorted(order) == list(range(64))


def test_the_highest_of_overlapping_maps_wins():
    left, right = np.full((2, 2), 0.2, np.float32), np.full((2, 2), 0.6, np.float32)
    whole = np.full((1, 1), 0.3, np.float32)
    parts = [((0, 0, 20, 20), left), ((10, 0, 30, 20), right), ((0, 0, 30, 20), whole)]
    expected = np.array([[0.3, 0.6, 0.6]] * 2, np.float32)
    np.testing.assert_array_equal(stitch((30, 20), parts), expected)


def test_the_tile_around_a_region_shows_most_around_it():
    region = Region(x=1250, y=320, width=20, height=30, score=0.9, area=600)
    assert tile_around(tiles_of((1600, 1600), SIDE), region) == (928, 0, 1600, 672)
