"""Image + heat -> picture, on fixed scales of color. No torch, no gradio.

Two palettes, because the worst thing an overlay can do is to paint a good chip red:
    EVIDENCE   heat that speaks for "abnormal" on a scale that is the same for every image:
               amber below half heat, red from half heat on, where normal chips hardly ever get.
    ATTENTION  heat without such a meaning (what a layer looks at, or a map stretched to its own
               maximum): blue, never red.
"""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from chipdemo.inspection import Region

EVIDENCE, ATTENTION = "evidence", "attention"
CLEAR = 0.15  # heat below this is fully transparent
# heat, then red, green, blue and alpha, each 0-255; straight lines in between
STOPS = {
    EVIDENCE: (
        (CLEAR, 255, 205, 80, 0),
        (0.30, 250, 180, 50, 90),
        (0.4997, 240, 140, 20, 135),
        (0.50, 225, 60, 30, 150),
        (0.75, 205, 20, 30, 180),
        (1.00, 150, 0, 40, 205),
    ),
    ATTENTION: (
        (CLEAR, 190, 225, 245, 0),
        (0.35, 140, 200, 235, 90),
        (0.60, 70, 150, 215, 140),
        (1.00, 25, 75, 165, 200),
    ),
}
BOX, BOX_HALO = (255, 255, 255), (20, 24, 28)
COLORS = 256  # that a PNG with a palette may have
MAX_SIDE = 4096  # pixels; larger images are scaled down for the overlay
BAR_SHARE, BAR_LEAST = 0.06, 24  # height of the color bar: share of the picture's, and pixels


def color(heat: np.ndarray, palette: str = EVIDENCE) -> np.ndarray:
    """(h, w) heat, 0-1 -> (h, w, 4) uint8, red, green, blue, alpha.

    Raises ValueError if heat is not two-dimensional, holds nan, or the palette is unknown.
    """
    if palette not in STOPS:
        raise ValueError(f"palette is {palette!r}; choose one of {', '.join(STOPS)}")
    heat = _checked(heat)
    levels, *channels = np.array(STOPS[palette]).T
    steps = np.linspace(0, 1, 1024)
    table = np.stack([np.interp(steps, levels, values) for values in channels], axis=1)
    table[steps < levels[0], 3] = 0
    return np.rint(table).astype(np.uint8)[np.rint(np.clip(heat, 0, 1) * 1023).astype(int)]


def _checked(heat: np.ndarray) -> np.ndarray:
    heat = np.asarray(heat, np.float32)
    if heat.ndim != 2 or not heat.size:
        raise ValueError(f"heat is {heat.shape}; expected (h, w), one map of one image")
    if not np.isfinite(heat).all():
        raise ValueError("heat has values that are not finite; scale the map to 0-1 first")
    return heat


def enlarge(heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) heat, 0-1 -> (height, width) float32, 0-1, smooth. size: (width, height), pixels.

    Bilinear: unlike a cubic it never overshoots, so no place gets hotter than the map was.
    """
    heat = _checked(heat)
    if min(size) < 1:
        raise ValueError(f"size is {size}; expected (width, height) of at least 1 pixel")
    image = Image.fromarray(np.ascontiguousarray(heat))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def overlay_rgba(heat: np.ndarray, size: tuple[int, int], palette: str = EVIDENCE) -> Image.Image:
    """The heat alone, as an RGBA image of the size (width, height), to be laid over an image.

    The heat is enlarged before it is colored, so that no colors are mixed that the scale lacks.
    """
    return Image.fromarray(color(enlarge(heat, size), palette), "RGBA")


def overlay_png(heat: np.ndarray, size: tuple[int, int], palette: str = EVIDENCE) -> bytes:
    """overlay_rgba in COLORS colors, as a PNG file: several times as fast, and half as large."""
    table = color(np.arange(COLORS)[None] / COLORS, palette)[0]  # half heat has a color of its own: red
    index = np.clip(enlarge(heat, size) * COLORS, 0, COLORS - 1).astype(np.uint8)
    image = Image.fromarray(index)
    image.putpalette(table[:, :3].tobytes())
    return png_bytes(image, transparency=table[:, 3].tobytes())


def blend(
    image: Image.Image,
    heat: np.ndarray,
    opacity: float = 1.0,
    regions: Sequence[Region] = (),
    palette: str = EVIDENCE,
) -> Image.Image:
    """Image, heat and numbered regions in one RGB image, with the color bar below.

    image: upright RGB; scaled down to MAX_SIDE. opacity: 0 (image alone) to 1.
    regions: in pixels of the image as given. Raises ValueError for an opacity outside 0-1.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}; expected a fraction, 0 to 1")
    scale = min(1.0, MAX_SIDE / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    picture = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    picture = _laid_over(picture, overlay_rgba(heat, (width, height), palette), opacity)
    _draw_regions(picture, regions, scale)
    bar = color_bar(width, max(BAR_LEAST, round(BAR_SHARE * height)), palette)
    result = Image.new("RGB", (width, height + bar.height))
    result.paste(picture, (0, 0))
    result.paste(bar, (0, height))
    return result


def color_bar(width: int, height: int, palette: str = EVIDENCE) -> Image.Image:
    """The scale from 0 to 1, left to right, on mid-gray, with a tick at half heat: RGB."""
    ramp = np.linspace(0, 1, max(width, 2), dtype=np.float32)[None].repeat(max(height, 1), axis=0)
    gray = Image.new("RGB", (max(width, 2), max(height, 1)), (128, 128, 128))
    bar = _laid_over(gray, Image.fromarray(color(ramp, palette), "RGBA"), 1.0)
    middle = bar.width // 2
    draw = ImageDraw.Draw(bar)
    draw.line((middle, 0, middle, bar.height), fill="white")
    font = ImageFont.load_default(max(9, round(bar.height * 0.5)))
    for x, text, anchor in ((4, "0", "lm"), (middle + 4, "0.5", "lm"), (bar.width - 4, "1", "rm")):
        draw.text((x, bar.height / 2), text, fill="white", font=font, anchor=anchor)
    return bar


def css_gradient(palette: str) -> str:
    """The scale as a CSS background, left to right, for the legend on the page."""
    stops = ", ".join(
        f"rgb({red} {green} {blue} / {alpha / 255:.2f}) {heat:.0%}"
        for heat, red, green, blue, alpha in STOPS[palette]
    )
    return f"linear-gradient(90deg, {stops})"


def png_bytes(image: Image.Image, **options: bytes) -> bytes:
    """A PNG file, packed fast rather than small. options: further ones of Pillow."""
    stream = BytesIO()
    image.save(stream, "PNG", compress_level=1, **options)
    return stream.getvalue()


def _laid_over(picture: Image.Image, overlay: Image.Image, opacity: float) -> Image.Image:
    alpha = overlay.getchannel("A").point(lambda value: round(value * opacity))
    result = picture.copy()
    result.paste(overlay.convert("RGB"), mask=alpha)
    return result


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
        place = (left + 3 * thin, top + 2 * thin)
        draw.text(place, str(number), fill=BOX, font=font, stroke_width=2 * thin, stroke_fill=BOX_HALO)
