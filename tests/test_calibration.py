import numpy as np
import pytest
from scipy.special import expit

from training.calibration import choose_threshold, fit_distance_limit, fit_heat_scale, fit_temperature


def overconfident(count=4000, factor=3.0, shift=0.0):
    """Log-odds that are `factor` times too large and `shift` too high, with the truth."""
    generator = np.random.default_rng(0)
    true_log_odds = generator.normal(0, 2, count)
    abnormal = generator.random(count) < expit(true_log_odds)
    return factor * true_log_odds + shift, abnormal


def test_the_temperature_undoes_overconfidence():
    assert fit_temperature(*overconfident(factor=3)) == pytest.approx(3, rel=0.1)


def test_the_threshold_is_where_abnormal_becomes_the_more_likely_class():
    log_odds, abnormal = overconfident(factor=1, shift=1.5)
    assert choose_threshold(log_odds, abnormal, temperature=1) == pytest.approx(expit(1.5), abs=0.03)


def test_the_threshold_is_given_in_calibrated_probability():
    log_odds, abnormal = overconfident(factor=2, shift=2)
    assert choose_threshold(log_odds, abnormal, temperature=2) == pytest.approx(expit(1), abs=0.03)


@pytest.mark.parametrize("log_odds", [[0.2] * 6, [3, 2, 1, -1, -2, -3]])
def test_a_model_that_tells_nothing_apart_has_the_threshold_one_half(log_odds):
    abnormal = np.array([False] * 3 + [True] * 3)
    assert choose_threshold(np.array(log_odds, float), abnormal, temperature=1) == 0.5


def test_99_of_100_normal_images_stay_below_half_heat():
    highest = np.linspace(0, 1, 1001)
    scale = fit_heat_scale(highest)
    assert (0.5 * highest / scale < 0.5).mean() == pytest.approx(0.99, abs=0.005)


def test_a_model_whose_cam_is_negative_on_normal_images_has_a_scale_above_zero():
    assert fit_heat_scale(np.full(10, -1.0)) > 0


def test_held_out_images_are_within_the_distance_limit():
    distances = np.random.default_rng(0).normal(35, 2, 500)
    assert (distances < fit_distance_limit(distances)).mean() > 0.99
