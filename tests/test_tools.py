"""The tools for language models, by the real client of the Model Context Protocol against the real app."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal
from gradio.utils import get_upload_folder
from gradio_client import Client
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, Tool
from PIL import Image

from chipdemo.labeling.journal import Journal
from chipdemo.metrics import Metrics
from tests.drawn import chip, picture
from tests.drawn_images import fill
from tests.fakes import FakeModel
from tests.serving import served

ACCOUNTS = (("ada", "secret"),)
ELSEWHERE = "found another site's page"
SIGN_IN = "Expected somebody signed in; found nobody"


def speak(address: str, do, query: str = "", **headers: str):
    """What do(session) gives, with a session of the client. headers: sent with every request.

    The client runs in a thread of its own: the browser tests leave an event loop running in this one.
    """

    async def speaking():
        url = f"{address}/gradio_api/mcp/{query}"
        client = httpx.AsyncClient(headers=headers, timeout=30)
        async with (
            client,
            streamable_http_client(url, http_client=client) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await do(session)

    with start_blocking_portal() as portal:
        return portal.call(speaking)


def tools(address: str, **headers: str) -> dict[str, Tool]:
    return {tool.name: tool for tool in speak(address, lambda s: s.list_tools(), **headers).tools}


def call(address: str, name: str, arguments: dict, **headers: str) -> CallToolResult:
    return speak(address, lambda session: session.call_tool(name, arguments), **headers)


def reason(result: CallToolResult) -> str:
    assert result.isError
    return result.content[0].text


def uploads() -> list[Path]:
    return [path for path in Path(get_upload_folder()).rglob("*") if path.is_file()]


def data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def uploaded(address: str, content: bytes, name: str = "chip.png", **more) -> str:
    return httpx.post(f"{address}/gradio_api/upload", files={"files": (name, content)}, **more).json()[0]


@pytest.fixture(scope="module")
def inspector() -> FakeModel:
    return FakeModel()


@pytest.fixture(scope="module")
def address(inspector, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("journal")
    with Journal(folder / "labels.db") as journal:
        fill(journal, folder, 2)
        with served(inspector, journal=journal, metrics=Metrics(journal), max_upload_mb=1) as address:
            yield address


@pytest.fixture(scope="module")
def drawn() -> bytes:
    file = BytesIO()
    chip(1, "scratch").save(file, "PNG")
    return file.getvalue()


def test_the_tools_are_these_and_nothing_of_the_page(address):
    found = tools(address)
    assert list(found) == ["inspect_chip", "compare_models", "queue", "label", "undo"]
    assert [name for name, tool in found.items() if tool.annotations.readOnlyHint] == [
        "inspect_chip",
        "compare_models",
    ]


def test_a_tool_says_what_it_takes_and_gives(address):
    tool = tools(address)["inspect_chip"]
    assert tool.description.startswith("Judge an image of a chip.")
    assert "out_of_distribution (true: too far" in tool.description
    schema = tool.inputSchema
    assert schema["required"] == ["image"] and schema["additionalProperties"] is False
    assert set(schema["properties"]) == {"image", "threshold", "tiles"}
    assert schema["properties"]["image"]["type"] == "string"
    assert "data URI" in schema["properties"]["image"]["description"]
    assert schema["properties"]["threshold"] == {
        "anyOf": [{"type": "number"}, {"type": "null"}],
        "default": None,
    }


def test_without_a_journal_no_tool_writes_and_what_was_sent_goes_when_the_app_stops():
    content = picture(4321)
    with served(FakeModel()) as address:
        assert list(tools(address)) == ["inspect_chip", "compare_models"]
        call(address, "inspect_chip", {"image": data_uri(content)})
        kept = [path for path in uploads() if path.read_bytes() == content]
        assert [path.name for path in kept] == ["image"]
    assert not kept[0].exists()


def test_the_page_learns_of_the_tools_and_may_choose_among_them(address):
    told = httpx.get(f"{address}/gradio_api/mcp/schema").json()
    assert [(tool["name"], tool["meta"]["endpoint_name"]) for tool in told][:2] == [
        ("inspect_chip", "inspect"),
        ("compare_models", "compare"),
    ]

    async def chosen(session: ClientSession) -> list[str]:
        assert "Expected a tool of this app" in reason(await session.call_tool("undo", {}))
        return [tool.name for tool in (await session.list_tools()).tools]

    assert speak(address, chosen, query="?tools=inspect_chip") == ["inspect_chip"]


def test_a_image_that_is_sent_along_is_inspected_as_by_the_api(address, drawn):
    result = call(address, "inspect_chip", {"image": data_uri(drawn), "threshold": 0.9})
    assert not result.isError
    told, overlay = result.structuredContent, result.content[1]
    assert json.loads(result.content[0].text) == told
    assert (told["verdict"], told["threshold"]) == ("normal", 0.9)
    assert told["model"] == {"name": "fake-model", "revision": "0123456789ab"}
    assert overlay.mimeType == "image/png"
    assert Image.open(BytesIO(base64.b64decode(overlay.data))).width == 96
    path = uploaded(address, drawn)
    body = {"image": {"path": path, "meta": {"_type": "gradio.FileData"}}, "threshold": 0.9}
    event = httpx.post(f"{address}/gradio_api/call/v2/inspect", json=body).json()["event_id"]
    answer = httpx.get(f"{address}/gradio_api/call/v2/inspect/{event}").text
    (alone, _) = json.loads(answer.strip().split("data: ")[-1])
    assert {**told, "timing_ms": 0} == {**alone, "timing_ms": 0}


def test_an_uploaded_image_is_named_by_its_path_or_address(address, drawn):
    path = uploaded(address, drawn)
    for image in (path, f"{address}/gradio_api/file={path}"):
        assert call(address, "inspect_chip", {"image": image}).structuredContent["verdict"] == "abnormal"


def test_a_large_picture_is_sent_back_small(address):
    overlay = call(address, "inspect_chip", {"image": data_uri(picture(1, (1300, 600)))}).content[1]
    assert Image.open(BytesIO(base64.b64decode(overlay.data))).width == 1024


def test_every_model_is_asked(address, drawn):
    (model,) = call(address, "compare_models", {"image": data_uri(drawn)}).structuredContent["models"]
    assert (model["id"], model["inspection"]["verdict"]) == ("in-use", "abnormal")


def test_on_this_machine_its_user_labels_by_tools(address):
    queue = call(address, "queue", {"order": "plain"})
    (image,) = queue.structuredContent["images"]
    assert queue.content[1].type == "image" and "picture" not in image
    label = {"sha256": image["sha256"], "label": "normal"}
    event = call(address, "label", label).structuredContent["event"]
    assert event["label"] == "normal"
    assert call(address, "undo", {}).structuredContent["undone"]["event_id"] == event["event_id"]


def test_inspections_by_tools_are_counted_and_health_is_answered(address, drawn):
    def counted() -> float:
        lines = httpx.get(f"{address}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if "chipdemo_inspections_total{" in line)

    before = counted()
    call(address, "inspect_chip", {"image": data_uri(drawn)})
    call(address, "compare_models", {"image": data_uri(drawn)})
    assert counted() == before + 1  # as by the API: comparing is no inspection of the model in use
    assert httpx.get(f"{address}/health").text == "ok\n"


@pytest.fixture
def private(tmp_path) -> Path:
    """A picture on the server's machine that nobody uploaded."""
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "private.png")
    return tmp_path / "private.png"


