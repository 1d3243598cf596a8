import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from chipdemo.labeling.history import disputed, votes_on
from chipdemo.labeling.label import Label, ModelPrediction, retraction_of
from chipdemo.labeling.ranking import Score, set_scores
from chipdemo.labeling.statistics import (
    against_the_model,
    agreement,
    cohen,
    cohen_kappa,
    confidently_wrong,
    consensus_counts,
    fleiss,
    likely_errors,
)

WORDS = {"n": "normal", "a": "abnormal", "u": "unsure"}


def sha_of(number):
    return f"{number:064x}"


def label(journal, prediction=None, **votes):
    """votes: by annotator, a letter for each image; "-" for none. said: probabilities."""
    for number in range(max(map(len, votes.values()))):
        journal.add_image(sha_of(number), (64, 64), f"chip {number}", b"content")
    journal.append(
        *(
            Label(
                sha_of(number),
                WORDS[letter],
                annotator,
                prediction=ModelPrediction("model", "r", prediction[number]) if prediction else None,
            )
            for annotator, letters in votes.items()
            for number, letter in enumerate(letters)
            if letter != "-"
        )
    )


def test_cohens_kappa_is_that_of_scikit_learn(journal):
    label(journal, ann="nnnnaaaaun", bob="nnnaaaanua", cy="--------na")
    pairs = agreement(journal).pairs
    assert list(pairs) == [("ann", "bob"), ("ann", "cy"), ("bob", "cy")]
    one = pairs["ann", "bob"]
    assert one.value == pytest.approx(cohen_kappa_score(list("nnnnaaaaun"), list("nnnaaaanua")))
    assert (one.agreement, one.images) == (pytest.approx(0.7), 10)
    assert one.low < one.value < one.high <= 1
    assert pairs["bob", "cy"].images == 2


def test_fleiss_kappa_is_that_of_the_textbook():
    # Wikipedia, "Fleiss' kappa": 10 subjects, 14 raters, 5 categories
    ways = np.array(
        [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ]
    )
    overall, *by_class = fleiss(ways, np.ones(10, int))
    assert overall == pytest.approx(0.210, abs=5e-4)
    assert len(by_class) == 5
    twice = np.concatenate((ways, ways))
    assert fleiss(twice, np.ones(20, int)) == pytest.approx(fleiss(ways, np.full(10, 2)))


def test_fleiss_kappa_of_two_classes_is_the_same_for_both(journal):
    label(journal, ann="nnnaaa", bob="nnaaaa", cy="nnna-a")
    found = agreement(journal)
    assert found.overall.value == pytest.approx(found.by_class["normal"].value)
    assert found.overall.value == pytest.approx(found.by_class["abnormal"].value)
    assert math.isnan(found.by_class["unsure"].value)  # nobody was
    assert found.overall.low < found.overall.value <= found.overall.high
    assert found.overall.images == 6
    assert found.overall.agreement == pytest.approx(14 / 16)  # pairs of votes
    assert found.by_class["normal"].agreement == pytest.approx(14 / 16)  # 14 of the 16 others' votes


def test_who_always_agrees_has_a_kappa_of_one_and_an_interval_of_no_width(journal):
    label(journal, ann="nnaa", bob="nnaa")
    one = agreement(journal).pairs["ann", "bob"]
    assert (one.value, one.low, one.high, one.agreement) == (1, 1, 1, 1)


def test_where_all_is_the_same_there_is_no_kappa(journal):
    label(journal, ann="nnn", bob="nnn")
    found = agreement(journal)
    assert math.isnan(found.overall.value) and math.isnan(found.pairs["ann", "bob"].low)
    assert found.pairs["ann", "bob"].agreement == 1


def test_an_empty_journal_and_a_single_annotator_have_no_agreement(journal):
    assert agreement(journal).pairs == {} and agreement(journal).overall.images == 0
    label(journal, ann="na")
    assert agreement(journal).pairs == {} and math.isnan(agreement(journal).overall.value)


def test_the_interval_holds_the_truth_nineteen_times_in_twenty():
    generator = np.random.default_rng(1)
    table = np.array([[0.5, 0.1], [0.1, 0.3]])
    draws = [cohen_kappa(generator.multinomial(300, table.ravel()).reshape(2, 2)) for _ in range(200)]
    within = np.mean([one.low <= cohen(table) <= one.high for one in draws])
    assert 0.9 <= within <= 0.99


def test_what_was_undone_or_decided_in_review_is_no_vote_on_agreement(journal):
    label(journal, ann="na", bob="na")
    wrong = Label(sha_of(0), "abnormal", "bob")
    journal.append(wrong, retraction_of(wrong, "bob"), Label(sha_of(0), "abnormal", "ruth", decides=True))
    found = agreement(journal)
    assert list(found.pairs) == [("ann", "bob")] and found.pairs["ann", "bob"].value == 1


