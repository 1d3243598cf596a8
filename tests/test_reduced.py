"""Large JPEGs are reduced while they are decoded. What else there is to reading is in test_images.py."""

import hashlib
import io
import struct

import numpy as np
import pytest
from PIL import Image

from chipdemo.errors import ImageError, ImageTooLargeError
from chipdemo.images import DecodedImage, read_image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

SIZE = (401, 242)
ORIENTATION = 0x0112


def chip(mode: str = "RGB") -> Image.Image:
    """Dark at its left, bright at its right, with a red corner at the top left."""
    image = Image.linear_gradient("L").rotate(90).resize(SIZE).convert("RGB")
    image.paste("red", (0, 0, 80, 60))
    return image.convert(mode)


def jpeg(image: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def reduced(content: bytes, side: int = 60) -> DecodedImage:
    return read_image(content, least_side=lambda size: side)


def lossless_jpeg(width: int, height: int) -> bytes:
    """A gray one by hand, whose every pixel differs from its neighbor by nothing, in one bit."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body

    frame = segment(0xC3, struct.pack(">BHH", 8, height, width) + bytes((1, 1, 0x11, 0)))
    table = segment(0xC4, bytes((0, 1, *[0] * 15, 0)))
    scan = segment(0xDA, bytes((1, 1, 0, 1, 0, 0)))
    return b"\xff\xd8" + frame + table + scan + bytes((width * height + 7) // 8) + b"\xff\xd9"


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}]
)
def test_a_large_jpeg_is_reduced_to_what_it_shows(mode, options):
    content = jpeg(chip(mode), **options)
    whole, small = read_image(content), reduced(content)
    assert small.image.size == (101, 61) and small.image.mode == "RGB"
    assert small.reduced and small.size == whole.size == SIZE and not whole.reduced
    assert small.sha256 == hashlib.sha256(content).hexdigest() and small.sha256_of == "file"
    assert whole.sha256_of == "pixels" and small.format == "JPEG" and small.notes == whole.notes
    box = (0, 0, SIZE[0] / 4, SIZE[1] / 4)
    seen, shown = (
        np.asarray(one, float)
        for one in (small.image.resize((25, 15), 5, box), whole.image.resize((25, 15), 5))
    )
    assert np.abs(seen - shown).mean() < 2


@pytest.mark.parametrize(
    "side, size",
    [(0, SIZE), (122, SIZE), (121, (201, 121)), (61, (201, 121)), (60, (101, 61)), (1, (51, 31))],
)
def test_no_side_is_shorter_than_wanted(side, size):
    assert reduced(jpeg(chip()), side).image.size == size


def test_how_many_pixels_are_wanted_may_depend_on_the_size():
    asked = []
    read_image(jpeg(chip()), least_side=lambda size: asked.append(size) or 0)
    assert asked == [SIZE]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_reduced_upright(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = jpeg(chip(), exif=exif)
    whole, small = read_image(content), reduced(content)
    assert small.size == whole.size == whole.image.size and small.notes == whole.notes
    assert small.reduced and (small.image.width > small.image.height) == (whole.size[0] > whole.size[1])
    difference = np.asarray(small.image.resize((20, 20)), float) - np.asarray(whole.image.resize((20, 20)))
    assert np.abs(difference).mean() < 4


def test_the_first_image_of_a_phones_file_is_reduced():
    stream = io.BytesIO()
    chip().save(stream, "MPO", save_all=True, append_images=[Image.new("RGB", SIZE, "blue")])
    small = reduced(stream.getvalue())
    assert small.image.size == (101, 61) and small.image.getpixel((5, 5))[0] > 200


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_other_formats_are_not_reduced(format):
    chip().save(stream := io.BytesIO(), format)
    assert not reduced(stream.getvalue()).reduced


def test_a_lossless_jpeg_is_not_reduced():
    """Pillow 12.3 writes beyond its memory if it reduces one."""
    found = reduced(lossless_jpeg(*SIZE))
    assert found.image.size == SIZE and found.sha256_of == "pixels"


def test_a_hidden_lossless_frame_is_not_reduced():
    """Behind what is no segment, where readers differ in what they pass over."""
    content = lossless_jpeg(*SIZE)
    baseline = jpeg(chip())
    frame = baseline[baseline.index(b"\xff\xc0") :][:19]
    for between in (b"", b"\0", b"\xff\xff", b"\xff\xcc\x00\x04\x00\x00"):
        both = content[:2] + between + frame + content[2:]
        try:
            found = reduced(both)
        except ImageError:
            continue
        assert not found.reduced


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_jpeg_cut_short_is_answered_as_without_reduction(options):
    content = jpeg(chip(), **options)
    for end in (*range(2, len(content), len(content) // 40), *range(len(content) - 12, len(content))):
        assert answer(content[:end], 60) == answer(content[:end], 0), end


def test_a_damaged_jpeg_is_answered_as_without_reduction():
    content, rng = jpeg(chip()), np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(content)
        for at in rng.integers(2, len(content), 3):
            damaged[at] = rng.integers(0, 256)
        assert answer(bytes(damaged), 60) == answer(bytes(damaged), 0)


def answer(content: bytes, side: int) -> tuple:
    """The error, or the size and the notes."""
    try:
        found = reduced(content, side)
    except ImageError as error:
        return type(error), str(error)
    return found.size, found.notes


def test_a_jpeg_above_the_limit_is_refused():
    with pytest.raises(ImageTooLargeError, match="401 x 242 pixels"):
        read_image(jpeg(chip()), 0.09, lambda size: 10)


def test_a_path_and_a_stream_are_reduced_too(tmp_path):
    content = jpeg(chip())
    (tmp_path / "chip.png").write_bytes(content)
    with (tmp_path / "chip.png").open("rb") as stream:
        for source in (tmp_path / "chip.png", stream):
            assert read_image(source, least_side=lambda size: 60).sha256 == reduced(content).sha256
