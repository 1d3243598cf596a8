"""The lines of SECURITY.md that no other test shows, by raw HTTP as a hostile client writes it."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio.utils import get_upload_folder
from gradio_client import Client

from chipdemo.labeling.journal import Journal
from chipdemo.monitoring import Recent
from chipdemo.settings import Settings
from chipdemo.ui.page import build_app
from tests.drawn_images import fill
from tests.fakes import FakeModel, fake_judge
from tests.serving import served
from tests.test_api import MARK, call, file_takers
from tests.test_label_api import forged, through_the_queue, writes

ROOT = Path(__file__).parent.parent
ADDRESSES = ("http://93.184.216.34/chip.png", "https://huggingface.co/chip.png", "http://127.0.0.1:1/a")


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("journal") / "labels.db"
    with Journal(path) as journal, served(FakeModel(), journal=journal, max_upload_mb=1) as address:
        yield address


def upload(address: str, name: str, content: bytes) -> httpx.Response:
    return httpx.post(f"{address}/gradio_api/upload", files={"files": (name, content)})


def test_a_file_over_the_limit_is_turned_away(address):
    assert upload(address, "small.png", bytes(900_000)).status_code == 200
    assert upload(address, "large.png", bytes(1_100_000)).status_code == 413


@pytest.mark.parametrize("url", ADDRESSES)
def test_no_address_is_fetched_for_anybody(address, url):
    """Neither by an event that takes a file nor by the address of a file itself."""
    takers = file_takers(address)
    assert {"inspect", "compare", "on_image", "on_files", "on_queue_files"} <= takers.keys()
    for id, rest in takers.values():
        answer = call(address, id, [{"path": url, **MARK}, *rest])
        assert "Upload the file itself" in answer
    assert httpx.get(f"{address}/gradio_api/file={url}").status_code == 403


@pytest.mark.parametrize("name", ["../../evil.png", "/etc/evil.png", "..\\..\\evil.png", "a\0b.png"])
def test_the_name_of_an_upload_leads_nowhere(address, name):
    (path,) = upload(address, name, b"content").json()
    folder = Path(get_upload_folder()).resolve()
    assert Path(path).resolve().parent.parent == folder and Path(path).read_bytes() == b"content"


def test_nobody_can_list_what_others_have_uploaded(address):
    """A file is found by the hash of its content alone."""
    (path,) = upload(address, "mine.png", b"mine").json()
    assert httpx.get(f"{address}/gradio_api/file={path}").content == b"mine"
    for folder in (Path(path).parent, Path(path).parent.parent, Path(path).parent / "*"):
        assert httpx.get(f"{address}/gradio_api/file={folder}").status_code == 403


def test_uploads_are_deleted_after_two_hours():
    assert build_app(fake_judge(), Settings(), Recent()).delete_cache == (
        600,
        7200,
    )  # looks every ten minutes


@pytest.mark.parametrize("name", ["page.html", "drawing.svg"])
def test_an_uploaded_page_is_saved_and_never_shown(address, name):
    (path,) = upload(address, name, b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>").json()
    headers = httpx.get(f"{address}/gradio_api/file={path}").headers
    assert headers["content-disposition"].startswith("attachment")


def test_no_writing_endpoint_answers_another_site(tmp_path):
    """With the cookies of somebody who is signed in, as a browser sends them along."""
    accounts, elsewhere = (("ada", "secret"),), {"sec-fetch-site": "cross-site"}
    with Journal(tmp_path / "labels.db") as journal:
        sha256 = fill(journal, tmp_path, 1)[0]
        with served(FakeModel(), journal=journal, auth=accounts) as address:
            cookies = httpx.Cookies(Client(address, auth=accounts[0], verbose=False).cookies)
            events = writes(address, cookies)
            assert {"label", "undo", "queue", "on_queue_files", "on_send"} <= set(events)
            for name, event in events.items():
                inputs = len(event["inputs"])
                data = [None] * inputs if name.startswith("on_") else forged(sha256, inputs)[:inputs]
                body = {"data": data, "fn_index": event["id"], "session_hash": f"hash{event['id']}"}
                said = through_the_queue(address, body, cookies=cookies, headers=elsewhere)
                assert "another site" in said, name
            label = {"data": forged(sha256, 8)[:8]}
            for headers in (elsewhere, {"origin": "https://elsewhere.example"}):
                more = {"cookies": cookies, "headers": headers, "timeout": 20}
                at_once = httpx.post(f"{address}/gradio_api/run/label", json=label, **more)
                assert "another site" in at_once.text
                called = f"{address}/gradio_api/call/label"
                event_id = httpx.post(called, json=label, **more).json()["event_id"]
                assert "another site" in httpx.get(f"{called}/{event_id}", **more).text
        assert journal.counts().events == 0


def test_the_audit_looks_at_every_package_that_is_installed():
    told = subprocess.run(
        ["make", "--dry-run", "audit"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "pip-audit --path" in told.stdout


def test_every_test_that_the_page_names_exists():
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests/)?[\w/]*test_\w+\.py)::(test_\w+)`", page)
    assert len(named) > 20
    for file, name in named:
        source = (ROOT / "tests" / file.removeprefix("tests/")).read_text(encoding="utf-8")
        assert f"def {name}(" in source, f"{file}::{name}"
