"""Where the images of a batch come from: disks, lists, datasets of a loopback Hub, and storage."""

import io
import json
import os
import zipfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from chipdemo.__main__ import main
from chipdemo.batch.run import inspect_all, picture
from chipdemo.batch.sources import find_images, label_by_folders, uploaded_images
from chipdemo.errors import BatchError, ExchangeError, ImageError
from chipdemo.files import Limits, content_of
from tests.batches import task
from tests.drawn import picture as drawn
from tests.fakes import FakeModel
from tests.hub import Account, Hub
from tests.tiny import draw_chips, tiny_checkpoint

# --- disks --------------------------------------------------------------------------------------


def names(images):
    return [one.file.name for one in images]


def test_folders_zips_patterns_and_lists_give_each_image_once(tmp_path):
    (tmp_path / "chips").mkdir()
    for number in range(12):
        (tmp_path / "chips" / f"{number:02}.png").write_bytes(drawn(number))
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("lot/a.png", drawn(1))
        archive.writestr("NG/b.png", drawn(2))
    (tmp_path / "list.csv").write_text("image,label\nchips/03.png,good\nchips/04.png,NG\n", encoding="utf-8")
    given = ("chips/0*.png", "list.csv", "more.zip", "chips")
    images = list(find_images([str(tmp_path / name) for name in given]))
    assert names(images)[:10] == [f"{number:02}.png" for number in range(10)]
    assert names(images)[10:] == ["lot/a.png", "NG/b.png", "10.png", "11.png"]
    assert images[10].path == f"{tmp_path}/more.zip!lot/a.png"
    assert [one.label for one in images[10:12]] == ["", "abnormal"]
    alone = find_images([str(tmp_path / "list.csv")])
    assert [one.label for one in alone] == ["normal", "abnormal"]


def test_folders_label_images_by_their_names_alone(tmp_path):
    data = draw_chips(tmp_path / "data", normal=2, abnormal=1)
    assert [one.label for one in find_images([str(data)])] == ["abnormal", "normal", "normal"]
    data.joinpath("abnormal").rename(data / "scratch")
    assert [one.label for one in find_images([str(data)])] == ["normal", "normal", ""]
    data.joinpath("normal").rename(data / "monday")
    assert {one.label for one in find_images([str(data)])} == {""}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("a.png", ""),
        ("good.png", ""),
        ("good/a.png", "normal"),
        ("lot 7/NG/scratch/a.png", "abnormal"),
        ("train\\OK\\a.png", "normal"),
        ("abnormal/good enough/a.png", "abnormal"),
        ("images/a.png", ""),
        ("1/a.png", ""),
        ("0/a.png", ""),
    ],
)
def test_a_folder_names_a_class_or_nothing(name, label):
    assert label_by_folders(name) == label


@pytest.mark.parametrize(
    "content",
    [
        b"image,label\nlot/a.png,ok\nlot/b.png,1\n",
        b"\xef\xbb\xbfIMAGE;Label\r\nlot\\a.png;Good\r\nlot\\b.png;NG\r\n",
        b"no\tLabel\tImage\n1\t0\tlot/a.png\n2\tdefect\tlot/b.png\n",
    ],
    ids=["commas", "semicolons and backslashes", "tabs"],
)
def test_a_list_is_read_as_spreadsheets_write_it(tmp_path, content):
    (tmp_path / "lot").mkdir()
    for name in "ab":
        (tmp_path / "lot" / f"{name}.png").write_bytes(drawn(1))
    (tmp_path / "list.csv").write_bytes(content)
    images = find_images([str(tmp_path / "list.csv")])
    assert [one.path for one in images] == [f"{tmp_path}/lot/a.png", f"{tmp_path}/lot/b.png"]
    assert [one.label for one in images] == ["normal", "abnormal"]
    assert [result["error"] for result in inspect_all(task(), images, tmp_path / "out")] == ["", ""]


def test_a_refused_file_has_a_path_of_its_own_and_its_reason(tmp_path):
    with zipfile.ZipFile(tmp_path / "lot.zip", "w") as archive:
        for name in ("NG/a.png", "../a.png", "../b.png", "C:b: c.png"):
            archive.writestr(name, drawn(1))
        with pytest.warns(UserWarning):
            archive.writestr("../a.png", drawn(2))
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and nothing more")
    images = find_images([str(tmp_path / "lot.zip"), str(tmp_path / "bad.zip")])
    assert [one.path.removeprefix(f"{tmp_path}/") for one in images] == [
        "lot.zip!NG/a.png", "lot.zip!../a.png", "lot.zip!../b.png", "lot.zip!C:b: c.png",
        "lot.zip!../a.png (2)", "bad.zip",
    ]  # fmt: skip
    first, *refused = inspect_all(task(), images, tmp_path / "out")
    assert first["label"] == "abnormal" and not first["error"] and not images.skipped
    assert len(refused) == 5 and all(one["error"] for one in refused)


