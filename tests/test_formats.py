import csv
import errno
import json
import os
import threading
from collections import Counter
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml
from datasets import load_dataset
from PIL import Image

from chipdemo.errors import ExchangeError, LabelError
from chipdemo.images import read_image
from chipdemo.labeling.agreement import consensus_of
from chipdemo.labeling.folders import labeled_files, split_folders, split_of
from chipdemo.labeling.formats import export_labels, import_labels
from chipdemo.labeling.formats.coco import runs_of
from chipdemo.labeling.formats.entry import entries_of
from chipdemo.labeling.intake import add_contents
from chipdemo.labeling.journal import Counts, Journal
from chipdemo.labeling.label import Box, Label, Polygon
from chipdemo.spreadsheet import escaped, unescaped
from tests.drawn import chip, mask, picture
from training.data import load_images
from training.sources import read_data

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
HOSTILE = "=1+1\u202e<script>alert(1)</script>\r\n\x00\x1b[31m\"';,\U0001f4a5" + "x" * 9_000
FORMATS = ("imagefolder", "parquet", "csv", "coco", "yolo", "labelstudio")
ROUND_TRIPS = ("imagefolder", "csv", "coco", "labelstudio")
IMAGES = [picture(n) for n in range(6)]
NORMAL, CRACK, UNSURE, DISPUTED, ODD, UNLABELED = (read_image(content).sha256 for content in IMAGES)
ODD_TYPE = "=scratch: \u202e\"'\\\x7f\n\U0001f4a5"
MASK = mask((12, 8), (1, 2, 4, 5), (8, 0, 12, 3))
BOXES = (Box(0, 1, 5, 6), Box(11, 7, 1, 1, "dent"))
POLYGONS = (Polygon(((0, 0), (12, 0), (12, 8)), "scratch"), Polygon(((1, 1), (4, 1), (4, 4), (1, 4))))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture
def journal(tmp_path):
    """An image of each kind: agreed, disputed, unsure, with hostile text, and not labeled."""
    with Journal(tmp_path / "labels.db") as journal:
        add_contents(journal, [(f"chip {n}.png", content) for n, content in enumerate(IMAGES[:4])])
        add_contents(journal, [("../=cmd|\u202e\n" + "n" * 300, IMAGES[4]), ("5.png", IMAGES[5])])
        more = {"polygons": POLYGONS, "mask_type": "stain"}
        journal.append(
            Label(NORMAL, "normal", "ann"),
            Label(NORMAL, "normal", "bob", note="clean"),
            Label(CRACK, "abnormal", "ann", "crack", BOXES, MASK, "left", created_at=NOON, **more),
            Label(CRACK, "abnormal", "bob", "crack", created_at=NOON + timedelta(1)),
            Label(CRACK, "normal", "cy", note="nothing here", created_at=NOON + timedelta(2)),
            Label(UNSURE, "unsure", "ann"),
            Label(DISPUTED, "normal", "ann"),
            Label(DISPUTED, "abnormal", "bob"),
            Label(ODD, "abnormal", "ann", HOSTILE[:150], note=HOSTILE),
        )
        yield journal


def as_png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def exported_fields(journal):
    """What is exported of every image, without the annotators; a mask by its pixels."""
    return {
        entry.image.sha256: (
            entry.consensus.label,
            entry.consensus.defect_type,
            entry.boxes,
            entry.polygons,
            entry.mask_type,
            entry.mask and Image.open(BytesIO(entry.mask)).tobytes(),
            entry.note,
            entry.image.name,
            entry.content,
        )
        for entry in entries_of(journal, Counter())
        if entry.consensus.label != "disputed"
    }


@pytest.mark.parametrize("format", ROUND_TRIPS)
def test_what_was_exported_is_the_same_when_it_is_imported_elsewhere(journal, tmp_path, format):
    exported = export_labels(journal, tmp_path / "out", format)
    assert exported.labels == {"normal": 1, "abnormal": 2, "unsure": 1}
    assert exported.left_out == {"disputed": 1}
    with Journal(tmp_path / "other.db") as other:
        imported = import_labels(other, tmp_path / "out", "eve")
        assert (imported.added, imported.known, imported.refused) == (4, 0, ())
        assert exported_fields(other) == exported_fields(journal) and len(exported_fields(other)) == 4


@pytest.mark.parametrize("format", ROUND_TRIPS)
def test_importing_twice_adds_nothing(journal, tmp_path, format):
    export_labels(journal, tmp_path / "out", format)
    with Journal(tmp_path / "other.db") as other:
        import_labels(other, tmp_path / "out", "eve")
        events = other.events()
        imported = import_labels(other, tmp_path / "out", "eve")
        assert (imported.added, imported.known) == (0, 4) and other.events() == events
        assert import_labels(other, tmp_path / "out", "bob").added == 4


