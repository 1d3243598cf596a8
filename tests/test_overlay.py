from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from chipdemo.inspection import Region
from chipdemo.overlay import (
    ATTENTION,
    EVIDENCE,
    blend,
    color,
    color_bar,
    enlarge,
    overlay_png,
    overlay_rgba,
)

GRAY = Image.new("RGB", (90, 60), (120, 120, 120))


def is_red(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 4) -> (h, w) bool: red clearly above green, as a viewer would call it red."""
    red, green = pixels[..., 0].astype(int), pixels[..., 1].astype(int)
    return (pixels[..., 3] > 0) & (red - green > 120)


def test_a_normal_chip_shows_no_red():
    below_half = np.linspace(0, 0.499, 81, dtype=np.float32).reshape(9, 9)
    assert not is_red(color(below_half)).any()
    assert not is_red(np.asarray(overlay_rgba(below_half, (300, 200)))).any()


@pytest.mark.parametrize("palette", [EVIDENCE, ATTENTION])
def test_the_png_for_the_page_looks_the_same_and_its_red_starts_where_it_should(palette):
    heat = np.random.default_rng(0).random((14, 14)).astype(np.float32)
    with Image.open(BytesIO(overlay_png(heat, (200, 150), palette))) as png:
        assert png.mode == "P"
        shown = np.asarray(png.convert("RGBA")).astype(int)
    exact = np.asarray(overlay_rgba(heat, (200, 150), palette)).astype(int)
    below, above = (enlarge(heat, (200, 150)) < 0.499), (enlarge(heat, (200, 150)) >= 0.5)
    assert np.abs(shown - exact)[below | above].max() <= 8
    assert is_red(shown)[above].all() == (palette == EVIDENCE) and not is_red(shown)[below].any()


def test_half_heat_and_above_is_red():
    assert is_red(color(np.linspace(0.5, 1, 50, dtype=np.float32)[None])).all()


def test_little_heat_is_fully_transparent():
    assert color(np.array([[0, 0.05, 0.149]]))[..., 3].max() == 0


def test_the_scale_is_fixed_so_that_a_faint_map_stays_faint():
    faint, strong = np.full((4, 4), 0.2), np.full((4, 4), 0.9)
    assert color(faint)[..., 3].max() < color(strong)[..., 3].min() / 2


def test_more_heat_is_never_more_transparent():
    for palette in (EVIDENCE, ATTENTION):
        alpha = color(np.linspace(0, 1, 500)[None], palette)[0, :, 3].astype(int)
        assert (np.diff(alpha) >= 0).all()


def test_attention_is_never_red():
    assert not is_red(color(np.linspace(0, 1, 500)[None], ATTENTION)).any()


def test_heat_outside_the_scale_has_the_color_of_its_end():
    assert (color(np.array([[-1.0, 2.0]])) == color(np.array([[0.0, 1.0]]))).all()


def test_enlarging_is_smooth_and_no_place_gets_hotter_than_the_map():
    heat = np.zeros((3, 3), np.float32)
    heat[1, 1] = 1
    large = enlarge(heat, (90, 60))
    assert large.shape == (60, 90)
    assert large.min() >= 0 and large.max() <= 1
    assert np.abs(np.diff(large, axis=1)).max() < 0.1


def test_an_opacity_of_0_leaves_the_image_as_it_is():
    result = blend(GRAY, np.ones((5, 5)), 0).crop((0, 0, 90, 60))
    assert result.tobytes() == GRAY.tobytes()


def test_the_download_has_the_image_and_the_color_bar_below():
    result = blend(GRAY, np.ones((5, 5)))
    assert result.mode == "RGB" and result.width == 90 and result.height > 60
    red, green, _ = result.getpixel((45, 30))
    assert red > green + 50


def test_regions_are_drawn_where_they_are():
    plain = np.asarray(blend(GRAY, np.zeros((5, 5))))
    boxed = np.asarray(blend(GRAY, np.zeros((5, 5)), regions=[Region(20, 10, 40, 30, 0.9, 600)]))
    changed = np.argwhere((plain != boxed).any(axis=2))
    assert changed.min(axis=0).tolist() == [9, 19]
    assert changed[:, 0].max() <= 41 and changed[:, 1].max() <= 61


def test_a_very_large_image_is_scaled_down_for_the_download():
    assert blend(Image.new("RGB", (8192, 64)), np.zeros((2, 2))).width == 4096


def test_the_color_bar_goes_from_clear_to_red():
    bar = np.asarray(color_bar(400, 20)).astype(int)
    assert np.ptp(bar[2, 30]) == 0
    assert bar[2, 390, 0] - bar[2, 390, 1] > 80


@pytest.mark.parametrize(
    "heat, palette, message",
    [
        (np.zeros((2, 2, 3)), EVIDENCE, r"heat is \(2, 2, 3\); expected \(h, w\)"),
        (np.zeros((0, 4)), EVIDENCE, r"heat is \(0, 4\)"),
        (np.array([[np.nan]]), EVIDENCE, "not finite"),
        (np.zeros((2, 2)), "rainbow", "palette is 'rainbow'; choose one of evidence, attention"),
    ],
)
def test_what_cannot_be_colored_is_refused(heat, palette, message):
    with pytest.raises(ValueError, match=message):
        color(heat, palette)


def test_an_opacity_beyond_1_is_refused():
    with pytest.raises(ValueError, match="opacity is 80; expected a fraction"):
        blend(GRAY, np.zeros((2, 2)), 80)
