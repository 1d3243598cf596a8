import pytest

from chipdemo.errors import LabelError
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Label, retraction_of
from chipdemo.labeling.queue import Queue

SHAS = [letter * 64 for letter in "abcde"]


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "labels.db") as journal:
        for sha256 in SHAS:
            journal.add_image(sha256, (64, 64), sha256[0], b"content")
        yield journal


def names(stored):
    return "".join(image.name for image in stored)


def test_two_annotators_get_different_images_and_each_the_same_again(journal):
    queue = Queue(journal)
    assert names(queue.next("ann", 2)) == "ab"
    assert names(queue.next("bob", 2)) == "cd"
    assert names(queue.next("ann", 2)) == "ab"
    assert names(queue.next("cy", 2)) == "e"


def test_images_labeled_or_skipped_do_not_come_again(journal):
    queue = Queue(journal)
    queue.next("ann", 2)
    journal.append(Label(SHAS[0], "normal", "ann"))
    queue.skip(SHAS[1], "ann")
    assert names(queue.next("ann", 9)) == "cde"
    queue.release(SHAS[2:], "ann")
    assert names(queue.next("bob", 9)) == "bcde"  # what ann skipped is for others
    queue.release(SHAS, "bob")
    queue.unskip(SHAS[1], "ann")
    assert names(queue.next("ann", 9)) == "bcde"


def test_an_image_goes_to_as_many_annotators_as_wanted(journal):
    queue = Queue(journal, annotators_per_image=2)
    assert names(queue.next("ann")) == names(queue.next("bob")) == "a"
    assert names(queue.next("cy")) == "b"
    journal.append(Label(SHAS[0], "normal", "ann"))
    assert names(queue.next("bob")) == "a" and names(queue.next("ann")) == "b"
    journal.append(Label(SHAS[0], "normal", "bob"))
    queue.release(SHAS, "cy")
    assert "a" not in names(queue.next("cy", 9))


def test_two_pages_of_one_annotator_get_different_images_and_each_the_same_again(journal):
    queue = Queue(journal)
    assert names(queue.next("ann", 2, page="1")) == "ab"
    assert names(queue.next("ann", 2, page="2")) == "cd"
    assert names(queue.next("ann", 2, page="1")) == "ab"
    assert names(queue.next("ann", 9, page="2")) == "cde"
    queue.release(SHAS[:1], "ann", "2")  # not this page's
    assert names(queue.next("ann", 9, page="2")) == "cde"
    queue.release(SHAS[:1], "ann", "1")
    assert names(queue.next("ann", 9, page="2")) == "cdea"


@pytest.mark.parametrize("annotators_per_image", [1, 2])
def test_an_image_labeled_on_one_page_is_not_offered_on_another(journal, annotators_per_image):
    queue = Queue(journal, annotators_per_image)
    queue.next("ann", 2, page="1")
    journal.append(Label(SHAS[0], "normal", "ann"), page="2")
    assert names(queue.next("ann", 9, page="1")) == "bcde"
    assert names(queue.next("ann", 9, page="2")) == ""


def test_the_pages_of_one_annotator_count_once_against_the_annotators_wanted(journal):
    queue = Queue(journal, annotators_per_image=2)
    queue.next("ann", 5, page="1")
    assert names(queue.next("ann", 5, page="2")) == ""
    assert names(queue.next("bob", 5)) == "abcde"


def test_a_lease_expires(journal):
    assert names(Queue(journal, lease_s=0).next("ann", 5)) == "abcde"
    assert names(Queue(journal).next("bob", 5)) == "abcde"


def test_the_order_can_be_chosen(journal):
    with journal.write() as database:
        database.execute("UPDATE images SET priority = 0.9, reason = 'undecided' WHERE name = 'd'")
    queue = Queue(journal)
    first = queue.next("ann", 5)
    assert names(first) == "dabce" and first[0].reason == "undecided"
    assert names(queue.next("ann", 5, "plain")) == "abcde"
    at_random = names(queue.next("ann", 5, "random"))
    assert sorted(at_random) == list("abcde") and at_random == names(queue.next("ann", 5, "random"))
    with pytest.raises(LabelError, match="1; DROP TABLE events"):
        queue.next("ann", 5, "1; DROP TABLE events")


def test_progress_counts_images_and_ones_own_labels(journal):
    queue = Queue(journal, annotators_per_image=2)
    journal.append(
        Label(SHAS[0], "normal", "ann"), Label(SHAS[0], "normal", "bob"), Label(SHAS[1], "unsure", "ann")
    )
    progress = queue.progress("ann")
    assert (progress.images, progress.done, progress.own, progress.own_last_hour, progress.pending) == (
        5,
        1,
        2,
        2,
        3,
    )


@pytest.mark.parametrize("order", ["informative", "plain", "random"])
def test_the_next_image_takes_no_longer_for_an_annotator_who_has_labeled_most(journal, order):
    for number in range(300):
        journal.add_image(f"{number:064x}", (64, 64), str(number), b"content")
    queue = Queue(journal, annotators_per_image=2)

    def steps(annotator):
        """Hundreds of SQLite's instructions, with a lease and without."""
        taken = []
        with journal.read() as database:
            database.set_progress_handler(lambda: taken.append(1), 100)
            given = queue.next(annotator, order=order) + queue.next(annotator, order=order)
            database.set_progress_handler(None, 0)
        queue.release([given[0].sha256], annotator)
        return len(taken)

    before = steps("ann")
    labeled = (*SHAS, *(f"{number:064x}" for number in range(290)))  # all but the last ten
    journal.append(*(Label(sha256, "normal", "ann") for sha256 in labeled))
    assert steps("ann") < before + 10


def test_progress_follows_retractions_and_publishing(journal):
    queue = Queue(journal)
    label = Label(SHAS[0], "normal", "ann")
    journal.append(label, Label(SHAS[1], "normal", "ann"))
    journal.mark_published([label.event_id], "shard")
    journal.append(retraction_of(label, "ann"))
    progress = queue.progress("ann")
    assert (progress.done, progress.own, progress.own_last_hour, progress.pending) == (1, 1, 2, 2)
    assert queue.progress("nobody").own == 0
