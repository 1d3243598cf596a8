"""Is the new model better than the one in use?"""

import numpy as np
import pytest

from chipdemo.comparison import BETTER, NOT_DISTINGUISHABLE, WORSE, Comparison, comparison_of
from tests.tiny import draw_chip, tiny_checkpoint
from training.comparison import Answers, answers_of, compare, verdict_on
from training.data import Sample
from training.measure import auroc


def truth(normal: int, abnormal: int) -> np.ndarray:
    return np.arange(normal + abnormal) >= normal


def wrong_on(abnormal: np.ndarray, count: int) -> Answers:
    """Sure of every image, and wrong on the first so many normal ones."""
    wrong = np.arange(len(abnormal)) < count
    return Answers(np.where(wrong, ~abnormal, abnormal).astype(float), 0.5)


def verdict(before: int, now: int, normal: int, abnormal: int, earlier: int = 0) -> str:
    """Of models that are wrong on so many normal images. earlier: the first so many test images are."""
    images = truth(normal, abnormal)
    is_earlier = np.arange(len(images)) < earlier
    return compare(wrong_on(images, before), wrong_on(images, now), images, is_earlier, 300)["verdict"]


def test_the_model_of_issue_14_is_worse():
    """19 test cells: 2 errors before, 6 now."""
    assert verdict(2, 6, normal=13, abnormal=6) == WORSE


def test_one_error_more_on_a_few_images_says_nothing():
    assert verdict(2, 3, normal=13, abnormal=6) == NOT_DISTINGUISHABLE


def test_three_errors_more_on_19_images_are_probably_worse_although_the_interval_reaches_zero():
    images = truth(13, 6)
    found = compare(wrong_on(images, 0), wrong_on(images, 3), images, np.zeros(19, bool))
    figures = found["sets"]["new"]["accuracy"]
    assert figures["interval_95"][1] == 0 and figures["verdict"] == found["verdict"] == WORSE


def test_a_difference_below_the_margin_is_worse_only_where_it_is_certain():
    assert verdict(2, 3, normal=600, abnormal=200) == NOT_DISTINGUISHABLE
    assert verdict_on(np.linspace(-0.008, -0.002, 1000)) == WORSE
    assert verdict_on(np.linspace(-0.009, 0.001, 1000)) == NOT_DISTINGUISHABLE


def test_fewer_errors_are_better_where_there_are_enough_images():
    assert verdict(30, 5, normal=200, abnormal=100) == BETTER
    assert verdict(1, 0, normal=200, abnormal=100) == NOT_DISTINGUISHABLE


def test_worse_on_the_earlier_images_alone_is_worse_whatever_the_new_ones_say():
    """The first 40 normal images are the earlier ones, of which it now gets 10 wrong; elsewhere it gains."""
    abnormal = truth(140, 60)
    earlier = np.arange(200) < 40
    before = Answers(np.where(earlier, 0.0, np.where(np.arange(200) < 100, ~abnormal, abnormal)), 0.5)
    now = wrong_on(abnormal, 10)
    found = compare(before, now, abnormal, earlier, 300)
    assert {found["sets"][one]["accuracy"]["verdict"] for one in ("new", "all")} == {BETTER}
    assert found["verdict"] == WORSE
    (reason,) = found["reasons"]
    assert reason.startswith("accuracy on earlier test images from 1.000 to 0.750: -0.250")
    assert "auroc" not in found["sets"]["earlier"]  # one class


def test_a_model_is_not_distinguishable_from_itself():
    abnormal = truth(5, 4)
    answers = Answers(np.linspace(0, 1, 9), 0.5)
    found = compare(answers, answers, abnormal, np.arange(9) < 9, 100)
    assert (found["verdict"], found["reasons"]) == (NOT_DISTINGUISHABLE, [])
    assert list(found["sets"]) == ["earlier"]  # nothing is said of new ones, and all are the same ones


