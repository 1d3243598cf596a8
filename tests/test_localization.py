import numpy as np
import pytest

from training.localization import (
    SHARES,
    area_under,
    aupro,
    energy_inside,
    pixel_auroc,
    pointing_game,
    removal_curves,
)


def test_heat_that_equals_the_masks_is_perfect():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 1:3, 1:3] = masks[0, 6, 6] = True
    assert aupro(masks.astype(float), masks) == pytest.approx(1)
    assert pixel_auroc(masks.astype(float), masks) == 1


def test_aupro_of_a_case_computed_by_hand():
    """A row of 3 defective pixels, A and the two neighbors of B, and 11 good ones, from hot to cold:

    A, good, B, good, B, then good ones alone. The overlap is 1/2 from the start, 3/4 from 1/11 of false
    pixels on and 1 from 2/11 on, straight up at each.
    """
    mask = np.zeros((1, 1, 14), bool)
    heat = np.zeros((1, 1, 14))
    mask[0, 0, 0] = mask[0, 0, 2] = mask[0, 0, 3] = True
    heat[0, 0] = [14, 13, 12, 10, 11, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    expected = (1 / 2 * 1 / 11 + 3 / 4 * 1 / 11 + 1 * (0.3 - 2 / 11)) / 0.3
    assert aupro(heat, mask) == pytest.approx(expected)


def test_a_small_defect_counts_as_much_as_a_large_one():
    masks = np.zeros((1, 20, 20), bool)
    masks[0, :10, :10] = masks[0, 15, 15] = True  # 100 pixels, and 1
    missed = masks.astype(float)
    missed[0, 15, 15] = -1  # found last of all
    assert aupro(missed, masks) == pytest.approx(0.5)
    assert pixel_auroc(missed, masks) > 0.98


def test_pixels_of_equal_heat_are_passed_together():
    masks = np.zeros((1, 1, 10), bool)
    masks[0, 0, :2] = True
    flat = np.zeros((1, 1, 10))
    assert aupro(flat, masks) == pytest.approx(0.15)  # the diagonal up to 0.3: 0.3 * 0.3 / 2 / 0.3
    assert pixel_auroc(flat, masks) == 0.5


def test_the_pointing_game_asks_for_the_hottest_pixel_alone():
    masks = np.array([[[True, False, False]], [[True, False, False]]])
    assert pointing_game(np.array([[[3.0, 2, 1]], [[2, 3, 1]]]), masks) == 0.5


def test_a_flat_map_points_as_well_as_chance():
    masks = np.array([[[True, False, False, False]]])
    assert pointing_game(np.zeros((1, 1, 4)), masks) == 0.25
    assert pointing_game(np.array([[[1.0, 1, 0, 0]]]), masks) == 0.5


def test_energy_is_the_share_of_heat_on_the_defect():
    masks = np.array([[[True, False]], [[True, True]], [[True, False]]])
    heat = np.array([[[3.0, 1]], [[1, 1]], [[0, 0]]])  # an image without heat has no share
    assert energy_inside(heat, masks) == pytest.approx((0.75 + 1 + 0) / 3)


def light_at_the_top(pixels):
    """A judge of images whose upper half can be white: 1 where it is."""
    return pixels[:, :10].mean((1, 2, 3)) / 255


def half_white():
    image = np.zeros((20, 20, 3), np.uint8)
    image[:10] = 255
    return image


def test_deletion_of_what_is_explained_falls_and_its_insertion_rises_at_once():
    image = half_white()
    right, wrong = np.zeros((20, 20)), np.zeros((20, 20))
    right[:10], wrong[10:] = 1, 1
    deletion, insertion = removal_curves(light_at_the_top, image, right)
    assert deletion[0] == insertion[-1] == 1  # the image as it is
    assert deletion[-1] == insertion[0] < 1  # and blurred
    deletion_of_wrong, insertion_of_wrong = removal_curves(light_at_the_top, image, wrong)
    assert area_under(deletion) < area_under(deletion_of_wrong)
    assert area_under(insertion) > area_under(insertion_of_wrong)
    below_half = np.array(SHARES) <= 0.5
    assert (deletion_of_wrong[below_half] == 1).all()  # the blurred lower half is none of its business


def test_a_share_of_the_hottest_pixels_is_removed_first():
    image = np.full((10, 10, 3), 200, np.uint8)
    image[0, 0] = 0
    heat = np.zeros((10, 10))
    heat[0, 0] = 1
    seen = []
    removal_curves(lambda pixels: seen.append(pixels) or np.zeros(len(pixels)), image, heat)
    changed = (seen[0][: len(SHARES)] != image).any(-1)
    assert not changed[0].any()
    assert changed[1].sum() == 1 and changed[1, 0, 0]  # 1 % of 100 pixels


def test_the_area_under_a_curve_weighs_its_uneven_steps():
    assert area_under(np.ones(len(SHARES))) == 1
    assert area_under(np.array(SHARES, float)) == pytest.approx(0.5)
