"""Any upload becomes upright 8-bit RGB or a clear refusal. Images are made here, by hand."""

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from chipdemo import images as images_module
from chipdemo.errors import ImageError, ImageTooLargeError, UnreadableImageError
from chipdemo.images import (
    MAX_MEGAPIXELS,
    DecodedImage,
    content_sha256,
    decode_image,
    file_suffix,
    read_image,
)

# Pillow warns about damaged metadata before it gives up or carries on.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
LOSSLESS = {
    "PNG": {},
    "BMP": {},
    "TIFF": {},
    "WEBP": {"lossless": True, "exact": True},
}
WRITABLE_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "I;16B", "F", "CMYK", "LAB"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB"),
}


def encode(image: Image.Image, format: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    """A PNG by hand; rows are the raw scan lines, each after its filter byte."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(pixels: np.ndarray, photometric: int, sample_format: int = 1, planar: int = 1) -> bytes:
    """An uncompressed TIFF by hand of (h, w) or (h, w, 3) pixels, for what Pillow cannot write."""
    height, width = pixels.shape[:2]
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    data = (pixels if planar == 1 else pixels.transpose(2, 0, 1)).tobytes()
    strips = 1 if planar == 1 else samples
    after = 8 + 2 + 11 * 12 + 4  # where the values that do not fit into the directory start
    directory, extra = [], b""
    start = after + 2 * 2 * samples * (samples > 2) + 2 * 4 * strips * (strips > 1)
    offsets = [start + i * len(data) // strips for i in range(strips)]
    for tag, kind, values in (
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [8 * pixels.itemsize] * samples),
        (259, "H", [1]),
        (262, "H", [photometric]),
        (273, "I", offsets),
        (277, "H", [samples]),
        (278, "I", [height]),
        (279, "I", [len(data) // strips] * strips),
        (284, "H", [planar]),
        (339, "H", [sample_format] * samples),
    ):
        value = struct.pack(f"<{len(values)}{kind}", *values)
        if len(value) > 4:
            extra, value = extra + value, struct.pack("<I", after + len(extra))
        code = {"H": 3, "I": 4}[kind]
        directory.append(struct.pack("<HHI", tag, code, len(values)) + value.ljust(4, b"\0"))
    assert len(directory) == 11 and after + len(extra) == start
    head = b"II*\0" + struct.pack("<IH", 8, len(directory))
    return head + b"".join(directory) + bytes(4) + extra + data


def gray(image: DecodedImage) -> list[list[int]]:
    """The rows of an image whose three channels are the same."""
    pixels = np.asarray(image.image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].tolist()


def noise(width: int = 24, height: int = 16) -> Image.Image:
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


# --- what comes out -----------------------------------------------------------------------------


@pytest.mark.parametrize("format", LOSSLESS)
def test_a_lossless_image_keeps_its_pixels(format):
    decoded = read_image(encode(noise(), format, **LOSSLESS[format]))
    assert decoded.image.mode == "RGB"
    assert decoded.image.tobytes() == noise().tobytes()
    assert decoded.notes == ()
    assert decoded.format == format


def test_a_jpeg_is_read():
    decoded = read_image(encode(Image.new("RGB", (16, 16), RED), "JPEG"))
    assert decoded.format == "JPEG"
    assert np.abs(np.asarray(decoded.image, int) - RED).max() <= 2


def test_the_two_in_one_jpeg_of_a_phone_is_its_first_image():
    second = Image.new("RGB", (16, 16), BLUE)
    data = encode(Image.new("RGB", (16, 16), RED), "MPO", save_all=True, append_images=[second])
    decoded = read_image(data)
    assert decoded.format == "JPEG"
    assert decoded.image.getpixel((8, 8))[0] > 250


def test_a_single_pixel_is_an_image():
    assert read_image(png(1, 1, 8, 2, b"\0\xff\0\0")).image.getpixel((0, 0)) == RED


def test_the_name_does_not_matter(tmp_path):
    path = tmp_path / "image.txt"
    path.write_bytes(encode(noise(), "PNG"))
    assert read_image(path).image.size == (24, 16)
    assert read_image(str(path)).format == "PNG"


def test_a_stream_is_read_from_its_start_and_left_open():
    stream = io.BytesIO(encode(noise(), "PNG"))
    stream.seek(5)
    assert read_image(stream).image.tobytes() == noise().tobytes()
    assert not stream.closed


def test_a_pipe_that_cannot_seek_is_read():
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as stream:
        stream.write(encode(noise(), "PNG"))
    with os.fdopen(reading, "rb") as stream:
        assert read_image(stream).image.tobytes() == noise().tobytes()


def test_a_webcam_frame_is_an_image():
    frame = noise()
    decoded = decode_image(frame)
    decoded.image.putpixel((0, 0), RED)
    assert frame.tobytes() == noise().tobytes()
    assert (decoded.format, decoded.notes) == ("", ())


def test_no_metadata_is_left_to_be_applied_again():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = read_image(encode(noise(), "PNG", exif=exif)).image
    assert image.info == {}
    assert dict(image.getexif()) == {}


# --- depth --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_a_16_bit_image_is_scaled_not_clipped(format):
    pixels = np.array([[312, 1545], [2778, 4011]], np.uint16)
    decoded = read_image(encode(Image.fromarray(pixels), format))
    assert gray(decoded) == [[0, 85], [170, 255]]
    assert decoded.notes == ("16-bit values 312-4,011 scaled to 0-255",)


def test_a_big_endian_16_bit_image_is_scaled():
    image = Image.frombytes("I;16B", (2, 1), b"\x01\x00\x03\x00")
    assert gray(read_image(encode(image, "TIFF"))) == [[0, 255]]


def test_signed_16_bit_values_are_scaled():
    decoded = read_image(tiff(np.array([[-100, 155]], "<i2"), 1, sample_format=2))
    assert gray(decoded) == [[0, 255]]
    assert decoded.notes == ("Integer values -100-155 scaled to 0-255",)


def test_the_whole_signed_32_bit_range_is_scaled():
    pixels = np.array([[-(2**31), 0, 2**31 - 1]], np.int32)
    assert gray(read_image(encode(Image.fromarray(pixels), "TIFF"))) == [[0, 128, 255]]


def test_unsigned_32_bit_values_stay_positive():
    decoded = read_image(tiff(np.array([[0, 2_000_000_000, 4_000_000_000]], "<u4"), 1))
    assert gray(decoded) == [[0, 128, 255]]
    assert decoded.notes == ("Integer values 0-4,000,000,000 scaled to 0-255",)


def test_a_16_bit_image_whose_zero_is_white_is_not_shown_as_a_negative():
    assert gray(read_image(tiff(np.array([[100, 200]], "<u2"), photometric=0))) == [[255, 0]]


def test_a_float_image_with_nan_and_infinity_is_scaled():
    pixels = np.array([[0.25, 0.5, 0.75], [np.nan, np.inf, -np.inf]], np.float32)
    decoded = read_image(encode(Image.fromarray(pixels), "TIFF"))
    assert gray(decoded) == [[0, 128, 255], [0, 255, 0]]
    assert decoded.notes == ("Floating-point values 0.25-0.75 scaled to 0-255",)


def test_the_smallest_and_largest_floats_are_scaled_without_overflow():
    pixels = np.array([[-3.4e38, 0, 3.4e38]], np.float32)
    assert gray(decode_image(Image.fromarray(pixels))) == [[0, 128, 255]]
    pixels = np.array([[0, 1e-45]], np.float32)
    assert gray(decode_image(Image.fromarray(pixels))) == [[0, 255]]


def test_a_float_image_without_a_finite_value_is_refused():
    pixels = np.array([[np.nan, np.inf]], np.float32)
    with pytest.raises(UnreadableImageError, match="finite"):
        read_image(encode(Image.fromarray(pixels), "TIFF"))


def test_a_constant_16_bit_image_is_one_tone():
    decoded = decode_image(Image.fromarray(np.full((2, 2), 40_000, np.uint16)))
    assert gray(decoded) == [[0, 0], [0, 0]]
    assert decoded.notes == ("16-bit values are all 40,000; shown as one tone",)


def test_a_deep_image_is_scaled_the_same_beyond_the_first_chunk():
    pixels = np.zeros((1025, 1024), np.float32)
    pixels[-1, -1], pixels[-1, 0] = 10, 4
    decoded = decode_image(Image.fromarray(pixels))
    assert decoded.image.getpixel((1023, 1024)) == WHITE
    assert decoded.image.getpixel((0, 1024)) == (102, 102, 102)


def test_16_bit_color_keeps_its_upper_byte_and_says_so():
    rows = b"\0" + struct.pack(">6H", 0x12FF, 0x3400, 0xFFFF, 0, 0x00FF, 0x8000)
    decoded = read_image(png(2, 1, 16, 2, rows))
    assert list(decoded.image.tobytes()) == [0x12, 0x34, 0xFF, 0, 0, 0x80]
    assert decoded.notes == ("16-bit color reduced to 8 bits by its upper byte",)


def test_16_bit_color_in_separate_planes_is_refused_rather_than_shown_as_noise():
    pixels = (np.arange(12, dtype="<u2") * 5000).reshape(2, 2, 3)
    assert read_image(tiff(pixels, photometric=2)).image.getpixel((1, 1)) == (175, 195, 214)
    with pytest.raises(UnreadableImageError, match="separate color planes"):
        read_image(tiff(pixels, photometric=2, planar=2))


def test_an_uncompressed_ycbcr_tiff_is_refused_rather_than_shown_as_noise():
    data = tiff(np.zeros((4, 4, 3), np.uint8), photometric=6) + bytes(100)
    assert Image.open(io.BytesIO(data)).convert("RGB").size == (4, 4)  # Pillow sees nothing wrong
    with pytest.raises(UnreadableImageError, match="YCbCr"):
        read_image(data)


# --- color and transparency --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("1", 1, WHITE),
        ("L", 77, (77, 77, 77)),
        ("CMYK", (0, 255, 255, 0), RED),
        ("YCbCr", (255, 128, 128), WHITE),
        ("HSV", (0, 255, 255), RED),
        ("LAB", (255, 128, 128), WHITE),
        ("RGBA", (0, 0, 255, 255), BLUE),
        ("LA", (9, 255), (9, 9, 9)),
    ],
)
def test_every_color_space_becomes_rgb(mode, color, expected):
    decoded = decode_image(Image.new(mode, (2, 2), color))
    assert decoded.image.mode == "RGB"
    assert np.abs(np.subtract(decoded.image.getpixel((1, 1)), expected)).max() <= 1
    assert decoded.notes == ()


def test_a_lab_tiff_is_read_with_its_signed_colors():
    white_then_red = np.array([[[255, 0, 0], [136, 81, 70]]], np.uint8)  # a and b are signed bytes
    image = read_image(tiff(white_then_red, photometric=8)).image
    assert np.abs(np.subtract(image.getpixel((0, 0)), WHITE)).max() <= 1
    assert np.abs(np.subtract(image.getpixel((1, 0)), RED)).max() <= 6


def test_a_cmyk_jpeg_is_not_inverted():
    data = encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    assert b"Adobe" in data
    assert np.abs(np.subtract(read_image(data).image.getpixel((8, 8)), RED)).max() <= 3


def test_transparent_parts_are_shown_on_white():
    image = Image.new("RGBA", (3, 1))
    for x, pixel in enumerate([(255, 0, 0, 255), (0, 0, 0, 0), (0, 0, 0, 128)]):
        image.putpixel((x, 0), pixel)
    decoded = read_image(encode(image, "PNG"))
    assert [decoded.image.getpixel((x, 0)) for x in range(3)] == [RED, WHITE, (127, 127, 127)]
    assert decoded.notes == ("Transparent parts shown on white",)


def test_transparent_gray_is_shown_on_white():
    decoded = read_image(encode(Image.new("LA", (1, 1), (0, 0)), "PNG"))
    assert gray(decoded) == [[255]]
    assert decoded.notes == ("Transparent parts shown on white",)


@pytest.mark.parametrize("transparency", [1, b"\xff\x00"])
def test_a_palette_with_transparency_is_shown_on_white(transparency):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    decoded = read_image(encode(image, "PNG", transparency=transparency))
    assert list(decoded.image.tobytes()) == [*RED, *WHITE]
    assert decoded.notes == ("Transparent parts shown on white",)


def test_one_transparent_color_is_shown_on_white():
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), GREEN)
    decoded = read_image(encode(image, "PNG", transparency=GREEN))
    assert list(decoded.image.tobytes()) == [*RED, *WHITE]


# --- frames and orientation ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "options"),
    [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})],
    ids=["GIF", "APNG", "animated WebP"],
)
def test_an_animation_is_its_first_frame(format, options):
    first, *others = (Image.new("RGB", (4, 4), color) for color in (RED, GREEN, BLUE))
    data = encode(first, format, save_all=True, append_images=others, **options)
    decoded = read_image(data)
    assert decoded.image.getcolors() == [(16, RED)]
    assert decoded.notes == ("First of 3 frames",)


def test_a_multi_page_tiff_is_its_first_page():
    data = encode(
        Image.new("RGB", (4, 4), RED),
        "TIFF",
        save_all=True,
        append_images=[Image.new("L", (9, 9))],
    )
    decoded = read_image(data)
    assert decoded.image.getcolors() == [(16, RED)]
    assert decoded.notes == ("First of several pages",)


STORED = {  # how a camera stores an upright image under each EXIF orientation
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
    ],
    ids=["PNG", "TIFF", "TIFF LZW", "WebP", "JPEG"],
)
def test_every_exif_orientation_is_turned_upright(format, options, orientation):
    upright = np.kron(np.array([[10, 50, 90], [130, 170, 250]], np.uint8), np.ones((8, 8)))
    upright = np.repeat(upright.astype(np.uint8)[..., None], 3, axis=2)  # (16, 24, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    decoded = read_image(encode(stored, format, exif=exif, **options))
    assert decoded.image.size == (24, 16)
    assert np.abs(np.asarray(decoded.image, int) - upright).max() <= (format == "JPEG") * 2
    turned = ("Turned upright by its EXIF orientation",)
    assert decoded.notes == (turned if orientation > 1 else ())


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_damaged_exif_is_not_fatal(format, exif):
    decoded = read_image(encode(noise(), format, exif=exif))
    assert decoded.image.size == (24, 16)
    assert decoded.notes == ()


def test_an_exif_orientation_that_does_not_exist_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 9
    assert read_image(encode(noise(), "PNG", exif=exif)).image.tobytes() == noise().tobytes()


# --- too large ----------------------------------------------------------------------------------


def no_decoding(monkeypatch):
    def load(self):
        raise AssertionError("decoded")

    for reader in (Image.Image, ImageFile.ImageFile):
        monkeypatch.setattr(reader, "load", load)


@pytest.mark.parametrize("side", [8_001, 30_000, 2**31 - 1])
def test_a_huge_image_is_refused_before_decoding(monkeypatch, side):
    no_decoding(monkeypatch)
    with pytest.raises(ImageTooLargeError, match=f"{side:,} x {side:,} .* 64 megapixels"):
        read_image(png(side, side, 8, 2, b"\0"))


@pytest.mark.parametrize("format", ["BMP", "GIF", "JPEG", "TIFF", "WEBP"])
def test_no_format_is_decoded_above_the_limit(monkeypatch, format):
    data = encode(noise(24, 16), format)
    no_decoding(monkeypatch)
    with pytest.raises(ImageTooLargeError, match="24 x 16 .* 0.0003 megapixels"):
        read_image(data, max_megapixels=0.0003)


def test_an_image_of_exactly_the_limit_is_read():
    assert MAX_MEGAPIXELS == 64.0
    data = encode(Image.new("RGB", (100, 10)), "PNG")
    assert read_image(data, max_megapixels=0.001).image.size == (100, 10)
    with pytest.raises(ImageTooLargeError):
        read_image(data, max_megapixels=0.000999)


def test_a_decoded_image_above_the_limit_is_refused():
    with pytest.raises(ImageTooLargeError):
        decode_image(noise(), max_megapixels=0.0001)


def test_pillows_own_limit_is_neither_obeyed_nor_changed(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    data = encode(Image.new("RGB", (100, 100)), "PNG")
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    assert read_image(data).image.size == (100, 100)
    assert Image.MAX_IMAGE_PIXELS == 1_000


def test_running_out_of_memory_is_too_large(monkeypatch):
    def load(self):
        raise MemoryError

    data = encode(noise(), "BMP")
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(ImageTooLargeError):
        read_image(data)


# --- not an image ---------------------------------------------------------------------------

SVG = b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "an EPS or PostScript drawing"),
        (b"\xc5\xd0\xd3\xc6" + bytes(30), "an EPS or PostScript drawing"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"SIMPLE  =                    T" + b" " * 50, "a FITS file"),
        (b"8BPS\0\1" + bytes(20), "a Photoshop document"),
        (SVG, "an SVG drawing"),
        (b"\xef\xbb\xbf  <svg/>", "an SVG drawing"),
        (b"<!DOCTYPE html><html><svg></svg></html>", "a web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC image"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
        (b"PK\x03\x04rest", "an archive"),
        (b"chip,label\n1,normal\n", "text"),
        (b"\0\1\2\3", "data of an unknown kind"),
    ],
)
def test_what_is_not_an_image_is_named(data, found):
    with pytest.raises(UnreadableImageError) as caught:
        read_image(data)
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("chip.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "an EPS"),
        ("chip.jpg", b"<html><body>Sign in</body></html>", "a web page"),
        ("chip.tif", b"SIMPLE  =                    T", "a FITS file"),
    ],
    ids=["an EPS named png", "a web page named jpg", "a FITS file named tif"],
)
def test_a_disguised_file_is_refused(tmp_path, name, data, found):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnreadableImageError, match=found):
        read_image(tmp_path / name)


@pytest.mark.parametrize("format", ["ICO", "PCX", "TGA", "DDS", "SGI"])
def test_an_image_of_another_format_is_refused_although_pillow_could_read_it(format):
    data = encode(Image.new("RGB", (16, 16), RED), format)
    assert Image.open(io.BytesIO(data)).size == (16, 16)
    with pytest.raises(UnreadableImageError):
        read_image(data)


PGM = b"P5\n# a camera\n3 2\n65535\n" + struct.pack(">6H", 0, 13107, 26214, 39321, 52428, 65535)


def test_a_16_bit_pgm_is_scaled_from_its_range():
    decoded = read_image(PGM)
    assert list(decoded.image.getchannel("R").tobytes()) == [0, 51, 102, 153, 204, 255]
    assert decoded.notes == ("Integer values 0-65,535 scaled to 0-255",) and decoded.format == "PPM"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"P2 3 1 255\n0 100 255\n", [0, 0, 0, 100, 100, 100, 255, 255, 255]),
        (b"P6 1 1 255\n\x01\x02\x03", [1, 2, 3]),
        (b"P4 2 1\n\x40", [255, 255, 255, 0, 0, 0]),
    ],
    ids=["plain PGM", "PPM", "PBM"],
)
def test_netpbm_files_are_read(content, expected):
    assert list(read_image(content).image.tobytes()) == expected


def test_a_16_bit_ppm_has_a_note():
    decoded = read_image(b"P6 1 1 65535\n" + struct.pack(">3H", 0x1200, 0x3400, 0xFFFF))
    assert decoded.image.getpixel((0, 0)) == (0x12, 0x34, 0xFF)
    assert decoded.notes == ("16-bit color reduced to 8 bits by its upper byte",)


@pytest.mark.parametrize(
    ("format", "options"), [("JPEG2000", {"irreversible": False}), ("AVIF", {"quality": 100})]
)
def test_jpeg_2000_and_avif_are_read(format, options):
    decoded = read_image(encode(Image.new("RGB", (40, 30), RED), format, **options))
    assert decoded.image.size == (40, 30) and decoded.format == format
    assert np.abs(np.array(decoded.image.getpixel((20, 15))) - RED).max() <= 3


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_that_lacks_its_end_marker_alone_is_read_with_a_note(mode):
    data = encode(noise().convert(mode), "JPEG")
    whole, cut = read_image(data), read_image(data[:-2])
    assert cut.sha256 == whole.sha256
    assert cut.notes == ("The end marker is missing; all pixels are there",)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
    ],
    ids=["PNG", "JPEG", "progressive", "TIFF", "TIFF LZW", "BMP", "WebP", "GIF"],
)
def test_an_image_cut_short_is_refused_wherever_it_is_cut(format, options):
    data = encode(noise(), format, **options)
    whole = read_image(data)
    for length in range(0, len(data), 7):
        try:
            # What follows the last pixel (a checksum, an end mark) may be missing.
            assert read_image(data[:length]).sha256 == whole.sha256
            assert length > len(data) - 25
        except UnreadableImageError:
            pass
    with pytest.raises(UnreadableImageError, match="cut short"):
        read_image(data[: len(data) * 3 // 4])


def test_a_png_with_a_damaged_pixel_stream_is_never_shown():
    data = encode(noise(), "PNG")
    start, end = data.index(b"IDAT") + 4, data.index(b"IEND") - 12  # without checksums
    for position in range(start, end, 3):
        damaged = data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]
        with pytest.raises(UnreadableImageError):
            read_image(damaged)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(UnreadableImageError, match="0 x 5"):
        decode_image(Image.new("RGB", (0, 5)))
    with pytest.raises(UnreadableImageError):
        read_image(png(0, 5, 8, 2, b""))


@pytest.mark.parametrize("error", [SyntaxError, KeyError, struct.error, zlib.error, OverflowError])
def test_whatever_a_decoder_raises_is_an_unreadable_image(monkeypatch, error):
    def load(self):
        raise error("bytes")

    data = encode(noise(), "BMP")
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(UnreadableImageError) as caught:
        read_image(data)
    assert isinstance(caught.value.__cause__, error)


def test_an_error_in_the_reading_code_itself_is_not_taken_for_damage(monkeypatch):
    def content_sha256(image):
        raise TypeError("a bug")

    monkeypatch.setattr(images_module, "content_sha256", content_sha256)
    with pytest.raises(TypeError, match="a bug"):
        read_image(encode(noise(), "PNG"))
    with pytest.raises(TypeError, match="a bug"):
        decode_image(noise())


def test_a_source_that_cannot_be_read_from_is_an_error_of_the_caller():
    with pytest.raises(AttributeError):
        read_image(None)


def test_a_disk_that_fails_is_an_unreadable_image():
    class Failing(io.BytesIO):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(UnreadableImageError, match="Input/output error"):
        read_image(Failing(b"\x89PNG"))


# --- paths and names ----------------------------------------------------------------------------


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UnreadableImageError, match="exist"):
        read_image(tmp_path / "chip.png")


def test_an_address_is_a_missing_file():
    with pytest.raises(UnreadableImageError, match="exist"):
        read_image("http://127.0.0.1/chip.png")


def test_a_name_with_a_null_byte_is_refused():
    with pytest.raises(UnreadableImageError, match="exist"):
        read_image("chip\0.png")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(UnreadableImageError, match="folder"):
        read_image(tmp_path)


def test_a_link_to_itself_is_refused(tmp_path):
    path = tmp_path / "chip.png"
    path.symlink_to(path)
    with pytest.raises(UnreadableImageError, match="exist"):
        read_image(path)


def test_a_pipe_on_disk_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "chip.png")
    with pytest.raises(UnreadableImageError, match="exist"):
        read_image(tmp_path / "chip.png")


def test_a_file_that_may_not_be_opened_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "chip.png"
    path.write_bytes(encode(noise(), "PNG"))

    def refuse(*_):  # permissions do not stop root, under whom the tests may run
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UnreadableImageError, match="Permission denied"):
        read_image(path)


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>.png", "\u202egnp.exe\n\x1b[2J.png"])
def test_a_hostile_name_is_not_in_the_message(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(encode(noise(), "PNG")[:99])
    with pytest.raises(UnreadableImageError) as caught:
        read_image(path)
    assert name not in str(caught.value) and "x1b" not in repr(str(caught.value))


# --- the hash -----------------------------------------------------------------------------------


def test_the_hash_is_of_the_size_and_the_pixels():
    expected = hashlib.sha256(b"2x1\n\xff\x00\x00\x00\x00\xff").hexdigest()
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), BLUE)
    assert content_sha256(image) == expected
    assert read_image(encode(image, "PNG")).sha256 == expected


def test_the_same_row_in_another_shape_has_another_hash():
    assert content_sha256(Image.new("RGB", (6, 1))) != content_sha256(Image.new("RGB", (3, 2)))


def test_a_turned_image_has_the_hash_of_the_upright_one():
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = noise().transpose(Image.Transpose.ROTATE_90)
    assert read_image(encode(stored, "PNG", exif=exif)).sha256 == content_sha256(noise())


def test_only_rgb_has_a_hash():
    with pytest.raises(ValueError, match="expected an RGB image, found L"):
        content_sha256(Image.new("L", (2, 2)))


# --- properties ---------------------------------------------------------------------------------

EXAMPLES = {
    "PNG": encode(noise(), "PNG"),
    "16-bit PNG": encode(Image.fromarray(np.arange(99, dtype=np.uint16).reshape(9, 11)), "PNG"),
    "APNG": encode(noise(), "PNG", save_all=True, append_images=[Image.new("RGB", (24, 16))]),
    "JPEG": encode(noise(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "BMP": encode(noise().convert("P"), "BMP"),
    "TIFF": encode(noise(), "TIFF"),
    "TIFF LZW": encode(noise(), "TIFF", compression="tiff_lzw"),
    "TIFF JPEG": encode(noise(), "TIFF", compression="jpeg"),
    "WebP": encode(noise(), "WEBP"),
    "GIF": encode(noise(), "GIF", save_all=True, append_images=[Image.new("RGB", (24, 16))]),
}
SIGNATURES = [b"", *(data[:16] for data in EXAMPLES.values()), b"<svg", b"%!PS", b"MM\0+"]
quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)


@quick
@given(st.sampled_from(SIGNATURES), st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_but_image_errors(signature, rest):
    try:
        read_image(signature + rest, max_megapixels=0.1)
    except ImageError as error:
        assert type(error) in (UnreadableImageError, ImageTooLargeError)


@quick
@given(
    st.sampled_from(sorted(EXAMPLES)),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=8),
    st.booleans(),
)
def test_a_file_with_flipped_bytes_is_read_or_refused(name, flips, in_the_header):
    data = bytearray(EXAMPLES[name])
    for position, mask in flips:
        data[position % (min(len(data), 120) if in_the_header else len(data))] ^= mask
    try:
        decoded = read_image(bytes(data), max_megapixels=0.1)
    except ImageError:
        return
    assert decoded.image.mode == "RGB"
    assert decoded.sha256 == content_sha256(decoded.image)


@st.composite
def images(draw, modes=("RGB",)):
    mode = draw(st.sampled_from(modes))
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    if mode == "F":
        return Image.fromarray(random.normal(size=(height, width)).astype(np.float32))
    length = len(Image.new(mode, (width, height)).tobytes())
    image = Image.frombytes(mode, (width, height), random.bytes(length))
    if mode == "P":
        image.putpalette(random.bytes(768))
    return image


@quick
@given(st.data(), st.sampled_from(sorted(WRITABLE_MODES)))
def test_any_mode_in_any_lossless_format_becomes_rgb_of_the_same_size(data, format):
    image = data.draw(images(WRITABLE_MODES[format]))
    decoded = read_image(encode(image, format, **LOSSLESS.get(format, {})))
    assert (decoded.image.mode, decoded.image.size) == ("RGB", image.size)
    if image.mode == "RGB" and format != "GIF":
        assert decoded.image.tobytes() == image.tobytes()


@quick
@given(images())
def test_the_same_pixels_have_the_same_hash_in_every_container(image):
    hashes = {read_image(encode(image, f, **LOSSLESS[f])).sha256 for f in LOSSLESS}
    assert hashes == {content_sha256(image)}


@quick
@given(images(), st.data())
def test_one_changed_value_changes_the_hash(image, data):
    pixels = np.array(image)
    place = data.draw(st.tuples(*(st.integers(0, length - 1) for length in pixels.shape)))
    pixels[place] ^= data.draw(st.integers(1, 255))
    assert content_sha256(Image.fromarray(pixels)) != content_sha256(image)


@pytest.mark.parametrize(
    "format, suffix",
    [
        ("PNG", ".png"),
        ("JPEG", ".jpg"),
        ("TIFF", ".tif"),
        ("WEBP", ".webp"),
        ("GIF", ".gif"),
        ("BMP", ".bmp"),
    ],
)
def test_a_file_is_called_by_what_is_in_it(format, suffix):
    assert file_suffix(encode(Image.new("RGB", (3, 2)), format)) == suffix


def test_what_is_no_image_has_no_suffix():
    assert file_suffix(b"text") == file_suffix(b"") == ""
