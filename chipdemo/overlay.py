"""Image + heatmap -> picture, on fixed color scales; and the one encoder of pictures. No torch, no gradio.

There are two scales, because an overlay must never paint a good chip red:
    warm   for methods of FIXED_SCALE, whose heat means the same in every image: amber below half heat,
           red from half heat on, which normal images rarely reach.
    cool   for all other methods, e.g. attention or a map scaled to its own maximum: blue, never red.
"""

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from chipdemo.inspection import FIXED_SCALE, Region

CLEAR = 0.15  # heat below this is fully transparent
# heat, then red, green, blue and alpha, each 0-255; linear in between
WARM = (
    (CLEAR, 255, 205, 80, 0),
    (0.30, 250, 180, 50, 90),
    (0.4997, 240, 140, 20, 135),
    (0.50, 225, 60, 30, 150),
    (0.75, 205, 20, 30, 180),
    (1.00, 150, 0, 40, 205),
)
COOL = (
    (CLEAR, 190, 225, 245, 0),
    (0.35, 140, 200, 235, 90),
    (0.60, 70, 150, 215, 140),
    (1.00, 25, 75, 165, 200),
)
BOX, BOX_HALO = (255, 255, 255), (20, 24, 28)
CAPTION_INK, CAPTION_PAPER = (235, 238, 240), (20, 24, 28)
COLORS = 256  # of a PNG with a palette
MAX_SIDE = 4096  # pixels; larger images are scaled down for the overlay
BAR_SHARE, BAR_LEAST = 0.06, 24  # height of the color bar: share of the picture's, and pixels
CAPTION_SHARE, CAPTION_LEAST, CAPTION_MOST = 1 / 45, 11, 40  # height of a letter: of the width, and pixels
JPEG_QUALITY = 88


def overlay(
    image: Image.Image,
    heatmap: np.ndarray,
    method: str,
    *,
    opacity: float = 1.0,
    regions: Sequence[Region] = (),
) -> Image.Image:
    """An image with the heatmap of a method and numbered regions over it: RGB, at most MAX_SIDE.

    heatmap: (h, w), 0-1. opacity: 0 (image alone) to 1. regions: in pixels of the image as given.
    Raises ValueError for an opacity outside 0-1 and for heat that is no map.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}; use a number from 0 to 1")
    scale = min(1.0, MAX_SIDE / max(image.size))
    size = tuple(max(1, round(side * scale)) for side in image.size)
    picture = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    _lay(picture, color(enlarge(heatmap, size), method), opacity)
    _draw_regions(picture, regions, scale)
    return picture


def with_legend(picture: Image.Image, method: str, caption: Sequence[str] = ()) -> Image.Image:
    """A picture with the color bar of a method below, and then a caption. caption: facts, short."""
    bar = color_bar(picture.width, max(BAR_LEAST, round(BAR_SHARE * picture.height)), method)
    parts = [picture, bar, *([_caption(picture.width, caption)] if caption else [])]
    result = Image.new("RGB", (picture.width, sum(part.height for part in parts)), CAPTION_PAPER)
    top = 0
    for part in parts:
        result.paste(part, (0, top))
        top += part.height
    return result


def heatmap_png(heatmap: np.ndarray, size: tuple[int, int], method: str) -> bytes:
    """A heatmap alone, to be laid over an image on the page: PNG of the size (width, height).

    In COLORS colors, which is several times as fast as a PNG of true colors, and half as large.
    """
    table = color(np.arange(COLORS)[None] / COLORS, method)[0]  # half heat has a color of its own: red
    index = np.clip(enlarge(heatmap, size) * COLORS, 0, COLORS - 1).astype(np.uint8)
    image = Image.fromarray(index)
    image.putpalette(table[:, :3].tobytes())
    return encode(image, transparency=table[:, 3].tobytes())


def encode(image: Image.Image, format: str = "PNG", **options: bytes) -> bytes:
    """A PNG file, packed fast rather than small, or a JPEG file. options: more of Pillow's."""
    options |= {"quality": JPEG_QUALITY} if format == "JPEG" else {"compress_level": 1}
    image.save(stream := BytesIO(), format, **options)
    return stream.getvalue()


def data_uri(picture: Image.Image | bytes, format: str = "PNG") -> str:
    """A picture, or the bytes of one, as an address that a page can show."""
    content = picture if isinstance(picture, bytes) else encode(picture, format)
    return f"data:image/{format.lower()};base64,{base64.b64encode(content).decode()}"


