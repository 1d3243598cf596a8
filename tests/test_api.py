"""/inspect, /inspect_batch and what all endpoints have in common."""

import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from chipdemo.ui.many import logic as many
from tests.fakes import FakeModel
from tests.serving import served

VARYING = {"timing_ms": 0, "date": ""}  # what differs each time


@pytest.fixture(scope="module")
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture(scope="module")
def address(model):
    with served(model) as address:
        yield address


@pytest.fixture(scope="module")
def client(address, tmp_path_factory) -> Client:
    return Client(address, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.fixture
def gray(tmp_path) -> Path:
    Image.new("RGB", (60, 40), (127, 127, 127)).save(tmp_path / "gray.png")
    return tmp_path / "gray.png"


def inspect(client: Client, path: Path, **more):
    return client.predict(image=handle_file(path), api_name="/inspect", **more)


def test_inspect_returns_the_inspection_and_the_overlay(client, gray):
    result, overlay = inspect(client, gray)
    assert result["verdict"] == "abnormal"
    assert result["abnormal_probability"] == pytest.approx(0.502)
    assert result["threshold"] == 0.4
    assert result["model"] == {"name": "fake-model", "revision": "0123456789ab"}
    assert (result["image"]["width"], result["image"]["height"]) == (60, 40)
    assert set(result) == {
        "file", "date", "outcome", "verdict", "abnormal_probability", "threshold", "out_of_distribution",
        "distance", "method", "regions", "regions_method", "model", "other_models", "image", "timing_ms",
        "notes", "tiles",
    }  # fmt: skip
    assert result["file"] == "gray.png" and datetime.fromisoformat(result["date"]).utcoffset() is not None
    with Image.open(overlay) as image:
        assert image.format == "PNG" and image.width == 60
    assert Path(overlay).name == "gray-overlay.png"


def test_a_threshold_may_be_given(client, gray):
    result, _ = inspect(client, gray, threshold=0.9)
    assert (result["verdict"], result["threshold"]) == ("normal", 0.9)


@pytest.mark.parametrize("threshold", [1.5, -0.1])
def test_a_threshold_that_is_no_probability_is_a_clean_error(client, gray, threshold):
    with pytest.raises(AppError, match=str(threshold)):
        inspect(client, gray, threshold=threshold)


@pytest.mark.parametrize(
    "name, content, kind",
    [
        ("text.png", b"this is no image", "text"),
        ("empty.png", b"", "empty"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("cut.png", b"\x89PNG\r\n\x1a\n" + bytes(20), "damaged"),
    ],
)
def test_a_bad_file_is_a_clean_error_and_the_app_goes_on(client, gray, tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AppError, match=kind) as error:
        inspect(client, tmp_path / name)
    assert "Traceback" not in str(error.value) and str(tmp_path) not in str(error.value)
    assert inspect(client, gray)[0]["verdict"] == "abnormal"


def test_without_an_image_there_is_a_clean_error(client):
    with pytest.raises(AppError):
        client.predict(image=None, api_name="/inspect")


def test_requests_at_the_same_time_are_not_mixed_up(client, tmp_path):
    expected = {}
    for level in range(20):
        path = tmp_path / f"level{level}.png"
        Image.new("RGB", (40 + level, 30), (12 * level,) * 3).save(path)
        expected[path] = inspect(client, path)[0]
    with ThreadPoolExecutor(20) as pool:
        answers = dict(zip(expected, pool.map(lambda path: inspect(client, path)[0], expected)))
    for path, alone in expected.items():
        together = answers[path]
        assert {**together, **VARYING} == {**alone, **VARYING}


@pytest.fixture
def private(tmp_path) -> Path:
    """A picture on the server's machine that nobody uploaded."""
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "private.png")
    return tmp_path / "private.png"


def call(address: str, fn_index: int, data: list, session: str = "hostile") -> str:
    """A request as a hostile client writes it, past gradio_client's own checks; the answer's text."""
    join = {"data": data, "fn_index": fn_index, "session_hash": session}
    httpx.post(f"{address}/gradio_api/queue/join", json=join).raise_for_status()
    with httpx.stream("GET", f"{address}/gradio_api/queue/data?session_hash={session}", timeout=20) as events:
        for line in events.iter_lines():
            if "process_completed" in line or "unexpected_error" in line:
                return line
    raise AssertionError("the server gave no answer")


MARK = {"meta": {"_type": "gradio.FileData"}}


def file_takers(address: str) -> dict[str, tuple[int, list]]:
    """Every event that takes a file, public or not, by name: its id, and what a page sends with the file."""
    config = httpx.get(f"{address}/config").json()
    components = {each["id"]: each for each in config["components"]}
    return {
        each["api_name"]: (each["id"], [components[i]["props"].get("value") for i in each["inputs"][1:]])
        for each in config["dependencies"]
        if each["backend_fn"]
        and each["inputs"]
        and components[each["inputs"][0]]["type"] in ("image", "file", "uploadbutton")
    }


@pytest.mark.parametrize("mark", [{}, MARK])
def test_no_request_makes_the_server_read_a_file_that_was_not_uploaded(address, model, private, mark):
    """Of every event that takes a file, with and without gradio's mark."""
    takers = file_takers(address)
    assert {"inspect", "inspect_batch", "compare", "on_image", "on_files"} <= takers.keys()
    before = model.predictions
    for id, rest in takers.values():
        call(address, id, [{"path": str(private), **mark}, *rest])
    assert model.predictions == before


def test_files_of_the_machine_are_not_served(address, private):
    for path in (private, "/etc/passwd", "app.py"):
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404)


