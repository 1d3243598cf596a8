import numpy as np
import pytest

from chipdemo.labeling import ranking
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Label, ModelPrediction
from chipdemo.labeling.queue import Queue
from chipdemo.labeling.ranking import (
    SIZE,
    Score,
    differences,
    rank,
    set_scores,
    uncertainty,
)

SHAS = [letter * 64 for letter in "abcde"]
EAST, NORTH, WEST = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "labels.db") as journal:
        for sha256 in SHAS:
            journal.add_image(sha256, (64, 64), sha256[0], b"content")
        yield journal


def scores(*pairs):
    """Of the first images: (probability, embedding) of each."""
    return [
        Score(sha256, ModelPrediction("model", "r", probability), 0.5, embedding)
        for sha256, (probability, embedding) in zip(SHAS, pairs)
    ]


def ranked(journal, annotators_per_image=1):
    """Names in the order of the queue, and the reason of each."""
    images = Queue(journal, annotators_per_image, lease_s=0).next("somebody", 9)
    return "".join(one.name for one in images), [one.reason for one in images]


def test_uncertain_images_come_first_with_that_reason(journal):
    set_scores(journal, "r", scores(*((p, EAST) for p in (0.02, 0.52, 0.98, 0.7, 0.3))))
    rank(journal, "r")
    order, reasons = ranked(journal)
    assert order == "bdeac"  # d and e are equally uncertain: the older one first
    assert reasons[1].endswith("(0.70)")


def test_a_model_is_most_uncertain_at_the_threshold():
    assert uncertainty(np.array([0.0, 0.1, 0.2, 0.6, 1.0]), 0.2).tolist() == [0, 0.5, 1, 0.5, 0]
    assert uncertainty(np.array([0.0, 1.0]), 0.0).tolist() == [1, 0]


def test_images_different_from_all_labeled_ones_come_first_with_that_reason(journal):
    set_scores(journal, "r", scores(*((0.0, embedding) for embedding in (EAST, EAST, EAST, NORTH, EAST))))
    journal.append(Label(SHAS[0], "normal", "ann"))
    rank(journal, "r")
    order, reasons = ranked(journal)
    assert order == "dbce" and len(set(reasons)) == 2 and len(set(reasons[1:])) == 1


def test_an_image_earlier_in_the_queue_counts_like_a_labeled_one():
    embeddings = np.array([EAST, EAST, NORTH, NORTH, WEST], np.float32)
    difference = differences(embeddings, np.zeros(5), labeled=np.array([True, False, False, False, False]))
    assert (difference > 0.5).tolist() == [False, False, True, False, True]  # one of the two in the north


def test_many_labeled_images_are_sampled(monkeypatch):
    monkeypatch.setattr(ranking, "LABELED", 2)
    embeddings = np.array([EAST, EAST, NORTH, NORTH, NORTH, EAST, WEST], np.float32)
    labeled = np.array([True, True, True, True, False, False, False])
    difference = differences(embeddings, np.zeros(7), labeled)
    assert (difference > 0.5).tolist() == [False] * 6 + [True]


def test_images_not_chosen_greedily_come_after_the_chosen_ones():
    generator = np.random.default_rng(0)
    embeddings = generator.standard_normal((50, 8)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    nothing, uncertain = np.zeros(50, bool), generator.random(50)
    score = uncertain + differences(embeddings, uncertain, nothing, head=10)
    thorough = uncertain + differences(embeddings, uncertain, nothing, head=50)
    assert np.argsort(-score)[:10].tolist() == np.argsort(-thorough)[:10].tolist()
    assert np.array_equal(score[np.argsort(-thorough)[:10]], thorough[np.argsort(-thorough)[:10]])


def test_disputed_images_come_first_and_their_reason_tells_no_label(journal):
    set_scores(journal, "r", scores((0.5, NORTH), (0.9, EAST), (0.9, EAST), (0.1, EAST), (0.4, EAST)))
    journal.append(
        *(Label(SHAS[1], "abnormal", "zoe"), Label(SHAS[1], "normal", "bob")),  # disputed
        *(Label(SHAS[2], "normal", "zoe"), Label(SHAS[3], "normal", "zoe")),  # against the model, and with it
    )
    rank(journal, "r")
    order, reasons = ranked(journal, annotators_per_image=3)
    assert order[:3] == "bca" and len(set(reasons[:2])) == 2
    assert not any(word in " ".join(reasons) for word in ("zoe", "bob", "abnormal", "normal"))


def test_disputed_images_come_first_without_any_model(journal):
    journal.append(Label(SHAS[3], "abnormal", "ann"), Label(SHAS[3], "normal", "bob"))
    assert rank(journal, "r") == 1
    assert ranked(journal, annotators_per_image=3)[0] == "dabce"
    journal.append(Label(SHAS[3], "abnormal", "cy"))  # now there is a majority
    assert rank(journal, "r") == 1
    assert ranked(journal, annotators_per_image=4) == ("abcde", [""] * 5)


def test_an_empty_journal_has_no_order(tmp_path):
    with Journal(tmp_path / "empty.db") as journal:
        assert rank(journal, "r") == 0


def test_scores_of_another_revision_do_not_count_and_leave_the_order_as_it_was(journal):
    set_scores(journal, "old", scores((0.5, EAST), (0.1, EAST), (0.9, EAST)))
    rank(journal, "old")
    before = ranked(journal)
    set_scores(journal, "new", scores((0.2, EAST))[:1])
    assert rank(journal, "new") == 1
    assert ranked(journal)[0][0] == "a" and ranked(journal)[1][1:] == before[1][1:]


def test_only_changed_priorities_are_written(journal):
    set_scores(journal, "r", scores(*((p, EAST) for p in (0.1, 0.2, 0.3, 0.4, 0.5))))
    assert rank(journal, "r") == 5
    assert rank(journal, "r") == 0


def test_an_embedding_may_be_long_missing_or_zero_and_is_stored_short(journal):
    long = np.random.default_rng(0).random(1280)
    set_scores(journal, "r", scores((0.5, long), (0.5, None), (0.5, np.zeros(8))))
    with journal.read() as database:
        kept = [row[0] for row in database.execute("SELECT embedding FROM scores ORDER BY image_sha256")]
    assert np.linalg.norm(np.frombuffer(kept[0], "<f4")) == pytest.approx(1) and len(kept[0]) == 4 * SIZE
    assert kept[1:] == [b"", b""]
    assert rank(journal, "r") == 3
    assert ranked(journal)[1][1].endswith("(0.50)")


def test_projection_preserves_the_nearest_neighbors(journal):
    generator = np.random.default_rng(0)
    center = generator.random(1280)
    near, far = center + 0.1 * generator.random(1280), generator.random(1280)
    set_scores(journal, "r", scores((0.0, center), (0.0, near), (0.0, far)))
    with journal.read() as database:
        rows = database.execute("SELECT embedding FROM scores ORDER BY image_sha256").fetchall()
    center, near, far = (np.frombuffer(row[0], "<f4") for row in rows)
    assert center @ near > 0.98 > 0.9 > center @ far


def test_labelers_write_in_between_while_the_order_is_written(journal, monkeypatch):
    set_scores(journal, "r", scores(*((p, EAST) for p in (0.1, 0.2, 0.3, 0.4, 0.5))))
    monkeypatch.setattr(ranking, "BATCH", 2)
    with Journal(journal.path) as other:
        monkeypatch.setattr(ranking.time, "sleep", lambda _: other.append(Label(SHAS[0], "normal", "ann")))
        assert rank(journal, "r") == 5
    assert journal.counts().events == 3  # in the pauses after 2, 4 and 5 of them
