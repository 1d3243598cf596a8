"""The gallery: which images a filter finds for whom, thumbnails, and deletion from the queue."""

import pytest

from chipdemo.errors import LabelError
from chipdemo.labeling.browse import Filters, Viewer, bring_back, delete, find, thumbnails
from chipdemo.labeling.history import disputed
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Box, Label, ModelPrediction, Polygon, retraction_of
from chipdemo.labeling.queue import Queue
from chipdemo.labeling.ranking import Score, set_scores
from chipdemo.settings import Settings
from chipdemo.ui.label import browsing
from chipdemo.ui.label.logic import desk_of
from tests.drawn_images import fill
from tests.fakes import fake_judge

ADA, RUTH = Viewer("ada", 2), Viewer("ruth", 2, others_from=2)
HOSTILE = "<img src=x>%_\\'"


@pytest.fixture
def shas(journal, tmp_path) -> list[str]:
    """Called a to h here: ada labeled the first four, bob the first three, and they dispute the second."""
    shas = fill(journal, tmp_path, 8)
    for annotator, letters in (("ada", "nnan"), ("bob", "naa")):
        for sha256, given in zip(shas, letters):
            label = {"n": "normal", "a": "abnormal"}[given]
            kind, note = ("bent lead", f"100 % {HOSTILE} by {annotator}") if given == "a" else ("", "")
            journal.append(Label(sha256, label, annotator, defect_type=kind, note=note))
    return shas


def names(journal: Journal, viewer: Viewer = ADA, **filters) -> str:
    return "".join(map(letter, find(journal, Filters(**filters), viewer)[0]))


def letter(image) -> str:
    """Of an image from fill."""
    return "abcdefgh"[int(image.name[4:6])]


def score(journal: Journal, shas, probabilities, thresholds, outside="") -> None:
    set_scores(
        journal,
        "r",
        [
            Score(sha256, ModelPrediction("m", "r", probability), threshold, None, name in outside)
            for sha256, probability, threshold, name in zip(shas, probabilities, thresholds, "abcdefgh")
        ],
    )


def test_an_annotator_finds_images_by_their_own_labels_alone(journal, shas):
    assert names(journal) == "hgfedcba"
    assert names(journal, show="mine") == "dcba" and names(journal, show="not mine") == "hgfe"
    assert names(journal, label="normal") == "dba" and names(journal, label="abnormal") == "c"
    assert names(journal, defect_type="LEAD") == "c" and names(journal, note="by ada") == "c"
    assert names(journal, note="by bob") == ""
    assert {image.consensus for image in find(journal, Filters(), ADA)[0]} == {""}
    assert (
        names(journal, Viewer("eve", 2), label="normal")
        == names(journal, Viewer("eve", 2), show="mine")
        == ""
    )


def test_a_named_reviewer_finds_images_by_the_consensus_once_they_have_labels_enough(journal, shas):
    assert names(journal, RUTH, label="normal") == "a" and names(journal, RUTH, label="abnormal") == "c"
    assert names(journal, RUTH, defect_type="lead") == "cb" and names(journal, RUTH, note="by bob") == "cb"
    assert names(journal, RUTH, show="disputed") == "b"
    found = {letter(image): image.consensus for image in find(journal, Filters(), RUTH)[0]}
    assert (found["a"], found["b"], found["c"], found["d"]) == ("normal", "disputed", "abnormal", "")
    journal.append(Label(shas[4], "abnormal", "ruth"))
    assert names(journal, RUTH, label="abnormal") == "ec" and names(journal, RUTH, show="mine") == "e"


def test_skipped_images_are_found_until_they_are_labeled(journal, shas):
    queue = Queue(journal, 2)
    queue.skip(shas[0], "ada")
    queue.skip(shas[6], "ada")
    queue.skip(shas[7], "bob")
    assert names(journal, show="skipped") == "g"


def test_the_model_is_compared_at_the_threshold_of_each_score(journal, shas):
    score(journal, shas[:5], (0.5, 0.5, 0.5, 0.1, 0.9), (0.4, 0.6, 0.6, 0.4, 0.4), outside="be")
    assert names(journal, show="against the model") == "ca"
    assert names(journal, RUTH, show="against the model") == "ca"
    assert names(journal, show="out of distribution") == "eb"
    assert names(journal, sort="probability") == "ecbadhgf"
    score(journal, shas[:1], (0.3,), (0.4,))
    assert names(journal, show="against the model") == "c"


def test_labels_that_change_or_are_taken_back_are_found_as_they_are_now(journal, shas):
    first = Label(shas[7], "abnormal", "ada", note="first")
    second = Label(shas[7], "normal", "ada")
    journal.append(first, second)
    assert names(journal, label="normal") == "hdba" and names(journal, note="first") == ""
    journal.append(retraction_of(second, "ada"))
    assert names(journal, note="first") == "h"
    journal.append(retraction_of(first, "ada"))
    assert names(journal, show="mine") == "dcba"


def test_types_of_boxes_polygons_and_masks_are_found(journal, shas):
    shapes = {
        "boxes": (Box(1, 2, 3, 4, "crack"), Box(1, 2, 3, 4)),
        "polygons": (Polygon(((0, 0), (9, 0), (9, 9)), "stain"),),
        "mask": b"\x89PNG\r\n\x1a\n",
        "mask_type": "dead area",
    }
    journal.append(Label(shas[4], "abnormal", "ada", defect_type="crack", **shapes))
    assert all(names(journal, defect_type=kind) == "e" for kind in ("crack", "stain", "dead"))
    assert find(journal, Filters(defect_type="stain"), ADA)[0][0].defect_type == "crack, dead area, stain"