def test_labels_imported_in_one_format_are_known_in_the_others(journal, tmp_path):
    with Journal(tmp_path / "other.db") as other:
        for format in ROUND_TRIPS:
            export_labels(journal, tmp_path / format, format)
            import_labels(other, tmp_path / format, "eve")
        assert other.counts().events == 4


def test_boxes_mask_and_note_come_from_those_who_agree_with_the_consensus(journal):
    (crack,) = (e for e in entries_of(journal, Counter()) if e.image.sha256 == CRACK)
    assert crack.consensus.votes == {"abnormal": 2, "normal": 1} and crack.consensus.defect_type == "crack"
    assert (crack.boxes, crack.polygons, crack.mask, crack.mask_type) == (BOXES, POLYGONS, MASK, "stain")
    assert crack.note == "left"


def test_defects_keep_the_type_they_were_marked_with_when_the_majority_names_another(journal):
    journal.append(*(Label(CRACK, "abnormal", name, "finger") for name in ("dan", "eli", "fay")))
    (crack,) = (e for e in entries_of(journal, Counter()) if e.image.sha256 == CRACK)
    assert crack.consensus.defect_type == "finger"
    assert [box.defect_type for box in crack.boxes] == ["crack", "dent"]
    assert [polygon.defect_type for polygon in crack.polygons] == ["scratch", "crack"]
    assert crack.mask_type == "stain"


@pytest.mark.parametrize("format", FORMATS)
def test_files_are_named_by_their_content_and_never_by_text_of_users(journal, tmp_path, format):
    export_labels(journal, tmp_path / "out", format)
    stems = {path.name.split(".")[0] for path in (tmp_path / "out").rglob("*")}
    assert stems <= {
        *(NORMAL, CRACK, UNSURE, ODD),
        *("normal", "abnormal", "unsure", "crack", "masks", "images", "labels"),
        *("metadata", "annotations", "data", "tasks", "label_config", "train", "val"),
    }


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_that_is_not_empty_is_left_alone(journal, tmp_path, format):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ExchangeError, match=str(tmp_path / "out")):
        export_labels(journal, tmp_path / "out", format)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    assert sorted(path.name for path in tmp_path.glob("*out*")) == ["out"]


def test_an_empty_folder_is_filled(journal, tmp_path):
    (tmp_path / "out").mkdir()
    export_labels(journal, tmp_path / "out", "imagefolder")
    assert (tmp_path / "out" / "metadata.jsonl").exists()


