"""The review section: what it counts, what it offers where there is nothing to count, who sees what."""

import json

import pytest

from chipdemo.labeling.label import Label, ModelPrediction, retraction_of
from chipdemo.settings import Settings
from chipdemo.ui.label.logic import desk_of
from chipdemo.ui.label.review import review
from chipdemo.ui.label.review_html import review_html
from tests.drawn_images import fill
from tests.fakes import fake_judge

HOSTILE = "<img src=x onerror=alert(1)>\u202e"
WORDS = {"n": "normal", "a": "abnormal", "u": "unsure"}
PREDICTED = [0.1, 0.2, 0.95, 0.1, 0.9, 0.8, 0.05, 0.9]  # of chip02 and chip06 ann labels otherwise
LABELS = "nnnnaaaa"


@pytest.fixture
def shas(journal, tmp_path) -> list[str]:
    return fill(journal, tmp_path, 8, "{:02}" + HOSTILE + ".png")


def label(journal, shas, **votes: str) -> None:
    """votes: by annotator, a letter for each image; "-" for none."""
    journal.append(
        *(
            Label(sha256, WORDS[letter], annotator, prediction=ModelPrediction("model", "r", prediction))
            for annotator, letters in votes.items()
            for sha256, letter, prediction in zip(shas, letters, PREDICTED)
            if letter != "-"
        )
    )


def seen(journal, annotator: str, reviews: bool = True, **settings):
    return review(desk_of(journal, fake_judge(), Settings(**settings)), annotator, reviews)


def looks(found) -> list[str]:
    return [error.image.name[:2] for error in found.looks]


def test_a_label_is_shown_only_to_those_who_gave_theirs(journal, shas):
    label(journal, shas, bob=LABELS, ann="--n-----")
    assert looks(seen(journal, "bob")) == ["06", "02"]
    assert looks(seen(journal, "ann")) == ["02"]
    assert looks(seen(journal, "cy")) == []  # all may review, and nobody sees more for that
    html = review_html(seen(journal, "cy", annotators_per_image=2))
    assert all(sha256 not in html for sha256 in shas) and "<img" not in html


def test_a_named_reviewer_sees_what_has_labels_enough_and_decides(journal, shas):
    label(journal, shas, bob=LABELS, ann="--n-----")
    ruth = seen(journal, "ruth", reviewers=("ruth",))
    assert looks(ruth) == ["06", "02"] and ruth.decides
    assert looks(seen(journal, "ruth", annotators_per_image=2, reviewers=("ruth",))) == ["02"]
    ann = seen(journal, "ann", reviews=False, reviewers=("ruth",))
    assert looks(ann) == ["02"] and not ann.decides and not ann.may_settle


def test_only_images_with_labels_enough_are_counted(journal, shas):
    """One image that one person labeled would tell the other what it was."""
    label(journal, shas, bob="a-------")
    found = seen(journal, "ann", annotators_per_image=2)
    assert sum(found.consensus_counts.values()) == 0
    assert sum(sum(row.values()) for row in found.against_model.values()) == 0
    assert "<li" not in review_html(found) and "<table" not in review_html(found)


def test_it_shows_consensus_agreement_and_what_the_model_predicted(journal, shas):
    label(journal, shas, ann=LABELS, bob="nnnaaaau")
    found = seen(journal, "ann", annotators_per_image=2)
    assert found.consensus_counts == {"normal": 3, "abnormal": 3, "unsure": 0, "disputed": 2}
    assert found.against_model["abnormal"] == {"normal": 1, "abnormal": 2}
    html = review_html(found)
    assert "<li data-consensus='normal'><strong>3</strong>" in html
    assert "<li data-consensus='disputed'><strong>2</strong>" in html
    assert "<tr data-consensus='abnormal'><th scope='row'>abnormal</th><td>1</td><td>2</td>" in html
    assert f"<td>{found.agreement.overall.value:.2f}</td>" in html
    assert "<td>75 %, 95 % interval 35–97 %</td>" in html
    assert "<bdi>ann</bdi> and <bdi>bob</bdi> (Cohen)" in html
    assert "0.40" in html and "fake-model" in html and "data-order='review'" in html
    assert "data-order" not in review_html(seen(journal, "ann", reviews=False))


def test_where_nothing_can_be_counted_it_offers_what_to_do(journal, shas):
    html = review_html(seen(journal, "ann"))
    assert "<li" not in html and "<table" not in html and "class='commands'" not in html
    assert "<code>--annotators-per-image 2</code>" in html
    label(journal, shas, ann="nn", bob="nn")
    assert "class='none'" in review_html(seen(journal, "ann"))  # no kappa where all labels are the same


