import re
from datetime import datetime, timedelta, timezone

import pytest

from chipdemo.errors import LabelError
from chipdemo.labeling.label import MAX_NOTE, Box, Label, ModelPrediction, Polygon, retraction_of

SHA = "a" * 64
TRIANGLE = Polygon(((0, 0), (5, 0), (5, 5)))


def test_each_label_has_its_own_id_and_a_time():
    first, second = Label(SHA, "normal", "ann"), Label(SHA, "normal", "ann")
    assert first.event_id != second.event_id
    assert first.created_at.utcoffset() == timedelta(0)


def test_a_retraction_names_its_event_and_has_no_label():
    label = Label(SHA, "normal", "ann")
    assert retraction_of(label, "ann").retracts == label.event_id
    assert retraction_of(label, "ann").label == ""


@pytest.mark.parametrize(
    "change, found",
    [
        ({"image_sha256": "../etc"}, "../etc"),
        ({"label": "perhaps"}, "perhaps"),
        ({"label": ""}, "''"),
        ({"annotator": "  "}, "annotator"),
        ({"annotator": "a" * 201}, "201"),
        ({"note": "n" * (MAX_NOTE + 1)}, "10,001"),
        ({"note": "\ud800"}, "\ufffd"),
        ({"event_id": "1"}, "'1'"),
        ({"retracts": "1", "label": ""}, "'1'"),
        ({"boxes": (Box(-1, 0, 5, 5),)}, "-1"),
        ({"boxes": (Box(0, 0, 0, 5),)}, "width=0"),
        ({"boxes": (Box(999_999, 0, 1_000_001, 5),)}, "1000001"),
        ({"boxes": (Box(0, 0, 5, 5),) * 101}, "101"),
        ({"boxes": (Box(0, 0, 5, 5, "t" * 201),)}, "201"),
        ({"polygons": (Polygon(((0, 0), (5, 5))),)}, "no area"),
        ({"polygons": (Polygon(((0, 0), (5, 5), (9, 9), (2, 2))),)}, "no area"),
        ({"polygons": (Polygon(((0, 0), (-1, 5), (5, 5))),)}, "-1"),
        ({"polygons": (Polygon(((0, 0), (1_000_001, 5), (5, 5))),)}, "1000001"),
        ({"polygons": (TRIANGLE,) * 101}, "101"),
        ({"polygons": (Polygon(TRIANGLE.points * 6_667),)}, "20,001"),
        ({"polygons": (Polygon(TRIANGLE.points, "t" * 201),)}, "201"),
        ({"mask_type": "crack"}, "crack"),
        ({"mask": b"GIF89a"}, "PNG"),
        ({"prediction": ModelPrediction("m", "r", 1.5)}, "1.5"),
        ({"created_at": datetime(2026, 1, 1)}, "2026-01-01"),
        ({"created_at": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))}, "2026-01-01"),
    ],
)
def test_an_invalid_label_is_refused_with_the_value_found(change, found):
    with pytest.raises(LabelError, match=re.escape(found)):
        Label(**{"image_sha256": SHA, "label": "normal", "annotator": "ann"} | change)


def test_a_polygon_that_crosses_itself_has_an_area_and_a_box_around_it():
    bow = Polygon(((1, 2), (9, 6), (9, 2), (1, 6)), "crack")
    assert Label(SHA, "abnormal", "ann", polygons=(bow,)).polygons[0].box == Box(1, 2, 8, 4, "crack")
