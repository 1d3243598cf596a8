import os
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path

import pytest

from chipdemo.errors import JournalError, LabelError
from chipdemo.images import read_image
from chipdemo.labeling.journal import MIGRATIONS, Counts, Journal, NewImage
from chipdemo.labeling.label import Box, Label, ModelPrediction, retraction_of
from tests.drawn_images import draw

ROOT = Path(__file__).parent.parent
SHA, OTHER = "a" * 64, "b" * 64
PNG = b"\x89PNG\r\n\x1a\n..."
HOSTILE = (
    "<script>alert(1)</script> =1+1 \u202e\x00\x1b[31m ' \" ; DROP TABLE events; \U0001f4a5" + "x" * 9_000
)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "labels.db") as journal:
        journal.add_image(SHA, (300, 200), "chip.png", PNG)
        yield journal


def test_an_event_comes_back_exactly(journal):
    label = Label(
        SHA,
        "abnormal",
        HOSTILE[:200],
        defect_type="a\u202eb",
        boxes=(Box(0, 1, 20, 30),),
        mask=PNG,
        note=HOSTILE,
        prediction=ModelPrediction("model", "abc", 0.125),
        decides=True,
        created_at=datetime(2026, 1, 1, 12, 0, 0, 123457, timezone.utc),
    )
    assert journal.append(label) == [True]
    assert journal.events() == [(1, label)]
    assert journal.event(label.event_id) == label


def test_the_same_event_again_is_kept_once(journal):
    label = Label(SHA, "normal", "ann")
    assert journal.append(label, label) == [True, False]
    assert journal.append(label) == [False]
    assert journal.counts().events == 1


def test_the_same_image_under_two_names_is_one(journal):
    assert not journal.add_image(SHA, (300, 200), "again.png", PNG)
    assert journal.image(SHA).name == "chip.png"
    assert journal.counts().images == 1


def test_undo_brings_the_vote_before_back_and_undoing_it_again_the_one_after(journal):
    first, second = Label(SHA, "normal", "ann"), Label(SHA, "abnormal", "ann")
    undo = retraction_of(second, "ann")
    for events, vote in (
        ((first, second), second),
        ((undo,), first),
        ((retraction_of(undo, "ann"),), second),
    ):
        journal.append(*events)
        assert journal.vote(SHA, "ann") == vote
        assert journal.image(SHA).votes == 1


def test_undoing_the_only_label_leaves_none(journal):
    label = Label(SHA, "normal", "ann")
    journal.append(label, Label(SHA, "normal", "bob"))
    assert journal.image(SHA).votes == 2
    journal.append(retraction_of(label, "ann"))
    assert journal.vote(SHA, "ann") is None and journal.image(SHA).votes == 1


def test_what_holds_of_a_image_is_kept_beside_it(journal):
    def consensus():
        with journal.read() as database:
            return database.execute(
                "SELECT consensus, images.votes, annotators "
                "FROM images JOIN panels ON panel = panels.id WHERE sha256 = ?",
                (SHA,),
            ).fetchone()[:]

    assert consensus() == ("", 0, "[]")
    ann, bob = Label(SHA, "normal", "ann"), Label(SHA, "abnormal", "bob")
    for event, expected in (
        (bob, ("abnormal", 1, '["bob"]')),
        (ann, ("disputed", 2, '["ann", "bob"]')),
        (Label(SHA, "abnormal", "ruth", decides=True), ("abnormal", 3, '["ann", "bob", "ruth"]')),
        (retraction_of(bob, "bob"), ("abnormal", 2, '["ann", "ruth"]')),
    ):
        journal.append(event)
        assert consensus() == expected


def test_what_is_counted_as_it_comes_is_what_there_is(journal):
    journal.add_image(OTHER, (300, 200), "other.png", PNG)
    journal.add_image(OTHER, (300, 200), "again.png", PNG)
    label = Label(SHA, "normal", "ann")
    journal.append(label, label, Label(SHA, "abnormal", "bob"), Label(SHA, "unsure", "ann"))
    assert journal.mark_published([label.event_id, label.event_id], "shard") == 1
    with pytest.raises(LabelError):
        journal.append(Label(OTHER, "normal", "ann"), Label("c" * 64, "normal", "ann"))  # none is kept
    assert journal.counts() == Counts(images=2, labeled=1, events=3, pending=2)


@pytest.mark.parametrize("annotator, sha256", [("bob", SHA), ("ann", OTHER)])
def test_only_an_own_event_on_the_same_image_can_be_undone(journal, annotator, sha256):
    journal.add_image(OTHER, (300, 200), "other.png", PNG)
    label = Label(SHA, "normal", "ann")
    journal.append(label)
    wrong = Label(sha256, "", annotator, retracts=label.event_id)
    with pytest.raises(LabelError, match="Expected an own event"):
        journal.append(wrong)
    assert journal.counts().events == 1 and journal.vote(SHA, "ann") == label