def test_a_link_in_a_folder_is_unreadable_and_hidden_files_are_a_line(tmp_path):
    lot = tmp_path / "lot"
    lot.mkdir()
    for name in ("a.png", ".b.png"):
        (lot / name).write_bytes(drawn(1))
    (lot / "link.png").symlink_to(lot / "a.png")
    images = find_images([str(lot)])
    results = inspect_all(task(), images, tmp_path / "out")
    assert [(one["path"], bool(one["error"])) for one in results] == [
        (f"{lot}/a.png", False),
        (f"{lot}/link.png", True),
    ]
    assert len(images.skipped) == 1 and "1 hidden" in images.skipped[0]


@pytest.mark.parametrize(
    ("content", "found"), [("name\na.png\n", "name"), ("", "list.csv"), ("image\n", "list.csv")]
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path, content, found):
    (tmp_path / "list.csv").write_text(content, encoding="utf-8")
    with pytest.raises(BatchError, match=found):
        find_images([str(tmp_path / "list.csv")])


def test_a_path_that_leads_nowhere_is_refused(tmp_path):
    with pytest.raises(ExchangeError, match="gone"):
        find_images([str(tmp_path / "gone")])
    with pytest.raises(BatchError, match="gone.csv"):
        find_images([str(tmp_path / "gone.csv")])


def test_uploads_of_one_name_are_told_apart_and_their_folder_is_not_shown(tmp_path):
    (tmp_path / "a").write_bytes(drawn(1))
    with zipfile.ZipFile(tmp_path / "b", "w") as archive:
        archive.writestr("chip.png", drawn(2))
        archive.writestr("../out.png", drawn(3))
    images, skipped = uploaded_images([("chip.png", tmp_path / "a")] * 2 + [("lot.zip", tmp_path / "b")])
    paths = ["chip.png", "chip.png (2)", "lot.zip!chip.png", "lot.zip!../out.png"]
    assert [one.path for one in images] == paths and not skipped
    with pytest.raises(ImageError):
        content_of(images[3].file)


# --- datasets of the Hub ------------------------------------------------------------------------

CLASSES = {"info": {"features": {"label": {"names": ["NG", "good"], "_type": "ClassLabel"}}}}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with Hub({"hf_ada": Account("ada")}) as hub:
        hub.serve(monkeypatch, tmp_path / "home", "hf_ada")
        yield hub


def publish(name: str, **files: bytes) -> None:
    HfApi().create_repo(name, repo_type="dataset", private=True)
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    HfApi().create_commit(name, operations, commit_message="files", repo_type="dataset")


def table(images: list, labels: list, classes: dict | None = None) -> bytes:
    """In groups of 4 rows."""
    metadata = {"huggingface": json.dumps(classes)} if classes else None
    made = pa.table({"image": images, "label": labels}).replace_schema_metadata(metadata)
    pq.write_table(made, file := io.BytesIO(), row_group_size=4)
    return file.getvalue()


def rows(*numbers: int) -> list[dict]:
    return [{"bytes": drawn(number), "path": f"{number}.png"} for number in numbers]


@pytest.fixture
def chips(hub):
    publish(
        "ada/chips",
        **{
            "data/a.parquet": table(rows(*range(20)), [0] * 10 + [1] * 10, CLASSES),
            "data/b.parquet": table([*rows(20), {"bytes": b"none", "path": "x"}], ["ok", "scratch"]),
        },
    )
    return hub


def test_rows_of_a_dataset_are_judged_with_their_labels_under_lasting_places(chips, tmp_path):
    images = find_images(["hf:ada/chips"])
    assert len(images) == 22 and [one.path for one in images][19:21] == [
        "hf:ada/chips/data/a.parquet#19",
        "hf:ada/chips/data/b.parquet#0",
    ]
    results = list(inspect_all(task(), images, tmp_path / "out"))
    assert [result["file"] for result in results] == [*(f"{number}.png" for number in range(21)), "x"]
    assert [result["label"] for result in results] == ["abnormal"] * 10 + ["normal"] * 11 + [""]
    assert "text" in results[21]["error"] and results[21]["path"].endswith("b.parquet#1")


