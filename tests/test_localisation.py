import numpy as np
import pytest

from training.localisation import aupro, pixel_auroc


def test_heat_that_equals_the_masks_is_perfect():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 1:3, 1:3] = masks[0, 6, 6] = True
    assert aupro(masks.astype(float), masks) == pytest.approx(1)
    assert pixel_auroc(masks.astype(float), masks) == 1


def test_aupro_of_a_case_computed_by_hand():
    """A row of 3 defective pixels, A and the two neighbours of B, and 11 good ones, from hot to cold:

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
