import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from chipdemo.errors import DataError
from tests.tiny import draw_chip, draw_chips
from training.data import PARTS, check_parts, load_images, read_split, split_by_hash
from training.sources import read_elpv, read_folder

ROOT = Path(__file__).parent.parent

HASHES = {f"{i:03}": "abnormal" if i % 4 == 0 else "normal" for i in range(200)}


def small(image):
    return np.asarray(image.resize((8, 8)))


def test_it_is_known_how_large_the_images_are(tmp_path):
    draw_chips(tmp_path, normal=3, abnormal=1)
    Image.new("RGB", (4000, 1000), "gray").save(tmp_path / "normal" / "wide.png")
    assert load_images(read_folder(tmp_path), small).side == 64


def test_an_unreadable_image_is_left_out_and_named(tmp_path):
    draw_chips(tmp_path, normal=15, abnormal=5)
    (tmp_path / "normal" / "broken.png").write_bytes(b"no image")
    (tmp_path / "normal" / ".hidden").write_bytes(b"")
    images = load_images(read_folder(tmp_path), small)
    assert images.pixels.shape == (20, 8, 8, 3)
    assert images.abnormal.sum() == 5
    (line,) = images.left_out
    assert "broken.png" in line and images.unreadable == (line,)


def test_more_than_one_unreadable_image_in_twenty_is_an_error(tmp_path):
    draw_chips(tmp_path, normal=15, abnormal=4)
    for name in ("a.png", "b.png"):
        (tmp_path / "normal" / name).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 of 21 in .* cannot: .*a\.png: .*b\.png: .*Mend or remove"):
        load_images(read_folder(tmp_path), small)


def test_twins_are_kept_once(tmp_path):
    draw_chips(tmp_path, normal=3, abnormal=2)
    draw_chip(0).save(tmp_path / "normal" / "twin.bmp")  # of normal/0.png
    images = load_images(read_folder(tmp_path), small)
    assert len(set(images.sha256)) == len(images.sha256) == 5
    (line,) = images.left_out
    assert "twin.bmp: same content as" in line and images.unreadable == ()


def test_the_same_image_in_both_classes_is_an_error_that_names_both(tmp_path):
    draw_chips(tmp_path, normal=3, abnormal=2)
    draw_chip(1).save(tmp_path / "abnormal" / "torn.bmp")  # normal/1.png
    with pytest.raises(DataError, match=r"1 times: .*torn\.bmp \(abnormal\) and .*1\.png \(normal\)"):
        load_images(read_folder(tmp_path), small)


def test_images_of_one_class_are_an_error(tmp_path):
    draw_chips(tmp_path, normal=30, abnormal=1)
    (tmp_path / "abnormal" / "crack" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match="both classes .* found 30 normal and 0 abnormal"):
        load_images(read_folder(tmp_path), small)


def test_what_the_source_left_out_is_listed_too(tmp_path):
    data = replace(read_folder(draw_chips(tmp_path, 1, 1)), left_out=("chip 7: disagreement",))
    assert load_images(data, small).left_out == ("chip 7: disagreement",)


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


def test_a_test_image_stays_one_as_the_data_grows():
    first = split_by_hash(HASHES)
    grown = HASHES | {f"new{i}": "normal" for i in range(100)}
    second = split_by_hash(grown, known=json.loads(json.dumps(first)))
    assert all(set(first[part]) <= set(second[part]) for part in first)
    assert [len(second[part]) - len(first[part]) for part in first] == [70, 20, 10]


def digest_of(split):
    return hashlib.sha256(json.dumps(split).encode()).hexdigest()[:16]


def test_the_split_of_the_first_release_is_still_the_split():
    known = split_by_hash({h: stratum for h, stratum in HASHES.items() if h < "050"})
    assert digest_of(split_by_hash(HASHES)) == "8fa04182f2257a3f"
    assert digest_of(split_by_hash(HASHES, (0.5, 0.3, 0.2), 7, known)) == "796790dfbb333fdb"


def test_the_published_split_of_elpv_comes_out_again():
    published = json.loads((ROOT / "benchmarks" / "elpv_split.json").read_text())
    hash_of = {name: h for part in PARTS for name, h in zip(published[part + "_files"], published[part])}
    strata = {hash_of[sample.path.name]: sample.stratum for sample in read_elpv().samples}
    assert split_by_hash(strata, (0.65, 0.10, 0.25)) == {part: published[part] for part in PARTS}


