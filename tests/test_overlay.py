"""Overlays: colors, boxes, captions, and the encoder."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from chipdemo.inspection import CAM, CBAM, INVERSE, Region
from chipdemo.overlay import (
    color,
    color_bar,
    css_gradient,
    data_uri,
    encode,
    enlarge,
    heatmap_png,
    overlay,
    with_legend,
)

GRAY = Image.new("RGB", (90, 60), (120, 120, 120))


def is_red(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 4) -> (h, w) bool: red clearly above green, as a viewer would call it red."""
    red, green = pixels[..., 0].astype(int), pixels[..., 1].astype(int)
    return (pixels[..., 3] > 0) & (red - green > 120)


@pytest.mark.parametrize("method", [CAM, INVERSE])
def test_heat_below_half_is_not_red_and_half_heat_is(method):
    below_half = np.linspace(0, 0.499, 81, dtype=np.float32).reshape(9, 9)
    assert not is_red(color(below_half, method)).any()
    assert not is_red(color(enlarge(below_half, (300, 200)), method)).any()
    assert is_red(color(np.linspace(0.5, 1, 50, dtype=np.float32)[None], method)).all()


@pytest.mark.parametrize("method", [CBAM, "Grad-CAM"])
def test_methods_without_a_fixed_scale_are_never_red(method):
    assert not is_red(color(np.linspace(0, 1, 500)[None], method)).any()


@pytest.mark.parametrize("method", [CAM, CBAM])
def test_the_png_for_the_page_has_the_colors_of_the_scale(method):
    heat = np.random.default_rng(0).random((14, 14)).astype(np.float32)
    with Image.open(BytesIO(heatmap_png(heat, (200, 150), method))) as png:
        assert png.mode == "P"
        shown = np.asarray(png.convert("RGBA")).astype(int)
    exact = color(enlarge(heat, (200, 150)), method).astype(int)
    below, above = (enlarge(heat, (200, 150)) < 0.499), (enlarge(heat, (200, 150)) >= 0.5)
    assert np.abs(shown - exact)[below | above].max() <= 8
    assert is_red(shown)[above].all() == (method == CAM) and not is_red(shown)[below].any()


def test_little_heat_is_fully_transparent():
    assert color(np.array([[0, 0.05, 0.149]]), CAM)[..., 3].max() == 0


def test_the_scale_is_fixed_so_that_a_faint_map_stays_faint():
    faint, strong = np.full((4, 4), 0.2), np.full((4, 4), 0.9)
    assert color(faint, CAM)[..., 3].max() < color(strong, CAM)[..., 3].min() / 2


@pytest.mark.parametrize("method", [CAM, CBAM])
def test_more_heat_is_never_more_transparent(method):
    alpha = color(np.linspace(0, 1, 500)[None], method)[0, :, 3].astype(int)
    assert (np.diff(alpha) >= 0).all()


def test_heat_outside_the_scale_has_the_color_of_its_end():
    assert (color(np.array([[-1.0, 2.0]]), CAM) == color(np.array([[0.0, 1.0]]), CAM)).all()


def test_enlarging_is_smooth_and_no_position_gets_hotter_than_the_map():
    heat = np.zeros((3, 3), np.float32)
    heat[1, 1] = 1
    large = enlarge(heat, (90, 60))
    assert large.shape == (60, 90)
    assert large.min() >= 0 and large.max() <= 1
    assert np.abs(np.diff(large, axis=1)).max() < 0.1


def test_an_opacity_of_0_leaves_the_image_as_it_is():
    assert overlay(GRAY, np.ones((5, 5)), CAM, opacity=0).tobytes() == GRAY.tobytes()


def test_an_overlay_has_the_size_of_its_image():
    result = overlay(GRAY, np.ones((5, 5)), CAM)
    assert (result.mode, result.size) == ("RGB", (90, 60))
    red, green, _ = result.getpixel((45, 30))
    assert red > green + 50


def test_regions_are_drawn_where_they_are():
    plain = np.asarray(overlay(GRAY, np.zeros((5, 5)), CAM))
    boxed = np.asarray(overlay(GRAY, np.zeros((5, 5)), CAM, regions=[Region(20, 10, 40, 30, 0.9, 600)]))
    changed = np.argwhere((plain != boxed).any(axis=2))
    assert changed.min(axis=0).tolist() == [9, 19]
    assert changed[:, 0].max() <= 41 and changed[:, 1].max() <= 61


def test_a_very_large_image_is_scaled_down():
    assert overlay(Image.new("RGB", (8192, 64)), np.zeros((2, 2)), CAM).size == (4096, 32)


def test_the_legend_is_below_the_picture_and_leaves_it_as_it_is():
    plain, captioned = with_legend(GRAY, CAM), with_legend(GRAY, CAM, ["abnormal"])
    assert plain.size == (90, 84) and captioned.width == 90 and captioned.height > 84
    assert captioned.crop((0, 0, 90, 84)).tobytes() == plain.tobytes()
    assert plain.crop((0, 0, 90, 60)).tobytes() == GRAY.tobytes()


def test_a_caption_takes_more_lines_where_the_picture_is_narrow():
    facts = ["abnormal", "probability 0.93", "threshold 0.40", "model elpv 0123456789ab", "inverse matching"]
    wide, narrow = (with_legend(Image.new("RGB", (width, 100)), CAM, facts) for width in (1000, 200))
    assert wide.height < narrow.height
    letters = np.asarray(narrow.crop((0, 124, 200, narrow.height)).convert("L"))
    assert letters.max() > 200 and (letters[:, -1] < 60).all()  # nothing is cut off at the right


def test_the_color_bar_goes_from_clear_to_red():
    bar = np.asarray(color_bar(400, 20, CAM)).astype(int)
    assert np.ptp(bar[2, 30]) == 0
    assert bar[2, 390, 0] - bar[2, 390, 1] > 80


def test_the_legend_of_the_page_names_the_same_colors():
    assert "rgb(225 60 30 / 0.59) 50%" in css_gradient(CAM)
    assert "rgb(225 60 30" not in css_gradient(CBAM)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_picture_is_encoded_as_a_file_and_as_an_address(format):
    content = encode(GRAY, format)
    with Image.open(BytesIO(content)) as image:
        assert (image.format, image.size) == (format, (90, 60))
    head, _, packed = data_uri(GRAY, format).partition(",")
    assert head == f"data:image/{format.lower()};base64" and base64.b64decode(packed) == content
    assert data_uri(content, format) == data_uri(GRAY, format)


@pytest.mark.parametrize(
    "heat, found",
    [
        (np.zeros((2, 2, 3)), r"\(2, 2, 3\)"),
        (np.zeros((0, 4)), r"\(0, 4\)"),
        (np.array([[np.nan]]), "finite"),
    ],
)
def test_what_cannot_be_colored_is_refused(heat, found):
    with pytest.raises(ValueError, match=found):
        color(heat, CAM)


def test_an_opacity_beyond_1_is_refused():
    with pytest.raises(ValueError, match="80"):
        overlay(GRAY, np.zeros((2, 2)), CAM, opacity=80)
