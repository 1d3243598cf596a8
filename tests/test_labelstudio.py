"""Label Studio's JSON in and out, and its run lengths. test_formats.py has the round trip."""

import base64
import json
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from chipdemo.errors import ExchangeError
from chipdemo.images import read_image
from chipdemo.labeling.formats import export_labels, import_labels
from chipdemo.labeling.formats.brush import pack, unpack, unpack_values
from chipdemo.labeling.intake import add_contents
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Box, Label, Polygon
from tests.drawn import mask, picture

IMAGES = [picture(n) for n in range(3)]  # 12 x 8 pixels
SHAS = [read_image(content).sha256 for content in IMAGES]
SIZE = {"original_width": 12, "original_height": 8, "image_rotation": 0}


@pytest.fixture
def fresh(tmp_path):
    with Journal(tmp_path / "fresh.db") as journal:
        yield journal


# Run lengths


def test_run_lengths_are_those_of_the_converter_of_label_studio():
    """The example of label-studio-converter, tests/test_brush.py."""
    values = [1, 1, 1, 1, 2, 3, 5, 6, 7, 8, 4, 4, 4, 4, 4, 4, 4, 4]
    packed = [0, 0, 0, 18, 57, 27, 252, 96, 32, 1, 0, 6, 0, 40, 0, 192, 3, 128, 17, 56, 32]
    assert list(unpack_values(packed, 18)) == values


def test_a_mask_is_packed_as_the_converter_packs_it():
    pixels = np.array([[False, True], [True, False]])
    assert pack(pixels) == [0, 0, 0, 16, 57, 27, 252, 96, 19, 255, 198, 0]
    assert unpack(pack(pixels), (2, 2)).tolist() == pixels.tolist()


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (200, 300)])
@pytest.mark.parametrize("share", [0, 0.03, 0.5, 1])
def test_a_packed_mask_is_the_same_when_it_is_unpacked(shape, share):
    pixels = np.random.default_rng(0).random(shape) < share
    assert (unpack(pack(pixels), shape) == pixels).all()


def test_single_values_are_unpacked_and_alpha_is_the_mask():
    red = [200, 0, 0, 0], [200, 0, 0, 255]
    bits = f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + "0" + "00" + f"{7:03b}"
    bits += "".join(f"{value:08b}" for pixel in red for value in pixel)
    packed = [int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8)]
    assert unpack(packed, (1, 2)).tolist() == [[False, True]]


@pytest.mark.parametrize(
    "packed, found",
    [
        ([], "too early"),
        (pack(np.ones((2, 3), bool))[:-1], "too early"),
        (pack(np.ones((2, 2), bool)), "16"),
        ([0, 0, 0, 24, 57, 27, 252, 0xE0, 0xFF, 0xFF, 0xFF], "more than 24"),
        ([256], "256"),
    ],
)
def test_damaged_run_lengths_are_refused(packed, found):
    with pytest.raises(ValueError, match=found):
        unpack(packed, (2, 3))


# Export


def test_an_export_has_a_task_with_shapes_in_percent_and_a_configuration(tmp_path):
    content = mask((12, 8), (1, 2, 4, 5))
    with Journal(tmp_path / "labels.db") as journal:
        add_contents(journal, [("chip.png", IMAGES[0])])
        shapes = {"boxes": (Box(3, 2, 6, 4, "dent"),), "polygons": (Polygon(((0, 0), (12, 0), (12, 8))),)}
        marks = {**shapes, "mask": content, "mask_type": 'a<"&\x01'}
        journal.append(Label(SHAS[0], "abnormal", "ann", "crack", note="left", **marks))
        export_labels(journal, tmp_path / "out", "labelstudio")
    (task,) = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert task["data"]["image"] == f"/data/local-files/?d=images/{SHAS[0]}.png"
    assert task["data"]["name"] == "chip.png"
    (annotation,) = task["annotations"]
    results = {result["from_name"]: result for result in annotation["result"]}
    assert len({result["id"] for result in results.values()}) == len(results) == 6
    assert results["verdict"]["value"] == {"choices": ["abnormal"]}
    assert results["defect_type"]["value"] == {"choices": ["crack"]}
    assert results["note"]["value"] == {"text": ["left"]} and results["note"]["type"] == "textarea"
    assert results["boxes"]["value"] == {
        "x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["dent"],
    }  # fmt: skip
    assert results["boxes"].items() >= {"type": "rectanglelabels", "to_name": "image", **SIZE}.items()
    assert results["polygons"]["value"]["points"] == [[0, 0], [100, 0], [100, 100]]
    assert results["polygons"]["value"]["polygonlabels"] == ["crack"]
    drawn = unpack(results["mask"]["value"]["rle"], (8, 12))
    assert (255 * drawn == np.asarray(Image.open(BytesIO(content)))).all()
    view = ElementTree.parse(tmp_path / "out" / "label_config.xml").getroot()
    controls = {control.get("name"): control for control in view}
    assert controls["image"].get("value") == "$image"
    assert {name for name, one in controls.items() if one.get("toName") == "image"} == results.keys()
    values = [[label.get("value") for label in controls[name]] for name in ("verdict", "defect_type", "mask")]
    assert values == [
        ["normal", "abnormal", "unsure"],
        ["crack"],
        ['a<"&\N{REPLACEMENT CHARACTER}', "crack", "dent"],
    ]


