"""The HTTP API at /v1, by real clients over real connections."""

import base64
import http.client
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image

from chipdemo.keys import add_key
from chipdemo.metrics import Metrics
from chipdemo.models import Models
from chipdemo.ui.http import bodies
from chipdemo.ui.http.schema import Inspection, Problem
from chipdemo.ui.http.schema import Models as ModelList
from tests.fakes import Breaks, FakeModel, Knows
from tests.serving import served
from tests.test_service import Held, file_of
from tests.tiny import draw_chip, tiny_checkpoint
from tests.waiting import until

ROOT = Path(__file__).parent.parent
CLIENTS = ROOT / "docs" / "clients"
DARK, LIGHT = file_of(10), file_of(240)


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(scope="module")
def address(metrics) -> Iterator[str]:
    with served(FakeModel(), metrics=metrics, max_upload_mb=1) as address:
        yield f"{address}/v1"


@contextmanager
def sent(address: str, head: str, body: bytes = b"") -> Iterator[socket.socket]:
    """A request of which only this much has been sent."""
    host, _, port = address.removeprefix("http://").removesuffix("/v1").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + body)
        yield connection


def problem(answer: httpx.Response, status: int, kind: str) -> Problem:
    """The problem of an answer, which has to be of this status and kind."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    found = Problem.model_validate(answer.json())
    assert (found.status, found.type) == (status, f"urn:chip-inspector:problem:{kind}")
    assert found.request_id == answer.headers["x-request-id"]
    return found


def test_the_bytes_of_a_file_and_a_form_get_the_same_answer(address):
    raw = httpx.post(f"{address}/inspect", params={"name": "chip.png"}, content=DARK)
    form = httpx.post(f"{address}/inspect", files={"image": ("chip.png", DARK)})
    for answer in (raw, form):
        assert answer.status_code == 200
        found = Inspection.model_validate(answer.json())
        assert (found.file, found.outcome, found.threshold) == ("chip.png", "abnormal", 0.4)
        assert found.abnormal_probability == pytest.approx(0.9608)
        assert (found.image.width, found.image.height) == (32, 24)
        assert next(iter(found.timing_ms)) == "wait"


def test_threshold_and_heatmap_are_as_asked(address):
    light = httpx.post(f"{address}/inspect", params={"threshold": 0.05}, content=LIGHT).json()
    assert (light["verdict"], light["threshold"]) == ("abnormal", 0.05) and "heatmap" not in light
    asked = httpx.post(f"{address}/inspect", params={"heatmap": "png"}, content=DARK)
    found = Inspection.model_validate(asked.json())
    heatmap = Image.open(BytesIO(base64.b64decode(found.heatmap.png)))
    assert (found.heatmap.method, heatmap.mode, heatmap.size) == ("CAM", "L", (9, 9))
    assert heatmap.getextrema()[1] == 255


def test_a_model_is_chosen_by_name_and_the_models_are_listed():
    with served(Models(Knows("dark", 0.0), Knows("light", 1.0))) as address:
        listed = ModelList.model_validate(httpx.get(f"{address}/v1/models").json())
        assert [model.name for model in listed.models] == ["dark", "light"]
        for model in ("dark", "light"):
            found = httpx.post(f"{address}/v1/inspect", params={"model": model}, content=DARK).json()
            assert found["model"]["name"] == model and found["other_models"] == []
        nearest = httpx.post(f"{address}/v1/inspect", content=DARK).json()
        assert nearest["model"]["name"] == "dark" and nearest["other_models"][0]["name"] == "light"
        wrong = httpx.post(f"{address}/v1/inspect", params={"model": "blue"}, content=DARK)
        assert (
            "no model 'blue' here. Choose one of: dark, light."
            in problem(wrong, 400, "invalid-parameter").detail
        )


@pytest.mark.parametrize(
    ("content", "status", "kind", "detail"),
    [
        (b"", 422, "unreadable-image", "The file is empty. Export it again."),
        (b"%PDF-1.7", 422, "unreadable-image", "a PDF document"),
        (DARK[:-40], 422, "unreadable-image", "damaged or cut short"),
        (bytes(1_000_001), 413, "file-too-large", "more than 1 MB"),
    ],
)
def test_what_is_no_image_is_a_problem_with_a_next_step(address, content, status, kind, detail):
    assert detail in problem(httpx.post(f"{address}/inspect", content=content), status, kind).detail


def test_a_file_whose_size_is_not_told_is_limited_too(address):
    answer = httpx.post(f"{address}/inspect", content=(bytes(100_000) for _ in range(30)))
    problem(answer, 413, "file-too-large")


def test_an_image_with_too_many_pixels_is_refused_by_its_header():
    with served(FakeModel(), max_megapixels=0.0005) as address:
        problem(httpx.post(f"{address}/v1/inspect", content=DARK), 413, "image-too-large")


@pytest.mark.parametrize(
    "parameter", [{"threshold": 2}, {"threshold": "high"}, {"heatmap": "gif"}, {"threshold": "nan"}]
)
def test_a_parameter_that_cannot_be_used_is_named(address, parameter):
    answer = httpx.post(f"{address}/inspect", params=parameter, content=DARK)
    (name,) = parameter
    assert problem(answer, 400, "invalid-parameter").detail.startswith(f"{name} is ")


@pytest.mark.parametrize(("endpoint", "name"), [("inspect", "threshhold"), ("inspect_batch", "heatmap")])
def test_a_parameter_that_there_is_not_is_named_too(address, endpoint, name):
    answer = httpx.post(f"{address}/{endpoint}", params={name: "png"}, content=DARK)
    assert f"no parameter {name!r}" in problem(answer, 400, "invalid-parameter").detail


@pytest.mark.parametrize(
    ("method", "path", "status", "title", "detail"),
    [
        ("POST", "inspekt", 404, "Not Found", "nothing at this address"),
        ("GET", "inspect", 405, "Method Not Allowed", "takes another method"),
    ],
)
def test_a_wrong_address_or_method_is_a_problem_with_a_next_step(
    address, method, path, status, title, detail
):
    found = Problem.model_validate(httpx.request(method, f"{address}/{path}").json())
    assert (found.type, found.status, found.title) == ("about:blank", status, title)
    assert detail in found.detail and "/docs" in found.detail


def test_a_damaged_form_is_a_problem_that_says_what_is_wrong(address):
    head = {"Content-Type": "multipart/form-data"}
    found = Problem.model_validate(httpx.post(f"{address}/inspect", content=DARK, headers=head).json())
    assert (found.status, found.title, found.detail) == (400, "Bad Request", "Missing boundary in multipart.")


def test_a_form_has_to_have_one_file(address):
    files = [("image", ("a.png", DARK)), ("image", ("b.png", DARK))]
    answer = httpx.post(f"{address}/inspect", files=files)
    assert "2 files. Send one" in problem(answer, 422, "unreadable-image").detail


def test_an_error_of_the_program_tells_nothing_of_it(caplog):
    class Broken(FakeModel):
        def predict(self, views, methods=()):
            raise ValueError("a secret")

    with served(Broken()) as address:
        found = problem(httpx.post(f"{address}/v1/inspect", content=DARK), 500, "failed")
    assert "secret" not in found.detail and "a secret" in caplog.text


def test_the_id_of_a_request_is_in_the_answer_and_in_one_line_of_the_log(address, caplog):
    with caplog.at_level(logging.INFO, "chipdemo"):
        answer = httpx.post(f"{address}/inspect", content=DARK, headers={"X-Request-ID": "line-3.0001"})
        made_up = httpx.post(f"{address}/inspect", content=b"", headers={"X-Request-ID": "no id!"})
        until(lambda: caplog.text.count("/v1/inspect") == 2)  # after the answer is sent
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "line-3.0001"
    assert len(made_up.headers["x-request-id"]) == 32
    lines = [json.loads(one.message) for one in caplog.records if one.name == "chipdemo.requests"]
    assert [(one["request"], one["status"], one["path"]) for one in lines] == [
        ("line-3.0001", 200, "/v1/inspect"),
        (made_up.headers["x-request-id"], 422, "/v1/inspect"),
    ]
    assert lines[0]["outcome"] == "abnormal" and lines[0]["bytes"] == len(DARK)
    assert {"wait_ms", "judge_ms", "ms", "sha256", "model", "revision"} <= lines[0].keys()
    assert lines[1]["problem"] == "unreadable-image"


def test_metrics_count_answers_rejected_requests_and_the_time_of_each_step(address, metrics):
    before = metrics.text().decode()
    httpx.post(f"{address}/inspect", content=DARK)
    httpx.post(f"{address}/inspect", content=b"")
    httpx.get(f"{address}/anything")

    def of(text: str, name: str) -> float:
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)

    path = 'chipdemo_answers_total{path="/v1",status="404"}'
    until(lambda: of(metrics.text().decode(), path) > of(before, path))  # after the answer is sent
    after = metrics.text().decode()
    for name, more in {
        'chipdemo_answers_total{path="/v1/inspect",status="200"}': 1,
        'chipdemo_answers_total{path="/v1/inspect",status="422"}': 1,
        'chipdemo_answers_total{path="/v1",status="404"}': 1,
        'chipdemo_rejected_total{problem="unreadable-image"}': 1,
        'chipdemo_step_seconds_count{step="network and heatmaps"}': 1,
        "chipdemo_wait_seconds_count": 1,
        'chipdemo_request_seconds_count{path="/v1/inspect"}': 2,
    }.items():
        assert of(after, name) - of(before, name) == more, name
    assert of(after, "chipdemo_http_waiting") == 0


def test_a_full_queue_answers_at_once_and_says_when_to_come_again():
    model = Held()
    with served(model, queue_size=1, concurrency=1) as address, ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, f"{address}/v1/inspect", content=DARK, timeout=60)
        model.begun.wait(20)
        full = httpx.post(f"{address}/v1/inspect", content=DARK)
        assert problem(full, 503, "busy") and full.headers["retry-after"] == "1"
        problem(httpx.get(f"{address}/v1/ready"), 503, "busy")
        assert httpx.get(f"{address}/v1/health").json() == {"status": "ok"}
        model.go.set()
        assert first.result().status_code == 200
        assert httpx.get(f"{address}/v1/ready").json() == {"status": "ready"}


def test_bodies_that_wait_are_limited_together(monkeypatch):
    monkeypatch.setattr("chipdemo.ui.http.endpoints.HELD_MB", 1)
    model = Held()
    large = DARK + bytes(600_000)  # what follows the image is not looked at
    with served(model, max_upload_mb=1, concurrency=1) as address, ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, f"{address}/v1/inspect", content=large, timeout=60)
        model.begun.wait(20)
        problem(httpx.post(f"{address}/v1/inspect", content=large), 503, "busy")
        model.go.set()
        assert first.result().status_code == 200
        assert httpx.post(f"{address}/v1/inspect", content=large).status_code == 200


HALF = "POST /v1/inspect HTTP/1.1\nHost: x\nContent-Length: 5000\n\n"


def test_clients_that_send_slowly_or_hang_up_hold_nobody_up(address):
    """100 of them: half of the headers, half of the body, and gone in the middle."""
    for _ in range(50):
        with sent(address, HALF, DARK[:40]):
            pass
    waiting = [sent(address, HALF[:30]) for _ in range(25)] + [sent(address, HALF, b"x") for _ in range(25)]
    for one in waiting:
        one.__enter__()
    assert httpx.post(f"{address}/inspect", content=DARK).status_code == 200
    assert httpx.get(f"{address}/ready").status_code == 200
    for one in waiting:
        one.__exit__(None, None, None)


def test_a_body_that_does_not_arrive_in_time_is_given_up(address, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_S", 0.2)
    with sent(address, HALF, b"x") as connection:
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, json.load(answer)["title"]) == (408, "The request did not arrive in time")


def test_each_request_that_was_accepted_is_answered_when_the_app_is_stopped():
    model = Held()
    with ThreadPoolExecutor(6) as pool:
        with served(model, metrics=Metrics(), concurrency=1) as address:
            accepted = [
                pool.submit(httpx.post, f"{address}/v1/inspect", content=file_of(10 * one), timeout=60)
                for one in range(5)
            ]
            model.begun.wait(20)
            until(lambda: "chipdemo_http_waiting 5.0" in httpx.get(f"{address}/metrics").text)
            threading.Timer(0.2, model.go.set).start()
        answers = [one.result() for one in accepted]
    assert [one.status_code for one in answers] == [200] * 5
    probabilities = [one.json()["abnormal_probability"] for one in answers]
    assert probabilities == sorted(probabilities, reverse=True) and len(set(probabilities)) == 5
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"{address}/v1/inspect", content=DARK)


def test_requests_at_the_same_time_are_not_mixed_up(address):
    with ThreadPoolExecutor(12) as pool, httpx.Client() as client:
        colors = [number % 256 for number in range(0, 1200, 5)]
        post = lambda color: client.post(f"{address}/inspect", content=file_of(color)).json()  # noqa: E731
        for color, found in zip(colors, pool.map(post, colors)):
            assert found["abnormal_probability"] == pytest.approx(1 - color / 255, abs=1e-3)


def zipped(**files: bytes) -> bytes:
    with zipfile.ZipFile(stream := BytesIO(), "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{name}.png", content)
    return stream.getvalue()


def test_a_batch_is_answered_line_by_line_in_its_order(address):
    files = [
        ("images", ("a.png", DARK)),
        ("images", ("more.zip", zipped(b=LIGHT, c=b"no image"))),
        ("images", ("d.png", DARK)),
    ]
    answer = httpx.post(f"{address}/inspect_batch", files=files, params={"threshold": 0.01})
    assert answer.headers["content-type"] == "application/jsonl"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [(one["file"], one.get("verdict"), one["error"][:11]) for one in lines] == [
        ("a.png", "abnormal", ""),
        ("b.png", "abnormal", ""),
        ("c.png", None, "The file is"),
        ("d.png", "abnormal", ""),
    ]
    assert all("path" not in one for one in lines)


def test_a_batch_goes_on_after_an_image_that_the_program_fails_at():
    batch = zipped(a=DARK, b=file_of("red"), c=file_of("green"), d=DARK)
    with served(Breaks()) as address:
        answer = httpx.post(f"{address}/v1/inspect_batch", content=batch)
    outcomes = [json.loads(line).get("outcome") for line in answer.text.splitlines()]
    assert outcomes == ["abnormal", None, None, "abnormal"]


def test_a_zip_is_a_batch_too_and_an_empty_one_a_problem(address):
    zip_of = {"content": zipped(a=DARK, b=LIGHT), "headers": {"Content-Type": "application/zip"}}
    lines = httpx.post(f"{address}/inspect_batch", **zip_of).text.splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["abnormal", "normal"]
    for empty in (zipped(**{".hidden": DARK}), b""):
        answer = httpx.post(f"{address}/inspect_batch", content=empty)
        assert "no images in these files" in problem(answer, 400, "empty-batch").detail


def test_one_batch_at_a_time_and_who_hangs_up_makes_room_for_the_next():
    model = Held()
    batch = {"content": zipped(**{f"chip{number}": DARK for number in range(40)})}
    with served(model) as address:
        head = f"POST /v1/inspect_batch HTTP/1.1\nHost: x\nContent-Length: {len(batch['content'])}\n\n"
        with sent(address, head, batch["content"]):
            model.begun.wait(20)
            problem(httpx.post(f"{address}/v1/inspect_batch", **batch), 503, "busy")
        model.go.set()
        until(lambda: httpx.post(f"{address}/v1/inspect_batch", timeout=60, **batch).status_code == 200)
    assert sum(model.together) < 2 * 40  # the first was not inspected to its end


def test_who_has_read_a_batch_to_its_end_may_send_the_next_at_once(address):
    with httpx.Client(timeout=60) as client:
        answers = [client.post(f"{address}/inspect_batch", content=DARK) for _ in range(30)]
    assert {answer.status_code for answer in answers} == {200}


def test_a_batch_that_is_cut_short_by_the_end_of_the_app_says_so():
    model = Held()
    batch = zipped(**{f"chip{number}": DARK for number in range(40)})
    with ThreadPoolExecutor(1) as pool:
        with served(model) as address:
            answer = pool.submit(httpx.post, f"{address}/v1/inspect_batch", content=batch, timeout=60)
            model.begun.wait(20)
            threading.Timer(0.2, model.go.set).start()
        *lines, last = [json.loads(line) for line in answer.result().text.splitlines()]
    assert 0 < len(lines) < 40
    assert last["problem"]["type"] == "urn:chip-inspector:problem:stopping"


def test_without_the_right_key_nothing_is_answered(tmp_path):
    path = tmp_path / "keys"
    key, other = add_key("line-3", path), add_key("line-4", path)
    with served(FakeModel(), api_keys_file=str(path)) as address:
        ask = lambda **headers: httpx.post(f"{address}/v1/inspect", content=DARK, headers=headers)  # noqa: E731
        nobody = ask()
        assert "Authorization: Bearer KEY" in problem(nobody, 401, "not-signed-in").detail
        assert nobody.headers["www-authenticate"] == "Bearer"
        for wrong in (
            {"Authorization": f"Bearer {key}x"},
            {"X-API-Key": ""},
            {"Authorization": f"Basic {key}"},
        ):
            problem(ask(**wrong), 401, "not-signed-in")
        assert ask(Authorization=f"Bearer {key}").status_code == 200
        assert ask(**{"X-API-Key": other}).status_code == 200
        problem(httpx.get(f"{address}/v1/models"), 401, "not-signed-in")
        problem(httpx.post(f"{address}/v1/inspect_batch", content=zipped(a=DARK)), 401, "not-signed-in")
        assert httpx.get(f"{address}/v1/ready").status_code == 200
        path.write_text("\n".join(line for line in path.read_text().splitlines() if "line-3" not in line))
        problem(ask(Authorization=f"Bearer {key}"), 401, "not-signed-in")
        assert ask(**{"X-API-Key": other}).status_code == 200


def test_accounts_of_the_page_are_accounts_of_the_api():
    with served(FakeModel(), auth=(("ada", "secret"),)) as address, httpx.Client() as page:
        ask = lambda **more: httpx.post(f"{address}/v1/inspect", content=DARK, **more)  # noqa: E731
        assert problem(ask(), 401, "not-signed-in")
        assert "Basic" in ask().headers["www-authenticate"]
        problem(ask(auth=("ada", "wrong")), 401, "not-signed-in")
        problem(ask(headers={"Authorization": "Basic !"}), 401, "not-signed-in")
        assert ask(auth=("ada", "secret")).status_code == 200
        page.post(f"{address}/login", data={"username": "ada", "password": "secret"})
        assert page.post(f"{address}/v1/inspect", content=DARK).status_code == 200
        other_site = {"Sec-Fetch-Site": "cross-site"}
        problem(page.post(f"{address}/v1/inspect", content=DARK, headers=other_site), 401, "not-signed-in")


def test_pages_of_other_sites_get_nothing(address):
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        answer = httpx.post(f"{address}/inspect", content=DARK, headers=headers)
        assert "another site" in problem(answer, 401, "not-signed-in").detail


def test_the_api_is_described_by_openapi(address):
    described = httpx.get(f"{address}/openapi.json").json()
    assert set(described["paths"]) == {"/inspect", "/inspect_batch", "/models", "/health", "/ready"}
    body = described["paths"]["/inspect"]["post"]["requestBody"]["content"]
    assert set(body) == {"image/*", "multipart/form-data"}
    page = httpx.get(address.replace("/v1", "/docs")).text
    assert "url: 'v1/openapi.json'" in page and "https://" not in page.replace("https://fastapi", "")
    for name in ("docs/vendor/swagger-ui-5.35.0.js", "docs/vendor/swagger-ui-5.35.0.css"):
        assert name in page
        assert httpx.get(address.replace("v1", name)).status_code == 200


COMMANDS = {
    "inspect.sh": ["sh"],
    "inspect.py": [sys.executable],
    "inspect.mjs": ["node"],
}


@pytest.mark.parametrize("client", COMMANDS)
def test_the_example_clients_work(client, tmp_path):
    tool = "curl" if client == "inspect.sh" else COMMANDS[client][0]
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    key = add_key("line-3", tmp_path / "keys")
    for name, content in (("dark.png", DARK), ("light.png", LIGHT), ("bad.png", b"no image")):
        (tmp_path / name).write_bytes(content)
    with served(FakeModel(), api_keys_file=str(tmp_path / "keys")) as address:

        def run(*names: str) -> subprocess.CompletedProcess:
            paths = [str(tmp_path / name) for name in names]
            command = [*COMMANDS[client], str(CLIENTS / client), address, *paths]
            environment = os.environ | {"CHIPDEMO_KEY": key}
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

        done = run("dark.png", "light.png")
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert "abnormal" in first and "0.9608" in first and "normal" in second
        failed = run("bad.png")
        assert failed.returncode != 0
        assert "The image cannot be read" in failed.stdout + failed.stderr


def test_the_app_that_is_terminated_answers_what_it_accepted(tmp_path):
    """The process itself, as a container stops it."""
    folder = tiny_checkpoint(tmp_path / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "app.py"), "--model", str(folder), "--runtime", "torch"]
    command += ["--port", str(port), "--journal", str(tmp_path / "labels.db")]
    address, log = f"http://127.0.0.1:{port}/v1", (tmp_path / "log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: is_ready(address) or process.poll() is not None)
        draw_chip(1, size=700).save(tmp_path / "chip.png")  # in tiles: takes a while
        content = (tmp_path / "chip.png").read_bytes()
        with ThreadPoolExecutor(20) as pool:
            sending = [
                pool.submit(httpx.post, f"{address}/inspect", content=content, timeout=60) for _ in range(20)
            ]
            until(lambda: any(one.done() for one in sending))
            process.send_signal(signal.SIGTERM)
            answers = [one.result() for one in sending if not isinstance(one.exception(), httpx.ConnectError)]
        assert {one.status_code for one in answers} <= {200, 503}
        assert sum(one.status_code == 200 for one in answers) > 5
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        log.close()


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/ready").status_code == 200
    except httpx.TransportError:
        return False
