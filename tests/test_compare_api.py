"""/compare through the real client, and what a hostile client may try on the Compare tab."""

from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from chipdemo.ablation.format import write_ablation
from chipdemo.errors import CheckpointError
from tests.ablations import ablation_json, small_ablation
from tests.fakes import FakeModel
from tests.serving import served
from tests.test_api import MARK, VARYING, call


def load(folder: Path) -> FakeModel:
    if folder.name == "svm":
        raise CheckpointError("svm has no model.safetensors.")
    return FakeModel()


@pytest.fixture(scope="module")
def ablation(tmp_path_factory) -> Path:
    """Rows plain-cbam and svm have checkpoints; svm's cannot be loaded."""
    folder = tmp_path_factory.mktemp("ablation")
    rows = ablation_json()["rows"]
    for row, checkpoint in zip(rows, ("plain-cbam", "", "svm")):
        row["checkpoint"] = checkpoint
    for name in ("plain-cbam", "svm"):
        (folder / name).mkdir()
    write_ablation(folder / "ablation.json", small_ablation(rows=rows))
    return folder / "ablation.json"


@pytest.fixture(scope="module")
def address(ablation):
    with served(FakeModel(), ablation=ablation, load=load) as address:
        yield address


@pytest.fixture(scope="module")
def client(address, tmp_path_factory) -> Client:
    return Client(address, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.fixture
def gray(tmp_path) -> Path:
    Image.new("RGB", (60, 40), (127, 127, 127)).save(tmp_path / "gray.png")
    return tmp_path / "gray.png"


def test_each_model_answers_and_one_that_fails_says_why(client, gray):
    in_use, plain, svm = client.predict(image=handle_file(gray), api_name="/compare")
    assert (in_use["id"], in_use["name"]) == ("in-use", "fake-model")
    assert (plain["id"], plain["name"]) == ("plain-cbam", "Plain + CBAM")
    for answer in (in_use, plain):
        assert set(answer) == {"id", "name", "inspection"}
    assert svm == {"id": "svm", "name": "SVM", "error": "svm has no model.safetensors."}
    alone, _ = client.predict(image=handle_file(gray), api_name="/inspect")
    assert {**in_use["inspection"], **VARYING} == {**alone, **VARYING}


def test_a_bad_file_is_a_clean_error(client, tmp_path):
    (tmp_path / "text.png").write_bytes(b"this is no image")
    with pytest.raises(AppError, match="text"):
        client.predict(image=handle_file(tmp_path / "text.png"), api_name="/compare")
    with pytest.raises(AppError):
        client.predict(image=None, api_name="/compare")


@pytest.mark.parametrize("mark", [{}, MARK])
def test_no_request_makes_the_server_read_an_ablation_that_was_not_uploaded(address, ablation, mark):
    config = httpx.get(f"{address}/config").json()
    (button,) = (c["id"] for c in config["components"] if c["type"] == "uploadbutton")
    (taker,) = (d for d in config["dependencies"] if d["inputs"][:1] == [button])
    answer = call(address, taker["id"], [{"path": str(ablation), **mark}, "accuracy"])
    assert "imagined machine" not in answer


def test_a_file_that_a_visitor_loads_brings_no_model(address, client, gray, tmp_path):
    """Its checkpoints could be any folder of this machine, or any repository of the Hub."""
    rows = ablation_json()["rows"]
    for row in rows:
        row["checkpoint"] = str(tmp_path)
    write_ablation(tmp_path / "other.json", small_ablation(rows=rows))
    uploaded = httpx.post(
        f"{address}/gradio_api/upload", files={"files": (tmp_path / "other.json").open("rb")}
    ).json()[0]
    config = httpx.get(f"{address}/config").json()
    (button,) = (c["id"] for c in config["components"] if c["type"] == "uploadbutton")
    (taker,) = (d for d in config["dependencies"] if d["inputs"][:1] == [button])
    assert "imagined machine" in call(address, taker["id"], [{"path": uploaded, **MARK}, "accuracy"])
    answers = client.predict(image=handle_file(gray), api_name="/compare")
    assert [answer["id"] for answer in answers] == ["in-use", "plain-cbam", "svm"]
