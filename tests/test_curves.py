import numpy as np
import pytest

from chipdemo.ablation.curves import GRID, mean_recall, reliability, roc

ABNORMAL = np.array([False, False, True, True])


def test_the_roc_curve_steps_once_a_threshold():
    false_alarms, recall = roc(np.array([0.1, 0.4, 0.3, 0.9]), ABNORMAL)
    assert false_alarms.tolist() == [0, 0, 0.5, 0.5, 1]
    assert recall.tolist() == [0, 0.5, 0.5, 1, 1]


def test_equal_probabilities_are_one_step():
    false_alarms, recall = roc(np.array([0.5, 0.5, 0.5, 0.5]), ABNORMAL)
    assert (false_alarms.tolist(), recall.tolist()) == ([0, 1], [0, 1])


def test_the_mean_curve_of_a_perfect_and_a_wrong_seed_is_halfway():
    curve = mean_recall([np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.9, 0.8, 0.2, 0.1])], ABNORMAL)
    assert curve[GRID < 1].tolist() == pytest.approx([0.5] * 200) and curve[-1] == 1


def test_bins_tell_what_was_given_and_what_was_true():
    bins = reliability(np.array([0.0, 0.05, 0.55, 1.0]), ABNORMAL)
    assert [(round(b.probability, 3), b.share, b.count) for b in bins] == [
        (0.025, 0, 2),
        (0.55, 1, 1),
        (1.0, 1, 1),
    ]
