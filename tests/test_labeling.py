import base64
import json
from io import BytesIO
from types import SimpleNamespace

import pytest
from PIL import Image

from chipdemo.errors import LabelError
from chipdemo.labeling import history
from chipdemo.labeling.formats import export_labels
from chipdemo.labeling.hub.publish import Status
from chipdemo.labeling.intake import Intake
from chipdemo.labeling.label import Label
from chipdemo.settings import Settings
from chipdemo.ui.label import html as label_fragments
from chipdemo.ui.label import logic as labeling
from chipdemo.ui.label.logic import desk_of
from tests.drawn import mask
from tests.drawn_images import draw, fill
from tests.fakes import FakeInspector

HOSTILE = "<img src=x onerror=alert(1)>\u202e=1+1"
ID = "11111111-1111-4111-8111-111111111111"
OTHER_ID = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def shas(journal, tmp_path) -> list[str]:
    return fill(journal, tmp_path, 5)


@pytest.fixture
def desk(journal):
    return desk_of(journal, FakeInspector(), Settings())


def given(sha256: str, label: str = "normal", **more) -> dict:
    plain = {"defect_type": "", "boxes": [], "mask": "", "note": "", "event_id": "", "decides": False}
    return {"sha256": sha256, "label": label, **plain, **more}


def keep(desk, annotator: str, sha256: str, label: str = "normal", **more) -> dict:
    return labeling.keep(desk, annotator, given(sha256, label, **more))


def names(answer: dict) -> list[str]:
    return [image["name"] for image in answer["images"]]


def test_two_people_get_different_images_with_their_pictures(desk, shas):
    ann = labeling.next_images(desk, "ann", 2, "plain")
    bob = labeling.next_images(desk, "bob", 2, "plain")
    assert names(ann) == ["chip00.png", "chip01.png"] and names(bob) == ["chip02.png", "chip03.png"]
    first = ann["images"][0]
    assert first["sha256"] == shas[0] and (first["width"], first["height"]) == (120, 90)
    assert first["picture"].startswith("data:image/png;base64,") and first["error"] == ""


def test_a_picture_that_the_page_has_is_not_sent_again(desk, shas):
    answer = labeling.next_images(desk, "ann", 2, "plain", [shas[0]])
    assert [bool(image["picture"]) for image in answer["images"]] == [False, True]


def test_nothing_of_the_model_or_of_others_is_told_with_a_image(desk, shas):
    desk = desk_of(desk.journal, FakeInspector(), Settings(annotators_per_image=2))
    keep(desk, "bob b.", shas[0], "abnormal", note="bob's secret")
    told = json.dumps([labeling.next_images(desk, "ann", 5), labeling.opened(desk, "ann", False)])
    for word in ("bob b.", "bob's", "abnormal", "probability"):  # no picture in base64 holds these by chance
        assert word not in told


def test_a_label_is_kept_with_what_the_model_said(desk, shas):
    box = {"x": 1, "y": 2, "width": 3, "height": 4}
    answer = keep(desk, "ann", shas[0], "abnormal", defect_type="crack", boxes=[box], note=HOSTILE)
    event = answer["event"]
    assert (event["label"], event["defect_type"], event["boxes"], event["note"], event["annotator"]) == (
        "abnormal", "crack", [box], HOSTILE, "ann",
    )  # fmt: skip
    assert event["model"]["name"] == "fake-inspector" and 0.4 < event["model"]["abnormal_probability"] <= 1
    assert answer["progress"]["own"] == answer["progress"]["own_last_hour"] == answer["progress"]["done"] == 1
    assert desk.journal.vote(shas[0], "ann").note == HOSTILE


