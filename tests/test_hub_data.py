"""Datasets of the Hub as training data: written by `datasets`, in folders and on a loopback Hub."""

from datetime import datetime, timedelta, timezone
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from huggingface_hub import HfApi

from chipdemo.errors import DataError
from chipdemo.images import content_sha256, read_image
from tests.hub import Account, Hub
from tests.tiny import draw_chip, draw_chips
from training.data import load_images
from training.hub_data import ADDRESS
from training.sources import group_by_path, read_data

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def png(seed):
    file = BytesIO()
    draw_chip(seed).save(file, "PNG")
    return file.getvalue()


def small(image):
    return np.asarray(image.resize((8, 8)))


def stored(folder, columns, image=Image(), card="", **types):  # noqa: B008 - a value, never changed
    """A dataset's folder as push_to_hub leaves it, one split of all rows."""
    (folder / "data").mkdir(parents=True)
    features = {name: Value("string") for name in columns} | {"image": image} | types
    Dataset.from_dict(columns, Features(features)).to_parquet(folder / "data" / "train-00000.parquet")
    (folder / "README.md").write_text(card)
    return f"hf:{folder}"


def test_images_of_the_hub_are_read_from_their_table(tmp_path):
    address = stored(
        tmp_path / "chips",
        {
            "image": [{"bytes": png(0), "path": "lot1_a.png"}, {"bytes": png(1), "path": None}],
            "label": ["OK", "ng"],
            "defect_type": [None, "crack"],
            "group": ["wafer 1", None],
            "probability": [0.25, None],
            "comment": ["", ""],
        },
        card="---\nlicense: cc-by-4.0\n---\n",
        probability=Value("float32"),
    )
    data = read_data(address)
    assert (data.name, data.license) == ("chips", "cc-by-4.0")
    assert [(s.path.as_posix(), s.label, s.probability, s.defect_type, s.group) for s in data.samples] == [
        ("chips/lot1_a.png", "normal", 0.25, "", "wafer 1"),
        ("chips/data/train-00000.parquet, row 1", "abnormal", 1.0, "crack", ""),
    ]
    images = load_images(data, small)
    assert images.sha256 == (content_sha256(draw_chip(0)), content_sha256(draw_chip(1)))
    assert [sample.group for sample in group_by_path(data, r"(lot\d)").samples] == ["lot1", ""]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with Hub({"hf_ada": Account("ada")}) as hub:
        hub.serve(monkeypatch, tmp_path / "home", "hf_ada")
        yield hub


def test_a_private_data_set_is_read_from_the_hub_as_it_is_and_as_it_was(hub, tmp_path, monkeypatch):
    card = "---\nlicense: cc-by-4.0\n---\n"
    stored(tmp_path / "first", {"image": [{"bytes": png(0)}], "label": ["OK"]}, card=card)
    stored(tmp_path / "second", {"image": [{"bytes": png(0)}], "label": ["ng"]}, card=card)
    api = HfApi()
    api.create_repo("ada/chips", repo_type="dataset", private=True)
    first = api.upload_folder(repo_id="ada/chips", folder_path=tmp_path / "first", repo_type="dataset")
    api.upload_folder(repo_id="ada/chips", folder_path=tmp_path / "second", repo_type="dataset")
    with monkeypatch.context() as nobody, pytest.raises(DataError, match="HF_TOKEN"):
        nobody.setenv("HF_TOKEN", "")
        read_data("hf:ada/chips")
    now, before = read_data("hf:ada/chips"), read_data(f"hf:ada/chips@{first.oid}")
    assert (now.name, now.license) == ("ada/chips", "cc-by-4.0")
    assert [s.label for s in now.samples] == ["abnormal"] and [s.label for s in before.samples] == ["normal"]
    assert content_sha256(read_image(now.samples[0].source).image) == content_sha256(draw_chip(0))


def test_a_configuration_is_a_folder_and_a_download_serves_without_network(hub, tmp_path, monkeypatch):
    for config, label in (("first", "OK"), ("second", "ng")):
        stored(tmp_path / "up" / config, {"image": [{"bytes": png(0)}], "label": [label]})
    HfApi().create_repo("ada/chips", repo_type="dataset")
    HfApi().upload_folder(repo_id="ada/chips", folder_path=tmp_path / "up", repo_type="dataset")
    assert [s.label for s in read_data("hf:ada/chips/second").samples] == ["abnormal"]
    with pytest.raises(DataError, match="ada/chips/third"):
        read_data("hf:ada/chips/third")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert [s.label for s in read_data("hf:ada/chips/second").samples] == ["abnormal"]