def test_a_full_disk_leaves_nothing_behind(journal, tmp_path, monkeypatch):
    written = []

    def write_bytes(path, content):
        written.append(path)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with path.open("wb") as file:
            return file.write(content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(ExchangeError, match="No space left on device"):
        export_labels(journal, tmp_path / "out", "imagefolder")
    assert len(written) == 3 and list(tmp_path.glob("*out*")) == []


def test_stopping_an_export_leaves_nothing_behind(journal, tmp_path):
    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_labels(journal, tmp_path / "out", "csv", stop)
    assert list(tmp_path.glob("*out*")) == []


def test_without_labels_there_is_nothing_to_export(tmp_path):
    with (
        Journal(tmp_path / "empty.db") as journal,
        pytest.raises(ExchangeError, match="empty.db"),
    ):
        export_labels(journal, tmp_path / "out", "imagefolder")
    assert not (tmp_path / "out").exists()


def test_an_export_is_of_one_moment_whatever_is_labeled_meanwhile(journal, tmp_path):
    def label_on(done):
        labels = Label(DISPUTED, "normal", f"annotator {done}"), Label(UNLABELED, "normal", "ann")
        labeler = threading.Thread(target=journal.append, args=labels)
        labeler.start()
        labeler.join()

    exported = export_labels(journal, tmp_path / "out", "csv", label_on)
    assert exported.labels == {"normal": 1, "abnormal": 2, "unsure": 1}
    assert exported.left_out == {"disputed": 1}
    assert journal.counts().labeled == 6


def test_a_damaged_mask_is_left_out_and_counted(journal, tmp_path):
    small = mask((2, 2), (0, 0, 1, 1))
    journal.append(Label(NORMAL, "normal", "ann", mask=MASK[:40]), Label(UNSURE, "unsure", "ann", mask=small))
    for format in FORMATS:
        exported = export_labels(journal, tmp_path / format, format)
        assert exported.left_out["damaged mask"] == 2
    assert [path.stem for path in (tmp_path / "imagefolder" / "masks").iterdir()] == [CRACK]


def test_an_unknown_format_is_refused(journal, tmp_path):
    with pytest.raises(ExchangeError, match="voc"):
        export_labels(journal, tmp_path / "out", "voc")
    with pytest.raises(ExchangeError, match="yolo"):
        import_labels(journal, tmp_path, "eve", "yolo")


# How other programs read an export


def test_an_imagefolder_is_loaded_with_images_labels_and_boxes(journal, tmp_path):
    export_labels(journal, tmp_path / "out", "imagefolder")
    rows = {row["sha256"]: row for row in load_dataset("imagefolder", data_dir=tmp_path / "out")["train"]}
    assert rows.keys() == {NORMAL, CRACK, UNSURE, ODD}
    crack = rows[CRACK]
    assert crack["image"].size == (12, 8) and crack["label"] == "abnormal"
    assert crack["boxes"][1] == {"x": 11, "y": 7, "width": 1, "height": 1, "defect_type": "dent"}
    assert crack["polygons"][0] == {"points": [[0, 0], [12, 0], [12, 8]], "defect_type": "scratch"}
    assert crack["mask_type"] == "stain"
    assert crack["votes"] == {"normal": 1, "abnormal": 2, "unsure": 0}
    assert (tmp_path / "out" / crack["mask"]).read_bytes() == MASK
    assert rows[ODD]["note"] == HOSTILE and rows[ODD]["boxes"] == []


def test_an_imagefolder_without_any_box_is_loaded(tmp_path, journal):
    export_labels(journal, tmp_path / "with", "imagefolder")
    with Journal(tmp_path / "other.db") as other:
        add_contents(other, [("a.png", IMAGES[0])])
        other.append(Label(NORMAL, "normal", "ann"))
        export_labels(other, tmp_path / "out", "imagefolder")
    assert len(load_dataset("imagefolder", data_dir=tmp_path / "out")["train"]) == 1


def test_a_box_and_a_polygon_stand_first_so_that_readers_know_what_they_are(tmp_path):
    with Journal(tmp_path / "labels.db") as journal:
        add_contents(journal, [(f"{n}.png", content) for n, content in enumerate(IMAGES)])
        first, second, third, fourth = sorted((NORMAL, CRACK, UNSURE, ODD))
        journal.append(
            Label(first, "normal", "ann"),
            Label(second, "abnormal", "ann", boxes=BOXES),
            Label(third, "abnormal", "ann", boxes=BOXES),
            Label(fourth, "abnormal", "ann", polygons=POLYGONS),
        )
        export_labels(journal, tmp_path / "out", "imagefolder")
    rows = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").open()]
    assert [row["sha256"] for row in rows] == [second, fourth, first, third]
    assert len(load_dataset("imagefolder", data_dir=tmp_path / "out")["train"]) == 4


def test_parquet_is_loaded_with_images_and_class_names(journal, tmp_path):
    export_labels(journal, tmp_path / "out", "parquet")
    table = load_dataset(str(tmp_path / "out"))["train"]
    assert table.features["label"].names == ["normal", "abnormal", "unsure"]
    rows = {row["sha256"]: row for row in table}
    assert rows.keys() == {NORMAL, CRACK, UNSURE, ODD}
    assert rows[CRACK]["image"].size == (12, 8) and rows[CRACK]["boxes"][0]["height"] == 6
    assert [box["defect_type"] for box in rows[CRACK]["boxes"]] == ["", "dent"]
    assert rows[CRACK]["polygons"][1] == {"points": [[1, 1], [4, 1], [4, 4], [1, 4]], "defect_type": ""}
    assert rows[CRACK]["mask_type"] == "stain"
    assert np.asarray(rows[CRACK]["mask"]).sum() == 255 * (9 + 12) and rows[NORMAL]["mask"] is None
    assert rows[ODD]["note"] == HOSTILE


@pytest.mark.parametrize(
    "format, data", [("imagefolder", "{}"), ("csv", "{}/labels.csv"), ("parquet", "hf:{}")]
)
def test_training_reads_an_export_and_leaves_out_unsure_images(journal, tmp_path, format, data):
    export_labels(journal, tmp_path / "out", format)
    data = read_data(data.format(tmp_path / "out"))
    images = load_images(data, lambda image: np.asarray(image.resize((4, 4))))
    labels = {sha256: sample.label for sha256, sample in zip(images.sha256, images.samples)}
    assert labels == {NORMAL: "normal", CRACK: "abnormal", ODD: "abnormal"}
    assert {s.defect_type for s in images.samples if s.label == "abnormal"} >= {"crack"}
    assert len(data.left_out) == 1 and data.left_out[0].endswith("unsure")


def test_no_cell_of_a_csv_is_a_formula(journal, tmp_path):
    export_labels(journal, tmp_path / "out", "csv")
    cells = [
        c
        for row in csv.reader((tmp_path / "out/labels.csv").open("r", -1, "utf-8-sig", newline=""))
        for c in row
    ]
    assert len(cells) == 5 * 16 and not any(
        cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells
    )
    assert "'" + HOSTILE.replace("\0", "\u2400") in cells  # no CSV of Python 3.10 holds the character 0


@pytest.mark.parametrize(
    "text", ["=1", "+1", "-1", "@a", "\ta", "\ra", "\na", "'", "'=1", "''a", "'a", "a", "", "\0", "=\0"]
)
def test_an_escaped_cell_is_the_same_when_it_is_read(text):
    assert unescaped(escaped(text)) == text
    assert not escaped(text).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_a_cell_in_quotes_that_nobody_escaped_keeps_them():
    assert unescaped("'tis") == "'tis"


def test_coco_has_a_category_a_defect_type_boxes_polygons_and_runs(journal, tmp_path):
    export_labels(journal, tmp_path / "out", "coco")
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    (crack,) = (image for image in content["images"] if image["sha256"] == CRACK)
    assert (tmp_path / "out" / crack["file_name"]).read_bytes() == IMAGES[1]
    assert (crack["width"], crack["height"]) == (12, 8)
    assert [(names[a["category_id"]], a["bbox"], a["area"]) for a in content["annotations"]] == [
        ("crack", [0, 1, 5, 6], 30),
        ("dent", [11, 7, 1, 1], 1),
        ("scratch", [0, 0, 12, 8], 48),
        ("crack", [1, 1, 3, 3], 9),
        ("stain", [1, 0, 11, 5], 21),
    ]
    assert content["annotations"][0]["segmentation"] == [[0, 1, 5, 1, 5, 7, 0, 7]]
    assert content["annotations"][2]["segmentation"] == [[0, 0, 12, 0, 12, 8]]
    assert {a["image_id"] for a in content["annotations"]} == {crack["id"]}
    assert content["annotations"][4]["segmentation"] == {
        "size": [8, 12],
        "counts": [10, 3, 5, 3, 5, 3, 35, 3, 5, 3, 5, 3, 5, 3, 5],
    }


@pytest.mark.parametrize(
    "rows, runs",
    [
        (["01", "01"], [2, 2]),
        (["10", "10"], [0, 2, 2]),
        (["11"], [0, 2]),
        (["00"], [2]),
        (["01", "10"], [1, 2, 1]),
    ],
)
def test_run_lengths_go_down_the_columns_and_begin_with_zeros(rows, runs):
    assert runs_of(np.array([[digit == "1" for digit in row] for row in rows])) == runs


def test_yolo_has_boxes_as_fractions_and_leaves_out_what_it_cannot_hold(journal, tmp_path):
    journal.append(Label(DISPUTED, "abnormal", "ruth", ODD_TYPE, mask=MASK, decides=True))
    exported = export_labels(journal, tmp_path / "out", "yolo")
    assert exported.left_out == {"unsure": 1, "abnormal without a box or mask": 1}
    lines = {path.stem: path.read_text() for path in (tmp_path / "out" / "labels").glob("*/*.txt")}
    images = {path.stem for path in (tmp_path / "out" / "images").glob("*/*.png")}
    assert lines.keys() == images == {NORMAL, CRACK, DISPUTED} and lines[NORMAL] == ""
    names = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())["names"]
    numbers = {name: str(number) for number, name in enumerate(names)}
    assert lines[CRACK].splitlines() == [
        f"{numbers['crack']} 0.208333 0.500000 0.416667 0.750000",
        f"{numbers['dent']} 0.958333 0.937500 0.083333 0.125000",
        f"{numbers['scratch']} 0.500000 0.500000 1.000000 1.000000",
        f"{numbers['crack']} 0.208333 0.312500 0.250000 0.375000",
    ]
    assert sorted(line.split(" ", 1)[0] for line in lines[DISPUTED].splitlines()) == [numbers[ODD_TYPE]] * 2


