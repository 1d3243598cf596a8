"""A file -> an upright 8-bit RGB image, and its hash. Pillow decodes.

The reader is chosen by the first bytes, never by the name, from a short table. The readers are
Pillow's own classes, called without Image.open, for two reasons: no other plugin (EPS, FITS, PSD,
...) can run, and Image.MAX_IMAGE_PIXELS, a global shared with every other user of Pillow in the
process, is neither obeyed (it would refuse images below our limit) nor changed.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from chipdemo.errors import ImageTooLargeError, UnreadableImageError

MAX_MEGAPIXELS = 64.0  # millions of pixels, before any turning or scaling
END_MARKER = b"\xff\xd9"  # of a JPEG
DCT_FRAMES = (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2")  # of a JPEG: baseline, extended, progressive
SEGMENTS = {b"\xff" + bytes([kind]) for kind in (*range(0xE0, 0xF0), 0xFE, 0xDB, 0xC4, 0xDD)}  # before them
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
PIXELS, FILE = "pixels", "file"  # what a hash is of
REDUCING_GAP = 3  # times as many pixels as are wanted are enough to scale an image well
HEAD_BYTES = 2048  # that tell what a file is
CHUNK_PIXELS = 1 << 20  # handled at a time, so that no 64-megapixel float64 copy is ever made

Source = str | os.PathLike[str] | bytes | BinaryIO
LeastSide = Callable[[tuple[int, int]], int]  # of an image of this size: pixels; 0 for all of them

READERS = (
    (rb"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (rb"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),  # also MPO: its first image
    (rb"II[*+]\0|MM\0[*+]", TiffImagePlugin.TiffImageFile),
    (rb"RIFF....WEBP", WebPImagePlugin.WebPImageFile),
    (rb"GIF8[79]a", GifImagePlugin.GifImageFile),
    (rb"BM", BmpImagePlugin.BmpImageFile),
    (rb"P[1-6][\s#]", PpmImagePlugin.PpmImageFile),  # Netpbm, which machine-vision cameras write
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", Jpeg2KImagePlugin.Jpeg2KImageFile),
    (rb"....ftypavi[fs]", AvifImagePlugin.AvifImageFile),
)
FORMATS = "PNG, JPEG, TIFF, BMP, WebP, GIF, Netpbm, JPEG 2000 or AVIF"  # for people

SUFFIXES = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "TIFF": ".tif",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "PPM": ".pnm",
    "JPEG2000": ".jp2",
    "AVIF": ".avif",
}

# Files that are no images, by their first bytes after white space and a byte order mark.
OTHER_KINDS = (
    (rb"%!PS|\xc5\xd0\xd3\xc6", "an EPS or PostScript drawing"),
    (rb"%PDF", "a PDF document"),
    (rb"SIMPLE  =", "a FITS file"),
    (rb"8BPS", "a Photoshop document"),
    (rb"....ftyp(?:hei|hev|mif1|msf1)", "a HEIC image"),
    (rb"....ftyp|RIFF....AVI ", "a video"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive"),
    (rb"(?:<!doctype html|<html)", "a web page"),
    (rb"(?:<\?xml|<!--|<!doctype svg).*<svg|<svg", "an SVG drawing"),
    (rb"[\t\n\r -~\x80-\xff]+$", "text"),
)

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112  # EXIF tag; the others are TIFF tags
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR_CONFIGURATION = 0x0102, 0x0106, 0x011C
TOO_LARGE = (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning)
DEEP_MODES = {"I": "Integer", "F": "Floating-point"}  # and I;16 with its byte orders: "16-bit"


@dataclass(frozen=True)
class DecodedImage:
    """An image that can be inspected. Complete when built.

    image: upright, 8-bit RGB, decoded, without metadata; reduced where fewer pixels were wanted.
    size: (width, height) of the whole upright image, pixels.
    sha256: content_sha256(image); of the file's bytes where the image is reduced.
    notes: what was done on the way, for the screen, e.g. "First of 12 frames".
    format: one of SUFFIXES; "" if it came decoded.
    read_ms: time of reading, decoding and hashing.
    """

    image: Image.Image
    size: tuple[int, int]
    sha256: str
    notes: tuple[str, ...]
    format: str
    read_ms: float = 0.0

    @property
    def reduced(self) -> bool:
        """Whether the image has fewer pixels than the file."""
        return self.image.size != self.size

    @property
    def sha256_of(self) -> str:
        """PIXELS or FILE."""
        return FILE if self.reduced else PIXELS


def read_image(
    source: Source, max_megapixels: float = MAX_MEGAPIXELS, least_side: LeastSide | None = None
) -> DecodedImage:
    """Read a path, the bytes of a file, or a binary stream (from its start; left open).

    least_side: how many pixels each side needs; a JPEG of at least twice as many is reduced while it is
    decoded, to 1/2, 1/4 or 1/8, which takes a fraction of the time. All pixels unless given.
    Raises ImageTooLargeError above max_megapixels (from the header, before decoding) and
    UnreadableImageError for everything else that is not a whole image.
    """
    started = perf_counter()
    with _in_memory(), _opened(source) as stream:
        reader = _reader_of(stream)
        try:
            decoded = None
            if least_side and reader is JpegImagePlugin.JpegImageFile:
                decoded = _reduced(stream, max_megapixels, least_side)
            decoded = decoded or _read(reader, stream, max_megapixels)
        except UnreadableImageError:
            if reader is not JpegImagePlugin.JpegImageFile:
                raise
            mended = _with_end_marker(stream)
            if mended is None:
                raise
            decoded = _read(reader, BytesIO(mended), max_megapixels)
            decoded = replace(
                decoded, notes=("The end marker is missing; all pixels are there", *decoded.notes)
            )
    return replace(decoded, read_ms=1000 * (perf_counter() - started))


def decode_image(image: Image.Image, max_megapixels: float = MAX_MEGAPIXELS) -> DecodedImage:
    """The same for an image that is already decoded, or opened but not yet loaded.

    Deep modes (16-bit, 32-bit, float) are scaled from their own range to 0-255; 16-bit color is
    not, since Pillow keeps only its upper byte. The image given is loaded, but not changed.
    Raises the same errors.
    """
    with _in_memory():
        return _decoded(image, max_megapixels)


def file_suffix(content: bytes) -> str:
    """How the name of a file with this content ends, by its first bytes: ".png", ".jpg", ..."""
    readers = (r for signature, r in READERS if re.match(signature, content[:HEAD_BYTES], re.DOTALL))
    return SUFFIXES[reader.format] if (reader := next(readers, None)) else ""


def content_sha256(image: Image.Image) -> str:
    """Hash of an upright 8-bit RGB image: "WIDTHxHEIGHT\\n", then its pixels row by row.

    The same pixels have the same hash under any name, container or metadata. 64 hex digits.
    """
    if image.mode != "RGB":
        raise ValueError(f"expected an RGB image, found {image.mode}; use read_image first")
    width, height = image.size
    digest = hashlib.sha256(f"{width}x{height}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def _read(reader: Callable[[BinaryIO], Image.Image], stream: BinaryIO, max_megapixels: float) -> DecodedImage:
    with _decoding():
        image = reader(stream)
    return _decoded(image, max_megapixels)


def _reduced(stream: BinaryIO, max_megapixels: float, least_side: LeastSide) -> DecodedImage | None:
    """A JPEG that libjpeg reduces; None where all pixels are needed, or where it is damaged: reading all of
    it then says how."""
    try:
        with _decoding():
            content = stream.read()
            stream.seek(0)
            image = JpegImagePlugin.JpegImageFile(BytesIO(content))
        size, side = image.size, least_side(image.size)
        if not side or min(size) < 2 * side or not _is_dct(content):
            return None
        _check_size(image, max_megapixels)
        with _decoding():
            image.draft(None, (side, side))
        rgb, notes = _upright(image)
    except UnreadableImageError:
        return None
    size = size[::-1] if _orientation(image) in SIDEWAYS else size
    return DecodedImage(rgb, size, hashlib.sha256(content).hexdigest(), notes, image.format)


def _is_dct(content: bytes) -> bool:
    """Whether a JPEG can be reduced. Pillow 12 writes beyond its memory where it reduces a lossless one."""
    at = 2
    while (marker := content[at : at + 2]) in SEGMENTS:
        at += 2 + max(int.from_bytes(content[at + 2 : at + 4]), 2)
    return marker in DCT_FRAMES


def _with_end_marker(stream: BinaryIO) -> bytes | None:
    """A JPEG file with its end marker, where that alone is missing; else None.

    The decoder fills in what is missing of the pixels without an error. So the file is decoded with other
    bytes behind it too: they change nothing where the pixels are complete. Files of several scans or with
    restart markers are refused, since one that ends between two of them lacks the others.
    """
    stream.seek(0)
    content = stream.read()
    if content.endswith(END_MARKER):
        return None
    content = content.removesuffix(END_MARKER[:1])  # half of a marker, or of a byte of the pixels
    images = []
    for other in (b"", b"\xaa", b"\x55", b"\xfe", b"\x33", b"\xdb\x6d\xb6"):
        try:
            image = JpegImagePlugin.JpegImageFile(BytesIO(content + 4096 * other + END_MARKER))
            image.load()
        except Exception:  # noqa: BLE001 - as in _decoding
            return None
        images.append(image)
    start = content.rfind(b"\xff\xda")  # of the last scan
    one_scan = content[start + 4] == images[0].layers and "progressive" not in images[0].info
    if not one_scan or b"\xff\xdd" in content[:start] or len({image.tobytes() for image in images}) > 1:
        return None
    return content + END_MARKER


def _decoded(image: Image.Image, max_megapixels: float) -> DecodedImage:
    _check_size(image, max_megapixels)
    rgb, notes = _upright(image)
    return DecodedImage(rgb, rgb.size, content_sha256(rgb), notes, image.format or "")


def _upright(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """An opened image as upright RGB, and notes on what was done."""
    tags = _tags(image)
    _check_layout(image, tags)
    notes = _frame_note(image)
    rawmode = _rawmode(image)
    # Pillow turns a TIFF while it loads, and then removes the tag. Of other formats the EXIF is read after
    # loading: to read that of a PNG is to decode it, and a failure there would go unnoticed.
    turned = image.format == "TIFF" and _orientation(image) in TURNS
    with _decoding():
        image.load()
    rgb, conversion_notes = _to_rgb(image, rawmode, tags)
    notes += conversion_notes
    if (turn := TURNS.get(_orientation(image))) is not None:
        rgb = rgb.transpose(turn)
    if turned or turn is not None:
        notes += ("Turned upright by its EXIF orientation",)
    rgb.info.clear()  # an EXIF or transparency left behind would be applied again downstream
    return rgb, notes


@contextmanager
def _decoding() -> Iterator[None]:
    """Around calls of Pillow, and of nothing else: turns what they raise into an ImageError.

    Damaged files make Pillow's readers raise OSError, SyntaxError, ValueError, TypeError, KeyError,
    IndexError, AttributeError, AssertionError, OverflowError, EOFError, struct.error, zlib.error, and
    whatever the next release adds, so Exception is caught; the cause stays attached for the log. An error
    of our own code is none of these: it must stay outside.
    """
    try:
        yield
    except TOO_LARGE:
        raise
    except Exception as error:
        raise UnreadableImageError(
            "The file is damaged or cut short, or a variant of its format that is not read. "
            "Export it again as 8-bit PNG or JPEG."
        ) from error


@contextmanager
def _in_memory() -> Iterator[None]:
    try:
        yield
    except TOO_LARGE as error:
        raise ImageTooLargeError("The file does not fit into memory. Scale it down.") from error


def _opened(source: Source) -> AbstractContextManager[BinaryIO]:
    """A seekable binary stream. What we opened is closed; the caller's own stream is not."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return BytesIO(source)
    if isinstance(source, (str, os.PathLike)):
        return _opened_path(source)
    return nullcontext(source if source.seekable() else BytesIO(source.read()))


