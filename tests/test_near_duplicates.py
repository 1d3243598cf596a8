"""Images of one part under other light, crop, turn and compression are found, and kept in one split."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance
from scipy.ndimage import gaussian_filter

from chipdemo.near_duplicates import near_duplicates, small_gray
from chipdemo.splits import SPLITS, TEST
from training.data import load_images
from training.divided import AUTO, OFF, load_divided, near_duplicate_groups
from training.folders import read_folder
from training.splits import divide

SIDE = 240


def draw_part(seed: int, abnormal: bool = False) -> Image.Image:
    """A part with two busbars, as all parts have, and a grain of its own."""
    noise = np.random.default_rng(seed).normal(size=(SIDE, SIDE))
    grain = sum(gaussian_filter(noise, sigma) * sigma for sigma in (2, 6))
    image = Image.fromarray(np.clip(140 + 60 * grain, 40, 230).astype(np.uint8)).convert("RGB")
    draw = ImageDraw.Draw(image)
    for y in (80, 160):
        draw.rectangle((0, y, SIDE, y + 8), fill=(60, 60, 60))
    if abnormal:
        draw.line((30, 30, 110, 140), fill="black", width=6)
    return image


def jpeg(image: Image.Image) -> Image.Image:
    image.save(stream := BytesIO(), "JPEG", quality=60)
    return Image.open(stream).convert("RGB")


CHANGES = {
    "relit": lambda image: ImageEnhance.Brightness(ImageEnhance.Contrast(image).enhance(0.7)).enhance(1.2),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "cropped": lambda image: image.crop((9, 3, SIDE - 3, SIDE - 9)).resize((SIDE, SIDE)),
    "shifted": lambda image: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 5, 0, 1, -4)),
    "compressed": jpeg,
}


@pytest.fixture(scope="module")
def parts() -> list[Image.Image]:
    return [draw_part(seed) for seed in range(12)]


def groups_of(images: list[Image.Image]) -> list[int]:
    return near_duplicates(np.stack([small_gray(np.asarray(image)) for image in images])).tolist()


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_image_is_in_the_group_of_its_part(parts, change):
    found = groups_of([*parts, *(CHANGES[change](part) for part in parts)])
    assert found[: len(parts)] == found[len(parts) :]
    assert len(set(found)) == len(parts)


def draw_lone_part(seed: int) -> Image.Image:
    """A part that fills little of a plain background, which has the noise of a camera."""
    generator = np.random.default_rng(seed)
    pixels = 200 + generator.normal(0, 0.5, (SIDE, SIDE))
    image = Image.fromarray(pixels.round().astype(np.uint8)).convert("RGB")
    part = draw_part(seed).resize((110, 36)).rotate(int(generator.integers(360)), expand=True)
    image.paste(
        part, tuple(generator.integers(30, 90, 2).tolist()), part.convert("L").point(lambda v: 255 * (v > 0))
    )
    return image


def test_what_compression_makes_of_a_plain_background_does_not_count():
    parts = [draw_lone_part(seed) for seed in range(12)]
    found = groups_of([*parts, *map(jpeg, parts)])
    assert found[: len(parts)] == found[len(parts) :]
    assert len(set(found)) == len(parts)


def test_images_of_different_parts_are_no_near_duplicates(parts):
    assert len(set(groups_of(parts))) == len(parts)


@pytest.mark.parametrize("count", [0, 1])
def test_a_single_image_is_a_group_of_its_own(parts, count):
    assert near_duplicates(np.zeros((count, 192, 192), np.uint8)).tolist() == [0] * count


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """24 parts, 12 of them abnormal, each under three changes."""
    folder = tmp_path_factory.mktemp("exposures")
    for seed in range(24):
        kind = "abnormal" if seed % 2 else "normal"
        (folder / kind).mkdir(exist_ok=True)
        for name in ("relit", "turned", "compressed"):
            CHANGES[name](draw_part(seed, bool(seed % 2))).save(folder / kind / f"{seed}-{name}.png")
    return read_folder(folder)


def to_pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


@pytest.fixture(scope="module")
def exposures(data):
    return load_images(data, to_pixels)


def part_of(images, sha256: str) -> str:
    return images.samples[images.sha256.index(sha256)].path.name.split("-")[0]


def parts_by_split(divided) -> list[set[str]]:
    return [{sample.path.name.split("-")[0] for sample in divided.samples[split]} for split in SPLITS]


def test_near_duplicates_are_kept_in_one_split(data):
    divided = load_divided(data, None, to_pixels, lambda it, **_: it, groups=AUTO)
    assert sum(map(len, parts_by_split(divided))) == 24
    assert "72 images of 24 groups" in divided.division
    assert sum(len(set(divided.groups[split])) for split in SPLITS) == 24


def test_near_duplicates_may_be_apart_without_groups(data):
    divided = load_divided(data, None, to_pixels, lambda it, **_: it, groups=OFF)
    assert sum(map(len, parts_by_split(divided))) > 24
    assert "groups" not in divided.division
    assert sum(len(set(divided.groups[split])) for split in SPLITS) == 72


def test_near_duplicates_of_a_test_image_join_it(exposures):
    train, test = exposures.sha256[0], exposures.sha256[1]  # of one part, in an earlier division
    earlier = {"train": [train], "val": [], "test": [test]}
    near = near_duplicate_groups(exposures, earlier)
    split, how = divide("parts", exposures, earlier, near)
    third = next(one for one in exposures.sha256[2:] if part_of(exposures, one) == part_of(exposures, test))
    assert third in split[TEST] and train not in split[TEST]
    assert "except 1 in another split of the earlier division" in how


def test_a_known_division_and_groups_of_the_data_are_trusted(exposures):
    nothing, everything = dict.fromkeys(SPLITS, []), dict.fromkeys(SPLITS, exposures.sha256)
    own = replace(exposures, samples=tuple(replace(one, group="A") for one in exposures.samples))
    assert not near_duplicate_groups(exposures, everything)
    assert not near_duplicate_groups(own, nothing)