def test_an_account_is_asked_for_where_one_is_set(gray):
    with served(FakeModel(), auth=(("ada", "secret"),)) as address:
        assert httpx.get(f"{address}/config").status_code == 401
        client = Client(address, auth=("ada", "secret"), verbose=False)
        assert inspect(client, gray)[0]["verdict"] == "abnormal"


def test_a_client_that_knows_no_tiles_goes_on_working(address, client, gray):
    path = httpx.post(f"{address}/gradio_api/upload", files={"files": gray.open("rb")}).json()[0]
    line = call(address, file_takers(address)["inspect"][0], [{"path": path, **MARK}, 0.9])
    assert '"verdict":"normal"' in line.replace(" ", "")
    assert client.predict(handle_file(gray), 0.9, api_name="/inspect")[0]["verdict"] == "normal"


def test_a_large_image_is_looked_at_in_tiles_unless_told_otherwise(client, tmp_path):
    image = Image.new("RGB", (1400, 700), (240, 240, 240))
    image.paste((0, 0, 0), (800, 0, 1400, 700))
    image.save(tmp_path / "large.png")
    result, _ = inspect(client, tmp_path / "large.png")
    assert result["tiles"] == {"count": 6, "seen": 6, "out_of_distribution": 0, "decide": True}
    result, _ = inspect(client, tmp_path / "large.png", tiles=False)
    assert result["tiles"] == {"count": 6, "seen": 0, "out_of_distribution": 0, "decide": False}


def test_many_images_are_judged_in_one_call_and_a_bad_one_gets_its_reason(client, gray, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"this is no image")
    files = [handle_file(gray), handle_file(tmp_path / "bad.png")]
    good, bad = client.predict(images=files, threshold=0.9, api_name="/inspect_batch")
    assert (good["file"], good["verdict"], good["error"]) == ("gray.png", "normal", "")
    assert bad["file"] == "bad.png" and "text" in bad["error"]
    with pytest.raises(AppError):
        client.predict(images=[], api_name="/inspect_batch")


def test_many_images_are_not_drawn(client, gray, monkeypatch):
    """Neither as overlays nor as files: only numbers are asked for."""
    drawn = []
    monkeypatch.setattr(many, "overlay", lambda *args, **more: drawn.append(args))
    monkeypatch.setattr(many, "encode", lambda *args, **more: drawn.append(args))
    (result,) = client.predict(images=[handle_file(gray)], api_name="/inspect_batch")
    assert result["outcome"] == "abnormal" and drawn == []


def test_out_of_distribution_is_an_outcome_of_its_own(client, tmp_path):
    Image.new("RGB", (60, 40), "red").save(tmp_path / "red.png")
    result, _ = inspect(client, tmp_path / "red.png")
    (in_batch,) = client.predict(images=[handle_file(tmp_path / "red.png")], api_name="/inspect_batch")
    for one in (result, in_batch):
        assert (one["outcome"], one["verdict"]) == ("out_of_distribution", "abnormal")


@pytest.mark.parametrize("megabytes, error", [(1, "1 MB"), (2, "")])
def test_a_file_in_a_zip_may_be_as_large_as_an_upload(tmp_path, megabytes, error):
    Image.fromarray(np.random.default_rng(0).integers(0, 4, (800, 800, 3), np.uint8)).save(
        tmp_path / "chip.bmp"
    )
    with zipfile.ZipFile(tmp_path / "chips.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "chip.bmp")
    with served(FakeModel(), max_upload_mb=megabytes) as address:
        (result,) = Client(address, verbose=False).predict(
            images=[handle_file(tmp_path / "chips.zip")], api_name="/inspect_batch"
        )
    assert error in result["error"] and ("outcome" in result) == (not error)