def _opened_path(path: str | os.PathLike[str]) -> BinaryIO:
    """Raises UnreadableImageError, also for a pipe, since opening that could block."""
    try:
        if Path(path).is_file():
            # A stream instead of the path, so that Pillow never maps a file that may still shrink
            return Path(path).open("rb")
        reason = "is a folder." if Path(path).is_dir() else "does not exist or is no regular file."
    except OSError as error:
        reason = f"cannot be opened: {error.strerror}."
    raise UnreadableImageError(f"The file {reason}")


def _reader_of(stream: BinaryIO) -> Callable[[BinaryIO], Image.Image]:
    """Pillow's reader for this content. Raises UnreadableImageError, which says what it is instead."""
    try:
        stream.seek(0)
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
    except OSError as error:
        raise UnreadableImageError(f"The file cannot be read: {error.strerror or error}.") from error
    if not head:
        raise UnreadableImageError("The file is empty. Export it again.")
    for signature, reader in READERS:
        if re.match(signature, head, re.DOTALL):
            return reader
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip() or head
    kinds = (k for sign, k in OTHER_KINDS if re.match(sign, text, re.DOTALL | re.IGNORECASE))
    kind = next(kinds, "data of an unknown kind")
    raise UnreadableImageError(f"The file is {kind}. Use a {FORMATS} file.")


