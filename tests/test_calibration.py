import numpy as np
import pytest
from scipy.special import expit

from training.calibration import fit_calibration, fit_distance_limit, fit_heat_scale


def overconfident(count=4000, factor=3.0, shift=0.0):
    """Log-odds that are `factor` times too large and `shift` too high, with the truth."""
    generator = np.random.default_rng(0)
    true_log_odds = generator.normal(0, 2, count)
    abnormal = generator.random(count) < expit(true_log_odds)
    return factor * true_log_odds + shift, abnormal


def test_overconfidence_and_a_shift_are_undone():
    log_odds, abnormal = overconfident(factor=3, shift=1.5)
    calibration = fit_calibration(log_odds, abnormal)
    assert calibration.temperature == pytest.approx(3, rel=0.1)
    assert calibration.offset == pytest.approx(-1.5, abs=0.3)
    sure = calibration.probability(log_odds) > 0.8
    assert abnormal[sure].mean() == pytest.approx(calibration.probability(log_odds)[sure].mean(), abs=0.02)


def test_a_few_images_that_are_told_apart_make_no_model_certain():
    log_odds = np.array([-2.0, -1.5, -1.0, 1.0, 1.5, 2.0])
    probability = fit_calibration(log_odds, log_odds > 0).probability(log_odds)
    assert 0.001 < probability.min() < 0.1 and 0.9 < probability.max() < 0.999


@pytest.mark.parametrize("log_odds", [[0.2] * 8, [4, 3, 2, 1, -1, -2, -3, -4]])
def test_a_model_that_tells_nothing_apart_says_how_many_are_abnormal(log_odds):
    log_odds = np.array(log_odds, float)
    probability = fit_calibration(log_odds, np.array([False] * 5 + [True] * 3)).probability(log_odds)
    assert np.all((probability > 0.15) & (probability < 0.6))


def test_99_of_100_normal_images_stay_below_half_heat():
    highest = np.linspace(0, 1, 1001)
    scale = fit_heat_scale(highest)
    assert (0.5 * highest / scale < 0.5).mean() == pytest.approx(0.99, abs=0.005)


def test_a_model_whose_cam_is_negative_on_normal_images_has_a_scale_above_zero():
    assert fit_heat_scale(np.full(10, -1.0)) > 0


def test_held_out_images_are_within_the_distance_limit():
    distances = np.random.default_rng(0).normal(35, 2, 500)
    assert (distances < fit_distance_limit(distances)).mean() > 0.99