def text_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_a_mask_is_kept_exactly_and_given_back_to_whoever_drew_it(desk, shas, tmp_path):
    content = mask((120, 90), (10, 20, 40, 60))
    event = keep(desk, "ann", shas[0], "abnormal", mask=text_of(content))["event"]
    assert event["mask"] == text_of(content) and desk.journal.vote(shas[0], "ann").mask == content
    assert labeling.opened(desk, "ann", False)["mine"][0]["event"]["mask"] == text_of(content)
    assert labeling.again(desk, "ann", shas[0])["event"]["mask"] == text_of(content)
    assert text_of(content) not in json.dumps(labeling.again(desk, "bob", shas[0]))
    assert labeling.undo(desk, "ann")["undone"]["mask"] == text_of(content)
    keep(desk, "ann", shas[0], "abnormal", mask=text_of(content))
    folder = export_labels(desk.journal, tmp_path / "out", "imagefolder").folder
    assert (folder / "masks" / f"{shas[0]}.png").read_bytes() == content


def saved(image: Image.Image, format: str = "PNG", **options) -> str:
    file = BytesIO()
    image.save(file, format, **options)
    return text_of(file.getvalue())


GRAY = Image.new("L", (120, 90))
FRAMES = {"save_all": True, "append_images": [Image.new("L", (120, 90), 255)]}


@pytest.mark.parametrize(
    "wrong, found",
    [
        (5, "expected text"),
        ("no base64!", "found: "),
        ("\u00e9\u202e", "found: "),
        (text_of(b"no picture"), "found text"),
        (saved(GRAY)[:80], "found: "),
        (text_of(mask((120, 89))), "120 x 89 pixels"),
        (text_of(mask((90, 120))), "90 x 120 pixels"),
        (text_of(mask((9_000, 9_000))), "megapixels"),
        (saved(Image.new("L", (120, 90), 7)), "values between 0 and 255"),
        (saved(GRAY.convert("RGB")), "another kind"),
        (saved(GRAY.convert("LA")), "another kind"),
        (saved(GRAY.convert("I;16")), "another kind"),
        (saved(GRAY, "BMP"), "another kind"),
        (saved(GRAY, **FRAMES), "another kind"),
        (saved(GRAY, transparency=0), "another kind"),
    ],
)
def test_what_is_no_mask_of_the_image_is_refused(desk, shas, wrong, found):
    with pytest.raises(LabelError, match=found):
        keep(desk, "ann", shas[0], mask=wrong)
    assert desk.journal.events() == []


def test_a_mask_that_is_too_large_is_refused_before_it_is_unpacked(desk, shas, monkeypatch):
    monkeypatch.setattr(labeling, "MAX_MASK_BYTES", 30)
    with pytest.raises(LabelError, match="expected at most 30 bytes"):
        keep(desk, "ann", shas[0], mask=text_of(mask((120, 90))))


def test_a_mask_of_one_bit_is_a_mask(desk, shas):
    text = saved(Image.new("1", (120, 90), 1))
    assert keep(desk, "ann", shas[0], mask=text)["event"]["mask"] == text


def test_the_model_judges_a_image_once_however_often_it_is_asked(journal, shas):
    inspector = FakeInspector()
    desk = desk_of(journal, inspector, Settings())
    labeling.next_images(desk, "ann", 1, "plain")
    keep(desk, "ann", shas[0])
    keep(desk, "ann", shas[0], "unsure")
    assert labeling.look(desk, shas[0])["model"]["verdict"] == "abnormal"
    assert inspector.inspections == 1


def test_the_score_of_the_queue_is_what_the_model_said_unless_it_is_an_older_models(journal, shas):
    inspector = FakeInspector()
    desk = desk_of(journal, inspector, Settings())
    with journal.write() as database:
        for sha256, revision in ((shas[0], "0123456789ab"), (shas[1], "older")):
            database.execute("INSERT INTO scores VALUES (?, ?, 0.25, x'')", (sha256, revision))
    assert keep(desk, "ann", shas[0])["event"]["model"] == {
        "name": "fake-inspector", "revision": "0123456789ab", "abnormal_probability": 0.25,
    }  # fmt: skip
    assert inspector.inspections == 0
    assert keep(desk, "ann", shas[1])["event"]["model"]["abnormal_probability"] != 0.25