def _check_size(image: Image.Image, max_megapixels: float) -> None:
    width, height = image.size
    if not width or not height:
        raise UnreadableImageError(f"The image has no pixels ({width} x {height}). Export it again.")
    if width * height > max_megapixels * 1e6:
        raise ImageTooLargeError(
            f"The image has {width:,} x {height:,} pixels; the limit is {max_megapixels:g} megapixels. "
            "Crop it or scale it down."
        )


def _tags(image: Image.Image) -> dict[int, Any]:
    """The tags of a TIFF that say how its pixels are stored; none of another format."""
    wanted = (BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR_CONFIGURATION)
    with _decoding():
        tags = getattr(image, "tag_v2", {})
        return {tag: tags[tag] for tag in wanted if tag in tags}


def _check_layout(image: Image.Image, tags: Mapping[int, Any]) -> None:
    """Refuses two kinds of uncompressed TIFF that Pillow 12 takes for something else, to noise."""
    if image.info.get("compression") != "raw":
        return
    deep = max(tags.get(BITS_PER_SAMPLE, (1,))) > 8
    if deep and tags.get(PLANAR_CONFIGURATION) == 2 and image.mode in ("RGB", "RGBA", "CMYK"):
        kind = "16-bit TIFF with separate color planes"  # Pillow reads it as 8-bit
    elif tags.get(PHOTOMETRIC) == 6 and image.mode == "RGB":
        kind = "YCbCr TIFF"  # Pillow reads it as RGB with a fourth byte
    else:
        return
    raise UnreadableImageError(f"This is an uncompressed {kind}, which is not read. Export it as PNG.")


