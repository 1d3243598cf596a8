from collections import Counter
from pathlib import Path

import pytest

from chipdemo.errors import DataError
from tests.tiny import draw_chip
from training.folders import read_folder
from training.sources import group_by_path, read_data, read_elpv

TRANSISTORS = Path(__file__).parents[2] / "shared" / "data" / "mvtec-transistor"


def test_elpv_has_the_published_counts_and_soft_labels():
    data = read_elpv()
    assert len(data.samples) == 2624 and "NC" in data.license
    assert Counter(sample.label for sample in data.samples) == {"normal": 1803, "abnormal": 821}
    assert {sample.probability for sample in data.samples if sample.label == "normal"} == {
        0,
        0.3333333333333333,
    }
    assert {s.stratum for s in data.samples} == {
        f"{label}, {kind}" for label in ("normal", "abnormal") for kind in ("mono", "poly")
    }


def test_folders_are_understood_in_any_case_and_by_synonyms(tmp_path):
    for folder in ("GOOD", "Defect/Crack/deep", "masks"):
        (tmp_path / folder).mkdir(parents=True)
        draw_chip(1).save(tmp_path / folder / "a.png")
    samples = read_folder(tmp_path).samples
    assert [(sample.label, sample.defect_type) for sample in samples] == [
        ("abnormal", "Crack/deep"),
        ("normal", ""),
    ]


def test_a_folder_without_both_classes_says_what_was_found(tmp_path):
    (tmp_path / "normal").mkdir()
    draw_chip(1).save(tmp_path / "normal" / "a.png")
    with pytest.raises(DataError, match="1 normal and 0 abnormal"):
        read_data(str(tmp_path))


def test_no_such_data_is_an_error():
    with pytest.raises(DataError, match="nowhere"):
        read_data("nowhere")


def write_csv(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_names_images_beside_itself(tmp_path):
    path = write_csv(
        tmp_path / "chips.csv", "image,label,probability,defect_type\na.png,OK,0.25,\nb/c.png,ng,,crack\n"
    )
    data = read_data(str(path))
    assert data.name == "chips"
    assert [(s.path, s.label, s.probability, s.defect_type) for s in data.samples] == [
        (tmp_path / "a.png", "normal", 0.25, ""),
        (tmp_path / "b/c.png", "abnormal", 1.0, "crack"),
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "chips.csv"),
        ("file,label\na.png,ok\n", "file, label"),
        ("image,label\na.png,perhaps\n", "Line 2 of"),
        ("image,label\na.png,ok\nb.png\n", "Line 3 of"),
        ("image,label,probability\na.png,ok,1.5\n", "Line 2 of"),
        ("image,label,probability\na.png,ok,high\n", "Line 2 of"),
        ("image,label\n,ok\n", "Line 2 of"),
    ],
)
def test_a_csv_that_cannot_be_taken_says_where(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_data(str(write_csv(tmp_path / "chips.csv", text)))


def test_a_csv_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="missing.csv"):
        read_data(str(tmp_path / "missing.csv"))
    (tmp_path / "picture.csv").write_bytes(b"\xff\xd8\xff\x00" * 9)
    with pytest.raises(DataError, match="picture.csv"):
        read_data(str(tmp_path / "picture.csv"))


def test_images_that_people_are_unsure_of_are_left_out_and_listed(tmp_path):
    path = write_csv(tmp_path / "chips.csv", "image,label\na.png,ok\nb.png,unsure\n")
    data = read_data(str(path))
    assert len(data.samples) == 1 and data.left_out == (f"{tmp_path / 'b.png'}: unsure",)
    root = make(tmp_path / "chips", "normal/0.png", "abnormal/0.png", "unsure/0.png", "masks/0.png")
    data = read_data(str(root))
    assert len(data.samples) == 2 and data.left_out == (f"{root / 'unsure/0.png'}: unsure",)


@pytest.mark.parametrize("content", [
    b"image,label\nlot1\\a.png,0\nlot1\\b.png,1\n",
    b"\xef\xbb\xbfImage;LABEL\r\nlot1\\a.png;OK\r\nlot1/b.png;NG\r\n",
    b"label\timage\tnote\ngood\tlot1/a.png\tx\nDefect\tlot1\\b.png\t\n",
])  # fmt: skip
def test_a_csv_of_other_programs_is_read(tmp_path, content):
    (tmp_path / "chips.csv").write_bytes(content)
    samples = read_data(str(tmp_path / "chips.csv")).samples
    assert [(sample.path, sample.label) for sample in samples] == [
        (tmp_path / "lot1" / "a.png", "normal"),
        (tmp_path / "lot1" / "b.png", "abnormal"),
    ]


