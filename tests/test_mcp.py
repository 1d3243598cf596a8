"""The tools for language models, by the real client of the Model Context Protocol against the real app."""

import ast
import base64
import sys
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal
from gradio.utils import get_upload_folder
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult
from PIL import Image

from chipdemo.labeling.journal import Journal
from tests.drawn import chip
from tests.drawn_images import fill
from tests.fakes import FakeModel
from tests.serving import served


def speak(address: str, do, query: str = ""):
    """What do(session) gives, with a session of the client.

    The client runs in a thread of its own: the browser tests leave an event loop running in this one.
    """

    async def speaking():
        url = f"{address}/gradio_api/mcp/{query}"
        client = httpx.AsyncClient(timeout=30)
        async with (
            client,
            streamable_http_client(url, http_client=client) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await do(session)

    with start_blocking_portal() as portal:
        return portal.call(speaking)


async def on_progress(*_) -> None:
    """Asked for as clients do: gradio then answers with a content for each output."""


def call(address: str, name: str, arguments: dict, query: str = "") -> CallToolResult:
    call = partial(ClientSession.call_tool, name=name, arguments=arguments, progress_callback=on_progress)
    return speak(address, call, query)


def data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture(scope="module")
def address(model, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("journal")
    with Journal(folder / "labels.db") as journal:
        fill(journal, folder, 2)
        with served(model, journal=journal, max_upload_mb=1) as address:
            yield address


@pytest.fixture(scope="module")
def drawn() -> bytes:
    chip(1, "scratch").save(file := BytesIO(), "PNG")
    return file.getvalue()


def test_the_tools_are_those_that_read(address):
    tools = speak(address, lambda session: session.list_tools()).tools
    assert [tool.name for tool in tools] == ["inspect", "compare"]
    assert tools[0].inputSchema["required"] == ["image"]
    told = httpx.get(f"{address}/gradio_api/mcp/schema").json()
    assert [tool["name"] for tool in told] == ["inspect", "compare"]


def test_a_picture_that_is_sent_along_is_inspected(address, drawn):
    result = call(address, "inspect", {"image": data_uri(drawn), "threshold": 0.9})
    assert not result.isError
    told = ast.literal_eval(result.content[0].text)
    assert (told["outcome"], told["threshold"]) == ("normal", 0.9)
    with Image.open(BytesIO(base64.b64decode(result.content[1].data))) as overlay:
        assert overlay.width == 96


def test_every_model_is_asked(address, drawn):
    (model,) = ast.literal_eval(call(address, "compare", {"image": data_uri(drawn)}).content[0].text)
    assert (model["id"], model["inspection"]["outcome"]) == ("in-use", "abnormal")


def test_an_upload_is_named_by_its_address(address, drawn):
    (path,) = httpx.post(f"{address}/gradio_api/upload", files={"files": ("chip.png", drawn)}).json()
    result = call(address, "inspect", {"image": f"{address}/gradio_api/file={path}"})
    assert ast.literal_eval(result.content[0].text)["outcome"] == "abnormal"


@pytest.mark.parametrize("name", ["label", "undo", "queue", "inspect_batch", "on_image"])
def test_nothing_that_writes_is_a_tool(address, name):
    assert call(address, name, {}).isError
    assert call(address, name, {}, f"?tools={name}").isError


def test_no_tool_reads_a_file_of_the_machine(address, model, tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "private.png")
    private, before = str(tmp_path / "private.png"), model.predictions
    marked = {"path": private, "meta": {"_type": "gradio.FileData"}}
    for arguments in (
        {"image": private},
        {"image": f"{address}/gradio_api/file={private}"},
        {"image": f"{address}/gradio_api/file={get_upload_folder()}/../..{private}"},
        {"image": f"file://{private}"},
        {"image": marked},
        {"image": [marked]},
        {"image": data_uri(b""), "threshold": marked},
        {"image": data_uri(b""), "other": marked},
    ):
        for name in ("inspect", "compare"):
            assert call(address, name, arguments).isError
            assert call(address, name, arguments, "?tools=compare").isError
    assert model.predictions == before


@pytest.mark.parametrize(
    "image",
    ["http://93.184.216.34/chip.png", "https://huggingface.co/chip.png", "http://127.0.0.1:1/chip.png"],
)
def test_no_tool_fetches_an_address(address, model, image):
    before = model.predictions
    for name in ("inspect", "compare"):
        assert call(address, name, {"image": image}).isError
    assert model.predictions == before


def test_what_is_sent_along_is_limited_as_uploads_are(address, model):
    before = model.predictions
    assert call(address, "inspect", {"image": data_uri(bytes(1_100_000))}).isError
    assert model.predictions == before


def test_what_was_sent_along_is_gone_when_the_app_has_stopped(drawn):
    content = drawn + b"sent along"
    with served(FakeModel()) as address:
        call(address, "inspect", {"image": data_uri(content)})
    kept = [path for path in Path(get_upload_folder()).rglob("*") if path.is_file()]
    assert content not in [path.read_bytes() for path in kept]


def test_where_people_sign_in_there_are_no_tools(drawn):
    with served(FakeModel(), auth=(("ada", "secret"),)) as address:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        headers = {"accept": "application/json, text/event-stream"}
        answer = httpx.post(f"{address}/gradio_api/mcp/", json=body, headers=headers)
        assert answer.is_error and "inspect" not in answer.text


def test_without_mcp_the_app_starts(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mcp", None)
    with served(FakeModel()) as address:
        assert httpx.get(f"{address}/health").text == "ok\n"
    assert [record.levelname for record in caplog.records if "mcp" in record.getMessage()] == ["WARNING"]