def test_no_tool_reads_a_file_of_the_machine(address, inspector, private):
    before = inspector.inspections
    for image in (
        str(private),
        f"{address}/gradio_api/file={private}",
        f"/gradio_api/file={get_upload_folder()}/../../..{private}",
    ):
        assert "Expected an uploaded file" in reason(call(address, "inspect_chip", {"image": image}))
    marked = {"path": str(private), "meta": {"_type": "gradio.FileData"}}
    assert "is not of type 'string'" in reason(call(address, "inspect_chip", {"image": marked}))
    assert inspector.inspections == before


@pytest.mark.parametrize(
    "image",
    [
        "http://93.184.216.34/chip.png",
        "https://huggingface.co/chip.png",
        "http://127.0.0.1:1/chip.png",
        "file:///etc/passwd",
    ],
)
def test_no_tool_fetches_an_address(address, image):
    for name in ("inspect_chip", "compare_models"):
        assert "Expected an uploaded file" in reason(call(address, name, {"image": image}))


def test_what_is_sent_along_is_limited_as_uploads_are(address, inspector, drawn):
    before = inspector.inspections
    large = data_uri(bytes(1_100_000))
    assert "413" in reason(call(address, "inspect_chip", {"image": large}))
    assert "found no base64" in reason(call(address, "inspect_chip", {"image": "data:image/png;base64,a?"}))
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"more": "a" * 17_000_000}}
    headers = {"accept": "application/json, text/event-stream"}
    assert httpx.post(f"{address}/gradio_api/mcp", json=body, headers=headers).status_code == 413
    assert inspector.inspections == before