def test_a_label_that_the_model_cannot_judge_is_kept_without_it(desk):
    desk.journal.add_image("e" * 64, (120, 90), "odd.png", content=b"damaged since")
    assert keep(desk, "ann", "e" * 64)["event"]["model"] is None


def test_a_label_sent_twice_is_one_label(desk, shas):
    first = keep(desk, "ann", shas[0], event_id=ID)
    assert keep(desk, "ann", shas[0], "abnormal", event_id=ID)["event"] == first["event"]
    assert len(desk.journal.events()) == 1


def test_the_event_id_of_another_gives_nothing_away(desk, shas):
    keep(desk, "ann", shas[0], "abnormal", event_id=ID)
    for attempt in (lambda: keep(desk, "bob", shas[0], event_id=ID), lambda: labeling.undo(desk, "bob", ID)):
        with pytest.raises(LabelError, match="found one that is in use") as refusal:
            attempt()
        assert "abnormal" not in str(refusal.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"label": "broken"},
        {"label": ["normal"]},
        {"sha256": 5},
        {"sha256": "0" * 64},
        {"sha256": "\ud800"},
        {"note": "a" * 10_001},
        {"note": {}},
        {"defect_type": "t" * 201},
        {"event_id": "no-uuid"},
        {"boxes": "everywhere"},
        {"boxes": [[1, 2, 3, 4]]},
        {"boxes": [{"x": 1, "y": 2, "width": 3}]},
        {"boxes": [{"x": 1, "y": 2, "width": 3, "height": float("nan")}]},
        {"boxes": [{"x": 1, "y": 2, "width": 3, "height": True}]},
        {"boxes": [{"x": 118, "y": 2, "width": 3, "height": 3}]},
        {"boxes": [{"x": -1, "y": 2, "width": 3, "height": 3}]},
        {"boxes": [{"x": 1, "y": 2, "width": 0, "height": 3}]},
    ],
)
def test_a_label_that_cannot_be_is_refused_and_nothing_is_kept(desk, shas, wrong):
    with pytest.raises(LabelError):
        labeling.keep(desk, "ann", given(shas[0]) | wrong)
    assert desk.journal.events() == []


def test_undo_takes_back_only_ones_own_and_goes_further_back(desk, shas):
    keep(desk, "ann", shas[0])
    keep(desk, "ann", shas[1], "abnormal")
    keep(desk, "bob", shas[2])
    answer = labeling.undo(desk, "ann")
    assert answer["undone"]["label"] == "abnormal" and answer["image"]["name"] == "chip01.png"
    assert labeling.undo(desk, "ann")["image"]["name"] == "chip00.png"
    with pytest.raises(LabelError, match="Expected a label of yours to undo; found none"):
        labeling.undo(desk, "ann")
    assert desk.journal.vote(shas[2], "bob").label == "normal"


def test_undo_of_a_second_label_leaves_the_first(desk, shas):
    keep(desk, "ann", shas[0], "normal")
    keep(desk, "ann", shas[0], "abnormal")
    labeling.undo(desk, "ann")
    assert desk.journal.vote(shas[0], "ann").label == "normal"


def test_an_undo_sent_twice_is_one_undo(desk, shas):
    keep(desk, "ann", shas[0])
    keep(desk, "ann", shas[1])
    first = labeling.undo(desk, "ann", ID)
    assert labeling.undo(desk, "ann", ID)["undone"] == first["undone"]
    assert desk.journal.vote(shas[0], "ann")


def test_what_is_skipped_comes_again_when_it_is_brought_back(desk, shas):
    assert labeling.skip(desk, "ann", shas[0])["progress"]["skipped"] == 1
    assert "chip00.png" not in names(labeling.next_images(desk, "ann", 20))
    assert labeling.bring_back(desk, "ann", [])["progress"]["skipped"] == 0
    assert "chip00.png" in names(labeling.next_images(desk, "ann", 20))


