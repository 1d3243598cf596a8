import math

from chipdemo.threshold import OperatingCurve

CURVE = OperatingCurve("four images", (0.1, 0.4, 0.6, 0.9), (False, False, True, True))


def test_a_threshold_between_the_classes_is_perfect():
    point = CURVE.at(0.5)
    assert (point.recall, point.precision, point.false_positive_rate) == (1, 1, 0)


def test_a_image_at_the_threshold_is_stopped():
    assert CURVE.at(0.4).false_positive_rate == 0.5
    assert CURVE.at(0.9).recall == 0.5


def test_nothing_stopped_has_no_precision():
    assert math.isnan(CURVE.at(0.95).precision)
    assert CURVE.at(0.95).recall == 0


def test_the_counts_of_both_classes_are_known():
    assert (CURVE.normal_count, CURVE.abnormal_count) == (2, 2)
