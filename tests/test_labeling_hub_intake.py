"""Datasets of a loopback Hub as a source of images, with what strangers may put into them."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from chipdemo.__main__ import main
from chipdemo.errors import ExchangeError
from chipdemo.files import Limits
from chipdemo.labeling.hub.intake import add_dataset, images_of
from chipdemo.settings import Settings
from chipdemo.ui.label import adding
from tests.drawn import picture
from tests.hub import CUT, Account, Hub

HOSTILE = "<img src=x>\u202e.png"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with Hub({"hf_ada": Account("ada")}) as hub:
        hub.serve(monkeypatch, tmp_path / "home", "hf_ada")
        yield hub


def publish(name: str, private: bool = False, **files: bytes) -> None:
    """Makes a dataset of these files."""
    HfApi().create_repo(name, repo_type="dataset", private=private)
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    HfApi().create_commit(name, operations, commit_message="files", repo_type="dataset")


def table(*rows, column: str = "image") -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({column: list(rows), "label": ["OK"] * len(rows)}), file)
    return file.getvalue()


def row(number: int, path: str | None = None) -> dict:
    return {"bytes": picture(number), "path": path}


def names(journal) -> list[str]:
    with journal.read() as database:
        return [row["name"] for row in database.execute("SELECT name FROM images ORDER BY id")]


def test_images_come_from_the_tables_with_their_content_and_once(hub, journal):
    tables = {
        "data/a.parquet": table(row(1, "lot1/a.png"), row(2), row(1)),
        "data/b.parquet": table(row(3, HOSTILE)),
        "docs/card.png": picture(9),
    }
    publish("ada/chips", **tables)
    intake = add_dataset(journal, "ada/chips")
    assert (intake.added, intake.known, intake.refused) == (3, 1, ())
    assert names(journal) == ["lot1/a.png", "data/a.parquet, row 1", HOSTILE]
    with journal.read() as database:
        sha256 = database.execute("SELECT sha256 FROM images ORDER BY id").fetchone()["sha256"]
    assert journal.content(sha256) == picture(1) and journal.image(sha256).path is None
    assert add_dataset(journal, "ada/chips").known == 4


def test_image_files_are_added_where_there_is_no_table(hub, journal):
    publish(
        "ada/chips",
        **{
            "train/OK/a@b ä.PNG": picture(1),
            "b.jpeg": picture(2, format="JPEG"),
            "c.png": b"none",
            "labels.txt": b"notes",
        },
    )
    intake = add_dataset(journal, "ada/chips")
    assert intake.added == 2 and names(journal) == ["b.jpeg", "train/OK/a@b ä.PNG"]
    assert intake.refused[0].startswith("c.png: ")


def test_a_path_in_a_row_is_never_opened(hub, journal, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(7))
    rows = ({"bytes": None, "path": str(secret)}, {"bytes": b"", "path": "hf://datasets/ada/other/x.png"})
    publish("ada/chips", **{"a.parquet": table(row(1, str(secret)), *rows)})
    publish(
        "ada/others", **{"b.parquet": table(row(1), column="picture"), "c.parquet": table(picture(4), b"")}
    )
    intake = add_dataset(journal, "ada/chips")
    assert (intake.added, names(journal)) == (1, [str(secret)])
    assert [line.split(":")[0] for line in intake.refused] == ["a.parquet, row 1", "a.parquet, row 2"]
    intake = add_dataset(journal, "ada/others")
    assert intake.added == 1 and intake.refused[0].startswith("b.parquet: ")


def test_the_limits_stop_the_intake(hub, journal):
    publish("ada/chips", **{"a.parquet": table(*(row(number) for number in range(6)))})
    publish("ada/files", **{"a.png": picture(7), "b.png": picture(8) + b"\0" * 5_000})
    intake = add_dataset(journal, "ada/chips", limits=Limits(files=4))
    assert intake.added == 4 and " 4 images" in intake.refused[0]
    assert "python -m chipdemo labels add hf:ada/chips" in intake.refused[0]
    few_bytes = Limits(total_bytes=len(picture(0)) + len(picture(1)))
    assert len([one for one in images_of("ada/chips", few_bytes) if not isinstance(one, str)]) == 2
    intake = add_dataset(journal, "ada/files", limits=Limits(file_bytes=1_000))
    assert intake.added == 1 and intake.refused[0].startswith("b.png: ")


def test_without_a_token_only_public_datasets_are_read(hub, journal):
    publish("ada/secrets", private=True, **{"a.png": picture(1)})
    publish("ada/open", **{"a.png": picture(1)})
    assert len(list(images_of("ada/secrets"))) == len(list(images_of("ada/open", anonymous=True))) == 1
    for name in ("ada/secrets", "ada/nothing"):  # and nobody learns which of them is there
        with pytest.raises(ExchangeError, match=f"hf:{name}"):
            list(images_of(name, anonymous=True))
    with pytest.raises(ExchangeError, match="404"):
        list(images_of("ada/nothing"))


@pytest.mark.parametrize(
    "name", ["", "chips", "../../etc", "ada/chips/data", "ada/chips@main", "a b/c", HOSTILE]
)
def test_an_invalid_name_is_refused_before_any_request(hub, name):
    with pytest.raises(ExchangeError, match="owner/name"):
        list(images_of(name))
    assert hub.requests == []


def test_after_a_failure_the_images_before_it_stay(hub, journal):
    publish("ada/chips", **{f"{number}.png": picture(number) for number in range(3)}, **{"x.csv": b""})
    hub.fail("GET .*/resolve/.*/2.png", 403, times=9)
    intake = add_dataset(journal, "ada/chips")
    assert intake.added == 2 and "403" in intake.refused[0]
    hub.faults.clear()
    assert add_dataset(journal, "ada/chips").added == 1
    publish("ada/damaged", **{"a.parquet": b"PAR1 and nothing more"})
    assert add_dataset(journal, "ada/damaged").refused[0].startswith("ada/damaged ")
    publish("ada/empty", **{"x.csv": b""})
    assert add_dataset(journal, "ada/empty").refused[0].startswith("ada/empty ")


def test_a_hub_that_does_not_answer_is_an_error(hub, journal):
    hub.fail("GET /api/datasets/", CUT, times=20)
    with pytest.raises(ExchangeError, match="ada/chips"):
        add_dataset(journal, "ada/chips")


def test_the_command_line_takes_datasets_beside_folders(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CHIPDEMO_JOURNAL", str(tmp_path / "other.db"))
    publish("ada/chips", private=True, **{"a.parquet": table(row(1), row(2))})
    (tmp_path / "a.png").write_bytes(picture(2))
    assert main(["labels", "add", str(tmp_path / "a.png"), "hf:ada/chips"]) == 0
    assert capsys.readouterr().out == "2 images added, 1 known before.\n"
    assert main(["labels", "add", "hf:chips"]) == 2
    assert "'chips'" in capsys.readouterr().err


def test_the_tab_reports_progress_and_has_a_limit(hub, journal, monkeypatch):
    publish("ada/chips", **{"a.parquet": table(*(row(number) for number in range(12)))})
    monkeypatch.setattr(adding, "DATASET_FILES", 10)
    steps = list(adding.add_dataset(journal, "ada/chips", anonymous=True, settings=Settings()))
    assert [step.added for step in steps] == [8, 10] and " 10 images" in steps[-1].refused[0]
