import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress
from datetime import datetime, timezone
from pathlib import Path

import pytest

from chipdemo.errors import JournalError, LabelError
from chipdemo.images import read_image
from chipdemo.labeling.browse import Filters, Viewer, delete, find
from chipdemo.labeling.history import disputed, last_votes, scored, skipped
from chipdemo.labeling.journal import Counts, Journal, NewImage
from chipdemo.labeling.label import Box, Label, ModelPrediction, Polygon, retraction_of
from chipdemo.labeling.queue import Queue
from chipdemo.labeling.schema import MIGRATIONS
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
        boxes=(Box(0, 1, 20, 30), Box(1, 1, 2, 2, HOSTILE[:200])),
        polygons=(Polygon(((0, 0), (300, 0), (7, 200)), HOSTILE[:200]), Polygon(((1, 1), (2, 1), (2, 2)))),
        mask=PNG,
        mask_type=HOSTILE[:200],
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


def test_an_image_added_under_two_names_is_one(journal):
    assert not journal.add_image(SHA, (300, 200), "again.png", PNG)
    assert journal.image(SHA).name == "chip.png"
    assert journal.counts().images == 1


def test_a_retraction_restores_the_earlier_vote_and_retracting_it_the_later_one(journal):
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


def test_retracting_the_only_label_leaves_no_vote(journal):
    label = Label(SHA, "normal", "ann")
    journal.append(label, Label(SHA, "normal", "bob"))
    assert journal.image(SHA).votes == 2
    journal.append(retraction_of(label, "ann"))
    assert journal.vote(SHA, "ann") is None and journal.image(SHA).votes == 1


def test_consensus_votes_and_panel_of_an_image_follow_its_events(journal):
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


def test_counts_agree_with_what_was_added(journal):
    journal.add_image(OTHER, (300, 200), "other.png", PNG)
    journal.add_image(OTHER, (300, 200), "again.png", PNG)
    label = Label(SHA, "normal", "ann")
    journal.append(label, label, Label(SHA, "abnormal", "bob"), Label(SHA, "unsure", "ann"))
    assert journal.mark_published([label.event_id, label.event_id], "shard") == 1
    with pytest.raises(LabelError):
        journal.append(Label(OTHER, "normal", "ann"), Label("c" * 64, "normal", "ann"))  # none is kept
    assert journal.counts() == Counts(images=2, labeled=1, events=3, pending=2)


@pytest.mark.parametrize("text", [{"defect_type": "cr\udce9"}, {"note": "cr\udce9"}])
def test_text_that_utf_8_cannot_encode_is_refused_and_shown_as_far_as_it_can_be(text):
    with pytest.raises(LabelError, match="'cr\N{REPLACEMENT CHARACTER}'"):
        Label(SHA, "abnormal", "ann", **text)


@pytest.mark.parametrize("annotator, sha256", [("bob", SHA), ("ann", OTHER)])
def test_only_an_own_event_on_the_same_image_can_be_retracted(journal, annotator, sha256):
    journal.add_image(OTHER, (300, 200), "other.png", PNG)
    label = Label(SHA, "normal", "ann")
    journal.append(label)
    wrong = Label(sha256, "", annotator, retracts=label.event_id)
    with pytest.raises(LabelError, match=label.event_id):
        journal.append(wrong)
    assert journal.counts().events == 1 and journal.vote(SHA, "ann") == label


def test_events_are_added_together_or_not_at_all(journal):
    with pytest.raises(LabelError, match=OTHER):
        journal.append(Label(SHA, "normal", "ann"), Label(OTHER, "normal", "ann"))
    assert journal.counts().events == 0


def test_a_file_is_copied_into_the_journal_when_it_is_first_labeled(journal, tmp_path):
    file = draw(tmp_path / "chip.png", 1)
    sha256, content = read_image(file).sha256, file.read_bytes()
    journal.add_image(sha256, (300, 200), "chip.png", path=file)
    assert journal.content(sha256) == content
    journal.append(Label(sha256, "normal", "ann"))
    file.unlink()
    assert journal.content(sha256) == content


