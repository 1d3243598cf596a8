"""The history of inspections in the file of the journal, and that of a page."""

import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from chipdemo.labeling.inspections import Entry, KeptHistory, Limits, PageHistory
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.queue import Queue
from tests.drawn_images import fill

DAY = 86_400_000_000  # microseconds
NOW = time.time_ns() // 1000
LIMITS = Limits(entries=100, mb=10, days=90)


def entry(number: int, **more) -> Entry:
    made = Entry(
        sha256=f"{number:064x}",
        name=f"chip{number}.png",
        inspected_at=NOW + number,
        model="fake-model",
        revision="abc",
        asked="*",
        threshold=None,
        method="CAM",
        in_tiles=True,
        outcome="normal",
        abnormal_probability=0.25,
        small=b"small",
    )
    return replace(made, **more)


def file(folder: Path, content: bytes) -> Path:
    (folder / "upload.png").write_bytes(content)
    return folder / "upload.png"


@pytest.fixture(params=["journal", "page"])
def history(request, journal):
    return KeptHistory(journal, "ada", LIMITS) if request.param == "journal" else PageHistory()


def names(history, *wanted) -> list[str]:
    return [one.name for one in history.last(*wanted).entries]


def test_the_last_inspection_comes_first_and_is_found_with_its_file(history, tmp_path):
    for number in (1, 2):
        path = tmp_path / f"{number}.png"
        path.write_bytes(b"content %d" % number)
        history.keep(entry(number), path)
    assert names(history) == ["chip2.png", "chip1.png"] and names(history, 1) == ["chip2.png"]
    assert history.find(entry(1).sha256) == (entry(1), b"content 1")
    assert history.find(entry(3).sha256) is None


def test_the_same_image_again_is_one_entry_in_front(history, tmp_path):
    for one in (entry(1), entry(2), entry(1, inspected_at=NOW + 9, threshold=0.7)):
        history.keep(one, file(tmp_path, b"content"))
    assert names(history) == ["chip1.png", "chip2.png"]
    assert history.find(entry(1).sha256)[0].threshold == 0.7


def test_another_threshold_or_explanation_is_kept(history, tmp_path):
    history.keep(entry(1), file(tmp_path, b"content"))
    chosen = entry(1, threshold=0.2, method="CBAM", in_tiles=False)
    assert history.change(chosen) is False  # the list looks as before
    assert history.change(replace(chosen, outcome="abnormal")) is True
    assert history.find(entry(1).sha256)[0] == replace(chosen, outcome="abnormal")


def test_a_choice_does_not_bring_back_what_was_deleted_or_change_a_newer_inspection(history, tmp_path):
    history.keep(entry(1, inspected_at=NOW + 9), file(tmp_path, b"content"))
    assert history.change(entry(1, outcome="abnormal")) is False
    assert history.find(entry(1).sha256)[0].outcome == "normal"
    history.delete(entry(1).sha256)
    assert (
        history.change(entry(1, inspected_at=NOW + 9, outcome="abnormal")) is False and names(history) == []
    )


def test_the_list_is_filtered_by_outcome_and_model_and_counts_all(history, tmp_path):
    for number in range(6):
        outcome, model = ("abnormal" if number % 2 else "normal"), ("b" if number > 3 else "a")
        history.keep(entry(number, outcome=outcome, model=model), file(tmp_path, b"content"))
    assert names(history, 9, "abnormal") == ["chip5.png", "chip3.png", "chip1.png"]
    assert names(history, 9, "abnormal", "a") == ["chip3.png", "chip1.png"]
    assert names(history, 1, "", "a") == ["chip3.png"]
    assert history.last(1, "abnormal").counts == {
        ("a", "normal"): 2,
        ("a", "abnormal"): 2,
        ("b", "normal"): 1,
        ("b", "abnormal"): 1,
    }


def test_all_is_deleted(history, tmp_path):
    for number in range(3):
        history.keep(entry(number), file(tmp_path, b"content"))
    history.delete(entry(1).sha256)
    assert names(history) == ["chip2.png", "chip0.png"]
    history.delete()
    assert names(history) == [] and history.find(entry(0).sha256) is None