def test_image_files_on_the_hub_are_read_by_their_folders(hub, tmp_path):
    draw_chips(tmp_path / "up" / "train", normal=2, abnormal=1)
    (tmp_path / "up" / "train" / "normal" / "0.png").rename(tmp_path / "up" / "train" / "normal" / "0.PNG")
    HfApi().create_repo("ada/chips", repo_type="dataset")
    HfApi().upload_folder(repo_id="ada/chips", folder_path=tmp_path / "up", repo_type="dataset")
    data = read_data("hf:ada/chips")
    assert (data.name, [s.label for s in data.samples]) == ("ada/chips", ["abnormal", "normal", "normal"])
    assert {s.split for s in data.samples} == {"train"} and len(load_images(data, small).sha256) == 3


def test_a_card_cannot_name_files_of_this_machine(tmp_path):
    (tmp_path / "secret").mkdir()
    stored(tmp_path / "secret" / "chips", {"image": [{"bytes": png(5)}], "label": ["ng"]})
    card = (
        f"---\nconfigs:\n- config_name: default\n  data_files: {tmp_path}/secret/chips/data/*.parquet\n---\n"
    )
    columns = {"image": [{"bytes": png(0), "path": None}], "label": ["OK"]}
    assert [s.label for s in read_data(stored(tmp_path / "chips", columns, card=card)).samples] == ["normal"]


def test_classes_of_the_hub_count_by_their_names(tmp_path):
    columns = {"image": [{"bytes": png(i), "path": None} for i in range(2)], "label": [0, 1]}
    address = stored(tmp_path / "chips", columns, label=ClassLabel(names=["defect", "good"]))
    assert [sample.label for sample in read_data(address).samples] == ["abnormal", "normal"]


def test_the_names_of_the_files_give_the_splits(tmp_path):
    for split, start in (("train", 0), ("validation", 10), ("test", 20)):
        columns = {
            "image": [{"bytes": png(start + i), "path": None} for i in range(2)],
            "label": ["ok", "ng"],
        }
        features = Features({"image": Image(), "label": Value("string")})
        Dataset.from_dict(columns, features).to_parquet(tmp_path / f"{split}-0.parquet")
    images = load_images(read_data(f"hf:{tmp_path}"), small)
    assert [(s.split, s.label) for s in images.samples] == [
        (split, label) for split in ("test", "train", "val") for label in ("normal", "abnormal")
    ]


def test_a_dataset_of_image_files_is_read_as_a_folder(tmp_path):
    draw_chips(tmp_path / "chips", normal=2, abnormal=0)
    (tmp_path / "chips" / "abnormal" / "1.png").write_bytes(png(1000))
    images = load_images(read_data(f"hf:{tmp_path / 'chips'}"), small)
    assert sorted(sample.label for sample in images.samples) == ["abnormal", "normal", "normal"]


def test_a_row_without_an_image_is_unreadable(tmp_path):
    columns = {
        "image": [None, *({"bytes": png(i), "path": None} for i in range(1, 30))],
        "label": ["ok"] * 15 + ["ng"] * 15,
    }
    (line,) = load_images(read_data(stored(tmp_path / "chips", columns)), small).unreadable
    assert "row 0" in line


@pytest.mark.parametrize("label", ["perhaps", None])
def test_a_row_that_cannot_be_taken_is_named(tmp_path, label):
    columns = {"image": [{"bytes": png(0), "path": None}] * 2, "label": ["ok", label]}
    with pytest.raises(DataError, match="Row 1 of data/train-00000.parquet"):
        read_data(stored(tmp_path / "chips", columns))


def test_a_missing_column_is_named(tmp_path):
    columns = {"image": [{"bytes": png(0), "path": None}], "verdict": ["ok"]}
    with pytest.raises(DataError, match="image, verdict.* label"):
        read_data(stored(tmp_path / "chips", columns))


