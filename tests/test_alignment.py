"""How images lie in the network's input: letterboxed, registered, and the way back to the image."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from chipdemo.vision.anomaly.alignment import (
    POSITION_BOUND,
    POSITION_FREE,
    REGISTERED,
    Alignment,
    alignment_of,
)
from chipdemo.vision.anomaly.choice import choose_alignment
from chipdemo.vision.anomaly.coreset import coreset
from chipdemo.vision.anomaly.features import starting_backbone
from chipdemo.vision.anomaly.registration import Pose, PoseRange, Reference, edges_of, usual_poses
from chipdemo.vision.transforms import letterboxed, squeezed
from tests.drawn import chip

SIZE = 96
ANYHOW = PoseRange(0.0, 180.0, (0.0, 0.0), 1.0)


def lying(seed: int, turn: float, shift: tuple[float, float] = (0, 0), defect: str = "") -> Image.Image:
    """A drawn chip, turned by degrees and shifted by sides of the image."""
    pixels = np.asarray(chip(seed, defect))
    matrix = cv2.getRotationMatrix2D((47.5, 47.5), turn, 1)
    matrix[:, 2] += np.multiply(shift, 96)
    return Image.fromarray(cv2.warpAffine(pixels, matrix, (96, 96), borderMode=cv2.BORDER_REPLICATE))


def view_of(image: Image.Image):
    return letterboxed(image, SIZE, "bicubic")


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean over the middle, which every pose shows."""
    return float(np.abs(one.astype(int) - other)[20:76, 20:76].mean())


@pytest.mark.parametrize("turn", [-160, -25, 7, 90, 135])
def test_a_part_is_found_however_it_is_turned_and_shifted(turn):
    reference, image = view_of(chip(1)), view_of(lying(2, turn, (0.06, -0.04)))
    pose = Reference(edges_of(reference.pixels)).pose(edges_of(image.pixels))
    assert pose.correlation > 0.5
    assert abs((pose.turn + turn + 180) % 360 - 180) < 2  # an image turns the other way than its y axis
    registered = Alignment(REGISTERED, edges_of(reference.pixels), ANYHOW).registered(image, SIZE)
    assert difference(registered.pixels, reference.pixels) < 12 < difference(image.pixels, reference.pixels)


def test_a_part_that_lies_as_no_good_one_did_is_left_as_it_is():
    goods = [view_of(lying(seed, turn)) for seed, turn in enumerate(np.linspace(-5, 5, 12))]
    alignment = alignment_of(REGISTERED, goods)
    tilted, over = view_of(lying(50, 12)), view_of(lying(51, 180))
    assert difference(alignment.registered(tilted, SIZE).pixels, tilted.pixels) > 5
    assert alignment.registered(over, SIZE) is over


def test_a_reference_is_a_part_that_lies_as_most_do():
    goods = [view_of(lying(0, 180)), *(view_of(lying(seed, 0)) for seed in range(1, 10))]
    poses = alignment_of(REGISTERED, goods).poses
    assert abs(poses.turn) < 1 and poses.most_turned < 20
    goods[0] = view_of(lying(0, 0, (0.1, 0.0)))
    assert np.abs(alignment_of(REGISTERED, goods).poses.shift).max() < 0.03


def test_usual_are_the_poses_of_nine_in_ten_and_a_little_more():
    def pose(turn, x=0.0):
        angle = np.radians(turn)
        matrix = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
        matrix[:, 2] = np.array([0.5 + x, 0.5]) - matrix[:, :2] @ (0.5, 0.5)
        return Pose(matrix, 1.0)

    usual = usual_poses([pose(turn) for turn in (178, 179, 180, -179, -178, 180, 179, -179, 180, 20)])
    assert usual.holds(pose(-170)) and not usual.holds(pose(150)) and not usual.holds(pose(0))
    assert usual.holds(pose(180, 0.05)) and not usual.holds(pose(180, 0.2))
    anyhow = usual_poses([pose(turn) for turn in range(0, 360, 10)])
    assert all(anyhow.holds(pose(turn)) for turn in range(0, 180, 15))