def as_ultralytics_finds_it(file: Path, split: str) -> Path:
    """The folder of a split: of check_det_dataset in ultralytics/data/utils.py 8.4, without downloads."""
    data = yaml.safe_load(file.read_text())
    path = Path(data.get("path") or file.parent)
    return (path / data[split]).resolve()


def test_the_yaml_of_yolo_finds_images_and_labels_from_any_working_directory(journal, tmp_path, monkeypatch):
    contents = [as_png(chip(seed)) for seed in range(24)]
    add_contents(journal, [(f"{n}.png", content) for n, content in enumerate(contents)])
    shas = [read_image(content).sha256 for content in contents]
    for index, sha256 in enumerate(shas):
        label, boxes = ("abnormal", (Box(1, 1, 2, 2, f"type {index % 4}"),)) if index % 2 else ("normal", ())
        journal.append(Label(sha256, label, "ann", "crack" if boxes else "", boxes))
    export_labels(journal, tmp_path / "out", "yolo")
    monkeypatch.chdir(tmp_path)
    yaml_file = Path("out") / "data.yaml"
    names = yaml.safe_load(yaml_file.read_text())["names"]
    assert sorted(names) == ["crack", "dent", "scratch", "type 1", "type 3"]
    found = {split: as_ultralytics_finds_it(yaml_file, split) for split in ("train", "val")}
    assert found == {split: tmp_path / "out" / "images" / split for split in ("train", "val")}
    images = {split: sorted(path.stem for path in folder.iterdir()) for split, folder in found.items()}
    assert not set(images["train"]) & set(images["val"])
    assert {*images["train"], *images["val"]} == {NORMAL, CRACK, *shas}
    for split, folder in found.items():
        labels = folder.parent.parent / "labels" / split
        assert sorted(path.stem for path in labels.iterdir()) == images[split]
        rows = [line.split() for path in labels.iterdir() for line in path.read_text().splitlines()]
        assert rows and all(int(row[0]) < len(names) and len(row) == 5 for row in rows)