def test_a_data_set_that_is_not_there_says_what_to_check(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        read_data(f"hf:{tmp_path / 'empty'}")
    with pytest.raises(DataError, match="hf:OWNER/NAME"):
        read_data("hf:chips")


@pytest.mark.parametrize(
    "name, found",
    [
        ("me/chips", ("me/chips", None, None)),
        ("me/chips@v1.2", ("me/chips", None, "v1.2")),
        ("me/chips/labels", ("me/chips", "labels", None)),
        ("me/chips/labels@refs/pr/1", ("me/chips", "labels", "refs/pr/1")),
    ],
)
def test_an_address_names_repository_config_and_revision(name, found):
    assert ADDRESS.fullmatch(name).group("repository", "config", "revision") == found


def test_a_data_set_out_of_reach_says_what_to_check(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="me/chips .*HF_TOKEN"):
        read_data("hf:me/chips")


def events(*rows):
    """Label events as columns; a row: image, label, annotator, minute, id, what it retracts."""
    return {
        "event_id": [row[4] for row in rows],
        "image": [png(row[0]) for row in rows],
        "image_sha256": [content_sha256(draw_chip(row[0])) for row in rows],
        "label": [row[1] for row in rows],
        "defect_type": ["crack" if row[1] == "abnormal" else None for row in rows],
        "annotator": [row[2] for row in rows],
        "created_at": [NOON + timedelta(minutes=row[3]) for row in rows],
        "retracts": [row[5] for row in rows],
        "note": [""] * len(rows),
    }


EVENTS = events(
    (0, "normal", "ann", 0, "a", None),
    (1, "normal", "ann", 1, "b", None),
    (1, "abnormal", "ann", 2, "c", None),  # ann changes her mind
    (2, "abnormal", "ann", 3, "d", None),
    (2, "abnormal", "ann", 4, "e", "d"),  # and undoes this one
    (3, "normal", "ann", 5, "f", None),
    (3, "abnormal", "bob", 6, "g", None),  # they disagree
    (4, "unsure", "bob", 7, "h", None),
    (0, "normal", "bob", 8, "i", None),
    (0, "abnormal", "cy", 9, "j", None),  # two against one
)


@pytest.mark.parametrize("time", ["stamps", "texts"])
@pytest.mark.parametrize("content", ["features", "bytes"])
def test_what_holds_now_is_derived_from_label_events(tmp_path, time, content):
    columns, types = dict(EVENTS), {"created_at": Value("timestamp[us, tz=UTC]")}
    if time == "texts":
        columns["created_at"] = [moment.isoformat() for moment in columns["created_at"]]
        types = {}
    image = Image() if content == "features" else Value("binary")
    data = read_data(stored(tmp_path / "labels", columns, image, **types))
    assert [(sample.label, sample.defect_type, round(sample.probability, 2)) for sample in data.samples] == [
        ("normal", "", 0.33),
        ("abnormal", "crack", 1.0),
    ]
    assert sorted(line.split(": ")[1] for line in data.left_out) == [
        "disputed (1 abnormal, 1 normal)",
        "unsure (1 unsure)",
    ]
    images = load_images(data, small)
    assert set(images.sha256) == {content_sha256(draw_chip(i)) for i in (0, 1)}
    assert images.left_out == data.left_out


def test_events_in_several_shards_are_one_history(tmp_path):
    for index in range(10):
        row = {name: values[index : index + 1] for name, values in EVENTS.items()}
        schema = pa.schema(
            {name: pa.string() for name in row}
            | {"image": pa.binary(), "created_at": pa.timestamp("us", "UTC")}
        )
        pq.write_table(pa.table(row, schema), tmp_path / f"events-{index}.parquet")
    assert len(read_data(f"hf:{tmp_path}").samples) == 2


@pytest.mark.parametrize(
    "change, message",
    [
        ({"label": ["maybe"]}, "Row 0 .*maybe"),
        ({"created_at": ["soon"]}, "created_at"),
        ({"created_at": [None]}, "Row 0 "),
        ({"annotator": None}, "annotator"),
    ],
)
def test_events_that_cannot_be_taken_are_named(tmp_path, change, message):
    columns = {name: values[:1] for name, values in EVENTS.items()}
    columns["created_at"] = ["2026-01-01T12:00:00Z"]
    columns = {name: values for name, values in (columns | change).items() if values}
    with pytest.raises(DataError, match=message):
        read_data(stored(tmp_path / "labels", columns, Value("binary")))