@pytest.mark.parametrize("size", [(200, 100), (60, 180), (96, 96)])
def test_a_letterboxed_image_keeps_its_proportion_and_heat_finds_its_way_back(size):
    image = Image.new("RGB", size, (90, 90, 90))
    width, height = size
    left, top = round(0.7 * width), round(0.2 * height)
    image.paste((255, 255, 255), (left, top, left + 12, top + 12))
    view = view_of(image)
    assert view.pixels.shape == (SIZE, SIZE, 3)
    bright = (view.pixels.max(2) > 200).astype(np.float32)
    rows, columns = np.nonzero(bright)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=1)  # the square is still one
    assert view.inside((24, 24)).mean() == pytest.approx(min(size) / max(size), abs=0.05)
    heat = view.on_image(cv2.resize(bright, (24, 24), interpolation=cv2.INTER_AREA))
    assert heat.shape[1] / heat.shape[0] == pytest.approx(width / height, rel=0.02)
    y, x = (np.average(np.arange(side) + 0.5, weights=heat.sum(axis)) / side for axis, side in
            ((1, heat.shape[0]), (0, heat.shape[1])))  # fmt: skip
    assert x * width == pytest.approx(left + 6, abs=0.05 * max(size))
    assert y * height == pytest.approx(top + 6, abs=0.05 * max(size))


def test_a_squeezed_image_covers_the_whole_view():
    view = squeezed(Image.new("RGB", (200, 100)), SIZE, "bicubic")
    heat = np.ones((8, 8), np.float32)
    assert view.inside((8, 8)).all() and view.on_image(heat) is heat


def test_heat_of_a_registered_image_lies_on_the_image_as_it_came():
    reference, image = view_of(chip(1)), view_of(lying(2, 90, defect="scratch"))
    view = Alignment(REGISTERED, edges_of(reference.pixels), ANYHOW).registered(image, SIZE)
    bright = (view.pixels.min(2) > 195).astype(np.float32)  # leads and scratch
    back = cv2.resize(view.on_image(bright), (SIZE, SIZE))
    expected = image.pixels.min(2) > 195
    assert back[expected].mean() > 5 * back[~expected].mean()


def test_a_coreset_is_near_every_patch_and_the_same_every_time():
    generator = np.random.default_rng(0)
    patches = generator.normal(size=(40, 1, 16)) + 0.05 * generator.normal(size=(40, 25, 16))
    patches = patches.reshape(-1, 16).astype(np.float32)  # 40 clusters of 25
    patches = np.concatenate((patches, np.repeat(patches[:1], 3_000, 0)))  # one of them is frequent
    chosen = coreset(patches, 60)
    assert len(chosen) == 60 and (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, coreset(patches, 60))
    apart = np.linalg.norm(patches[:, None] - patches[chosen], axis=2).min(1)
    assert apart.max() < 1  # clusters are about 5 apart
    np.testing.assert_array_equal(coreset(patches[:50], 60), np.arange(50))


def test_the_alignment_is_chosen_by_what_tells_drawn_defects_from_good_images():
    backbone = starting_backbone()
    small = replace(backbone, spec=replace(backbone.spec, image_size=SIZE))
    anyhow = [view_of(lying(seed, 30 * seed)) for seed in range(12)]
    choice = choose_alignment(anyhow, small)
    assert choice.alignment.kind == REGISTERED
    assert set(choice.auroc) == {POSITION_BOUND, POSITION_FREE, REGISTERED}
    assert choice.auroc[REGISTERED] > choice.auroc[POSITION_BOUND]
    assert "registered" in choice.text and f"{choice.auroc[POSITION_BOUND]:.3f} position-bound" in choice.text