def test_yolo_is_divided_alike_each_time_with_near_duplicates_in_one_split(tmp_path):
    images = [chip(seed) for seed in range(12)]
    images += [image.point(lambda value: value * 0.9) for image in images[:6]]  # under less light
    contents = [as_png(image) for image in images]
    shas = [read_image(content).sha256 for content in contents]
    splits = []
    for folder, order in (("one", 1), ("two", -1)):
        with Journal(tmp_path / f"{folder}.db") as journal:
            add_contents(journal, [(f"{n}.png", content) for n, content in enumerate(contents)][::order])
            journal.append(*(Label(sha256, "normal", "ann") for sha256 in shas[::order]))
            export_labels(journal, tmp_path / folder, "yolo")
        files = (tmp_path / folder / "images").glob("*/*.png")
        splits.append({path.stem: path.parent.name for path in files})
    assert splits[0] == splits[1] and set(splits[0].values()) == {"train", "val"}
    assert [splits[0][sha256] for sha256 in shas[:6]] == [splits[0][sha256] for sha256 in shas[12:]]


def test_yolo_of_one_image_validates_with_it(tmp_path):
    with Journal(tmp_path / "labels.db") as journal:
        add_contents(journal, [("a.png", IMAGES[0])])
        journal.append(Label(NORMAL, "normal", "ann"))
        export_labels(journal, tmp_path / "out", "yolo")
    assert (
        as_ultralytics_finds_it(tmp_path / "out" / "data.yaml", "val")
        == tmp_path / "out" / "images" / "train"
    )