def test_nobody_finds_or_deletes_the_inspection_of_another(journal, tmp_path):
    ada, bob = (KeptHistory(journal, name, LIMITS) for name in ("ada", "bob"))
    ada.keep(entry(1), file(tmp_path, b"content"))
    bob.delete(entry(1).sha256)
    bob.delete()
    assert bob.find(entry(1).sha256) is None and names(bob) == []
    assert ada.find(entry(1).sha256) == (entry(1), b"content")


def test_it_is_there_after_a_restart(tmp_path):
    for _ in range(2):
        with Journal(tmp_path / "labels.db") as journal:
            history = KeptHistory(journal, "ada", LIMITS)
            history.find(entry(1).sha256) or history.keep(entry(1), file(tmp_path, b"content"))
    assert history.find(entry(1).sha256) == (entry(1), b"content")


def test_an_inspected_image_is_in_no_queue(journal, tmp_path):
    KeptHistory(journal, "ada", LIMITS).keep(entry(1), file(tmp_path, b"content"))
    assert journal.counts().images == 0 and Queue(journal, 1).next("ada", 5, page="") == []


def kept_bytes(journal) -> list[bytes]:
    with journal.read() as database:
        return [row["bytes"] for row in database.execute("SELECT bytes FROM contents ORDER BY bytes")]


def test_a_file_is_kept_once_and_goes_with_the_last_that_needs_it(journal, tmp_path):
    (queued,) = fill(journal, tmp_path, 1)
    ada, bob = (KeptHistory(journal, name, LIMITS) for name in ("ada", "bob"))
    for history in (ada, bob):
        history.keep(entry(1), file(tmp_path, b"content"))
        history.keep(entry(2, sha256=queued), file(tmp_path, journal.content(queued)))
    assert len(kept_bytes(journal)) == 2
    ada.delete()
    assert len(kept_bytes(journal)) == 2
    bob.delete()
    assert kept_bytes(journal) == [journal.content(queued)]


def test_the_oldest_go_where_there_are_too_many(journal, tmp_path):
    history = KeptHistory(journal, "ada", replace(LIMITS, entries=2))
    for number in range(4):
        history.keep(entry(number), file(tmp_path, b"%d" % number))
    assert names(history) == ["chip3.png", "chip2.png"] and kept_bytes(journal) == [b"2", b"3"]


def test_the_oldest_of_whoever_keeps_most_go_where_the_files_are_too_large(journal, tmp_path):
    limits = replace(LIMITS, mb=1)
    ada, bob = (KeptHistory(journal, name, limits) for name in ("ada", "bob"))
    bob.keep(entry(0), file(tmp_path, bytes(200_000)))
    for number in (1, 2, 3):
        ada.keep(entry(number), file(tmp_path, bytes([number]) * 350_000))
    assert names(bob) == ["chip0.png"] and names(ada) == ["chip3.png", "chip2.png"]
    ada.keep(entry(4), file(tmp_path, bytes(1_000_001)))
    assert names(ada) == ["chip3.png", "chip2.png"]  # one that alone is too large is not kept


def test_what_is_too_old_is_not_shown_and_goes_with_the_next_inspection(journal, tmp_path):
    history = KeptHistory(journal, "ada", LIMITS)
    history.keep(entry(1), file(tmp_path, b"old"))
    with journal.write() as database:
        database.execute("UPDATE inspections SET inspected_at = ?", (NOW - 91 * DAY,))
    assert names(history) == [] and history.find(entry(1).sha256) is None
    history.keep(entry(2), file(tmp_path, b"new"))
    assert kept_bytes(journal) == [b"new"]


def test_a_page_keeps_the_last_fifty_and_each_page_its_own(tmp_path):
    page = PageHistory()
    for number in range(60):
        page.keep(entry(number), file(tmp_path, b"content"))
    assert len(names(page, 99)) == 50 and names(page, 1) == ["chip59.png"]
    assert names(deepcopy(page)) == []


def test_a_page_does_not_find_an_upload_that_is_gone(tmp_path):
    page = PageHistory()
    page.keep(entry(1), tmp_path / "gone.png")
    assert page.find(entry(1).sha256) is None
