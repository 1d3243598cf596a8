import numpy as np
import pytest
from scipy.stats import binomtest

from chipdemo.rates import Rate, auroc_interval


@pytest.mark.parametrize(
    "count, total, text",
    [
        (138, 151, "138 of 151 chips (91 %, 95 % interval 86–95 %)"),
        (1, 24, "1 of 24 chips (4 %, 95 % interval 0–21 %)"),
        (0, 24, "0 of 24 chips (0 %, 95 % interval 0–14 %)"),
        (24, 24, "24 of 24 chips (100 %, 95 % interval 86–100 %)"),
        (1234, 5000, "1,234 of 5,000 chips (24.7 %, 95 % interval 23.5–25.9 %)"),
        (2, 10_000, "2 of 10,000 chips (0.02 %, 95 % interval 0–0.07 %)"),
        (152.4, 205, "152 of 205 chips (74 %, 95 % interval 68–80 %)"),
        (0, 0, "0 of 0 chips (no images)"),
    ],
)
def test_a_rate_is_shown_with_its_counts_and_its_interval(count, total, text):
    assert Rate(count, total).of("chips") == text


@pytest.mark.parametrize("count, total", [(0, 1), (1, 1), (3, 10), (10, 10), (97, 1000)])
def test_the_interval_is_that_of_clopper_and_pearson(count, total):
    expected = binomtest(count, total).proportion_ci(method="exact")
    assert Rate(count, total).interval == pytest.approx((expected.low, expected.high))


def test_the_area_under_the_roc_curve_has_the_value_of_scikit_learn_also_with_ties():
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    abnormal = generator.random(200) < 0.3
    scores = np.round(generator.normal(abnormal, 1), 1)
    area, low, high = auroc_interval(scores, abnormal)
    assert area == pytest.approx(roc_auc_score(abnormal, scores)) and 0 < low < area < high < 1


def test_the_interval_of_the_area_holds_the_truth_nineteen_times_in_twenty():
    """Scores of normal distributions one apart: the area is the distribution function at 1 / sqrt(2)."""
    generator, abnormal = np.random.default_rng(1), np.arange(120) < 40
    found = [auroc_interval(generator.normal(abnormal, 1), abnormal) for _ in range(500)]
    assert 0.92 <= np.mean([low <= 0.760250 <= high for _, low, high in found]) <= 0.98


@pytest.mark.parametrize(
    "scores, abnormal", [([], []), ([0.5, 0.6], [0, 1]), ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])]
)
def test_the_area_has_no_interval_where_there_is_too_little_to_go_by(scores, abnormal):
    assert auroc_interval(np.array(scores), np.array(abnormal, bool)) is None