def color(heat: np.ndarray, method: str) -> np.ndarray:
    """(h, w) heat, 0-1 -> (h, w, 4) uint8, red, green, blue, alpha.

    Raises ValueError if heat is not two-dimensional or holds nan.
    """
    heat = _checked(heat)
    levels, *channels = np.array(_scale(method)).T
    steps = np.linspace(0, 1, 1024)
    table = np.stack([np.interp(steps, levels, values) for values in channels], axis=1)
    table[steps < levels[0], 3] = 0
    return np.rint(table).astype(np.uint8)[np.rint(np.clip(heat, 0, 1) * 1023).astype(int)]


def enlarge(heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) heat, 0-1 -> (height, width) float32, 0-1, smooth. size: (width, height), pixels.

    Bilinear: unlike a cubic it never overshoots, so no position gets hotter than the map was. Heat is
    enlarged before it is colored, so that no colors are mixed that the scale lacks.
    """
    heat = _checked(heat)
    if min(size) < 1:
        raise ValueError(f"size is {size}; width and height must be at least 1 pixel")
    image = Image.fromarray(np.ascontiguousarray(heat))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def color_bar(width: int, height: int, method: str) -> Image.Image:
    """The scale from 0 to 1, left to right, on mid-gray, with a tick at half heat: RGB."""
    ramp = np.linspace(0, 1, max(width, 2), dtype=np.float32)[None].repeat(max(height, 1), axis=0)
    bar = Image.new("RGB", (max(width, 2), max(height, 1)), (128, 128, 128))
    _lay(bar, color(ramp, method), 1.0)
    half = bar.width // 2
    draw = ImageDraw.Draw(bar)
    draw.line((half, 0, half, bar.height), fill="white")
    font = ImageFont.load_default(max(9, round(bar.height * 0.5)))
    for x, text, anchor in ((4, "0", "lm"), (half + 4, "0.5", "lm"), (bar.width - 4, "1", "rm")):
        draw.text((x, bar.height / 2), text, fill="white", font=font, anchor=anchor)
    return bar


def css_gradient(method: str) -> str:
    """The scale as a CSS background, left to right, for the legend on the page."""
    stops = ", ".join(
        f"rgb({red} {green} {blue} / {alpha / 255:.2f}) {heat:.0%}"
        for heat, red, green, blue, alpha in _scale(method)
    )
    return f"linear-gradient(90deg, {stops})"


def _scale(method: str) -> tuple[tuple[float, ...], ...]:
    return WARM if method in FIXED_SCALE else COOL


def _checked(heat: np.ndarray) -> np.ndarray:
    heat = np.asarray(heat, np.float32)
    if heat.ndim != 2 or not heat.size:
        raise ValueError(f"heat is {heat.shape}; one map of one image is (h, w)")
    if not np.isfinite(heat).all():
        raise ValueError("heat has values that are not finite; scale the map to 0-1 first")
    return heat


def _lay(picture: Image.Image, colors: np.ndarray, opacity: float) -> None:
    """Lay (height, width, 4) colors over an RGB picture of that size, in place."""
    layer = Image.fromarray(colors, "RGBA")
    alpha = layer.getchannel("A").point(lambda value: round(value * opacity))
    picture.paste(layer.convert("RGB"), mask=alpha)


def _caption(width: int, facts: Sequence[str]) -> Image.Image:
    """Facts in one line, or in as many as the width needs: RGB."""
    letter = min(max(CAPTION_LEAST, round(CAPTION_SHARE * width)), CAPTION_MOST)
    font = ImageFont.load_default(letter)
    facts = [fact.replace("×", "x") for fact in facts]  # the font lacks it
    margin, lines = letter // 2, [facts[0]]
    for fact in facts[1:]:
        longer = f"{lines[-1]} · {fact}"
        if font.getlength(longer) <= width - 2 * margin:
            lines[-1] = longer
        else:
            lines.append(fact)
    spacing = round(1.4 * letter)
    strip = Image.new("RGB", (width, spacing * len(lines) + 2 * margin), CAPTION_PAPER)
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        draw.text((margin, margin + number * spacing), line, fill=CAPTION_INK, font=font)
    return strip


def _draw_regions(picture: Image.Image, regions: Sequence[Region], scale: float) -> None:
    """Thin white boxes with a dark edge, numbered from 1; drawn in place."""
    draw = ImageDraw.Draw(picture)
    thin = max(1, round(max(picture.size) / 500))
    font = ImageFont.load_default(max(11, round(max(picture.size) / 32)))
    for number, region in enumerate(regions, 1):
        left, top = region.x * scale, region.y * scale
        right, bottom = left + region.width * scale, top + region.height * scale
        draw.rectangle((left - thin, top - thin, right + thin, bottom + thin), outline=BOX_HALO, width=thin)
        draw.rectangle((left, top, right, bottom), outline=BOX, width=thin)
        corner = (left + 3 * thin, top + 2 * thin)
        draw.text(corner, str(number), fill=BOX, font=font, stroke_width=2 * thin, stroke_fill=BOX_HALO)
