"""Spaces that lend a GPU: the real package spaces, and a lender on this machine. CUDA alone is not here."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file

from chipdemo.vision.lent_gpu import cuda, lends, on_lent_gpu
from chipdemo.vision.study import starting_backbone, study_photographs
from tests.drawn import chip, chips

ROOT = Path(__file__).parent.parent
GOODS = 10
# In the process that is lent a GPU, there is none to get hold of here.
WITHOUT_CUDA = "from spaces.zero import torch as lent; lent.init = lent.move = lambda *a, **k: None; "
STUDY_TWICE = (
    WITHOUT_CUDA
    + """
import sys
from pathlib import Path
import numpy as np
from chipdemo.vision import study
study.CHUNK = 8
paths = sorted(Path(sys.argv[1]).iterdir())
for name in ("lent", "refused"):
    found = study.study_photographs(paths, study.starting_backbone())
    np.savez(Path(sys.argv[2], name), *(layer.numpy() for layer in found.middle))
"""
)
SERVE = WITHOUT_CUDA + "import sys; import app; sys.exit(app.main(sys.argv[1:]))"


class Lender(ThreadingHTTPServer):
    """What a Space asks for GPUs. lends: how often it does, before it has none. asked: the paths."""

    def __init__(self, lends: int):
        super().__init__(("127.0.0.1", 0), Answers)
        self.lends, self.asked = lends, []


class Answers(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(path)
        if path == "/schedule":
            self.server.lends -= 1
        refused = path == "/schedule" and self.server.lends < 0
        gpu = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "yes"}
        content = json.dumps(gpu).encode()
        self.send_response(503 if refused else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def lender() -> Iterator[Lender]:
    with Lender(lends=2) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def environment(lender: Lender) -> dict[str, str]:
    address = f"http://127.0.0.1:{lender.server_port}"
    return os.environ | {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": address,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


def test_where_none_is_lent_a_function_stays_what_it_is(monkeypatch):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert not lends() and on_lent_gpu(len) is len


def test_the_apps_own_process_has_none_whatever_pytorch_says(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert lends() and not cuda()
    monkeypatch.setenv("SPACES_ZERO_GPU", "false")
    assert not lends() and cuda()


def test_photographs_are_looked_at_with_it_and_without_where_none_is_left(lender, tmp_path):
    goods = chips(tmp_path / "goods", GOODS)
    command = [sys.executable, "-c", STUDY_TWICE, goods, tmp_path]
    done = subprocess.run(command, env=environment(lender), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lent = ["/schedule", "/allow", "/release", "/schedule", "/release"]  # its process is kept for the next
    assert lender.asked == [*lent, "/schedule"]  # and not asked again at once
    assert "no GPU was lent, going on without: 'No GPU was available'" in done.stderr
    here = study_photographs(sorted(goods.iterdir()), starting_backbone()).middle
    for name in ("lent", "refused"):
        with np.load(tmp_path / f"{name}.npz") as found:
            for layer, expected in zip(found.values(), here, strict=True):
                np.testing.assert_allclose(layer, expected.numpy(), atol=0.02)


def test_the_app_starts_and_inspects_without_asking_for_one(lender, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", SERVE, "--port", str(port), "--journal", tmp_path / "labels.db"]
    photograph = tmp_path / "chip.png"
    chip(1).save(photograph)
    said, address = [], f"http://127.0.0.1:{port}"
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment(lender), cwd=ROOT, **told) as started:
        try:
            for line in started.stdout:
                said.append(line)
                if "public link" in line:
                    break
            assert lender.asked == ["/startup-report"], said
            client = Client(address, verbose=False)
            inspection, _ = client.predict(handle_file(photograph), api_name="/inspect")
            assert inspection["unlike_training"] and "OpenVINO" in httpx.get(address, timeout=60).text
        finally:
            started.terminate()
    assert lender.asked == ["/startup-report"]