def test_a_file_that_holds_another_image_since_cannot_be_labeled(journal, tmp_path):
    file = draw(tmp_path / "chip.png", 1)
    sha256 = read_image(file).sha256
    journal.add_image(sha256, (300, 200), "chip.png", path=file)
    draw(file, 2)
    with pytest.raises(LabelError, match="chip.png"):
        journal.picture(sha256)
    with pytest.raises(LabelError, match="chip.png"):
        journal.append(Label(sha256, "normal", "ann"))
    assert journal.counts().events == 0


def test_a_file_removed_before_its_first_label_is_named_in_the_error(journal, tmp_path):
    journal.add_image(OTHER, (300, 200), "gone.jpg", path=tmp_path / "gone.jpg")
    with pytest.raises(LabelError, match="gone.jpg"):
        journal.append(Label(OTHER, "normal", "ann"))
    assert journal.counts().events == 0


def test_images_are_added_together_or_not_at_all(journal):
    good, bad = NewImage(OTHER, (4, 2), "a.png", PNG), NewImage("c" * 64, (None, 2), "b.png", PNG)
    with pytest.raises(JournalError):
        journal.add_images(good, bad)
    assert journal.counts().images == 1
    assert journal.add_images(good, NewImage(SHA, (300, 200), "again.png", PNG)) == [True, False]


def test_adding_a_moved_image_updates_its_path_unless_its_content_is_kept(journal, tmp_path):
    for sha256 in (OTHER, SHA):
        for name in ("before.png", "after.png"):
            journal.add_image(sha256, (4, 2), "a.png", path=tmp_path / name)
    assert journal.image(OTHER).path == tmp_path / "after.png"
    assert journal.image(SHA).path is None


def test_standing_labels_come_image_by_image(journal):
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


def test_a_journal_keeps_its_events_when_it_is_opened_again(journal):
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
    writers = [writer(journal, 10, f"annotator {n}") for n in range(2)]
    acknowledged = [set(one.communicate()[0].split()) for one in writers]
    assert [len(ids) for ids in acknowledged] == [10, 10]
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


def test_it_is_fully_synchronized_with_write_ahead_logging(journal):
    with journal.read() as database:
        assert database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert database.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "labels.db"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(JournalError, match=f"version {len(MIGRATIONS) + 1}"):
        Journal(path).open()


def test_another_programs_file_is_left_alone(tmp_path):
    path = tmp_path / "labels.db"
    path.write_text("not a journal " * 100)
    with pytest.raises(JournalError, match="not a database"):
        Journal(path).open()
    assert path.read_text() == "not a journal " * 100


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="labels.db"):
        Journal(tmp_path / "file" / "labels.db").open()


def test_a_full_disk_loses_nothing_and_the_journal_works_again_afterwards(journal):
    label = Label(SHA, "normal", "ann")
    journal.append(label)
    with journal.read() as database:
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError, match="labels.db"):
        for _ in range(1_000):
            journal.append(Label(SHA, "normal", "ann", note="n" * 5_000))
    kept = journal.counts().events
    with journal.read() as database:
        database.execute("PRAGMA max_page_count = 1000000")
    journal.append(Label(SHA, "normal", "bob"))
    assert journal.counts().events == kept + 1 and journal.event(label.event_id) == label


def test_closing_waits_for_the_query_of_another_thread(journal):
    journal.append(Label(SHA, "normal", "ann"), Label(SHA, "normal", "bob"))
    answers, began, going_on = [], threading.Event(), threading.Event()

    def ask():
        with journal.read() as database:
            rows = iter(database.execute("SELECT annotator FROM events ORDER BY seq"))
            answers.append(next(rows)["annotator"])
            began.set()
            going_on.wait(10)
            answers.extend(row["annotator"] for row in rows)

    asking, ending = threading.Thread(target=ask), threading.Thread(target=journal.close)
    asking.start()
    assert began.wait(10)
    ending.start()
    ending.join(0.05)
    assert ending.is_alive()
    going_on.set()
    asking.join()
    ending.join()
    assert answers == ["ann", "bob"] and journal.counts().events == 2


