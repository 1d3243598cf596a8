"""What CBAM brings, as its benchmark compares it."""

import numpy as np
import pytest

from benchmarks.attention import compared


def seed_of(right: np.ndarray, abnormal: np.ndarray, flips: float, hit: float) -> dict:
    """What one checkpoint says: right is where its verdict is right."""
    verdict, defects = right == abnormal, 20
    return {
        "probability": np.where(verdict, 0.9, 0.1),
        "verdict": verdict,
        "flips": np.full(len(abnormal), flips),
        "pointing game": np.full(defects, hit),
        "pixel AUROC in an image": np.full(defects, 0.8),
        "aupro": hit,
    }


def test_every_metric_is_compared_in_pairs_with_the_spread_over_images_and_seeds(monkeypatch):
    monkeypatch.setattr("benchmarks.attention.RESAMPLES", 60)
    abnormal = np.arange(100) % 4 == 0
    poor, good = np.arange(100) % 10 > 0, np.ones(100, bool)
    without = [seed_of(poor, abnormal, 0.06, 0.1), seed_of(poor, abnormal, 0.06, 0.3)]
    with_cbam = [seed_of(good, abnormal, 0.02, 0.5), seed_of(good, abnormal, 0.02, 0.5)]
    rows = {row["metric"]: row for row in compared(without, with_cbam, abnormal)}
    assert rows["accuracy"]["without"] == [0.9, 0.9] and rows["accuracy"]["with"] == [1, 1]
    assert rows["accuracy"]["difference"] == pytest.approx(0.1)
    low, high = rows["accuracy"]["interval_95"]
    assert 0.01 < low < 0.1 < high < 0.2
    assert rows["AUROC"]["difference"] > 0 and rows["AUROC"]["interval_95"][0] > 0
    assert rows["flips"]["difference"] == pytest.approx(-0.04)
    assert rows["flips"]["interval_95"] == pytest.approx([-0.04, -0.04])
    assert rows["pointing game"]["difference"] == pytest.approx(0.3)
    assert rows["pixel AUROC in an image"]["difference"] == 0
    assert rows["AUPRO"]["difference"] == pytest.approx(0.3)
    assert rows["AUPRO"]["sd_over_seeds"] == pytest.approx(np.std([0.4, 0.2], ddof=1))
