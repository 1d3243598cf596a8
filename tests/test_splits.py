"""Dividing images into training, validation and test."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipdemo.errors import DataError
from chipdemo.images import read_image
from chipdemo.splits import SPLITS, split_by_hash
from tests.tiny import draw_chip, draw_chips
from training.data import load_images
from training.folders import read_folder
from training.sources import group_by_path, read_elpv
from training.splits import divide, read_split

ROOT = Path(__file__).parent.parent

HASHES = {f"{i:03}": "abnormal" if i % 4 == 0 else "normal" for i in range(200)}


def test_the_split_is_70_20_10_in_every_stratum():
    split = split_by_hash(HASHES)
    assert {name: len(hashes) for name, hashes in split.items()} == {"train": 140, "val": 40, "test": 20}
    for name, share in (("train", 35), ("val", 10), ("test", 5)):
        assert abs(sum(HASHES[h] == "abnormal" for h in split[name]) - share) <= 1
    assert sorted(sum(split.values(), [])) == sorted(HASHES)


def test_the_split_depends_on_contents_and_seed_alone():
    backwards = dict(reversed(HASHES.items()))
    assert split_by_hash(backwards) == split_by_hash(HASHES)
    assert split_by_hash(HASHES, seed=1) != split_by_hash(HASHES)


def test_a_test_image_stays_one_as_the_data_grows():
    first = split_by_hash(HASHES)
    grown = HASHES | {f"new{i}": "normal" for i in range(100)}
    second = split_by_hash(grown, known=json.loads(json.dumps(first)))
    assert all(set(first[name]) <= set(second[name]) for name in first)
    assert [len(second[name]) - len(first[name]) for name in first] == [70, 20, 10]


def digest_of(split):
    return hashlib.sha256(json.dumps(split).encode()).hexdigest()[:16]


def test_the_split_of_the_first_release_is_still_the_split():
    known = split_by_hash({h: stratum for h, stratum in HASHES.items() if h < "050"})
    assert digest_of(split_by_hash(HASHES)) == "8fa04182f2257a3f"
    assert digest_of(split_by_hash(HASHES, (0.5, 0.3, 0.2), 7, known)) == "796790dfbb333fdb"


def test_the_published_split_of_elpv_comes_out_again():
    published = json.loads((ROOT / "benchmarks" / "elpv_split.json").read_text())
    hash_of = {name: h for name in SPLITS for name, h in zip(published[name + "_files"], published[name])}
    strata = {hash_of[sample.path.name]: sample.stratum for sample in read_elpv().samples}
    assert split_by_hash(strata, (0.65, 0.10, 0.25)) == {name: published[name] for name in SPLITS}


def test_deitschs_sizes_come_out_exactly():
    data = read_elpv()
    strata = {str(index): sample.stratum for index, sample in enumerate(data.samples)}
    split = split_by_hash(strata, fractions=(0.6, 0.15, 0.25))
    assert len(split["test"]) == 656 and len(split["train"]) + len(split["val"]) == 1968


WAFERS = {h: f"wafer {int(h) // 5}" for h in HASHES}  # 40 of five images


def splits_by_image(split):
    return {sha256: name for name, hashes in split.items() for sha256 in hashes}


def test_a_group_stays_on_one_side():
    split_of = splits_by_image(split_by_hash(HASHES, groups=WAFERS))
    assert split_of.keys() == HASHES.keys()
    for wafer in set(WAFERS.values()):
        assert len({split_of[h] for h in HASHES if WAFERS[h] == wafer}) == 1


def test_groups_keep_the_shares_of_every_stratum():
    split = split_by_hash(HASHES, groups=WAFERS)
    assert {name: len(hashes) for name, hashes in split.items()} == {"train": 140, "val": 40, "test": 20}
    for name, share in (("train", 35), ("val", 10), ("test", 5)):
        assert abs(sum(HASHES[h] == "abnormal" for h in split[name]) - share) <= 2


def test_single_images_even_out_what_groups_leave_uneven():
    groups = {h: "the only wafer" for h in HASHES if int(h) < 60}
    split = split_by_hash(HASHES, groups=groups)
    assert {name: len(hashes) for name, hashes in split.items()} == {"train": 140, "val": 40, "test": 20}


def test_groups_of_one_change_nothing():
    assert split_by_hash(HASHES, groups={h: f"chip {h}" for h in HASHES}) == split_by_hash(HASHES)


def test_a_new_image_follows_its_known_group():
    first = split_by_hash(HASHES, groups=WAFERS)
    grown = HASHES | {f"new{i}": "normal" for i in range(40)}
    wafers = WAFERS | {f"new{i}": f"wafer {i}" for i in range(40)}
    split_of = splits_by_image(split_by_hash(grown, known=first, groups=wafers))
    assert all(split_of[f"new{i}"] == split_of[f"{5 * i:03}"] for i in range(40))
    assert all(set(first[name]) <= {h for h in split_of if split_of[h] == name} for name in first)


def test_a_group_in_two_parts_of_the_earlier_split_is_an_error():
    known = {"train": ["000", "001"], "val": [], "test": ["002"]}
    with pytest.raises(DataError, match="wafer 0 .* test and train"):
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
    split_of = splits_by_image(split)
    assert sorted(sum(split.values(), [])) == sorted(strata)
    for group in "abcd":
        assert len({split_of[h] for h in strata if groups[h] == group}) <= 1


def test_an_earlier_split_without_all_lists_is_refused(tmp_path):
    (tmp_path / "split.json").write_text('{"train": [], "test": "all"}')
    with pytest.raises(DataError, match="val .* test"):
        read_split(tmp_path / "split.json")


# Datasets that come divided


def make(root, **counts):
    """Folders of drawn chips: train__good=3 makes three images in train/good/. All contents differ."""
    seed = 0
    for folder, count in counts.items():
        (path := root / folder.replace("__", "/")).mkdir(parents=True)
        for _ in range(count):
            seed += 1
            draw_chip(seed).save(path / f"{seed}.png")
    return root


def divided(root, pattern="", split_file=None):
    """The folder of each image by split, such as {"train": ["train/good", ...]}, and how it was divided."""
    data = read_folder(root)
    data = group_by_path(data, pattern) if pattern else data
    images = load_images(data, lambda image: np.asarray(image.resize((8, 8))))
    folder = {h: s.path.parent.relative_to(root).as_posix() for h, s in zip(images.sha256, images.samples)}
    split, how = divide("chips", images, *([read_split(split_file)] if split_file else []))
    return {name: sorted(folder[h] for h in hashes) for name, hashes in split.items()}, how


@pytest.mark.parametrize("val", ["val", "validation"])
def test_a_dataset_that_comes_divided_stays_so(tmp_path, val):
    counts = {"train__ok": 2, "train__ng": 1, f"{val}__ok": 4, f"{val}__ng": 5, "test__ok": 6, "test__ng": 7}
    split, how = divided(make(tmp_path, **counts))
    assert split == {
        "train": ["train/ng"] + ["train/ok"] * 2,
        "val": [f"{val}/ng"] * 5 + [f"{val}/ok"] * 4,
        "test": ["test/ng"] * 7 + ["test/ok"] * 6,
    }
    assert how == "val as the dataset has it, test as the dataset has it"


def test_a_missing_validation_split_is_taken_from_train_and_test_stays(tmp_path):
    root = make(tmp_path, train__ok=18, train__ng=9, test__ok=3, test__ng=2)
    split, how = divided(root)
    assert split["test"] == ["test/ng"] * 2 + ["test/ok"] * 3
    assert split["val"] == ["train/ng"] * 2 + ["train/ok"] * 4  # 2 of 9, as 20 % are of 90 %
    assert how == "test as the dataset has it, val from the rest by content hash"
    assert divided(root) == (split, how)


def test_a_validation_split_of_one_class_is_made_up_from_train(tmp_path):
    split, _ = divided(make(tmp_path, train__ok=12, train__ng=9, val__ok=6, test__ok=3, test__ng=2))
    assert split["test"] == ["test/ng"] * 2 + ["test/ok"] * 3
    assert (len(split["val"]), split["val"].count("train/ng")) == (6, 2)


def test_a_missing_test_split_is_taken_from_train(tmp_path):
    split, _ = divided(make(tmp_path, train__ok=16, train__ng=16, val__ok=3, val__ng=2))
    assert split["val"] == ["val/ng"] * 2 + ["val/ok"] * 3
    assert split["test"] == ["train/ng"] * 2 + ["train/ok"] * 2  # 1 of 8, as 10 % are of 80 %


def test_all_is_divided_anew_where_train_has_one_class_as_in_mvtec_ad(tmp_path):
    split, how = divided(make(tmp_path, train__good=20, test__good=10, test__crack=20))
    assert {name: len(found) for name, found in split.items()} == {"train": 35, "val": 10, "test": 5}
    assert {"train/good", "test/good", "test/crack"} <= set(split["train"])
    assert "normal images" in how


def test_an_earlier_split_comes_before_that_of_the_dataset(tmp_path):
    root = make(tmp_path / "chips", train__ok=9, train__ng=9, test__ok=9, test__ng=9)
    train_hashes = [read_image(path).sha256 for path in sorted(root.glob("train/*/*"))]
    (tmp_path / "split.json").write_text(json.dumps({"train": [], "val": [], "test": train_hashes}))
    split, how = divided(root, split_file=tmp_path / "split.json")
    assert split["test"].count("train/ng") == split["test"].count("train/ok") == 9
    assert {"test/ok", "test/ng"} <= set(split["train"])
    assert how.startswith("as in the earlier split.json for 18 images, the others all images by content hash")


def test_an_image_that_is_in_train_and_in_test_is_tested_only(tmp_path):
    root = make(tmp_path, train__ok=9, train__ng=9, test__ok=2, test__ng=2)
    draw_chip(19).save(root / "train" / "ok" / "again.png")  # in test/ok too
    split, _ = divided(root)
    assert split["test"] == ["test/ng"] * 2 + ["test/ok"] * 2 and len(sum(split.values(), [])) == 22


def test_a_group_in_two_splits_of_the_dataset_is_an_error(tmp_path):
    root = make(tmp_path, train__ok=3, train__ng=3, test__ok=3, test__ng=3)
    with pytest.raises(DataError, match="test and train"):
        divided(root, pattern="(ok|ng)/")


def test_a_split_without_both_classes_says_what_is_in_each(tmp_path):
    root = draw_chips(tmp_path / "few", normal=3, abnormal=1)
    with pytest.raises(DataError, match="train has 2 and 1, val has 1 and 0, test has 0 and 0"):
        divided(root)
