from datetime import datetime, timedelta, timezone

import pytest

from chipdemo.errors import LabelError
from chipdemo.labeling.label import MAX_NOTE, Box, Label, ModelPrediction, retraction_of

SHA = "a" * 64


def test_a_label_has_an_id_and_a_time_of_its_own():
    first, second = Label(SHA, "normal", "ann"), Label(SHA, "normal", "ann")
    assert first.event_id != second.event_id
    assert first.created_at.utcoffset() == timedelta(0)


def test_a_retraction_names_what_it_undoes_and_has_no_label():
    label = Label(SHA, "normal", "ann")
    assert retraction_of(label, "ann").retracts == label.event_id
    assert retraction_of(label, "ann").label == ""


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"image_sha256": "../etc"}, "64 hex digits"),
        ({"label": "perhaps"}, "one of normal, abnormal, unsure"),
        ({"label": ""}, "one of normal"),
        ({"annotator": "  "}, "name of the person"),
        ({"annotator": "a" * 201}, "at most 200 characters"),
        ({"note": "n" * (MAX_NOTE + 1)}, "at most 10,000 characters"),
        ({"note": "\ud800"}, "UTF-8"),
        ({"event_id": "1"}, "UUID"),
        ({"retracts": "1", "label": ""}, "UUID"),
        ({"boxes": (Box(-1, 0, 5, 5),)}, "boxes"),
        ({"boxes": (Box(0, 0, 0, 5),)}, "boxes"),
        ({"boxes": (Box(999_999, 0, 1_000_001, 5),)}, "boxes"),
        ({"mask": b"GIF89a"}, "mask as a PNG"),
        ({"said": ModelPrediction("m", "r", 1.5)}, "0-1"),
        ({"created_at": datetime(2026, 1, 1)}, "UTC"),
        ({"created_at": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))}, "UTC"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_what_was_expected(change, expected):
    with pytest.raises(LabelError, match=f"Expected .*{expected}.*was not kept"):
        Label(**{"image_sha256": SHA, "label": "normal", "annotator": "ann"} | change)