def test_coco_is_read_by_pycocotools_with_the_same_pixels(journal, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    export_labels(journal, tmp_path / "out", "coco")
    read = coco.COCO(str(tmp_path / "out" / "annotations.json"))
    drawn = read.loadAnns(read.getAnnIds())
    areas = [int(read.annToMask(one).sum()) for one in drawn]
    assert areas == [one["area"] for one in drawn] == [30, 1, 48, 9, 21]


def test_what_older_versions_imported_keeps_its_id(fresh, tmp_path):
    root = fill(tmp_path / "chips", a=0)
    (root / "m.png").write_bytes(mask((12, 8), (1, 2, 4, 5)))
    cells = 'a.png,ng,crack,"[[1, 2, 3, 4]]",m.png,left'
    (root / "labels.csv").write_text(f"image,label,defect_type,boxes,mask,note\n{cells}\n")
    imported(fresh, root)
    assert fresh.vote(NORMAL, "eve").event_id == "e7b7e181-4a8b-5c37-b3f1-24baf819db6a"


# Imports of what others wrote


def imported(journal, path, annotator="eve", **options):
    """(label, defect type, boxes) by sha256, and the lines of the refused ones."""
    result = import_labels(journal, path, annotator, **options)
    events = [event for _, event in journal.events(annotator=annotator)]
    return {e.image_sha256: (e.label, e.defect_type, e.boxes) for e in events}, result.refused


@pytest.fixture
def fresh(tmp_path):
    with Journal(tmp_path / "fresh.db") as journal:
        yield journal


def fill(root, **images):
    for name, number in images.items():
        path = root / f"{name.replace('__', '/')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(IMAGES[number])
    return root


def test_folders_are_imported_by_their_synonyms_with_defect_types(fresh, tmp_path):
    root = fill(tmp_path / "chips", OK__a=0, ng__crack__b=1, unsure__c=2, masks__d=3)
    assert imported(fresh, root) == (
        {NORMAL: ("normal", "", ()), CRACK: ("abnormal", "crack", ()), UNSURE: ("unsure", "", ())},
        (),
    )
    assert fresh.image(CRACK).name == "ng/crack/b.png" and fresh.content(CRACK) == IMAGES[1]


def test_folders_in_the_layout_of_mvtec_are_imported(fresh, tmp_path):
    root = fill(tmp_path / "chips", train__good__a=0, test__bent__b=1, ground_truth__bent__b_mask=2)
    assert imported(fresh, root)[0] == {NORMAL: ("normal", "", ()), CRACK: ("abnormal", "bent", ())}


@pytest.mark.parametrize(
    "files, found",
    [
        ({"a": 0}, "chips"),
        ({"images__a": 0, "images__b": 1}, "images/"),
        ({"lot1__a": 0, "lot2__b": 1}, "lot1/, lot2/"),
        ({"train__lot1__a": 0, "test__lot2__b": 1}, "lot1/, lot2/"),
        ({"train__unsure__a": 0, "test__crack__b": 1}, "crack/"),
        ({"normal__a": 0, "train__normal__b": 1}, "train/"),
    ],
)
def test_a_folder_without_class_folders_is_refused_with_the_folders_found(fresh, tmp_path, files, found):
    with pytest.raises(ExchangeError, match=found):
        import_labels(fresh, fill(tmp_path / "chips", **files), "eve")
    assert fresh.counts() == Counts(0, 0, 0, 0)


def test_class_folders_of_other_names_are_named_by_the_caller(fresh, tmp_path):
    root = fill(tmp_path / "chips", Lot1__a=0, lot2__b=1, lot3__c=2)
    names = {"normal": ["lot1"], "abnormal": ["lot2", "LOT3"]}
    assert imported(fresh, root, **names)[0] == {
        NORMAL: ("normal", "", ()), CRACK: ("abnormal", "", ()), UNSURE: ("abnormal", "", ()),
    }  # fmt: skip


@pytest.mark.parametrize(
    "names, found",
    [
        ({"normal": ["lot9"]}, "lot9"),
        ({"normal": ["lot1"], "abnormal": ["lot1"]}, "lot1"),
        ({"normal": ["lot1"], "format": "csv"}, "csv"),
    ],
)
def test_names_of_class_folders_that_cannot_be_are_refused(fresh, tmp_path, names, found):
    with pytest.raises(ExchangeError, match=found):
        import_labels(fresh, fill(tmp_path / "chips", lot1__a=0, lot2__b=1), "eve", **names)


def test_a_folder_of_another_name_beside_one_named_normal_is_refused(fresh, tmp_path):
    root = fill(tmp_path / "chips", lot1__a=0, crack__b=1)
    with pytest.raises(ExchangeError, match="crack/"):
        import_labels(fresh, root, "eve", normal=["lot1"])


def test_the_split_of_a_file_is_its_top_folder(tmp_path):
    root = fill(tmp_path, Train__good__a=0, validation__good__b=1, test__crack__c=2)
    splits = {path.stem: split_of(path, root) for path, _, _ in labeled_files(root)}
    assert splits == {"a": "train", "b": "val", "c": "test"}
    assert [folder.name for folder in split_folders(root)] == ["Train", "test", "validation"]
    assert split_of(tmp_path / "good" / "a.png", tmp_path) == ""


def test_an_import_tells_how_many_standing_labels_it_replaces(fresh, tmp_path):
    root = fill(tmp_path / "chips", normal__a=0, abnormal__b=1, abnormal__c=2)
    add_contents(fresh, [("a.png", IMAGES[0]), ("b.png", IMAGES[1])])
    fresh.append(
        Label(NORMAL, "abnormal", "eve"), Label(CRACK, "normal", "bob"), Label(CRACK, "unsure", "eve")
    )
    result = import_labels(fresh, root, "eve")
    assert (result.added, result.known, result.replaced) == (3, 0, 2)
    assert fresh.vote(NORMAL, "eve").label == "normal" and fresh.vote(CRACK, "bob").label == "normal"
    assert import_labels(fresh, root, "eve").replaced == 0


def test_an_import_keeps_a_label_that_says_the_same_and_more(fresh, tmp_path):
    add_contents(fresh, [("a.png", IMAGES[0]), ("b.png", IMAGES[1])])
    by_hand = Label(CRACK, "abnormal", "eve", "crack", (Box(0, 1, 5, 6),), MASK, "left")
    fresh.append(by_hand, page="one")
    result = import_labels(fresh, fill(tmp_path / "plain", normal__a=0, abnormal__b=1), "eve")
    assert (result.added, result.known, result.replaced) == (1, 1, 0)
    assert fresh.vote(CRACK, "eve") == by_hand
    assert import_labels(fresh, fill(tmp_path / "typed", good__a=0, abnormal__dent__b=1), "eve").replaced == 1
    assert fresh.vote(CRACK, "eve").defect_type == "dent"


def test_a_plain_csv_is_imported_and_what_is_wrong_in_it_is_refused_line_by_line(fresh, tmp_path):
    fill(tmp_path / "chips", a=0, b=1)
    fill(tmp_path, secret=2)
    path = tmp_path / "chips" / "labels.csv"
    path.write_text(
        "image,label,defect_type,boxes\n"
        'a.png,ok,,\nb.png,NG,crack,"[[1.4, 0, 3, 20]]"\n'
        "../secret.png,ok,,\n/etc/passwd,ok,,\nmissing.png,ok,,\na.png,perhaps,,\n,ok,,\nb.png\n"
        'b.png,ng,,"[[50, 50, 3, 3]]"\nb.png,ng,,nonsense\n'
    )
    labels, refused = imported(fresh, path)
    assert labels == {NORMAL: ("normal", "", ()), CRACK: ("abnormal", "crack", (Box(1, 0, 3, 8),))}
    assert [line.split(":")[0] for line in refused] == [
        "labels.csv, line 4",
        "labels.csv, line 5",
        "missing.png",
        "a.png",
        "labels.csv, line 8",
        "b.png",
        "b.png",
        "labels.csv, line 11",
    ]
    for line, found in zip(refused, ("../secret.png", "/etc/passwd", "", "perhaps", "", "", "50, 50", "")):
        assert found in line


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffImage;LABEL;Defect_Type\nsub\\a.png;0;\nsub\\b.png;1;crack\n",
        "image\tlabel\tdefect_type\nsub/a.png\t0\t\nsub/b.png\t1\tcrack\n",
        "label,image,defect_type\nOK,sub\\a.png,\nNG,sub/b.png,crack\n",
    ],
)
def test_a_csv_may_have_semicolons_tabs_a_byte_order_mark_and_backslashes(fresh, tmp_path, text):
    root = fill(tmp_path / "chips", sub__a=0, sub__b=1)
    (root / "chips.csv").write_text(text, encoding="utf-8")
    labels = {NORMAL: ("normal", "", ()), CRACK: ("abnormal", "crack", ())}
    assert imported(fresh, root / "chips.csv") == (labels, ())


