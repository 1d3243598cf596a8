import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from chipdemo.errors import DataError
from tests.tiny import draw_chip, draw_chips
from training.data import load_photographs, read_data, read_elpv, read_folder, split_by_hash

HASHES = {f"{i:03}": "abnormal" if i % 4 == 0 else "normal" for i in range(200)}


def small(image):
    return np.asarray(image.resize((8, 8)))


def test_elpv_has_the_published_counts_and_soft_labels():
    data = read_elpv()
    assert len(data.samples) == 2624 and "NC" in data.licence
    assert Counter(sample.label for sample in data.samples) == {"normal": 1803, "abnormal": 821}
    assert {sample.probability for sample in data.samples if sample.label == "normal"} == {
        0,
        0.3333333333333333,
    }
    assert {s.stratum for s in data.samples} == {
        f"{label}, {kind}" for label in ("normal", "abnormal") for kind in ("mono", "poly")
    }


def test_folders_are_understood_in_any_case_and_by_synonyms(tmp_path):
    for folder in ("GOOD", "Defect/Crack/deep", "notes"):
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
    with pytest.raises(DataError, match="found 1 normal and 0 abnormal"):
        read_data(str(tmp_path))


def test_no_such_data_is_an_error():
    with pytest.raises(DataError, match="nowhere is neither"):
        read_data("nowhere")


def test_unreadable_photographs_are_left_out_and_named(tmp_path):
    draw_chips(tmp_path, normal=3, abnormal=2)
    (tmp_path / "normal" / "broken.png").write_bytes(b"no image")
    (tmp_path / "normal" / ".hidden").write_bytes(b"")
    photographs = load_photographs(read_folder(tmp_path), small)
    assert photographs.pixels.shape == (5, 8, 8, 3)
    assert photographs.abnormal.sum() == 2
    (line,) = photographs.left_out
    assert "broken.png" in line


def test_twins_are_kept_once_and_contradictions_not_at_all(tmp_path):
    draw_chips(tmp_path, normal=3, abnormal=2)
    draw_chip(0).save(tmp_path / "normal" / "twin.bmp")  # of normal/0.png
    draw_chip(1).save(tmp_path / "abnormal" / "contradiction.png")  # of normal/1.png
    photographs = load_photographs(read_folder(tmp_path), small)
    assert len(set(photographs.sha256)) == len(photographs.sha256) == 4
    assert len(photographs.left_out) == 3
    assert sum("other label" in line for line in photographs.left_out) == 2


def test_one_readable_class_is_an_error(tmp_path):
    draw_chips(tmp_path, normal=2, abnormal=1)
    (tmp_path / "abnormal" / "crack" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match="both classes"):
        load_photographs(read_folder(tmp_path), small)


def test_the_split_is_70_20_10_in_every_stratum():
    split = split_by_hash(HASHES)
    assert {part: len(hashes) for part, hashes in split.items()} == {"train": 140, "val": 40, "test": 20}
    for part, share in (("train", 35), ("val", 10), ("test", 5)):
        assert abs(sum(HASHES[h] == "abnormal" for h in split[part]) - share) <= 1
    assert sorted(sum(split.values(), [])) == sorted(HASHES)


def test_the_split_depends_on_contents_and_seed_alone():
    backwards = dict(reversed(HASHES.items()))
    assert split_by_hash(backwards) == split_by_hash(HASHES)
    assert split_by_hash(HASHES, seed=1) != split_by_hash(HASHES)


def test_a_test_photograph_stays_one_as_the_data_grows():
    first = split_by_hash(HASHES)
    grown = HASHES | {f"new{i}": "normal" for i in range(100)}
    second = split_by_hash(grown, known=json.loads(json.dumps(first)))
    assert all(set(first[part]) <= set(second[part]) for part in first)
    assert [len(second[part]) - len(first[part]) for part in first] == [70, 20, 10]


def test_deitschs_sizes_come_out_exactly():
    data = read_elpv()
    strata = {str(index): sample.stratum for index, sample in enumerate(data.samples)}
    split = split_by_hash(strata, fractions=(0.6, 0.15, 0.25))
    assert len(split["test"]) == 656 and len(split["train"]) + len(split["val"]) == 1968


def test_photographs_are_decoded_as_they_are_served(tmp_path):
    draw_chips(tmp_path, normal=1, abnormal=1)
    turned = Image.new("RGB", (8, 4), "white")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "normal" / "turned.jpg", exif=exif)
    sizes = []
    load_photographs(read_folder(tmp_path), lambda image: sizes.append(image.size) or small(image))
    assert (4, 8) in sizes


def write_csv(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_names_photographs_beside_itself(tmp_path):
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
        ("", "found no rows"),
        ("file,label\na.png,ok\n", "found file, label"),
        ("image,label\na.png,perhaps\n", "line 2 of"),
        ("image,label\na.png,ok\nb.png\n", "line 3 of"),
        ("image,label,probability\na.png,ok,1.5\n", "line 2 of"),
        ("image,label,probability\na.png,ok,high\n", "line 2 of"),
        ("image,label\n,ok\n", "line 2 of"),
    ],
)
def test_a_csv_that_cannot_be_taken_says_where(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_data(str(write_csv(tmp_path / "chips.csv", text)))


def test_a_csv_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="could not be read"):
        read_data(str(tmp_path / "missing.csv"))
    (tmp_path / "picture.csv").write_bytes(b"\xff\xd8\xff\x00" * 9)
    with pytest.raises(DataError, match="could not be read"):
        read_data(str(tmp_path / "picture.csv"))
