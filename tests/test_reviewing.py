"""What stands under the desk: what it counts, what it says where there is nothing, and who sees what."""

import json

import pytest

from chipdemo.labeling.label import Label, ModelPrediction
from chipdemo.settings import Settings
from chipdemo.ui.label.logic import desk_of
from chipdemo.ui.label.review import review
from chipdemo.ui.label.review_html import review_html
from tests.drawn_images import fill
from tests.fakes import FakeInspector

HOSTILE = "<img src=x onerror=alert(1)>\u202e"
WORDS = {"n": "normal", "a": "abnormal", "u": "unsure"}
SAID = [0.1, 0.2, 0.95, 0.1, 0.9, 0.8, 0.05, 0.9]  # of chip02 and chip06 ann says otherwise
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
            for sha256, letter, prediction in zip(shas, letters, SAID)
            if letter != "-"
        )
    )


def seen(journal, annotator: str, reviews: bool = True, **settings):
    return review(desk_of(journal, FakeInspector(), Settings(**settings)), annotator, reviews)


def looks(found) -> list[str]:
    return [look.error.image.name[:2] for look in found.looks]


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
    html = review_html(found)
    assert "No image has 2 labels yet. Label some, then look here again." in html
    assert "No image has two labels yet. Another person has to sign in and label too." in html


def test_it_says_what_holds_how_well_people_agree_and_what_the_model_had_said(journal, shas):
    label(journal, shas, ann=LABELS, bob="nnnaaaau")
    found = seen(journal, "ann", annotators_per_image=2)
    assert found.consensus_counts == {"normal": 3, "abnormal": 3, "unsure": 0, "disputed": 2}
    assert found.against_model["abnormal"] == {"normal": 1, "abnormal": 2}
    html = review_html(found)
    assert "of the 8 images with 2 labels or more" in html
    assert "<strong>3</strong> normal" in html and "<strong>2</strong> disputed" in html
    assert f"<td>{found.agreement.overall.value:.2f}</td>" in html and "<td>75&nbsp;%</td>" in html
    assert "<bdi>ann</bdi> and <bdi>bob</bdi> (Cohen)" in html
    assert "at the threshold 0.40 of the one in use now, fake-inspector" in html
    assert "data-order='review'>Settle the 2 disagreements</button>" in html
    assert "Reviewers settle the disagreements." in review_html(seen(journal, "ann", reviews=False))


def test_where_nothing_can_be_counted_it_says_what_to_do(journal, shas):
    html = review_html(seen(journal, "ann"))
    assert "No image has a label yet. Label some, then look here again." in html
    assert "start the app with <code>--annotators-per-image 2</code>" in html
    assert "No image with labels enough was judged by a model before." in html
    assert "Nothing to train from yet: label normal and abnormal images." in html
    label(journal, shas, ann="nn", bob="nn")
    assert "none: only one class was said" in review_html(seen(journal, "ann"))


def test_names_of_files_and_people_and_models_are_text(journal, shas):
    label(journal, shas, **{HOSTILE: LABELS, "ann": LABELS})
    html = review_html(seen(journal, HOSTILE, dataset="ada/chips", model="<b>model</b>", watch=60))
    assert "<img src=x" not in html and "<b>" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") >= 4


def test_a_image_that_is_gone_is_listed_without_its_picture(journal, shas):
    label(journal, shas, ann=LABELS)
    with journal.write() as database:
        database.execute("UPDATE contents SET bytes = x'00' WHERE sha256 = ?", (shas[6],))
    assert [bool(look.picture) for look in seen(journal, "ann").looks] == [False, True]


def test_it_says_how_many_the_model_has_not_seen_and_how_to_train(journal, shas, tmp_path):
    label(journal, shas, ann=LABELS)
    html = review_html(seen(journal, "ann", model=str(tmp_path), dataset="ada/chips"))
    assert "8 images are agreed to be normal or abnormal." in html and "is not known" in html
    (tmp_path / "split.json").write_text(json.dumps({"train": shas[:3], "val": [], "test": []}))
    html = review_html(seen(journal, "ann", model=str(tmp_path), dataset="ada/chips", watch=60))
    assert "has not seen <strong>5</strong> of them. 8 events wait to be published first." in html
    command = f"python training/train.py --data hf:ada/chips --split {tmp_path}/split.json --out {tmp_path}"
    assert f"<code>{command}</code>" in html
    assert f"This app looks every 60 s whether {tmp_path} is newer" in html
    assert "<code>--model FOLDER --watch 60</code>" in review_html(seen(journal, "ann"))