def test_the_own_last_labels_come_with_the_page(desk, shas):
    keep(desk, "ann", shas[1], "abnormal")
    keep(desk, "bob", shas[2])
    keep(desk, "ann", shas[0])
    mine = labeling.opened(desk, "ann", False)["mine"]
    assert [(image["name"], image["event"]["label"]) for image in mine] == [
        ("chip01.png", "abnormal"),
        ("chip00.png", "normal"),
    ]


def test_a_file_that_is_gone_says_so_and_the_others_come(desk, shas, tmp_path):
    path = draw(tmp_path / "gone.png", 99)
    desk.journal.add_image("f" * 64, (120, 90), "gone.png", path=path)
    path.unlink()
    images = labeling.next_images(desk, "ann", 20)["images"]
    assert len(images) == 6 and images[-1]["picture"] == ""
    assert "gone.png" in images[-1]["error"] and images[-1]["error"].count("gone.png") == 2


def test_a_reviewer_is_given_what_people_differ_on_and_settles_it(journal, shas):
    desk = desk_of(journal, FakeInspector(), Settings(annotators_per_image=2))
    journal.append(Label(shas[0], "normal", "ann"), Label(shas[0], "abnormal", "bob"))
    journal.append(Label(shas[1], "normal", "ann"), Label(shas[1], "normal", "bob"))
    journal.append(Label(shas[2], "normal", "ann"))
    review = labeling.next_images(desk, "cy", 5, "review")
    assert names(review) == ["chip00.png"] and "bob" not in json.dumps(review)
    answer = keep(desk, "cy", shas[0], "abnormal", decides=True)
    assert answer["votes"] == {"normal": 1, "abnormal": 2} and answer["event"]["decides"]
    assert names(labeling.next_images(desk, "cy", 5, "review")) == []
    labeling.undo(desk, "cy")
    labeling.skip(desk, "cy", shas[0])
    assert history.disputed(journal, 2, "cy") == [] and len(history.disputed(journal, 2, "dee")) == 1


def test_another_look_comes_with_ones_own_label_and_with_no_other(desk, shas):
    keep(desk, "ann", shas[0], "unsure")
    keep(desk, "bob b.", shas[0], "abnormal", note="bob's secret")
    assert labeling.again(desk, "ann", shas[0])["event"]["label"] == "unsure"
    told = labeling.again(desk, "cy", shas[0])
    assert told["event"] is None and told["picture"]
    assert "bob" not in json.dumps(told) and "abnormal" not in json.dumps(told)
    with pytest.raises(LabelError, match="0" * 64):
        labeling.again(desk, "ann", "0" * 64)


def test_added_files_are_known_once_and_a_bad_one_is_named(desk, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"this is no image")
    one = draw(tmp_path / "one.png", 1)
    added = labeling.add_files(desk, [(HOSTILE, one), ("twin.png", one), ("bad.png", tmp_path / "bad.png")])
    assert (added.added, added.known) == (1, 1) and added.refused[0].startswith("bad.png: Expected")
    assert names(labeling.next_images(desk, "ann", 5)) == [HOSTILE]


def test_what_became_of_an_upload_is_escaped_and_short():
    html = label_fragments.added_html(Intake(1, 2, (HOSTILE,) * 30))
    assert "<img" not in html and "30 not taken" in html and "and 10 more" in html
    assert "<img" not in label_fragments.refused_html(HOSTILE)


def test_the_publisher_is_told_of_in_the_progress(journal, shas):
    publisher = SimpleNamespace(status=Status(3, None, "the Hub does not answer"))
    told = labeling.progress_json(desk_of(journal, FakeInspector(), Settings(), publisher), "ann")
    assert (told["publishes"], told["published_at"]) == (True, None)
    assert told["publish_error"] == "the Hub does not answer"