def test_one_row_is_found_without_those_before_it(chips):
    ones = list(find_images(["hf:ada/chips"]))
    assert ones[13].fetched().file.source == drawn(13)
    assert ones[2].fetched().file.source == drawn(2)
    assert picture(task(), ones[7]).startswith(b"\xff\xd8\xff")


def test_what_a_hub_that_went_away_left_open_is_done_when_it_is_back(chips, tmp_path):
    images = find_images(["hf:ada/chips"])
    whole = list(inspect_all(task(), images, tmp_path / "whole"))
    chips.fail("GET .*/b.parquet", 403, times=99)
    with pytest.raises(BatchError, match="403"):
        inspect_all(task(), images, tmp_path / "out")
    chips.faults.clear()
    model = FakeModel()
    results = list(inspect_all(task(model), images, tmp_path / "out"))
    assert [one["path"] for one in results] == [one["path"] for one in whole]
    assert [one.get("outcome") for one in results] == [one.get("outcome") for one in whole]
    assert model.predictions < 21


def test_images_that_lie_in_a_dataset_are_labeled_by_its_folders(hub, tmp_path):
    publish("ada/files", **{"OK/a.png": drawn(1), "NG/lot/b.png": drawn(2) + b"\0" * 5_000, "c.csv": b""})
    images = find_images(["hf:ada/files"], Limits(file_bytes=4_000))
    assert [(one.path, one.label) for one in images] == [
        ("hf:ada/files/NG/lot/b.png", "abnormal"),
        ("hf:ada/files/OK/a.png", "normal"),
    ]
    bad, good = inspect_all(task(), images, tmp_path / "out")
    assert "MB" in bad["error"] and good["error"] == ""


def test_tables_that_are_damaged_or_hold_no_images_are_passed_over(hub):
    publish("ada/odd", **{"a.parquet": b"PAR1 and nothing more", "b.parquet": table(rows(1), ["ok"])})
    images = find_images(["hf:ada/odd"])
    assert len(images) == 1
    assert len(images.skipped) == 1 and images.skipped[0].startswith("a.parquet")


def test_a_dataset_that_is_not_there_or_private_is_refused(hub, chips, tmp_path, capsys, monkeypatch):
    command = ["inspect", "hf:ada/nothing", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "ada/nothing" in error and "404" in error
    hub.serve(monkeypatch, tmp_path / "elsewhere", "")
    with pytest.raises(ExchangeError, match="401"):
        find_images(["hf:ada/chips"])


def test_the_command_reports_on_a_private_dataset(chips, tmp_path, capsys):
    model = tiny_checkpoint(tmp_path / "model")
    command = ["inspect", "hf:ada/chips", "--model", str(model), "--out", str(tmp_path / "out")]
    assert main([*command, "--runtime", "torch"]) == 0
    assert "22 images" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 21


# --- object storage -----------------------------------------------------------------------------


def test_images_on_object_storage_are_named_by_their_address(tmp_path):
    storage = fsspec.filesystem("memory")
    storage.pipe({"/lot/good/a.png": drawn(1), "/lot/defect/b.png": b"none", "/lot/.hidden/c.png": b""})
    images = list(find_images(["memory://lot"]))
    assert [(one.path, one.label) for one in images] == [
        ("memory:///lot/defect/b.png", "abnormal"),
        ("memory:///lot/good/a.png", "normal"),
    ]
    bad, good = inspect_all(task(), images, tmp_path / "out")
    assert "text" in bad["error"] and (good["file"], good["error"]) == ("good/a.png", "")
    storage.rm("/lot/good/a.png")
    (_, gone) = inspect_all(task(), images, tmp_path / "again")
    assert "a.png" in gone["error"]


def test_a_name_on_a_storage_that_is_no_text_is_inspected(tmp_path):
    (tmp_path / "lot").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "lot") + b"/caf\xe9.png")).write_bytes(drawn(1))
    (result,) = inspect_all(task(), find_images([f"file://{tmp_path}/lot"]), tmp_path / "out")
    assert result["path"].endswith("caf\\udce9.png") and result["error"] == ""


@pytest.mark.parametrize("address", ["nowhere://lot", "memory://nothing"])
def test_an_address_that_cannot_be_read_is_refused(address):
    with pytest.raises((ExchangeError, BatchError), match=address):
        find_images([address])