def test_backslashes_do_not_lead_out_of_the_folder(fresh, tmp_path):
    fill(tmp_path, secret=2)
    root = fill(tmp_path / "chips", a=0)
    (root / "labels.csv").write_text("image,label\na.png,ok\n..\\secret.png,ok\n")
    labels, refused = imported(fresh, root)
    assert labels.keys() == {NORMAL} and len(refused) == 1


def test_one_image_with_two_labels_is_refused(fresh, tmp_path):
    root = fill(tmp_path / "chips", normal__a=0, abnormal__again=0, normal__copy=0)
    labels, refused = imported(fresh, root)
    assert labels == {NORMAL: ("abnormal", "", ())}
    assert [line.split(":")[0] for line in refused] == ["normal/a.png", "normal/copy.png"]
    assert all("abnormal/again.png" in line for line in refused)


@pytest.mark.skipif(os.name == "nt", reason="file names are text on Windows")
def test_names_that_are_no_text_are_imported(fresh, tmp_path):
    root = fill(tmp_path / "chips", normal__a=0)
    (root / "normal" / "a.png").rename(os.fsdecode(bytes(root / "normal" / "caf") + b"\xe9.png"))
    assert imported(fresh, root) == ({NORMAL: ("normal", "", ())}, ())
    assert fresh.image(NORMAL).name == "normal/caf\\udce9.png"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_does_not_hang_an_import(fresh, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "labels.csv").write_text("image,label\npipe.png,ok\n")
    labels, refused = imported(fresh, tmp_path / "labels.csv")
    assert labels == {} and len(refused) == 1 and "pipe.png" in refused[0]


def test_a_link_out_of_the_folder_is_not_followed(fresh, tmp_path):
    fill(tmp_path, secret=2)
    root = fill(tmp_path / "chips", normal__a=0)
    (root / "normal" / "b.png").symlink_to(tmp_path / "secret.png")
    labels, refused = imported(fresh, root)
    assert labels.keys() == {NORMAL} and len(refused) == 1 and "b.png" in refused[0]


def test_coco_of_other_programs_is_imported_with_polygons_and_boxes(fresh, tmp_path):
    root = fill(tmp_path / "chips", images__a=0, images__sub__b=1)
    content = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 12, "height": 8},
            {"id": 8, "file_name": "sub\\b.png", "width": 12, "height": 8},
        ],
        "categories": [{"id": 3, "name": "crack"}, {"id": 4, "name": "finger"}],
        "annotations": [
            {"id": 1, "image_id": 8, "category_id": 3, "bbox": [0, 0, 2.6, 3]},
            {
                "id": 2,
                "image_id": 8,
                "category_id": 3,
                "bbox": [5, 5, 3, 2],
                "segmentation": [[5, 5, 7, 5, 7, 6]],
            },
            {"id": 3, "image_id": 8, "category_id": 4, "bbox": [9, 0, 1, 1]},
        ],
    }
    (root / "chips.json").write_text(json.dumps(content))
    labels, refused = imported(fresh, root / "chips.json")
    boxes = (Box(0, 0, 3, 3), Box(9, 0, 1, 1, "finger"))
    assert labels == {NORMAL: ("normal", "", ()), CRACK: ("abnormal", "crack", boxes)} and refused == ()
    vote = fresh.vote(CRACK, "eve")
    assert vote.polygons == (Polygon(((5, 5), (7, 5), (7, 6))),) and vote.mask == b""