def test_a_csv_may_name_groups(tmp_path):
    path = write_csv(tmp_path / "chips.csv", "image,label,group\na.png,ok,wafer 1\nb.png,ng,\n")
    assert [sample.group for sample in read_data(str(path)).samples] == ["wafer 1", ""]


def make(root, *names):
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        draw_chip(index).save(root / name)
    return root


def test_folders_as_of_mvtec_give_labels_types_and_splits_and_masks_are_left_out(tmp_path):
    make(
        tmp_path,
        "train/good/0.png",
        "test/good/0.png",
        "test/bent_lead/0.png",
        "test/cut_lead/0.png",
        "ground_truth/bent_lead/0_mask.png",
    )
    (tmp_path / "license.txt").write_text("CC BY-NC-SA 4.0")
    samples = read_data(str(tmp_path)).samples
    assert [(s.path.relative_to(tmp_path).as_posix(), s.label, s.defect_type, s.split) for s in samples] == [
        ("test/bent_lead/0.png", "abnormal", "bent_lead", "test"),
        ("test/cut_lead/0.png", "abnormal", "cut_lead", "test"),
        ("test/good/0.png", "normal", "", "test"),
        ("train/good/0.png", "normal", "", "train"),
    ]


@pytest.mark.parametrize(
    "names, found",
    [
        (["good/0.png", "crack/0.png", "ground_truth/crack/0.png"], "crack/"),
        (["train/ok/0.png", "train/ng/0.png", "val/ok/0.png", "val/backup/0.png", "val/ng/0.png"], "backup/"),
        (["train/good/0.png", "train/unlabeled/0.png", "test/good/0.png", "test/crack/0.png"], "unlabeled/"),
        (["normal/0.png", "abnormal/0.png", "other/0.png"], "other/"),
    ],
)
def test_a_folder_that_may_be_of_either_class_is_refused_and_named(tmp_path, names, found):
    with pytest.raises(DataError, match=found):
        read_folder(make(tmp_path, *names))


def test_classes_beside_splits_are_ambiguous(tmp_path):
    make(tmp_path, "good/0.png", "train/good/0.png", "test/crack/0.png")
    with pytest.raises(DataError, match="test/"):
        read_folder(tmp_path)


def test_folders_whose_names_say_no_class_are_refused_and_named(tmp_path):
    make(tmp_path, "lot1/0.png", "lot2/0.png")
    with pytest.raises(DataError, match="lot1.*lot2"):
        read_data(str(tmp_path))


def test_an_empty_folder_says_what_is_expected(tmp_path):
    with pytest.raises(DataError, match=tmp_path.name):
        read_data(str(tmp_path))


@pytest.mark.skipif(not TRANSISTORS.exists(), reason="no images of transistors at ../shared/data")
def test_the_transistors_of_mvtec_have_the_published_counts():
    samples = read_data(str(TRANSISTORS)).samples
    assert Counter(sample.defect_type for sample in samples) == {
        "": 273,
        "bent_lead": 10,
        "cut_lead": 10,
        "damaged_case": 10,
        "misplaced": 10,
    }


def test_a_pattern_finds_the_group_in_the_path(tmp_path):
    make(tmp_path, "good/wafer07_1.png", "good/wafer07_2.png", "bad/crack/wafer08_1.png", "bad/odd.png")
    samples = read_data(str(tmp_path), group_pattern=r"(wafer\d+)_").samples
    assert {sample.path.name: sample.group for sample in samples} == {
        "wafer07_1.png": "wafer07",
        "wafer07_2.png": "wafer07",
        "wafer08_1.png": "wafer08",
        "odd.png": "",
    }


@pytest.mark.parametrize(
    "pattern, message",
    [
        ("(wafer", "wafer"),
        ("wafer", "parentheses"),
        ("(lot)", r"bad/crack/0\.png"),
    ],
)
def test_a_pattern_that_finds_no_group_says_why(tmp_path, pattern, message):
    data = read_folder(make(tmp_path, "good/0.png", "bad/crack/0.png"))
    with pytest.raises(DataError, match=message):
        group_by_path(data, pattern)