def _frame_note(image: Image.Image) -> tuple[str, ...]:
    """Says that there are more frames than the one shown. To be called before loading."""
    with _decoding():
        if not getattr(image, "is_animated", False):
            return ()
        # The pages of a TIFF are not counted: that takes quadratic time, and an odd last page is an error
        frames = 0 if image.format == "TIFF" else image.n_frames
    return (f"First of {frames:,} frames" if frames else "First of several pages",)


def _orientation(image: Image.Image) -> int:
    """1-8, or another number where EXIF is missing or damaged: an image may be fine without it."""
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # noqa: BLE001  calls of Pillow alone, as in _decoding; damaged pixels show in load()
        return 0
    return orientation if isinstance(orientation, int) else 0


def _rawmode(image: Image.Image) -> str:
    """How the file stores its pixels, e.g. "RGB;16B"; "" where that is not known."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0].args
    if image.format == "PPM" and isinstance(arguments, tuple) and arguments[1] > 255:
        return f"{arguments[0]};16"
    return arguments if isinstance(arguments, str) else str(next(iter(arguments or ()), ""))


def _to_rgb(image: Image.Image, rawmode: str, tags: Mapping[int, Any]) -> tuple[Image.Image, tuple[str, ...]]:
    """A new RGB image from a loaded one of any mode, and notes on how it was converted.

    Pillow converts CMYK, YCbCr, LAB, HSV, palettes, gray and black-and-white.
    """
    if image.mode in DEEP_MODES or image.mode.startswith("I;16"):
        with _decoding():
            values = np.asarray(image)
        return _deep_to_rgb(values, image.mode, rawmode, white_is_zero=tags.get(PHOTOMETRIC) == 0)
    notes = ("16-bit color reduced to 8 bits by its upper byte",) if ";16" in rawmode else ()
    with _decoding():
        transparent = image.has_transparency_data
        converted = image.convert("RGBA" if transparent else "RGB")
    if not transparent:
        return converted, notes
    rgb, note = _on_white(converted)
    return rgb, notes + note


def _on_white(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """An RGBA image without its alpha, with a note if that made a difference."""
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image.convert("RGB"), ()
    rgb = Image.new("RGB", image.size, "white")
    rgb.paste(image, mask=alpha)
    return rgb, ("Transparent parts shown on white",)


def _deep_to_rgb(
    values: np.ndarray, mode: str, rawmode: str, white_is_zero: bool
) -> tuple[Image.Image, tuple[str, ...]]:
    """(h, w) 16-bit, 32-bit or float values, scaled from their own range, as gray RGB."""
    if rawmode == "I;32N":  # unsigned in the file, but Pillow's mode I is signed
        values = values.view(np.uint32)
    pixels, low, high = _scaled(values)
    if white_is_zero:  # as X-ray detectors write it; Pillow inverts only 8-bit images
        np.subtract(255, pixels, out=pixels)
    digits = 4 if mode == "F" else 10
    low_text, high_text = f"{low:,.{digits}g}", f"{high:,.{digits}g}"
    kind = DEEP_MODES.get(mode, "16-bit")
    note = f"{kind} values {low_text}-{high_text} scaled to 0-255"
    if low == high:
        note = f"{kind} values are all {low_text}; shown as one tone"
    return Image.fromarray(pixels).convert("RGB"), (note,)


def _scaled(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(h, w) numbers -> (h, w) uint8 from 0 at the lowest to 255 at the highest, and these two.

    NaN and -inf become 0, +inf 255; one value throughout becomes 0.
    Raises UnreadableImageError if no value is finite.
    """
    finite = np.isfinite(values)
    if not finite.any():
        raise UnreadableImageError("No pixel of the image has a finite value. Export it again.")
    # initial: the neutral start that numpy wants beside where; itself a value of the image
    some = values.flat[int(finite.argmax())]
    low = float(values.min(where=finite, initial=some))
    high = float(values.max(where=finite, initial=some))
    scale = 255 / (high - low) if high > low else 0.0
    pixels = np.empty(values.shape, np.uint8)
    flat_values, flat_pixels = values.reshape(-1), pixels.reshape(-1)
    for start in range(0, values.size, CHUNK_PIXELS):
        chunk = flat_values[start : start + CHUNK_PIXELS].astype(np.float64)
        np.nan_to_num(chunk, copy=False, nan=low, posinf=high, neginf=low)
        flat_pixels[start : start + CHUNK_PIXELS] = np.rint((chunk - low) * scale)
    return pixels, low, high