def test_deitschs_sizes_come_out_exactly():
    data = read_elpv()
    strata = {str(index): sample.stratum for index, sample in enumerate(data.samples)}
    split = split_by_hash(strata, fractions=(0.6, 0.15, 0.25))
    assert len(split["test"]) == 656 and len(split["train"]) + len(split["val"]) == 1968


def test_images_are_decoded_as_they_are_served(tmp_path):
    draw_chips(tmp_path, normal=1, abnormal=1)
    turned = Image.new("RGB", (8, 4), "white")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "normal" / "turned.jpg", exif=exif)
    sizes = []
    load_images(read_folder(tmp_path), lambda image: sizes.append(image.size) or small(image))
    assert (4, 8) in sizes


WAFERS = {h: f"wafer {int(h) // 5}" for h in HASHES}  # 40 of five images


def parts_of(split):
    return {sha256: part for part, hashes in split.items() for sha256 in hashes}


def test_a_group_stays_on_one_side():
    part_of = parts_of(split_by_hash(HASHES, groups=WAFERS))
    assert part_of.keys() == HASHES.keys()
    for wafer in set(WAFERS.values()):
        assert len({part_of[h] for h in HASHES if WAFERS[h] == wafer}) == 1


def test_groups_keep_the_shares_of_every_stratum():
    split = split_by_hash(HASHES, groups=WAFERS)
    assert {part: len(hashes) for part, hashes in split.items()} == {"train": 140, "val": 40, "test": 20}
    for part, share in (("train", 35), ("val", 10), ("test", 5)):
        assert abs(sum(HASHES[h] == "abnormal" for h in split[part]) - share) <= 2


def test_single_images_even_out_what_groups_leave_uneven():
    groups = {h: "the only wafer" for h in HASHES if int(h) < 60}
    split = split_by_hash(HASHES, groups=groups)
    assert {part: len(hashes) for part, hashes in split.items()} == {"train": 140, "val": 40, "test": 20}


def test_groups_of_one_change_nothing():
    assert split_by_hash(HASHES, groups={h: f"chip {h}" for h in HASHES}) == split_by_hash(HASHES)


def test_a_new_image_follows_its_known_group():
    first = split_by_hash(HASHES, groups=WAFERS)
    grown = HASHES | {f"new{i}": "normal" for i in range(40)}
    wafers = WAFERS | {f"new{i}": f"wafer {i}" for i in range(40)}
    part_of = parts_of(split_by_hash(grown, known=first, groups=wafers))
    assert all(part_of[f"new{i}"] == part_of[f"{5 * i:03}"] for i in range(40))
    assert all(set(first[part]) <= {h for h in part_of if part_of[h] == part} for part in first)


def test_a_group_in_two_parts_of_the_earlier_split_is_an_error():
    known = {"train": ["000", "001"], "val": [], "test": ["002"]}
    with pytest.raises(DataError, match="group wafer 0 in one part .* found it in test and train"):
        split_by_hash(HASHES, known=known, groups=WAFERS)


@given(
    st.dictionaries(
        st.text("0123456789abcdef", min_size=4, max_size=4),
        st.tuples(st.sampled_from(["normal", "abnormal, crack"]), st.sampled_from(["", "a", "b", "c", "d"])),
    ),
    st.randoms(),
)
def test_names_and_order_of_groups_do_not_matter(images, random):
    strata = {h: stratum for h, (stratum, _) in images.items()}
    groups = {h: group for h, (_, group) in images.items()}
    split = split_by_hash(strata, groups=groups)
    shuffled = random.sample(sorted(strata), len(strata))
    names = {"": "", "a": "d", "b": "c", "c": "b", "d": "a"}
    assert split == split_by_hash(
        {h: strata[h] for h in shuffled}, groups={h: names[groups[h]] for h in shuffled}
    )
    part_of = parts_of(split)
    assert sorted(sum(split.values(), [])) == sorted(strata)
    for group in "abcd":
        assert len({part_of[h] for h in strata if groups[h] == group}) <= 1


def test_an_earlier_split_without_its_parts_is_refused(tmp_path):
    (tmp_path / "split.json").write_text('{"train": [], "test": "all"}')
    with pytest.raises(DataError, match="val, test is none"):
        read_split(tmp_path / "split.json")


def test_a_part_without_both_classes_says_what_is_in_each():
    labels = {"1": "normal", "2": "abnormal", "3": "normal"}
    split = {"train": ["1", "2"], "val": ["3"], "test": []}
    with pytest.raises(DataError, match="found train 1 and 1, val 1 and 0, test 0 and 0"):
        check_parts("chips", split, labels)
