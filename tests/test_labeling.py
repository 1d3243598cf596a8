"""What the Label tab does, without a page."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from types import SimpleNamespace

import pytest
from PIL import Image

from chipdemo.errors import LabelError
from chipdemo.files import DEFAULT_LIMITS
from chipdemo.images import decode_image
from chipdemo.labeling import history
from chipdemo.labeling.formats import export_labels
from chipdemo.labeling.hub.publish import Status
from chipdemo.labeling.intake import Intake
from chipdemo.labeling.label import Label, ModelPrediction
from chipdemo.labeling.ranking import Score, set_scores
from chipdemo.labeling.scoring import Scorer
from chipdemo.settings import Settings
from chipdemo.ui.label import adding, html, logic, values
from chipdemo.ui.label.logic import Answer, desk_of
from tests.drawn import mask
from tests.drawn_images import draw, fill
from tests.fakes import FakeModel, fake_judge

HOSTILE = "<img src=x onerror=alert(1)>\u202e=1+1"
ID = "11111111-1111-4111-8111-111111111111"
OTHER_ID = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def shas(journal, tmp_path) -> list[str]:
    return fill(journal, tmp_path, 5)


@pytest.fixture
def desk(journal):
    desk = desk_of(journal, fake_judge(), Settings())
    yield desk
    desk.close()


def save(desk, annotator: str, sha256: str, label: str = "normal", **more) -> dict:
    return logic.save(desk, annotator, Answer(sha256, label, **more))


def names(answer: dict) -> list[str]:
    return [image["name"] for image in answer["images"]]


def text_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def encoded(image: Image.Image, format: str = "PNG", **options) -> str:
    file = BytesIO()
    image.save(file, format, **options)
    return text_of(file.getvalue())


# Giving images


def test_two_annotators_get_different_images_with_their_pictures(desk, shas):
    ann = logic.next_images(desk, "ann", 2, "plain")
    bob = logic.next_images(desk, "bob", 2, "plain")
    assert names(ann) == ["chip00.png", "chip01.png"] and names(bob) == ["chip02.png", "chip03.png"]
    first = ann["images"][0]
    assert first["sha256"] == shas[0] and (first["width"], first["height"]) == (120, 90)
    assert first["picture"].startswith("data:image/png;base64,") and first["error"] == ""


def test_a_picture_that_the_page_has_is_not_sent_again(desk, shas):
    answer = logic.next_images(desk, "ann", 2, "plain", [shas[0]])
    assert [bool(image["picture"]) for image in answer["images"]] == [False, True]


def test_an_image_comes_without_the_prediction_and_the_labels_of_others(journal, shas):
    desk = desk_of(journal, fake_judge(), Settings(annotators_per_image=2))
    save(desk, "bob b.", shas[0], "abnormal", note="bob's secret")
    answers = json.dumps([logic.next_images(desk, "ann", 5), logic.opened(desk, "ann", False)])
    for word in ("bob b.", "bob's", "abnormal", "probability"):  # no picture in base64 holds these by chance
        assert word not in answers


def test_the_own_last_labels_come_with_the_page(desk, shas):
    save(desk, "ann", shas[1], "abnormal", page="one")
    save(desk, "bob", shas[2])
    save(desk, "ann", shas[0], page="two")
    own = logic.opened(desk, "ann", False)["own"]
    assert [(image["name"], image["event"]["label"]) for image in own] == [
        ("chip01.png", "abnormal"),
        ("chip00.png", "normal"),
    ]


def test_skipped_images_come_again_when_they_are_brought_back(desk, shas):
    assert logic.skip(desk, "ann", shas[0])["progress"]["skipped"] == 1
    assert "chip00.png" not in names(logic.next_images(desk, "ann", 20))
    assert logic.bring_back(desk, "ann", [])["progress"]["skipped"] == 0
    assert "chip00.png" in names(logic.next_images(desk, "ann", 20))


def test_a_missing_file_is_reported_and_the_other_images_come(desk, shas, tmp_path):
    path = draw(tmp_path / "gone.png", 99)
    desk.journal.add_image("f" * 64, (120, 90), "gone.png", path=path)
    path.unlink()
    images = logic.next_images(desk, "ann", 20)["images"]
    assert len(images) == 6 and images[-1]["picture"] == "" and "gone.png" in images[-1]["error"]


def test_a_reviewer_is_given_disputed_images_and_decides_them(journal, shas):
    desk = desk_of(journal, fake_judge(), Settings(annotators_per_image=2))
    journal.append(Label(shas[0], "normal", "ann"), Label(shas[0], "abnormal", "bob"))
    journal.append(Label(shas[1], "normal", "ann"), Label(shas[1], "normal", "bob"))
    journal.append(Label(shas[2], "normal", "ann"))
    review = logic.next_images(desk, "cy", 5, "review")
    assert names(review) == ["chip00.png"] and "bob" not in json.dumps(review)
    answer = save(desk, "cy", shas[0], "abnormal", decides=True)
    assert answer["votes"] == {"normal": 1, "abnormal": 2} and answer["event"]["decides"]
    assert names(logic.next_images(desk, "cy", 5, "review")) == []
    logic.undo(desk, "cy")
    logic.skip(desk, "cy", shas[0])
    assert history.disputed(journal, 2, "cy") == [] and len(history.disputed(journal, 2, "dee")) == 1


def test_a_second_look_comes_with_the_own_label_and_no_other(desk, shas):
    save(desk, "ann", shas[0], "unsure")
    save(desk, "bob b.", shas[0], "abnormal", note="bob's secret")
    assert logic.again(desk, "ann", shas[0])["event"]["label"] == "unsure"
    answer = logic.again(desk, "cy", shas[0])
    assert answer["event"] is None and answer["picture"]
    assert "bob" not in json.dumps(answer) and "abnormal" not in json.dumps(answer)
    with pytest.raises(LabelError, match="0" * 64):
        logic.again(desk, "ann", "0" * 64)


def test_the_progress_has_the_error_of_the_publisher(journal, shas):
    publisher = SimpleNamespace(status=Status(3, None, "the Hub does not answer"))
    progress = logic.progress_json(desk_of(journal, fake_judge(), Settings(), publisher), "ann")
    assert (progress["publishes"], progress["published_at"]) == (True, None)
    assert progress["publish_error"] == "the Hub does not answer"


# Two pages of one annotator


def test_two_pages_of_an_annotator_get_different_images(desk, shas):
    one = logic.next_images(desk, "ann", 2, "plain", page="one")
    two = logic.next_images(desk, "ann", 2, "plain", page="two")
    assert names(one) == ["chip00.png", "chip01.png"] and names(two) == ["chip02.png", "chip03.png"]
    assert names(logic.next_images(desk, "ann", 2, "plain", page="one")) == names(one)
    logic.give_back(desk, "ann", [shas[0], shas[2]], "one")  # the second one is not this page's
    two = logic.next_images(desk, "ann", 3, "plain", page="two")
    assert names(two) == ["chip02.png", "chip03.png", "chip00.png"]


def test_a_label_given_on_another_page_stands_unless_it_is_named(desk, shas):
    first = save(desk, "ann", shas[0], "normal", page="one")["event"]
    with pytest.raises(LabelError):
        save(desk, "ann", shas[0], "abnormal", page="two")
    assert desk.journal.vote(shas[0], "ann").label == "normal"
    save(desk, "ann", shas[0], "abnormal", page="two", replaces=first["event_id"])
    assert desk.journal.vote(shas[0], "ann").label == "abnormal"


def test_undo_takes_back_what_this_page_labeled(desk, shas):
    save(desk, "ann", shas[0], page="one")
    save(desk, "ann", shas[1], page="two")
    assert logic.undo(desk, "ann", page="one")["image"]["sha256"] == shas[0]
    with pytest.raises(LabelError):
        logic.undo(desk, "ann", page="one")
    assert desk.journal.vote(shas[1], "ann").label == "normal"


def test_undo_of_a_named_label_takes_back_no_other(desk, shas):
    save(desk, "ann", shas[0], event_id=ID)
    for label_id in (OTHER_ID, "no id"):  # of a label that never arrived
        with pytest.raises(LabelError):
            logic.undo(desk, "ann", label_id=label_id)
    with pytest.raises(LabelError):
        logic.undo(desk, "bob", label_id=ID)
    assert desk.journal.vote(shas[0], "ann")
    assert logic.undo(desk, "ann", label_id=ID)["undone"]["event_id"] == ID
    with pytest.raises(LabelError):
        logic.undo(desk, "ann", label_id=ID)


# Predictions


def large_image(journal) -> str:
    """Light, with a dark square in one tile: normal as a whole, abnormal in tiles."""
    image = Image.new("RGB", (1600, 1600), (240, 240, 240))
    image.paste((0, 0, 0), (1000, 100, 1590, 690))
    file = BytesIO()
    image.save(file, "PNG")
    decoded = decode_image(image)
    journal.add_image(decoded.sha256, image.size, "large.png", file.getvalue())
    return decoded.sha256


@pytest.mark.parametrize("scored_first", [False, True])
def test_the_prediction_is_the_same_before_and_after_the_scorer(journal, scored_first):
    sha256, judge = large_image(journal), fake_judge()
    desk = desk_of(journal, judge, Settings())
    if scored_first:
        Scorer(journal, judge, every_s=0).work()
    stored = save(desk, "ann", sha256)["event"]["model"]["abnormal_probability"]
    Scorer(journal, judge, every_s=0).work()
    assert stored == judge.inspect(journal.picture(sha256)).abnormal_probability
    assert stored == logic.look(desk, sha256)["model"]["abnormal_probability"]
    assert stored == history.scored(journal, sha256, "0123456789ab").abnormal_probability
    assert logic.look(desk, sha256)["model"]["outcome"] == "abnormal"


def test_an_image_out_of_distribution_is_shown_as_such(journal):
    image = decode_image(Image.new("RGB", (60, 40), "red"))
    content = BytesIO()
    image.image.save(content, "PNG")
    journal.add_image(image.sha256, image.image.size, "red.png", content.getvalue())
    desk = desk_of(journal, fake_judge(), Settings())
    assert logic.look(desk, image.sha256)["model"]["outcome"] == "out_of_distribution"
    desk.close()


def test_an_image_is_inspected_once_however_often_it_is_asked_for(journal, shas):
    model = FakeModel()
    desk = desk_of(journal, fake_judge(model), Settings())
    logic.next_images(desk, "ann", 1, "plain")  # prefetches it
    save(desk, "ann", shas[0])
    save(desk, "ann", shas[0], "unsure")
    assert logic.look(desk, shas[0])["model"]["outcome"] == "abnormal"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(desk.predictions.inspection, [shas[1]] * 8))
    desk.close()
    assert model.predictions == 2 and all(one is found[0] for one in found)


def test_a_score_of_the_model_in_use_is_the_prediction_and_one_of_an_older_model_is_not(journal, shas):
    model = FakeModel()
    desk = desk_of(journal, fake_judge(model), Settings())
    for sha256, revision in ((shas[0], "0123456789ab"), (shas[1], "older")):
        score = Score(sha256, ModelPrediction("fake-model", revision, 0.25), 0.4)
        set_scores(journal, revision, [score])
    desk.predictions.prefetch(shas[0])
    assert save(desk, "ann", shas[0])["event"]["model"] == {
        "name": "fake-model", "revision": "0123456789ab", "abnormal_probability": 0.25,
    }  # fmt: skip
    desk.close()
    assert model.predictions == 0
    assert save(desk, "ann", shas[1])["event"]["model"]["abnormal_probability"] != 0.25


def test_a_newer_model_predicts_anew(journal, shas):
    judge = fake_judge()
    desk = desk_of(journal, judge, Settings())
    assert save(desk, "ann", shas[0])["event"]["model"]["revision"] == "0123456789ab"
    newer = FakeModel()
    newer.info = replace(newer.info, revision="newer")
    judge.models.first.replace(newer)
    assert save(desk, "ann", shas[0])["event"]["model"]["revision"] == "newer"
    assert newer.predictions == 1


def test_an_image_that_cannot_be_inspected_is_labeled_without_a_prediction(desk):
    desk.journal.add_image("e" * 64, (120, 90), "odd.png", content=b"damaged since")
    assert save(desk, "ann", "e" * 64)["event"]["model"] is None
    assert save(desk, "ann", "e" * 64)["event"]["model"] is None  # tried again, and nobody waits for ever


def test_a_closed_desk_has_no_threads_that_inspect(journal, shas):
    model = FakeModel()
    desk = desk_of(journal, fake_judge(model), Settings())
    logic.next_images(desk, "ann", 5, "plain")
    desk.close()
    predictions = model.predictions
    with pytest.raises(RuntimeError):
        desk.predictions.prefetch(shas[4])
    assert model.predictions == predictions


# Taking labels


def test_a_label_is_saved_with_the_prediction(desk, shas):
    box = {"x": 1, "y": 2, "width": 3, "height": 4}
    answer = save(desk, "ann", shas[0], "abnormal", defect_type="crack", boxes=[box], note=HOSTILE)
    event = answer["event"]
    assert (event["label"], event["defect_type"], event["boxes"], event["note"], event["annotator"]) == (
        "abnormal", "crack", [box | {"defect_type": ""}], HOSTILE, "ann",
    )  # fmt: skip
    assert (event["polygons"], event["mask_type"]) == ([], "")
    assert event["model"]["name"] == "fake-model" and 0.4 < event["model"]["abnormal_probability"] <= 1
    assert answer["progress"]["own"] == answer["progress"]["own_last_hour"] == answer["progress"]["done"] == 1
    assert desk.journal.vote(shas[0], "ann").note == HOSTILE


def test_boxes_polygons_and_a_mask_have_types_of_their_own(desk, shas):
    box = {"x": 1, "y": 2, "width": 3, "height": 4, "defect_type": HOSTILE[:200]}
    corners = [[0, 0], [120, 0], [120, 90]]
    polygons = [{"points": corners, "defect_type": " scratch "}, {"points": corners}]
    content = text_of(mask((120, 90), (10, 20, 40, 60)))
    marks = {"boxes": [box], "polygons": polygons, "mask": content, "mask_type": "stain"}
    event = json.loads(
        json.dumps(save(desk, "ann", shas[0], "abnormal", defect_type="crack", **marks)["event"])
    )
    assert event["boxes"] == [box] and event["mask_type"] == "stain"
    assert event["polygons"] == [
        {"points": corners, "defect_type": "scratch"}, {"points": corners, "defect_type": ""},
    ]  # fmt: skip
    again = save(desk, "ann", shas[1], "abnormal", **{name: event[name] for name in marks})
    assert desk.journal.vote(shas[1], "ann").polygons == desk.journal.vote(shas[0], "ann").polygons
    assert again["event"]["boxes"] == [box]


def test_a_mask_type_without_a_mask_is_left_out(desk, shas):
    assert save(desk, "ann", shas[0], "abnormal", mask_type="stain")["event"]["mask_type"] == ""


def test_a_label_sent_twice_is_one_label(desk, shas):
    first = save(desk, "ann", shas[0], event_id=ID)
    assert save(desk, "ann", shas[0], "abnormal", event_id=ID)["event"] == first["event"]
    assert len(desk.journal.events()) == 1


def test_the_event_id_of_another_annotator_gives_nothing_away(desk, shas):
    save(desk, "ann", shas[0], "abnormal", event_id=ID)
    for attempt in (lambda: save(desk, "bob", shas[0], event_id=ID), lambda: logic.undo(desk, "bob", ID)):
        with pytest.raises(LabelError, match=ID) as refusal:
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
        {"page": 5},
        {"page": "p" * 201},
        {"replaces": []},
        {"boxes": "everywhere"},
        {"boxes": [[1, 2, 3, 4]]},
        {"boxes": [{"x": 1, "y": 2, "width": 3}]},
        {"boxes": [{"x": 1, "y": 2, "width": 3, "height": float("nan")}]},
        {"boxes": [{"x": 1, "y": 2, "width": 3, "height": True}]},
        {"boxes": [{"x": 118, "y": 2, "width": 3, "height": 3}]},
        {"boxes": [{"x": -1, "y": 2, "width": 3, "height": 3}]},
        {"boxes": [{"x": 1, "y": 2, "width": 0, "height": 3}]},
        {"boxes": [{"x": 1, "y": 2, "width": 3, "height": 3, "defect_type": 5}]},
        {"boxes": [{"x": 1, "y": 2, "width": 3, "height": 3, "defect_type": "t" * 201}]},
        {"boxes": [{"x": 1, "y": 2, "width": 3, "height": 3, "color": "red"}]},
        {"polygons": "everywhere"},
        {"polygons": [[[0, 0], [5, 0], [5, 5]]]},
        {"polygons": [{"points": [[0, 0], [5, 0]]}]},
        {"polygons": [{"points": [[0, 0], [5, 0], [5]]}]},
        {"polygons": [{"points": [[0, 0], [5, 0], 7]}]},
        {"polygons": [{"points": [[0, 0], [5, 0], [5, 1.5]]}]},
        {"polygons": [{"points": [[0, 0], [121, 0], [5, 5]]}]},
        {"polygons": [{"points": [[0, 0], [5, 0], [5, 91]]}]},
        {"polygons": [{"points": [[0, 0], [5, 0], [5, 5]]}] * 101},
        {"polygons": [{"points": [[0, 0], [5, 0], [5, 5]] * 7_000}]},
        {"mask_type": 5},
    ],
)
def test_a_label_with_a_wrong_value_is_refused(desk, shas, wrong):
    with pytest.raises(LabelError):
        logic.save(desk, "ann", Answer(**{"sha256": shas[0], "label": "normal"} | wrong))
    assert desk.journal.events() == []


def test_undo_takes_back_only_own_labels_and_goes_further_back(desk, shas):
    save(desk, "ann", shas[0])
    save(desk, "ann", shas[1], "abnormal")
    save(desk, "bob", shas[2])
    answer = logic.undo(desk, "ann")
    assert answer["undone"]["label"] == "abnormal" and answer["image"]["name"] == "chip01.png"
    assert logic.undo(desk, "ann")["image"]["name"] == "chip00.png"
    with pytest.raises(LabelError):
        logic.undo(desk, "ann")
    assert desk.journal.vote(shas[2], "bob").label == "normal"


def test_undo_of_a_second_label_leaves_the_first(desk, shas):
    save(desk, "ann", shas[0], "normal")
    save(desk, "ann", shas[0], "abnormal")
    logic.undo(desk, "ann")
    assert desk.journal.vote(shas[0], "ann").label == "normal"


def test_an_undo_sent_twice_is_one_undo(desk, shas):
    save(desk, "ann", shas[0])
    save(desk, "ann", shas[1])
    first = logic.undo(desk, "ann", ID)
    assert logic.undo(desk, "ann", ID)["undone"] == first["undone"]
    assert desk.journal.vote(shas[0], "ann")


# Masks


def test_a_mask_is_saved_exactly_and_given_back_to_its_annotator(desk, shas, tmp_path):
    content = mask((120, 90), (10, 20, 40, 60))
    event = save(desk, "ann", shas[0], "abnormal", mask=text_of(content))["event"]
    assert event["mask"] == text_of(content) and desk.journal.vote(shas[0], "ann").mask == content
    assert logic.opened(desk, "ann", False)["own"][0]["event"]["mask"] == text_of(content)
    assert logic.again(desk, "ann", shas[0])["event"]["mask"] == text_of(content)
    assert text_of(content) not in json.dumps(logic.again(desk, "bob", shas[0]))
    assert logic.undo(desk, "ann")["undone"]["mask"] == text_of(content)
    save(desk, "ann", shas[0], "abnormal", mask=text_of(content))
    folder = export_labels(desk.journal, tmp_path / "out", "imagefolder").folder
    assert (folder / "masks" / f"{shas[0]}.png").read_bytes() == content


GRAY = Image.open(BytesIO(mask((120, 90), (10, 20, 40, 60))))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_black_and_white_mask_of_any_mode_is_stored_with_one_channel(desk, shas, mode):
    event = save(desk, "ann", shas[0], mask=encoded(GRAY.convert(mode)))["event"]
    stored = Image.open(BytesIO(base64.b64decode(event["mask"])))
    assert stored.mode == "L" and stored.tobytes() == GRAY.tobytes()


def test_a_mask_may_be_as_large_as_the_canvas_of_the_page(desk):
    decoded = decode_image(Image.new("RGB", (3000, 2000), "gray"))
    file = BytesIO()
    decoded.image.save(file, "PNG")
    desk.journal.add_image(decoded.sha256, (3000, 2000), "large.png", file.getvalue())
    assert logic.next_images(desk, "ann")["images"][0]["mask_size"] == [1500, 1000]
    canvas = mask((1500, 1000), (300, 200, 900, 400))
    event = save(desk, "ann", decoded.sha256, mask=text_of(canvas))["event"]
    stored = Image.open(BytesIO(base64.b64decode(event["mask"])))
    assert stored.size == (3000, 2000) and stored.getbbox() == (600, 400, 1800, 800)


FRAMES = {"save_all": True, "append_images": [Image.new("L", (120, 90), 255)]}


@pytest.mark.parametrize(
    "wrong",
    [
        5,
        "no base64!",
        "\u00e9\u202e",
        text_of(b"no picture"),
        encoded(GRAY)[:80],
        text_of(mask((120, 89))),
        text_of(mask((90, 120))),
        text_of(mask((60, 45))),
        text_of(mask((9_000, 9_000))),
        encoded(Image.new("L", (120, 90), 7)),
        encoded(Image.new("RGB", (120, 90), "red")),
        encoded(Image.new("RGBA", (120, 90), (0, 0, 0, 0))),
        encoded(GRAY.convert("I;16")),
        encoded(GRAY, "BMP"),
        encoded(GRAY, **FRAMES),
        encoded(GRAY, transparency=0),
    ],
)
def test_a_mask_of_another_kind_or_size_is_refused(desk, shas, wrong):
    with pytest.raises(LabelError):
        save(desk, "ann", shas[0], mask=wrong)
    assert desk.journal.events() == []


def test_a_mask_of_too_many_bytes_is_refused_before_it_is_decoded(desk, shas, monkeypatch):
    monkeypatch.setattr(values, "MAX_MASK_BYTES", 30)
    with pytest.raises(LabelError, match="30"):
        save(desk, "ann", shas[0], mask=text_of(mask((120, 90))))


# Adding images


def test_added_files_are_known_once_and_a_bad_one_is_named(desk, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"this is no image")
    one = draw(tmp_path / "one.png", 1)
    uploads = [(HOSTILE, one), ("copy.png", one), ("bad.png", tmp_path / "bad.png")]
    added = adding.add_files(desk.journal, uploads, DEFAULT_LIMITS)
    assert (added.added, added.known, len(added.refused)) == (1, 1, 1) and "bad.png" in added.refused[0]
    assert names(logic.next_images(desk, "ann", 5)) == [HOSTILE]


def test_the_html_of_an_upload_is_escaped_and_short():
    page = html.added_html(Intake(1, 2, (HOSTILE,) * 30))
    assert "<img" not in page and page.count("<li>") == 21 and "30" in page and "10" in page
    assert "<img" not in html.refused_html(HOSTILE)
