"""Pieces of large images for the zoom: from the original pixels, only for who was given the key."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from chipdemo.errors import UnreadableImageError
from chipdemo.ui import tiles
from chipdemo.ui.tiles import SIDE, Tiles


def striped(width: int = 1300, height: int = 700) -> Image.Image:
    """Each column has its own shade."""
    return Image.fromarray(np.tile((np.arange(width) % 256).astype(np.uint8), (height, 1))).convert("RGB")


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(content)).convert("L")).astype(int)


def test_a_tile_shows_the_original_pixels_of_its_place():
    offered = Tiles()
    key = offered.offer("a", striped)
    tile = pixels(offered.tile(key, 0, 1, 0))
    assert tile.shape == (SIDE, SIDE)
    assert abs(tile[100] - np.arange(SIDE, 2 * SIDE) % 256).max() <= 8  # a JPEG's error, at the jumps
    assert pixels(offered.tile(key, 0, 2, 1)).shape == (700 - SIDE, 1300 - 2 * SIDE)


def test_each_smaller_copy_is_half_as_large():
    offered = Tiles()
    key = offered.offer("a", striped)
    assert pixels(offered.tile(key, 1, 1, 0)).shape == (350, 650 - SIDE)
    assert pixels(offered.tile(key, 2, 0, 0)).shape == (175, 325)


def test_the_image_is_read_once_and_only_when_a_tile_is_asked_for():
    read, offered = [], Tiles()
    key = offered.offer("a", lambda: read.append(1) or striped())
    assert read == []
    for column in range(3):
        offered.tile(key, 0, column, 0)
    assert read == [1] and offered.offer("a", striped) == key


def test_a_stranger_gets_nothing():
    offered = Tiles()
    key = offered.offer("a", striped)
    for guess in ("", "a", key[:-1]):
        with pytest.raises(KeyError):
            offered.tile(guess, 0, 0, 0)
    assert len(key) >= 20 and offered.offer("b", striped) != key


@pytest.mark.parametrize("place", [(0, 3, 0), (0, 0, 2), (0, -1, 0), (30, 0, 0)])
def test_there_is_no_tile_outside_of_the_image(place):
    offered = Tiles()
    key = offered.offer("a", striped)
    with pytest.raises(IndexError):
        offered.tile(key, *place)


def test_few_decoded_images_are_kept(monkeypatch):
    monkeypatch.setattr(tiles, "KEPT_MEGAPIXELS", 2)
    read, offered = [], Tiles()
    keys = [offered.offer(name, lambda name=name: read.append(name) or striped()) for name in "abc"]
    for key in (*keys, keys[2], keys[0]):
        offered.tile(key, 0, 0, 0)
    assert read == ["a", "b", "c", "a"]


def test_an_image_that_is_gone_is_an_error_and_not_kept():
    offered = Tiles()

    def gone() -> Image.Image:
        raise UnreadableImageError("It is gone.")

    key = offered.offer("a", gone)
    with pytest.raises(UnreadableImageError):
        offered.tile(key, 0, 0, 0)
    offered.offer("a", striped)
    assert pixels(offered.tile(key, 2, 0, 0)).shape == (175, 325)