def test_each_model_is_taken_at_its_own_threshold_and_the_auroc_is_that_of_scikit_learn():
    generator = np.random.default_rng(0)
    abnormal = truth(30, 20)
    scores = (generator.random(50) / 2 + abnormal / 4).round(2)  # with ties
    found = compare(Answers(scores, 0.4), Answers(scores, 0.6), abnormal, np.zeros(50, bool), resamples=50)
    figures = found["sets"]["new"]
    assert figures["auroc"]["before"] == pytest.approx(auroc(scores, abnormal))
    assert figures["auroc"]["interval_95"] == [0, 0]
    assert figures["accuracy"]["before"] == ((scores >= 0.4) == abnormal).mean()
    assert figures["accuracy"]["now"] == ((scores >= 0.6) == abnormal).mean()


def similar(generator: np.random.Generator, abnormal: np.ndarray, drop: float) -> tuple[Answers, Answers]:
    """Two models that share most of their errors; the second tells the classes apart less well by `drop`."""
    shared, own = generator.normal(size=len(abnormal)), generator.normal(size=(2, len(abnormal)))
    scores = [0.9 * shared + 0.4 * one + (2 - less) * abnormal for one, less in zip(own, (0, drop))]
    return tuple(Answers(score, 1 - less / 2) for score, less in zip(scores, (0, drop)))


def test_equals_are_seldom_called_worse_and_a_model_that_only_guesses_mostly():
    generator, abnormal = np.random.default_rng(1), truth(13, 6)

    def worse(drop: float, times: int) -> int:
        pairs = [similar(generator, abnormal, drop) for _ in range(times)]
        verdicts = [compare(*pair, abnormal, np.zeros(19, bool), 100)["verdict"] for pair in pairs]
        return verdicts.count(WORSE)

    assert worse(0, 25) <= 4
    assert worse(2, 5) >= 4


def test_the_model_in_use_answers_as_the_app_would(tmp_path):
    from chipdemo.images import decode_image
    from chipdemo.judge import Judge
    from chipdemo.models import Models
    from chipdemo.vision.predictor import load_model

    model = load_model(str(tiny_checkpoint(tmp_path / "tiny")))
    samples = []
    for seed in range(3):
        draw_chip(seed).save(path := tmp_path / f"{seed}.png")
        samples.append(Sample(path, "normal", 0.0, "normal"))
    answers = answers_of(model, samples)
    judge = Judge(Models(model))
    assert answers.threshold == 0.4
    assert answers.probabilities == pytest.approx(
        [judge.inspect(decode_image(draw_chip(seed))).abnormal_probability for seed in range(3)], abs=1e-5
    )


# What the app makes of it


def comparison(verdict: str, earlier_refused: bool = False, accepted: str = "") -> Comparison:
    return Comparison("chips", "0123456789ab", verdict, (), earlier_refused, accepted)


@pytest.mark.parametrize("verdict", [BETTER, NOT_DISTINGUISHABLE])
def test_a_model_that_is_not_worse_takes_over_unless_the_other_was_refused_itself(verdict):
    assert comparison(verdict).takes_over
    assert not comparison(verdict, earlier_refused=True).takes_over
    assert comparison(verdict, earlier_refused=True).may_replace("0123456789ab")
    assert not comparison(verdict, earlier_refused=True).may_replace("another revision")


def test_a_worse_one_takes_over_where_somebody_accepted_it():
    assert not comparison(WORSE).takes_over and not comparison(WORSE).may_replace("0123456789ab")
    assert comparison(WORSE, accepted="2026-01-01").takes_over


def test_metrics_of_a_model_that_was_not_compared_have_none():
    assert comparison_of({"data": "ELPV"}) is None


@pytest.mark.parametrize("change", [{"verdict": "splendid"}, {"name": None}])
def test_a_comparison_that_cannot_be_read_is_an_error(change):
    found = {"name": "a", "revision": "b", "verdict": WORSE, "reasons": [], "earlier_refused": False}
    found = {key: value for key, value in (found | change).items() if value is not None}
    with pytest.raises((KeyError, ValueError)):
        comparison_of({"comparison": found})