# Connections


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no list of open files on this system")
def test_threads_that_come_and_go_leave_no_files_open(journal):
    def files():
        found = 0
        for path in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # closed meanwhile, or a name too long for the kernel
                found += path.readlink().name.startswith(journal.path.name)
        return found

    def ask(number):
        journal.counts()
        journal.append(Label(SHA, "normal", f"annotator {number % 5}"))

    for number in range(0, 200, 20):
        threads = [threading.Thread(target=ask, args=[number + n]) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert journal.counts().events == 200
    assert 1 <= files() <= 30
    journal.close()
    assert files() == 0


def test_more_threads_may_read_for_long_than_there_are_connections_and_still_write(journal):
    journal.append(Label(SHA, "normal", "ann"))
    all_read = threading.Barrier(4)

    def read_then_write(number):
        for votes in journal.votes():  # holds its read while it writes
            all_read.wait(10)
            journal.append(Label(SHA, votes[0].label, f"annotator {number}"))

    threads = [threading.Thread(target=read_then_write, args=[n]) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert journal.counts().events == 25


def test_a_read_may_begin_in_one_thread_and_end_in_another(journal):
    journal.append(Label(SHA, "normal", "ann"))
    for _ in range(20):  # more than there are connections
        votes = journal.votes()
        assert next(votes)[0].annotator == "ann"
        ending = threading.Thread(target=votes.close)
        ending.start()
        ending.join()
    assert journal.counts().events == 1


# Pages


def test_a_second_label_from_another_page_is_refused_and_the_first_stands(journal):
    first = Label(SHA, "abnormal", "ann")
    journal.append(first, page="one")
    with pytest.raises(LabelError, match="abnormal"):
        journal.append(Label(SHA, "normal", "ann"), page="two")
    assert journal.vote(SHA, "ann") == first and journal.counts().events == 1


@pytest.mark.parametrize(
    "before, page, accepted",
    [("one", "one", True), ("one", "", False), ("", "one", False), ("one", None, True), (None, "one", False)],
)
def test_which_pages_may_label_an_image_again(journal, before, page, accepted):
    journal.append(Label(SHA, "abnormal", "ann"), page=before)
    journal.append(Label(SHA, "normal", "bob"), page="of bob")
    second = Label(SHA, "normal", "ann")
    if accepted:
        assert journal.append(second, page=page) == [True] and journal.vote(SHA, "ann") == second
    else:
        with pytest.raises(LabelError):
            journal.append(second, page=page)


def test_a_label_from_another_page_may_name_the_label_it_replaces(journal):
    first, second, third = (Label(SHA, label, "ann") for label in ("abnormal", "normal", "unsure"))
    journal.append(first, page="one")
    assert journal.append(second, page="two", replaces=first.event_id) == [True]
    with pytest.raises(LabelError):
        journal.append(third, page="three", replaces=first.event_id)  # no longer the standing one
    assert journal.vote(SHA, "ann") == second


def test_a_label_sent_again_from_anywhere_is_kept_once(journal):
    first = Label(SHA, "abnormal", "ann")
    journal.append(first, page="one")
    assert journal.append(first, page="one") == journal.append(first, page="two") == [False]
    second = Label(SHA, "normal", "ann")
    for expected in ([True], [False]):
        assert journal.append(second, page="two", replaces=first.event_id) == expected
    assert journal.counts().events == 2


def test_a_retracted_label_may_be_replaced_from_another_page(journal):
    first = Label(SHA, "abnormal", "ann")
    journal.append(first, page="one")
    journal.append(retraction_of(first, "ann"), page="one")
    assert journal.append(Label(SHA, "normal", "ann"), page="two") == [True]


def test_a_decision_may_follow_ones_own_label_but_not_ones_decision_of_another_page(journal):
    journal.append(Label(SHA, "abnormal", "ann"), page="one")
    decision = Label(SHA, "normal", "ann", decides=True)
    assert journal.append(decision, page="two") == [True]
    for decides in (True, False):
        with pytest.raises(LabelError):
            journal.append(Label(SHA, "abnormal", "ann", decides=decides), page="three")
    assert journal.vote(SHA, "ann") == decision


def test_the_last_labels_of_a_page_are_those_that_stand(journal):
    shas = [letter * 64 for letter in "cdef"]
    for sha256 in shas:
        journal.add_image(sha256, (4, 2), sha256[0], PNG)
    one, two, three = (Label(sha256, "normal", "ann") for sha256 in shas[:3])
    journal.append(one, page="1")
    journal.append(two, page="2")
    journal.append(three, page="1")
    journal.append(Label(shas[3], "normal", "bob"), page="1")
    assert last_votes(journal, "ann", 9) == [three, two, one]
    assert last_votes(journal, "ann", 9, page="1") == [three, one]
    assert last_votes(journal, "ann", 1, page="1") == [three]
    assert last_votes(journal, "ann", 9, page="") == []
    journal.append(retraction_of(three, "ann"), page="1")
    replaced = Label(shas[0], "unsure", "ann")
    journal.append(replaced, page="2", replaces=one.event_id)
    assert last_votes(journal, "ann", 9, page="1") == []
    assert last_votes(journal, "ann", 9, page="2") == [replaced, two]


# Older versions

EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, 'crack', '[[1, 2, 3, 4]]', ?, '', 0, ?, NULL, ?, '', x'')"
PREDICTION = '["old model", "abc", 0.75]'


@pytest.fixture
def version_1(tmp_path):
    """A journal as version 1 wrote it: ann and bob dispute SHA, and ann alone labeled OTHER."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(MIGRATIONS[0])
        panels = [(2, '["ann"]', 1), (3, '["ann", "bob"]', 2)]
        database.executemany("INSERT INTO panels VALUES (?, ?, ?)", panels)
        for sha256, name, panel, votes, truth in (
            (SHA, "a.png", 3, 2, "disagreement"),
            (OTHER, "b.png", 2, 1, "abnormal"),
            ("c" * 64, "c.png", 1, 0, ""),
        ):
            database.execute(
                "INSERT INTO photographs (sha256, name, path, width, height, added_at, priority, reason) "
                "VALUES (?, ?, '', 300, 200, 1, 0.5, 'undecided')",
                (sha256, name),
            )
            database.execute("INSERT INTO contents VALUES (?, ?)", (sha256, PNG))
            database.execute(
                'INSERT OR IGNORE INTO panels VALUES (2, \'["ann"]\', 1), (3, \'["ann", "bob"]\', 2)'
            )
            database.execute(
                "UPDATE photographs SET votes = ?, panel = ?, truth = ? WHERE sha256 = ?",
                (votes, panel, truth, sha256),
            )
        for seq, sha256, label, annotator, said, shard in (
            (1, SHA, "normal", "ann", "", "shard"),
            (2, SHA, "abnormal", "bob", PREDICTION, None),
            (3, OTHER, "abnormal", "ann", PREDICTION, None),
        ):
            event_id = f"{seq:08}-0000-4000-8000-000000000000"
            database.execute(EVENT, (seq, event_id, sha256, label, annotator, said, seq, shard))
            probability = 0.75 if said else None
            database.execute(
                "INSERT INTO votes VALUES (?, ?, ?, ?, 0, ?)", (sha256, annotator, seq, label, probability)
            )
        database.execute("INSERT INTO scores VALUES (?, 'abc', 0.75, x'')", (SHA,))
        database.execute("INSERT INTO leases VALUES (?, 'ann', 9)", (SHA,))
        database.execute("INSERT INTO skips VALUES (?, 'ann')", ("c" * 64,))
        database.execute("PRAGMA user_version = 1")
    return path


def test_a_journal_of_version_1_is_migrated(version_1):
    with Journal(version_1) as journal:
        assert journal.counts() == Counts(images=3, labeled=2, events=3, pending=2)
        image = journal.image(SHA)
        assert (image.name, image.width, image.height, image.votes, image.reason) == (
            "a.png",
            300,
            200,
            2,
            "",
        )
        assert journal.content(SHA) == PNG
        assert [image.sha256 for image in disputed(journal, 2, "cy")] == [SHA]
        bob = journal.vote(SHA, "bob")
        assert (bob.label, bob.defect_type, bob.boxes) == ("abnormal", "crack", (Box(1, 2, 3, 4),))
        assert bob.prediction == ModelPrediction("old model", "abc", 0.75)
        assert journal.vote(SHA, "ann").prediction is None
        assert scored(journal, SHA, "abc") is None
        assert skipped(journal, "ann") == ["c" * 64]


def test_labels_and_scores_of_a_migrated_journal_are_browsed(version_1):
    with closing(sqlite3.connect(version_1, isolation_level=None)) as database:
        for script in MIGRATIONS[1:3]:
            database.executescript(script)
        score = (SHA, "abc", PREDICTION, 0.75, 0.5, b"")
        database.execute("INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?)", score)
        database.execute("PRAGMA user_version = 3")
    with Journal(version_1) as journal:
        ann = Viewer("ann", 2)
        found, total = find(journal, Filters(show="mine", label="abnormal", defect_type="crack"), ann)
        assert ([image.sha256 for image in found], total) == ([OTHER], 1)
        found, _ = find(journal, Filters(show="against the model"), ann)
        assert [(image.sha256, image.abnormal_probability) for image in found] == [(SHA, 0.75)]
        assert delete(journal, [SHA], "ann") == [SHA] and disputed(journal, 2, "cy") == []


def test_a_migrated_journal_takes_labels_and_gives_images(version_1):
    with Journal(version_1) as journal:
        assert [image.name for image in Queue(journal, 2).next("cy", 9, page="one")] == ["b.png", "c.png"]
        journal.append(Label("c" * 64, "normal", "ann"), Label(SHA, "abnormal", "ann"))
        assert journal.counts() == Counts(images=3, labeled=3, events=5, pending=4)
        assert disputed(journal, 2, "cy") == []
    with Journal(version_1) as again:  # it is migrated once
        assert again.counts().events == 5


def test_the_labels_of_a_journal_of_version_3_have_the_type_of_their_label(tmp_path):
    path, event_id = tmp_path / "old.db", "11111111-1111-4111-8111-111111111111"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for script in MIGRATIONS[:3]:
            database.executescript(script)
        database.execute(
            "INSERT INTO images (sha256, name, path, width, height, added_at) "
            "VALUES (?, 'a', '', 300, 200, 1)",
            (SHA,),
        )
        database.execute("INSERT INTO contents VALUES (?, ?)", (SHA, PNG))
        values = (1, event_id, SHA, "abnormal", "ann", "", 1, None, PNG)
        database.execute(
            "INSERT INTO events (seq, event_id, image_sha256, label, annotator, defect_type, boxes, "
            "prediction, retracts, decides, created_at, shard, note, mask) "
            "VALUES (?, ?, ?, ?, ?, 'crack', '[[1, 2, 3, 4]]', ?, '', 0, ?, ?, '', ?)",
            values,
        )
        database.execute("INSERT INTO votes VALUES (?, 'ann', 1, 'abnormal', 0, NULL)", (SHA,))
        database.execute("PRAGMA user_version = 3")
    with Journal(path) as journal:
        old = journal.event(event_id)
        assert (old.boxes, old.polygons, old.mask, old.mask_type) == ((Box(1, 2, 3, 4, ""),), (), PNG, "")
        new = Label(SHA, "abnormal", "ann", polygons=(Polygon(((0, 0), (3, 0), (3, 3))),))
        journal.append(new)
        assert journal.vote(SHA, "ann") == new
