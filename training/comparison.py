"""Is the new model better than the one in use? Both judge the same test images.

Compared are AUROC and accuracy, each model at its own threshold: on the earlier model's test images, on the
new ones, and on all of them. The uncertainty of a difference is that of a paired bootstrap within the
classes. A difference is

- worse, if its 95 % interval lies below zero, or if it is below -MARGIN in at least PROBABLE of the
  resamples: the interval of a few images is wide, and what is probably worse must not pass as equal;
- better, if its interval lies above zero;
- not distinguishable otherwise.

The model is worse if any difference is; otherwise better if any is. benchmarks/comparison_rule.py says how
often this is wrong.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from chipdemo.comparison import BETTER, NOT_DISTINGUISHABLE, WORSE
from chipdemo.errors import DataError
from chipdemo.images import read_image
from chipdemo.inspection import Model
from chipdemo.splits import TEST, TRAIN, VAL
from chipdemo.vision.predictor import load_model
from training.data import Sample
from training.divided import DividedImages
from training.in_use import InUse
from training.uncertainty import RESAMPLES, interval, resampled

MARGIN = 0.01  # of AUROC and of accuracy
PROBABLE = 0.9  # share of the resamples
EARLIER, NEW, ALL = "earlier", "new", "all"  # sets of test images
METRICS = {"auroc": "AUROC", "accuracy": "accuracy"}
BATCH = 32


class Answers(NamedTuple):
    """What a model says of N images: probabilities of abnormal (N,), 0-1, and its threshold."""

    probabilities: np.ndarray
    threshold: float

    def of(self, rows: np.ndarray) -> "Answers":
        return Answers(self.probabilities[rows], self.threshold)


def answers_of(model: Model, samples: Sequence[Sample]) -> Answers:
    """Each image as a whole, as the app judges it."""
    probabilities = []
    for start in range(0, len(samples), BATCH):
        views = [model.prepare(read_image(one.source).image) for one in samples[start : start + BATCH]]
        probabilities += [one.abnormal_probability for one in model.predict(views)]
    return Answers(np.array(probabilities), model.info.threshold)


def compare(
    before: Answers,
    now: Answers,
    abnormal: np.ndarray,
    earlier: np.ndarray,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """The verdict on N test images, its reasons in words, and the figures of each set of images.

    before, now: of the model in use and of the new one. abnormal: (N,) bool, the truth. earlier: (N,) bool,
    the test images of the model in use. Sets without images, and the AUROC of one class, are left out, and
    so is the set of all where it is one of the others.
    """
    wanted = {EARLIER: earlier, NEW: ~earlier, ALL: np.ones(len(earlier), bool)}
    if earlier.all() or not earlier.any():
        del wanted[ALL]  # it would be the same again
    sets = {
        name: _differences(before.of(rows), now.of(rows), abnormal[rows], resamples)
        for name, rows in wanted.items()
        if rows.any()
    }
    found = [(name, key, sets[name][key]) for name in sets for key in METRICS if key in sets[name]]
    verdict = _worst(figures["verdict"] for _, _, figures in found)
    reasons = [_in_words(*each) for each in found if each[2]["verdict"] == verdict != NOT_DISTINGUISHABLE]
    return {"verdict": verdict, "reasons": reasons, "sets": sets}


def compare_with(in_use: InUse, now: Answers, images: DividedImages) -> dict[str, Any]:
    """The comparison of metrics.json: a new model beside the model in use, on the test images of its run.

    now: of all test images. Raises DataError if none can be compared.
    """
    rows = rows_to_compare(in_use, images)
    before = answers_of(load_model(in_use.source), [images.samples[TEST][row] for row in rows])
    abnormal, earlier = images.abnormal[TEST][rows], ~images.is_new(TEST)[rows]
    refused = in_use.info.comparison is not None and not in_use.info.comparison.takes_over
    return {
        "name": in_use.info.name,
        "revision": in_use.info.revision,
        "earlier_refused": refused,
        "left_out": len(images.sha256[TEST]) - len(rows),
        **compare(before, now.of(rows), abnormal, earlier),
    }


def rows_to_compare(in_use: InUse, images: DividedImages) -> np.ndarray:
    """The test images that the model in use was neither trained nor calibrated on, (n,) rows.

    Raises DataError if there is none.
    """
    known = {*in_use.split[TRAIN], *in_use.split[VAL]}
    rows = [row for row, sha256 in enumerate(images.sha256[TEST]) if sha256 not in known]
    if not rows:
        raise DataError(
            f"The model of --init was trained on all {len(images.sha256[TEST])} test images, so none can be "
            "compared. Without --split, the division of that model is kept."
        )
    return np.array(rows)


def table(comparison: dict[str, Any]) -> str:
    """The figures in Markdown, a row for each set of images and metric."""
    lines = ["| test images | | before | now | difference (95 % interval) | |", "|---|---|---|---|---|---|"]
    for name, found in comparison["sets"].items():
        for key in (key for key in METRICS if key in found):
            figures = found[key]
            low, high = figures["interval_95"]
            lines.append(
                f"| {name}: {found['count']:,}, {found['abnormal']:,} abnormal | {METRICS[key]} "
                f"| {figures['before']:.3f} | {figures['now']:.3f} "
                f"| {figures['difference']:+.3f} ({low:+.3f} to {high:+.3f}) | {figures['verdict']} |"
            )
    return "\n".join(lines)


def _differences(before: Answers, now: Answers, abnormal: np.ndarray, resamples: int) -> dict[str, Any]:
    """The figures of one set of images: their number, and by metric both models and their difference."""
    names = METRICS if len(set(abnormal)) == 2 else ["accuracy"]

    def figures(answers: Answers, rows: np.ndarray) -> dict[str, float]:
        answers, truth = answers.of(rows), abnormal[rows]
        right = (answers.probabilities >= answers.threshold) == truth
        return {"auroc": _auroc(answers.probabilities, truth), "accuracy": float(right.mean())}

    def differences(rows: np.ndarray) -> list[float]:
        one, other = figures(before, rows), figures(now, rows)
        return [other[name] - one[name] for name in names]

    drawn = resampled(differences, abnormal, resamples, stratified=True)  # (resamples, metrics)
    every = np.arange(len(abnormal))
    one, other = figures(before, every), figures(now, every)
    result = {"count": len(abnormal), "abnormal": int(abnormal.sum())}
    for column, name in enumerate(names):
        low, high = interval(drawn[:, column])
        result[name] = {
            "before": one[name],
            "now": other[name],
            "difference": other[name] - one[name],
            "interval_95": [float(low), float(high)],
            "verdict": verdict_on(drawn[:, column]),
        }
    return result


def _auroc(scores: np.ndarray, abnormal: np.ndarray) -> float:
    """From the ranks (Mann and Whitney): scikit-learn's takes a hundred times as long, thousands of times."""
    normal, count = np.count_nonzero(~abnormal), np.count_nonzero(abnormal)
    ranks = rankdata(scores)[abnormal].sum() - count * (count + 1) / 2
    return float(ranks / (normal * count)) if normal and count else float("nan")


def verdict_on(differences: np.ndarray) -> str:
    """The verdict on a difference, now less before, from its (resamples,) values."""
    low, high = interval(differences)
    if high < 0 or (differences < -MARGIN).mean() >= PROBABLE:
        return WORSE
    return BETTER if low > 0 else NOT_DISTINGUISHABLE


def _worst(verdicts: Iterable[str]) -> str:
    found = set(verdicts)
    return next((one for one in (WORSE, BETTER) if one in found), NOT_DISTINGUISHABLE)


def _in_words(images: str, metric: str, figures: dict[str, Any]) -> str:
    low, high = figures["interval_95"]
    return (
        f"{METRICS[metric]} on {images} test images from {figures['before']:.3f} to {figures['now']:.3f}: "
        f"{figures['difference']:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    )