@pytest.mark.parametrize(
    "image, segmentation, reason",
    [
        ({"width": 10**9, "height": 10**9}, [[0, 0, 1, 1, 2, 2]], "megapixels"),
        ({"width": -1, "height": -1}, {"counts": [1]}, "malformed"),
        ({"width": 12, "height": 8}, {"counts": [96, 5]}, "malformed"),
        ({"width": 12, "height": 8}, {"counts": [200, -104]}, "malformed"),
        ({"width": 12, "height": 8}, {"counts": "abc"}, "polygons"),
        ({"width": 12, "height": 8}, [["x"]], "malformed"),
        ({"width": 6, "height": 4}, [[0, 0, 1, 1, 2, 2]], "6 x 4"),
        ({"width": 12, "height": 8}, [[0, 0, 1, 1, 2]], "malformed"),
        ({"width": 12, "height": 8}, [[20, 20, 30, 20, 30, 30]], "outside"),
        ({"width": 12, "height": 8}, [[0, 0, float("inf"), 20, 30, 30]], "malformed"),
        ({"width": "12", "height": 8}, [[0, 0, 1, 1, 2, 2]], "malformed"),
        ({}, [[0, 0, 1, 1, 2, 2]], "malformed"),
    ],
)
def test_hostile_coco_is_refused(fresh, tmp_path, image, segmentation, reason):
    root = fill(tmp_path / "chips", a=0)
    annotation = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "segmentation": segmentation}
    content = {"images": [{"id": 1, "file_name": "a.png", **image}], "annotations": [annotation]}
    content["categories"] = [{"id": 1, "name": "crack"}]
    (root / "annotations.json").write_text(json.dumps(content))
    labels, refused = imported(fresh, root)
    assert labels == {} and len(refused) == 1 and reason in refused[0] and "Error(" not in refused[0]


def test_labels_of_pandas_are_imported(fresh, tmp_path):
    root = fill(tmp_path / "chips", a=0, b=1)
    (root / "labels.csv").write_text("image, label\na.png, 0.0\nb.png, 1.0\n")
    labels, refused = imported(fresh, root)
    assert labels == {NORMAL: ("normal", "", ()), CRACK: ("abnormal", "", ())} and refused == ()


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.json", "[" * 100_000),
        ("a.json", '{"images": 5, "annotations": []}'),
        ("a.json", "[]"),
        ("a.json", '{"images": [5], "annotations": []}'),
        ("a.csv", "file,class\na.png,ok\n"),
        ("a.csv", ""),
        ("a.txt", "text"),
    ],
)
def test_a_file_that_holds_no_labels_is_an_error(fresh, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ExchangeError, match=name) as failure:
        import_labels(fresh, tmp_path / name, "eve")
    assert "Error(" not in str(failure.value)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "5",
        "{}",
        '{"file_name": "../../fresh.db", "label": "normal"}',
        '{"file_name": "a.png"}',
        '{"file_name": "a.png", "label": "normal", "boxes": [{"x": 1}]}',
        '{"file_name": "a.png", "label": "normal", "boxes": [{"x": 1e999, "y": 0, "width": 1, "height": 1}]}',
        '{"file_name": "a.png", "label": "normal", "note": 5}',
        '{"file_name": "a.png", "label": "normal", "mask": "b.txt"}',
        '{"file_name": "a.png\\u0000", "label": "normal"}',
        '{"file_name": "a.png", "label": "normal", "note": "\\ud800"}',
        "[" * 100_000,
    ],
)
def test_a_hostile_line_of_metadata_is_refused_and_the_others_are_taken(fresh, tmp_path, line):
    root = fill(tmp_path / "chips", a=0, b=1)
    (root / "b.txt").write_text("no mask")
    good = '{"file_name": "b.png", "label": "abnormal"}\n'
    (root / "metadata.jsonl").write_text(f"{line}\n{good}")
    labels, refused = imported(fresh, root)
    assert labels == {CRACK: ("abnormal", "", ())} and len(refused) == 1 and refused[0].isprintable()


def test_a_mask_of_any_kind_becomes_black_and_white(fresh, tmp_path):
    root = fill(tmp_path / "chips", a=0)
    Image.fromarray(np.array([[0, 0, 1, 200] * 3] * 8, np.uint8)).save(root / "mask.bmp")
    (root / "labels.csv").write_text("image,label,mask\na.png,ng,mask.bmp\n")
    imported(fresh, root)
    drawn = Image.open(BytesIO(fresh.vote(NORMAL, "eve").mask))
    assert drawn.format == "PNG" and np.asarray(drawn)[0].tolist() == [0, 0, 255, 255] * 3


def test_an_annotator_without_a_name_is_refused_before_anything_is_read(fresh, tmp_path):
    with pytest.raises(LabelError):
        import_labels(fresh, fill(tmp_path / "chips", normal__a=0), " ")
    assert fresh.counts().images == 0


def test_nothing_at_a_path_is_an_error(fresh, tmp_path):
    with pytest.raises(ExchangeError, match="gone"):
        import_labels(fresh, tmp_path / "gone", "eve")


def test_the_standing_votes_have_the_same_consensus_as_all_events(journal):
    events = [event for _, event in journal.events()]
    assert {
        sha256: consensus for votes in journal.votes() for sha256, consensus in consensus_of(votes).items()
    } == consensus_of(events)
