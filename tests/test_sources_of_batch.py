"""Where the images of a batch come from: datasets of a loopback Hub, and storage by address."""

import io
import json

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from chipdemo.__main__ import main
from chipdemo.batch.run import inspect_all, picture
from chipdemo.batch.sources import listed
from chipdemo.errors import BatchError, ExchangeError
from chipdemo.files import Limits
from tests.drawn import picture as drawn
from tests.fakes import FakeInspector
from tests.hub import Account, Hub
from tests.tiny import tiny_checkpoint

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


def test_rows_of_a_data_set_are_judged_with_their_labels_under_lasting_places(chips, tmp_path):
    images = listed(["hf:ada/chips"])
    assert len(images) == 22 and [one.place for one in images][19:21] == [
        "hf:ada/chips/data/a.parquet#19",
        "hf:ada/chips/data/b.parquet#0",
    ]
    results = list(inspect_all(FakeInspector(), images, tmp_path / "out"))
    assert [result["file"] for result in results] == [*(f"{number}.png" for number in range(21)), "x"]
    assert [result["label"] for result in results] == ["abnormal"] * 10 + ["normal"] * 11 + [""]
    assert "Expected an image" in results[21]["error"] and results[21]["path"].endswith("b.parquet#1")


def test_one_row_is_found_without_those_before_it(chips):
    ones = list(listed(["hf:ada/chips"]))
    assert ones[13].fetched().found.source == drawn(13)
    assert ones[2].fetched().found.source == drawn(2)
    assert picture(FakeInspector(), ones[7]).width > 0


def test_what_a_hub_that_went_away_left_open_is_done_when_it_is_back(chips, tmp_path):
    images = listed(["hf:ada/chips"])
    whole = list(inspect_all(FakeInspector(), images, tmp_path / "whole"))
    chips.fail("GET .*/b.parquet", 403, times=99)
    with pytest.raises(BatchError, match="HTTP status 403.*it goes on from here"):
        inspect_all(FakeInspector(), images, tmp_path / "out")
    chips.faults.clear()
    inspector = FakeInspector()
    assert list(inspect_all(inspector, images, tmp_path / "out")) == whole
    assert inspector.inspections < 21


def test_images_that_lie_in_a_data_set_are_labeled_by_its_folders(hub, tmp_path):
    publish("ada/files", **{"OK/a.png": drawn(1), "NG/lot/b.png": drawn(2) + b"\0" * 5_000, "c.csv": b""})
    images = listed(["hf:ada/files"], Limits(file_bytes=4_000))
    assert [(one.place, one.label) for one in images] == [
        ("hf:ada/files/NG/lot/b.png", "abnormal"),
        ("hf:ada/files/OK/a.png", "normal"),
    ]
    bad, good = inspect_all(FakeInspector(), images, tmp_path / "out")
    assert bad["error"].startswith("Expected a file of at most") and good["error"] == ""


def test_tables_that_are_damaged_or_hold_no_images_are_passed_over(hub):
    publish("ada/odd", **{"a.parquet": b"PAR1 and nothing more", "b.parquet": table(rows(1), ["ok"])})
    images = listed(["hf:ada/odd"])
    assert len(images) == 1
    assert images.passed_over[0].startswith("a.parquet: a table that cannot be read")


def test_a_data_set_that_is_not_there_or_private_is_refused(hub, chips, tmp_path, capsys, monkeypatch):
    command = ["inspect", "hf:ada/nothing", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    err = capsys.readouterr().err
    assert "ada/nothing" in err and "HTTP status 404" in err
    hub.serve(monkeypatch, tmp_path / "elsewhere", "")
    with pytest.raises(ExchangeError, match="ada/chips .*HTTP status 401"):
        listed(["hf:ada/chips"])


def test_the_command_reports_on_a_private_data_set(chips, tmp_path, capsys):
    model = tiny_checkpoint(tmp_path / "model")
    command = ["inspect", "hf:ada/chips", "--model", str(model), "--out", str(tmp_path / "out")]
    assert main([*command, "--runtime", "torch"]) == 0
    assert "22 images: " in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<img alt=''") == 21 and "labeled normal" in page


def test_images_on_object_storage_are_named_by_their_address(tmp_path):
    storage = fsspec.filesystem("memory")
    storage.pipe({"/lot/good/a.png": drawn(1), "/lot/defect/b.png": b"none", "/lot/.hidden/c.png": b""})
    images = list(listed(["memory://lot"]))
    assert [(one.place, one.label) for one in images] == [
        ("memory:///lot/defect/b.png", "abnormal"),
        ("memory:///lot/good/a.png", "normal"),
    ]
    bad, good = inspect_all(FakeInspector(), images, tmp_path / "out")
    assert "Expected an image" in bad["error"] and good["file"] == "good/a.png"
    storage.rm("/lot/good/a.png")
    (_, gone) = inspect_all(FakeInspector(), images, tmp_path / "again")
    assert "Check that it is still there" in gone["error"]


@pytest.mark.parametrize("address", ["nowhere://lot", "memory://nothing"])
def test_an_address_that_cannot_be_read_is_refused(address):
    with pytest.raises((ExchangeError, BatchError), match="Expected images"):
        listed([address])