def test_events_are_kept_together_or_not_at_all(journal):
    with pytest.raises(LabelError, match="found none of sha256"):
        journal.append(Label(SHA, "normal", "ann"), Label(OTHER, "normal", "ann"))
    assert journal.counts().events == 0


def test_a_file_is_copied_when_it_is_first_labeled_and_may_then_be_removed(journal, tmp_path):
    file = draw(tmp_path / "chip.png", 1)
    sha256, content = read_image(file).sha256, file.read_bytes()
    journal.add_image(sha256, (300, 200), "chip.png", path=file)
    assert journal.content(sha256) == content
    journal.append(Label(sha256, "normal", "ann"))
    file.unlink()
    assert journal.content(sha256) == content


def test_a_file_that_holds_another_image_by_now_gets_no_label(journal, tmp_path):
    file = draw(tmp_path / "chip.png", 1)
    sha256 = read_image(file).sha256
    journal.add_image(sha256, (300, 200), "chip.png", path=file)
    draw(file, 2)
    with pytest.raises(LabelError, match="Expected the image chip.png as it was"):
        journal.picture(sha256)
    with pytest.raises(LabelError, match="its file holds another one now"):
        journal.append(Label(sha256, "normal", "ann"))
    assert journal.counts().events == 0


def test_a_file_that_was_removed_before_it_was_labeled_says_so(journal, tmp_path):
    journal.add_image(OTHER, (300, 200), "gone.jpg", path=tmp_path / "gone.jpg")
    with pytest.raises(LabelError, match="Expected the image gone.jpg where it was"):
        journal.append(Label(OTHER, "normal", "ann"))
    assert journal.counts().events == 0


def test_images_are_added_together_or_not_at_all(journal):
    good, bad = NewImage(OTHER, (4, 2), "a.png", PNG), NewImage("c" * 64, (None, 2), "b.png", PNG)
    with pytest.raises(JournalError):
        journal.add_images(good, bad)
    assert journal.counts().images == 1
    assert journal.add_images(good, NewImage(SHA, (300, 200), "again.png", PNG)) == [True, False]


def test_the_path_of_a_image_that_moved_is_corrected_unless_its_content_is_kept(journal, tmp_path):
    for sha256 in (OTHER, SHA):
        for name in ("before.png", "after.png"):
            journal.add_image(sha256, (4, 2), "a.png", path=tmp_path / name)
    assert journal.image(OTHER).path == tmp_path / "after.png"
    assert journal.image(SHA).path is None


def test_what_stands_is_given_image_by_image(journal):
    journal.add_image(OTHER, (4, 2), "other.png", PNG)
    first, second = Label(OTHER, "normal", "ann"), Label(OTHER, "abnormal", "ann")
    journal.append(first, second, Label(OTHER, "unsure", "bob"), Label(SHA, "normal", "ann"))
    journal.append(retraction_of(second, "ann"))
    assert [[(vote.annotator, vote.label) for vote in votes] for votes in journal.votes()] == [
        [("ann", "normal")],
        [("ann", "normal"), ("bob", "unsure")],
    ]


def steps(journal, act):
    """How many hundreds of steps SQLite takes for it."""
    taken = []
    with journal.read() as database:
        database.set_progress_handler(lambda: taken.append(1), 100)
        act()
        database.set_progress_handler(None, 0)
    return len(taken)


def test_appending_and_asking_cost_the_same_however_much_an_annotator_has_labeled(journal):
    def cost():
        return (
            steps(journal, lambda: journal.append(Label(SHA, "normal", "ann"))),
            steps(journal, lambda: journal.events(SHA, annotator="ann")),
            steps(journal, lambda: journal.vote(SHA, "ann")),
        )

    journal.append(Label(SHA, "normal", "ann"))
    few = cost()
    many = [NewImage(f"{n:064x}", (4, 2), f"{n}.png", PNG) for n in range(1_000)]
    journal.add_images(*many)
    journal.append(*(Label(image.sha256, "normal", "ann") for image in many))
    assert all(after <= before + 5 for before, after in zip(few, cost()))


def test_an_event_is_published_once_under_the_first_name(journal):
    label = Label(SHA, "normal", "ann")
    journal.append(label)
    assert [event for _, event in journal.events(unpublished=True)] == [label]
    assert journal.mark_published([label.event_id], "one.parquet") == 1
    assert journal.mark_published([label.event_id, "unknown"], "two.parquet") == 0
    assert journal.events(unpublished=True) == [] and journal.counts().pending == 0