# Import


def task(*results: dict, image: str = "a.png", **more) -> dict:
    return {"data": {"image": image}, "annotations": [{"result": list(results)}], **more}


def region(kind: str, types: list[str] = (), **value) -> dict:
    return {"type": kind, "from_name": "label", "value": {**value, kind: list(types)}, **SIZE}


def choice(*words: str, control: str = "quality") -> dict:
    return {"type": "choices", "from_name": control, "value": {"choices": list(words)}}


BOX = {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0}
RECTANGLE = region("rectanglelabels", ["dent"], **BOX)


def imported(journal, folder, *tasks, images=("a.png",)):
    """The labels of eve in the order of `images`, and the result."""
    for name, content in zip(images, IMAGES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    file = folder / "project-1.json"
    file.write_text(json.dumps(tasks))
    result = import_labels(journal, file, "eve")
    votes = (journal.vote(sha256, "eve") for sha256 in SHAS)
    return [vote for vote in votes if vote], result


def test_boxes_polygons_brushes_choices_and_text_are_read(fresh, tmp_path):
    pixels = np.zeros((8, 12), bool)
    pixels[2:5, 1:4] = True
    results = [
        RECTANGLE,
        region("polygonlabels", ["dent"], points=[[0, 0], [50.2, 0], [50, 100]], closed=True),
        region("brushlabels", ["stain"], format="rle", rle=pack(pixels)),
        choice("NG"),
        {"type": "textarea", "from_name": "comment", "value": {"text": ["one", "two"]}},
    ]
    (label,), result = imported(fresh, tmp_path, task(*results))
    assert (label.label, label.defect_type, label.note) == ("abnormal", "dent", "one\ntwo")
    assert label.boxes == (Box(3, 2, 6, 4),)
    assert label.polygons == (Polygon(((0, 0), (6, 0), (6, 8))),)
    assert label.mask_type == "stain"
    assert np.asarray(Image.open(BytesIO(label.mask))).astype(bool).tolist() == pixels.tolist()
    assert (result.added, result.refused, result.left_out) == (1, (), ())
    assert import_labels(fresh, tmp_path / "project-1.json", "eve").known == 1


@pytest.mark.parametrize(
    "results, label",
    [
        ([], "normal"),
        ([choice("good")], "normal"),
        ([RECTANGLE], "abnormal"),
        ([choice("unsure"), RECTANGLE], "unsure"),
        ([region("ellipselabels", ["dent"], x=5, y=5, radiusX=2, radiusY=2)], "abnormal"),
    ],
)
def test_the_label_is_the_choice_else_abnormal_if_anything_is_marked(fresh, tmp_path, results, label):
    labels, _ = imported(fresh, tmp_path, task(*results))
    assert [one.label for one in labels] == [label]


@pytest.mark.parametrize(
    "address, name",
    [
        ("/data/upload/3/0a1b2c3d-chip%201.png", "0a1b2c3d-chip 1.png"),
        ("/data/upload/3/0a1b2c3d-chip%201.png", "images/chip 1.png"),
        ("/data/local-files/?d=lots%2Flot1%2Fchip.png", "lot1/chip.png"),
        ("s3://bucket/lots/chip.png", "chip.png"),
        ("https://example.com/lots/chip.png?size=9", "lots/chip.png"),
        ("lots\\chip.png", "images/lots/chip.png"),
    ],
)
def test_images_are_found_beside_the_file_by_as_much_of_their_path_as_there_is(
    fresh, tmp_path, address, name
):
    labels, result = imported(fresh, tmp_path, task(image=address), images=[name])
    assert [label.image_sha256 for label in labels] == SHAS[:1] and result.refused == ()
    assert fresh.image(SHAS[0]).name in ("chip 1.png", "chip.png")


def test_an_image_may_be_embedded_and_under_any_key(fresh, tmp_path):
    address = "data:image/png;base64," + base64.b64encode(IMAGES[1]).decode()
    labels, _ = imported(
        fresh, tmp_path, {**task(RECTANGLE), "data": {"lot": "7", "photo": address}, "id": 12}
    )
    assert [label.image_sha256 for label in labels] == [SHAS[1]] and fresh.content(SHAS[1]) == IMAGES[1]
    assert fresh.image(SHAS[1]).name == "task 12"


def test_a_turned_box_becomes_a_polygon(fresh, tmp_path):
    turned = region("rectanglelabels", ["dent"], x=50, y=25, width=50, height=25, rotation=90)
    (label,), _ = imported(fresh, tmp_path, task(turned))
    assert label.polygons == (Polygon(((6, 2), (6, 8), (4, 8), (4, 2))),) and label.boxes == ()


def test_a_polygon_smaller_than_a_pixel_becomes_a_box(fresh, tmp_path):
    tiny = region("polygonlabels", ["dent"], points=[[50, 50], [51, 50], [51, 51]])
    (label,), _ = imported(fresh, tmp_path, task(tiny))
    assert (label.boxes, label.polygons) == ((Box(6, 4, 1, 1),), ())


def test_a_region_may_have_its_types_in_another_result(fresh, tmp_path):
    plain = {**region("rectangle", **BOX), "id": "r1"}
    typed = {**region("labels", ["dent"], **BOX), "id": "r1"}
    (label,), _ = imported(fresh, tmp_path, task(plain, typed))
    assert label.boxes == (Box(3, 2, 6, 4),) and label.defect_type == "dent"


def test_the_ground_truth_counts_else_the_latest_annotation_that_was_not_skipped(fresh, tmp_path):
    good, bad = {"result": [choice("good")]}, {"result": [choice("bad")]}
    late, early = {"created_at": "2026-01-01T00:00:00Z"}, {"created_at": "2025-01-01T00:00:00Z"}
    names = ["a.png", "b.png", "c.png"]
    tasks = [
        {"data": {"image": "a.png"}, "annotations": [good | early | {"ground_truth": True}, bad | late]},
        {"data": {"image": "b.png"}, "annotations": [bad | late, good | early]},
        {"data": {"image": "c.png"}, "completions": [good | early, bad | late | {"was_cancelled": True}]},
    ]
    labels, result = imported(fresh, tmp_path, *tasks, images=names)
    assert [label.label for label in labels] == ["normal", "abnormal", "normal"]
    assert [line.split(":")[0] for line in result.left_out] == names


def test_what_a_label_cannot_hold_is_named(fresh, tmp_path):
    pixels = np.ones((8, 12), bool)
    results = [
        region("rectanglelabels", ["dent", "scratch"], **BOX),
        region("ellipselabels", ["dent"], x=5, y=5, radiusX=2, radiusY=2),
        region("ellipselabels", ["dent"], x=9, y=9, radiusX=2, radiusY=2),
        choice("ng"),
        choice("blurry", control="focus"),
        {"type": "rating", "from_name": "stars", "value": {"rating": 4}},
        region("brushlabels", ["stain"], format="rle", rle=pack(pixels)),
        region("brushlabels", ["burn"], format="rle", rle=pack(pixels)),
    ]
    (label,), result = imported(fresh, tmp_path, task(*results))
    assert label.boxes == (Box(3, 2, 6, 4, "dent" if label.defect_type != "dent" else ""),)
    for found in ("scratch", "2 x", "ellipselabels", "blurry", "focus", "rating", "stain"):
        assert any(found in line for line in result.left_out), found


@pytest.mark.parametrize(
    "wrong, found",
    [
        (task(choice("ok", "bad")), "contradict"),
        (task(choice("blurry")), "blurry"),
        (task(image="../secret.png"), "secret.png"),
        (task(image="gone.png"), "gone.png"),
        (task(image=""), "names no image"),
        ({"data": {"image": "a.png"}, "annotations": []}, "no annotation"),
        ({"data": {"image": "a.png"}, "annotations": [{"result": [], "was_cancelled": True}]}, "skipped"),
        (task({**RECTANGLE, "original_width": 24, "original_height": 16}), "24 x 16"),
        (task({**RECTANGLE, "original_width": 10**6, "original_height": 10**6}), "megapixels"),
        (task({**RECTANGLE, "original_width": "12"}), "malformed"),
        (task(region("brushlabels", ["dent"], format="rle", rle=[1, 2])), "too early"),
        (task(region("brushlabels", ["dent"], format="rle", rle="abc")), "malformed"),
        (task(region("polygonlabels", ["dent"], points=[])), "malformed"),
        (task(region("rectanglelabels", ["dent"], x=150, y=150, width=5, height=5)), "outside"),
        (task(image="data:image/png;base64,!"), "malformed"),
        ({"annotations": [{"result": []}]}, "data"),
        ({"data": [], "annotations": [5]}, "malformed"),
        (5, "no annotation"),
    ],
)
def test_a_task_that_is_wrong_is_refused_and_the_others_are_taken(fresh, tmp_path, wrong, found):
    (tmp_path / "secret.png").write_bytes(IMAGES[2])
    labels, result = imported(
        fresh, tmp_path / "chips", wrong, task(RECTANGLE, image="b.png"), images=["a.png", "b.png"]
    )
    assert [label.image_sha256 for label in labels] == [SHAS[1]]
    assert len(result.refused) == 1 and found in result.refused[0] and "Error(" not in result.refused[0]


@pytest.mark.parametrize("tasks", [[], [{"image": "a.png", "label": [BOX]}], [5]])
def test_json_min_and_other_lists_are_refused_with_what_to_do(fresh, tmp_path, tasks):
    with pytest.raises(ExchangeError, match="JSON-MIN"):
        imported(fresh, tmp_path, *tasks)