def test_disputed_images_are_listed_until_a_reviewer_decides(journal):
    label(journal, ann="nnn-", bob="anan", cy="-na-")
    assert [image.name for image in disputed(journal, 2, "cy")] == ["chip 0"]
    assert votes_on(journal, sha_of(0)) == {"ann": "normal", "bob": "abnormal"}
    assert disputed(journal, 3, "cy") == []  # a third label may still settle it
    assert consensus_counts(journal) == {"normal": 2, "abnormal": 1, "unsure": 0, "disputed": 1}
    journal.append(Label(sha_of(0), "abnormal", "ruth", decides=True))
    assert disputed(journal, 2, "cy") == []
    assert consensus_counts(journal, annotators_per_image=3) == {
        "normal": 1,
        "abnormal": 2,
        "unsure": 0,
        "disputed": 0,
    }


def test_consensus_is_compared_with_the_prediction_before_the_first_label(journal):
    label(journal, prediction=[0.9, 0.1, 0.5, 0.2, 0.7], ann="anaau", bob="---n-")
    journal.append(
        Label(sha_of(1), "normal", "cy", prediction=ModelPrediction("model", "r2", 0.99))
    )  # it has learned
    assert against_the_model(journal, 0.5) == {
        "normal": {"normal": 1, "abnormal": 0},
        "abnormal": {"normal": 0, "abnormal": 2},
        "unsure": {"normal": 0, "abnormal": 1},
        "disputed": {"normal": 1, "abnormal": 0},
    }
    assert against_the_model(journal, 0.6)["abnormal"] == {"normal": 1, "abnormal": 1}
    score = Score(sha_of(2), ModelPrediction("another model", "r", 0.5), 0.4)
    set_scores(journal, "r", [score])  # its own threshold counts, and that of the first model elsewhere
    assert against_the_model(journal, 0.6)["abnormal"] == {"normal": 0, "abnormal": 2}
    assert (
        sum(sum(row.values()) for row in against_the_model(journal, 0.5, annotators_per_image=2).values())
        == 2
    )


def test_likely_errors_are_ordered_by_margin(journal):
    label(journal, prediction=[0.1, 0.2, 0.95, 0.5, 0.9, 0.8, 0.0, 0.5, 0.99], ann="nnnnaaaau")
    found = likely_errors(journal)
    assert [(one.image.name, one.label) for one in found] == [
        ("chip 6", "abnormal"),
        ("chip 2", "normal"),
    ]
    assert [one.margin for one in found] == pytest.approx([1.0, 0.9])
    assert len(likely_errors(journal, limit=1)) == 1


def test_an_image_labeled_again_or_decided_is_no_likely_error(journal):
    label(journal, prediction=[0.1, 0.2, 0.95, 0.5, 0.9, 0.8, 0.0, 0.5], ann="nnnnaaaa")
    journal.append(Label(sha_of(6), "abnormal", "ann", prediction=ModelPrediction("model", "r", 0.0)))
    assert [one.image.name for one in likely_errors(journal)] == ["chip 2"]
    journal.append(Label(sha_of(2), "normal", "ruth", decides=True))
    assert likely_errors(journal) == []


def test_likely_errors_may_be_limited_to_an_annotator_or_to_enough_votes(journal):
    label(journal, prediction=[0.1, 0.2, 0.95, 0.5, 0.9, 0.8, 0.0, 0.5], ann="nnnnaaaa", bob="--n-----")
    assert [one.image.name for one in likely_errors(journal, 1)] == ["chip 6"]
    assert [one.image.name for one in likely_errors(journal, 1, labeled_by="bob")] == ["chip 2"]
    assert [one.image.name for one in likely_errors(journal, annotators_per_image=2)] == ["chip 2"]
    assert likely_errors(journal, labeled_by="cy") == []


def test_confident_learning_has_a_threshold_for_each_class():
    # Labeled normal: mean probability 0.2. Labeled abnormal: 0.4, which 0.41 reaches though below 0.5
    abnormal = np.array([False, False, False, True, True, True])
    probability = np.array([0.1, 0.09, 0.41, 0.1, 0.5, 0.6])
    rows, margins = confidently_wrong(abnormal, probability)
    assert rows.tolist() == [3, 2] and margins == pytest.approx([0.8, -0.18])
    assert confidently_wrong(abnormal[:3], probability[:3])[0].tolist() == []  # one class alone


def test_without_labels_there_are_no_likely_errors(journal):
    assert likely_errors(journal) == []