def decide(journal, sha256: str, annotator: str, given: str = "abnormal", **more) -> Label:
    label = Label(sha256, given, annotator, decides=True, **more)
    journal.append(label)
    return label


def test_a_settled_disagreement_is_shown_with_the_votes_and_notes_that_led_to_it(journal, shas):
    taken_back = Label(shas[0], "unsure", "ann")
    first = Label(shas[0], "abnormal", "bob", note="a crack?")
    journal.append(
        taken_back, retraction_of(taken_back, "ann"), Label(shas[0], "normal", "ann", note="clean")
    )
    journal.append(first, Label(shas[1], "normal", "ann"), Label(shas[1], "abnormal", "bob"))
    decide(journal, shas[1], "ruth", "normal")
    decide(journal, shas[0], "bob", defect_type="crack", note="seen at the edge")
    journal.append(Label(shas[0], "unsure", "cy"))  # comes later
    found = seen(journal, "ruth", reviewers=("ruth",))
    assert [one.image.sha256 for one in found.settled] == [shas[0], shas[1]]  # the latest first
    assert [(vote.annotator, vote.label) for vote in found.settled[0].votes] == [
        ("bob", "abnormal"),
        ("ann", "normal"),
    ]
    html = review_html(found).partition("class='settled'")[2]
    assert "<strong class='abnormal'>abnormal, <bdi>crack</bdi></strong> <q><bdi>seen at the edge" in html
    assert "<bdi>ann</bdi>: <strong class='normal'>normal</strong> <q><bdi>clean</bdi></q>" in html
    assert "a crack?" in html and html.count("unsure") == 0


def test_a_decision_that_is_taken_back_is_settled_no_more(journal, shas):
    label(journal, shas, ann="n", bob="a")
    decision = decide(journal, shas[0], "ruth")
    journal.append(retraction_of(decision, "ruth"))
    assert seen(journal, "ruth", reviewers=("ruth",)).settled == ()
    decide(journal, shas[0], "ruth", "unsure")
    decide(journal, shas[0], "bob", "normal")
    (one,) = seen(journal, "ruth", reviewers=("ruth",)).settled
    assert (one.decision.annotator, [vote.annotator for vote in one.votes]) == ("bob", ["ann", "bob"])


def test_settled_votes_are_shown_to_named_reviewers_and_to_who_decided(journal, shas):
    label(journal, shas, ann="n", bob="a")
    decide(journal, shas[0], "bob")
    assert seen(journal, "ruth", reviewers=("ruth",)).settled
    assert seen(journal, "bob").settled and not seen(journal, "ann").settled
    assert not seen(journal, "bob", reviews=False, reviewers=("ruth",)).settled
    assert "class='settled'" not in review_html(seen(journal, "ann"))


def test_names_of_files_annotators_and_models_are_escaped(journal, shas):
    label(journal, shas, **{HOSTILE: LABELS, "ann": LABELS})
    decide(journal, shas[0], HOSTILE, defect_type=HOSTILE, note=HOSTILE)
    html = review_html(seen(journal, HOSTILE, dataset="ada/chips", model=("<b>model</b>",), hot_reload=60))
    assert "<img src=x" not in html and "<b>" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") >= 4


def test_a_missing_image_is_listed_without_its_thumbnail(journal, shas):
    label(journal, shas, ann=LABELS)
    with journal.write() as database:
        database.execute("UPDATE contents SET bytes = x'00' WHERE sha256 = ?", (shas[6],))
    found = seen(journal, "ann")
    assert [error.image.sha256 in found.thumbnails for error in found.looks] == [False, True]
    assert review_html(found).count("<img") == 1


def test_it_counts_what_the_model_has_not_seen_and_gives_the_command_to_train(journal, shas, tmp_path):
    label(journal, shas, ann=LABELS)
    html = review_html(seen(journal, "ann", model=(str(tmp_path),), dataset="ada/chips"))
    assert "<strong data-labeled>8</strong>" in html and "data-new" not in html
    (tmp_path / "split.json").write_text(json.dumps({"train": shas[:3], "val": [], "test": []}))
    html = review_html(seen(journal, "ann", model=(str(tmp_path),), dataset="ada/chips", hot_reload=60))
    assert "<strong data-new>5</strong>" in html and "<strong data-pending>8</strong>" in html
    command = f"python training/train.py --data hf:ada/chips --init {tmp_path} --out {tmp_path}"
    assert f"<code>{command}</code>" in html
    reload = html.partition("<p class='reload'>")[2]
    assert str(tmp_path) in reload and "60 s" in reload and "<code>" not in reload
    assert "<p class='reload'>Then start" in review_html(seen(journal, "ann"))