def test_signs_of_sql_are_searched_as_they_are(journal, shas):
    assert names(journal, note="100 %") == "c" and names(journal, note=HOSTILE) == "c"
    assert names(journal, note="1_0") == names(journal, name="%") == names(journal, name="_01") == ""
    assert names(journal, name="P01.P") == "b"


def test_pages_follow_each_other(journal):
    for number in range(130):
        journal.add_image(f"{number:064x}", (9, 9), f"{number}", b"x")
    pages = [find(journal, Filters(page=page), ADA) for page in range(4)]
    assert [len(images) for images, _ in pages] == [60, 60, 10, 0] and {total for _, total in pages} == {130}
    assert [image.name for images, _ in pages for image in images] == [str(n) for n in range(129, -1, -1)]


def test_thumbnails_are_made_once_and_missing_files_left_out(journal, shas):
    with journal.write() as database:
        database.execute("UPDATE contents SET bytes = x'00' WHERE sha256 = ?", (shas[1],))
    found = thumbnails(journal, shas[:2], 64)
    assert list(found) == shas[:1] and found[shas[0]].startswith(b"\xff\xd8")
    with journal.write() as database:
        database.execute("UPDATE contents SET bytes = x'00'")
    assert thumbnails(journal, shas[:2], 64) == found


def test_a_deleted_image_is_given_to_nobody_and_nothing_of_it_is_lost(journal, shas, tmp_path):
    queue, events = Queue(journal, 2), journal.events()
    assert queue.progress("cy").images == 8
    assert delete(journal, [shas[1], shas[7], shas[7], "0" * 64], "ruth") == [shas[1], shas[7]]
    assert delete(journal, [shas[7]], "ruth") == []
    assert sorted(map(letter, queue.next("cy", 9))) == list("defg")
    assert disputed(journal, 2, "cy") == [] and queue.progress("cy").images == 6
    with Journal(journal.path) as again:  # as after a restart
        assert names(again) == "gfedca" and names(again, RUTH, show="deleted") == "hb"
        assert again.events() == events and again.content(shas[7])
    assert not journal.add_image(shas[7], (120, 90), "again.png", b"x")
    assert names(journal, show="deleted") == "hb"
    journal.append(Label(shas[7], "normal", "cy"))  # it was on a page while it was deleted
    assert queue.progress("cy").images == 6
    assert bring_back(journal, shas, "ada") == [shas[1], shas[7]]
    assert len(disputed(journal, 2, "cy")) == 1 and queue.progress("cy").images == 8
    assert (queue.progress("cy").done, journal.counts().labeled) == (3, 5)


def test_deletions_are_events(journal, shas):
    delete(journal, shas[:1], "ruth")
    bring_back(journal, shas[:1], "ada")
    with journal.read() as database:
        rows = database.execute("SELECT image_sha256, annotator, deletes FROM deletions ORDER BY seq")
        assert [tuple(row) for row in rows] == [(shas[0], "ruth", 1), (shas[0], "ada", 0)]


@pytest.mark.parametrize(
    "wrong", [{"show": "x"}, {"label": "x"}, {"sort": "x"}, {"page": -1}, {"page": 2**40}]
)
def test_filters_that_do_not_exist_are_refused(wrong):
    with pytest.raises(LabelError):
        Filters(**wrong)


def seen(journal, annotator: str, reviews: bool = True, asked=(), **settings) -> dict:
    desk = desk_of(journal, fake_judge(), Settings(annotators_per_image=2, **settings))
    return browsing.found(desk, annotator, reviews, dict(asked))


def test_only_reviewers_list_disputed_and_deleted_images(journal, shas):
    ann = seen(journal, "ada", reviews=False, reviewers=("ruth",))
    assert not ann["may_delete"] and {"disputed", "deleted"}.isdisjoint(ann["shows"])
    for show in ("disputed", "deleted"):
        with pytest.raises(LabelError, match="reviewers"):
            seen(journal, "ada", reviews=False, asked={"show": show}, reviewers=("ruth",))
    assert {"disputed", "deleted"} <= set(seen(journal, "ruth", reviewers=("ruth",))["shows"])


def test_the_consensus_is_for_reviewers_that_were_named(journal, shas):
    everyone = seen(journal, "ada", asked={"show": "disputed"})["images"]
    assert [(image["consensus"], image["decides"]) for image in everyone] == [("", True)]
    ruth = seen(journal, "ruth", reviewers=("ruth",))
    assert [image["consensus"] for image in ruth["images"][-3:]] == ["abnormal", "disputed", "normal"]
    assert [image["decides"] for image in ruth["images"][-4:]] == [False, True, True, True]
    assert all(not image["consensus"] for image in seen(journal, "ruth")["images"])


def test_what_the_model_says_waits_for_the_label_unless_it_is_asked_for(journal, shas):
    score(journal, shas, [0.5] * 8, [0.4] * 8)
    shown = [bool(image["model"]) for image in seen(journal, "ada")["images"]]
    assert shown == [False] * 4 + [True] * 4
    asked = seen(journal, "ada", asked={"sort": "probability"})["images"]
    assert all(image["model"]["flagged"] for image in asked)


@pytest.mark.parametrize("asked", [{"x": 1}, {"name": 1}, {"page": "1"}, {"page": 0.5}, {"show": None}])
def test_what_is_no_filter_is_refused(journal, shas, asked):
    with pytest.raises(LabelError):
        seen(journal, "ada", asked=asked)
