import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from chipdemo.errors import TargetError
from chipdemo.rates import Rate
from chipdemo.threshold import FPR, RECALL, OperatingCurve, Target, images_needed, promised

CURVE = OperatingCurve("four images", (0.1, 0.4, 0.6, 0.9), (False, False, True, True))


def test_a_threshold_between_the_classes_is_perfect():
    point = CURVE.at(0.5)
    assert (point.recall, point.precision, point.accuracy) == (Rate(2, 2), Rate(2, 2), Rate(4, 4))
    assert point.false_positive_rate == Rate(0, 2)


def test_an_image_at_the_threshold_is_flagged():
    assert CURVE.at(0.4).false_positive_rate == Rate(1, 2)
    assert CURVE.at(0.9).recall == Rate(1, 2)


def test_nothing_flagged_has_no_precision():
    assert math.isnan(CURVE.at(0.95).precision.value)
    assert CURVE.at(0.95).recall == Rate(0, 2)


def test_an_image_without_a_probability_is_never_flagged():
    point = OperatingCurve("broken", (math.nan, 0.2, math.nan, 0.8), (False, False, True, True)).at(0.0)
    assert (point.recall, point.false_positive_rate) == (Rate(1, 2), Rate(1, 2))


def test_the_meaning_of_a_threshold_is_a_sentence_without_what_is_not_known():
    assert CURVE.meaning(0.5, Target(FPR, 0.9)) == (
        "Threshold 0.5, chosen to flag at most 90 % of new normal images with 90 % confidence. On four "
        "images, it detects 2 of 2 abnormal images (100 %, 95 % interval 16–100 %) and flags 0 of 2 normal "
        "images (0 %, 95 % interval 0–84 %)."
    )
    goods = OperatingCurve("two good images", (0.1, 0.4), (False, False))
    assert goods.meaning(0.4) == (
        "Threshold 0.4. On two good images, it flags 1 of 2 normal images (50 %, 95 % interval 1–99 %)."
    )
    assert OperatingCurve("nothing", (), ()).meaning(0.25) == "Threshold 0.25."


# The promise: the true rate of the threshold keeps the target in 90 % of draws


def kept(target, count, decimals, draws=300):
    """The share of draws of validation images whose threshold keeps the target for all images there are."""
    mean, generator = (1.5 if target.metric == RECALL else -1.5), np.random.default_rng(0)
    every = np.round(expit(norm.ppf((np.arange(100_000) + 0.5) / 100_000, mean)), decimals)  # sorted
    abnormal = np.full(count, target.metric == RECALL)
    drawn = generator.choice(every, (draws, count))
    thresholds = [OperatingCurve("", one, abnormal).threshold_for(target) for one in drawn]
    flagged = 1 - np.searchsorted(every, thresholds) / len(every)
    return np.mean(flagged >= target.share if target.metric == RECALL else flagged <= target.share)


@pytest.mark.parametrize("decimals", [5, 2, 1])  # the fewer, the more ties
@pytest.mark.parametrize(
    "target, count",
    [
        (Target(RECALL, 0.95), 45),
        (Target(RECALL, 0.9), 100),
        (Target(RECALL, 0.8), 30),
        (Target(FPR, 0.02), 150),
        (Target(FPR, 0.1), 22),
        (Target(FPR, 0.05), 300),
    ],
)
def test_the_promise_holds_for_new_images_nine_times_in_ten(target, count, decimals):
    assert kept(target, count, decimals) >= 0.9 - 3 * math.sqrt(0.9 * 0.1 / 300)  # of 300 draws


@pytest.mark.parametrize("target", [Target(RECALL, 0.95), Target(FPR, 0.05)])
def test_the_promise_is_not_dearer_than_it_has_to_be(target):
    assert 0.85 <= kept(target, 1000, 5) <= 0.95


def test_the_threshold_of_a_promise_lies_beside_the_score_it_is_chosen_by():
    scores = tuple(n / 100 for n in range(45))
    assert OperatingCurve("", scores, (True,) * 45).threshold_for(Target(RECALL, 0.95)) == 0.0
    assert OperatingCurve("", scores, (True,) * 45).threshold_for(Target(RECALL, 0.9)) == 0.00999
    assert OperatingCurve("", scores, (False,) * 45).threshold_for(Target(FPR, 0.05)) == 0.44001


@pytest.mark.parametrize(
    "target, needed, count, nearest",
    [
        (Target(RECALL, 0.95), 45, 44, "94.9 %"),
        (Target(RECALL, 0.99), 230, 82, "97.2 %"),
        (Target(FPR, 0.02), 114, 24, "9.2 %"),
        (Target(FPR, 0.005), 460, 1, "90 %"),
    ],
)
def test_too_few_images_are_refused_with_what_it_takes_and_what_they_are_enough_for(
    target, needed, count, nearest
):
    assert images_needed(target) == needed
    curve = OperatingCurve("", (0.5,) * count, (target.metric == RECALL,) * count)
    with pytest.raises(
        TargetError, match=f"takes {needed} .* there are {count}. They are enough for {nearest}"
    ):
        curve.threshold_for(target)
    assert curve.nearest_target(target).percent == nearest
    assert 0 < curve.threshold_for(curve.nearest_target(target)) < 1
    enough = OperatingCurve("", (0.5,) * needed, (target.metric == RECALL,) * needed)
    assert 0 < enough.threshold_for(target) < 1 and enough.nearest_target(target) is None


@pytest.mark.parametrize("count", [1, 2, 7, 50, 333, 4000])
@pytest.mark.parametrize("metric", [RECALL, FPR])
def test_what_is_offered_can_be_promised(metric, count):
    curve = OperatingCurve("", (0.5,) * count, (metric == RECALL,) * count)
    strict = Target(metric, 0.99999 if metric == RECALL else 0.00001)
    assert curve.threshold_for(curve.nearest_target(strict)) in (0.49999, 0.50001)


def test_without_images_of_its_class_nothing_is_promised():
    goods = OperatingCurve("", (0.1,) * 200, (False,) * 200)
    assert goods.nearest_target(Target(RECALL, 0.5)) is None
    with pytest.raises(TargetError, match="no abnormal validation images"):
        goods.threshold_for(Target(RECALL, 0.5))
    assert goods.threshold_for(Target(FPR, 0.02)) == 0.10001


def test_where_no_threshold_flags_fewer_nothing_is_promised():
    certain = OperatingCurve("", (1.0,) * 200, (False,) * 200)
    with pytest.raises(TargetError, match="no threshold does"):
        certain.threshold_for(Target(FPR, 0.02))
    broken = OperatingCurve("", (math.nan,) * 20 + (0.9,) * 80, (True,) * 100)
    with pytest.raises(TargetError, match="no threshold does"):
        broken.threshold_for(Target(RECALL, 0.9))
    assert broken.threshold_for(Target(RECALL, 0.7)) == 0.89999


def test_what_a_number_of_false_positives_promises_is_what_it_takes():
    assert promised(Rate(0, 114)) <= 0.02 < promised(Rate(0, 113))
    assert promised(Rate(5, 5)) == 1