def test_wrong_calls_are_refused_with_the_reason(address):
    assert "Expected a tool of this app" in reason(call(address, "on_image", {}))
    assert "'image' is a required property" in reason(call(address, "inspect_chip", {}))
    assert "Additional properties" in reason(call(address, "undo", {"annotator": "ada"}))
    text = data_uri(b"this is no image")
    assert "is text" in reason(call(address, "inspect_chip", {"image": text}))


def test_without_sign_in_no_tool_answers_and_the_signed_in_label_by_their_own_name(tmp_path, drawn):
    with Journal(tmp_path / "labels.db") as journal:
        (sha256,) = fill(journal, tmp_path, 1)
        with served(FakeModel(), journal=journal, auth=ACCOUNTS) as address:
            for name, arguments in (
                ("label", {"sha256": sha256, "label": "normal"}),
                ("undo", {}),
                ("queue", {}),
                ("inspect_chip", {"image": data_uri(drawn)}),
            ):
                assert SIGN_IN in reason(call(address, name, arguments, cookie="access-token=forged"))
            assert journal.counts().events == 0
            cookies = Client(address, auth=ACCOUNTS[0], verbose=False).cookies
            cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
            label = {"sha256": sha256, "label": "normal"}
            told = call(address, "label", label, cookie=cookie).structuredContent
            assert told["event"]["annotator"] == "ada" and journal.vote(sha256, "ada").label == "normal"
            inspected = call(address, "inspect_chip", {"image": data_uri(drawn)}, cookie=cookie)
            assert inspected.structuredContent["verdict"] == "abnormal"
            for elsewhere in ({"sec-fetch-site": "cross-site"}, {"origin": "https://elsewhere.example"}):
                assert ELSEWHERE in post(address, "undo", {}, cookie=cookie, **elsewhere)
            assert journal.counts().events == 1


def post(address: str, name: str, arguments: dict, **headers: str) -> str:
    """A call as a page of a browser makes it, without the client."""
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    }
    headers = {"accept": "application/json, text/event-stream", **headers}
    return httpx.post(f"{address}/gradio_api/mcp/", json=body, headers=headers, timeout=20).text


@pytest.mark.parametrize("headers", [{"host": "rebound.example:7860"}, {"x-forwarded-for": "10.0.0.1"}])
def test_no_tool_writes_for_callers_from_elsewhere(address, headers):
    """Who rebound a name to this machine, or came through a tunnel."""
    for name, arguments in (("label", {"sha256": "0" * 64, "label": "normal"}), ("undo", {}), ("queue", {})):
        said = post(address, name, arguments, **headers)
        assert '"isError":true' in said and "Expected people to sign in" in said


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_site_is_turned_away(address, origin):
    assert ELSEWHERE in post(address, "inspect_chip", {}, origin=origin)
    assert ELSEWHERE in post(address, "inspect_chip", {}, **{"sec-fetch-site": "cross-site"})
    assert "required property" in post(address, "inspect_chip", {}, origin=address)


def test_mcp_is_not_imported_before_it_is_asked_for():
    """It would take a sixth of gradio's time at every start."""
    code = "import sys, chipdemo.ui.page; print('mcp' in sys.modules); import mcp.server"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