def test_events_are_found_by_image_annotator_and_number(journal):
    journal.add_image(OTHER, (300, 200), "other.png", PNG)
    labels = [Label(SHA, "normal", "ann"), Label(OTHER, "normal", "ann"), Label(OTHER, "normal", "bob")]
    journal.append(*labels)
    assert [event for _, event in journal.events(OTHER)] == labels[1:]
    assert [event for _, event in journal.events(annotator="ann")] == labels[:2]
    assert journal.events(after=2) == [(3, labels[2])]
    assert journal.events(limit=1) == [(1, labels[0])]


def test_a_journal_is_as_it_was_when_it_is_opened_again(journal):
    label = Label(SHA, "normal", "ann")
    journal.append(label)
    journal.close()
    with Journal(journal.path) as again:
        assert again.events() == [(1, label)]


def test_many_threads_may_write_at_once(journal):
    labels = [[Label(SHA, "normal", f"annotator {n}") for _ in range(20)] for n in range(10)]
    threads = [
        threading.Thread(target=lambda own=own: [journal.append(one) for one in own]) for own in labels
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {event.event_id for _, event in journal.events()} == {
        one.event_id for own in labels for one in own
    }
    assert journal.image(SHA).votes == 10


WRITER = """
import sys
from pathlib import Path
from chipdemo.labeling.label import Label
from chipdemo.labeling.journal import Journal

with Journal(Path(sys.argv[1])) as journal:
    for _ in range(int(sys.argv[2])):
        label = Label("a" * 64, "normal", sys.argv[3])
        journal.append(label)
        print(label.event_id, flush=True)  # acknowledged
"""


def writer(journal, count, annotator):
    command = [sys.executable, "-c", WRITER, str(journal.path), str(count), annotator]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_processes_may_write_at_once(journal):
    writers = [writer(journal, 30, f"annotator {n}") for n in range(3)]
    acknowledged = [set(one.communicate()[0].split()) for one in writers]
    assert [len(ids) for ids in acknowledged] == [30, 30, 30]
    assert {event.event_id for _, event in journal.events()} == set.union(*acknowledged)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_what_was_acknowledged_survives_kill_9(journal):
    victim = writer(journal, 100_000, "ann")
    acknowledged = [victim.stdout.readline().strip() for _ in range(25)]
    os.kill(victim.pid, signal.SIGKILL)
    acknowledged += victim.stdout.read().split("\n")[:-1]  # what it still said before it died
    victim.wait()
    kept = {event.event_id for _, event in journal.events()}
    assert set(acknowledged) <= kept and len(kept) <= len(acknowledged) + 1
    journal.append(Label(SHA, "normal", "ann"))


def test_it_is_synchronised_in_full_and_ahead_of_the_file(journal):
    with journal.read() as database:
        assert database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert database.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "labels.db"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(JournalError, match="Update Chip Inspector"):
        Journal(path).open()


def test_another_programs_file_is_left_alone(tmp_path):
    path = tmp_path / "labels.db"
    path.write_text("not a journal " * 100)
    with pytest.raises(JournalError, match="cannot be read or written .*not a database"):
        Journal(path).open()
    assert path.read_text() == "not a journal " * 100


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="may be written to"):
        Journal(tmp_path / "file" / "labels.db").open()


def test_a_full_disk_loses_nothing_and_the_journal_goes_on(journal):
    label = Label(SHA, "normal", "ann")
    journal.append(label)
    with journal.read() as database:
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError, match="disk has room"):
        for _ in range(1_000):
            journal.append(Label(SHA, "normal", "ann", note="n" * 5_000))
    kept = journal.counts().events
    with journal.read() as database:
        database.execute("PRAGMA max_page_count = 1000000")
    journal.append(Label(SHA, "normal", "bob"))
    assert journal.counts().events == kept + 1 and journal.event(label.event_id) == label


def test_a_thread_that_asks_while_the_journal_is_closed_has_its_answer(journal):
    journal.append(Label(SHA, "normal", "ann"), Label(SHA, "normal", "bob"))
    answers, began, going_on = [], threading.Event(), threading.Event()

    def ask():
        with journal.read() as database:
            rows = iter(database.execute("SELECT annotator FROM events ORDER BY seq"))
            answers.append(next(rows)["annotator"])
            began.set()
            going_on.wait(10)
            answers.extend(row["annotator"] for row in rows)

    asking, closing = threading.Thread(target=ask), threading.Thread(target=journal.close)
    asking.start()
    assert began.wait(10)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    going_on.set()
    asking.join()
    closing.join()
    assert answers == ["ann", "bob"] and journal.counts().events == 2
