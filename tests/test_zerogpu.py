"""Spaces that lend a GPU: the real package spaces, and a lender on this machine. CUDA alone is not here."""

import json
import os
import signal
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

from chipdemo.files import Found
from chipdemo.vision.anomaly.features import extract_features, starting_backbone
from chipdemo.vision.zerogpu import cuda, lends, on_lent_gpu
from tests.drawn import chip, chips
from tests.tiny import tiny_checkpoint

ROOT = Path(__file__).parent.parent
GOODS = 10
# A Space that teaches twice before it serves; the process that is lent a GPU has none to get hold of here.
SPACE = """
import sys
from pathlib import Path
import numpy as np
from spaces.zero import torch as lent
lent.init = lent.move = lambda *_, **__: None
import app
from chipdemo.files import Found
from chipdemo.vision.anomaly import features
features.GRID, features.BATCH = 12, 8
folder, *flags = sys.argv[1:]
goods = [Found(path.name, path) for path in sorted(Path(folder, "goods").iterdir())]
for name in ("lent", "refused"):
    found = features.extract_features(goods, features.starting_backbone())
    np.savez(Path(folder, name), *(layer.numpy() for layer in found.intermediates))
sys.exit(app.main(flags))
"""


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


def test_a_space_teaches_with_it_and_without_where_none_is_left_and_inspects_without(
    lender, tmp_path, monkeypatch
):
    goods, model = chips(tmp_path / "goods", GOODS), tiny_checkpoint(tmp_path / "model")
    image = tmp_path / "chip.png"
    chip(1).save(image)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ["--port", str(port), "--model", model, "--journal", tmp_path / "labels.db"]
    lent = ["/schedule", "/allow", "/release", "/schedule", "/release"]  # its process is kept for the next
    asked = [*lent, "/schedule", "/startup-report"]  # refused, it is not asked again at once
    said, address = [], f"http://127.0.0.1:{port}"
    # a session of its own, since the process that was lent a GPU outlives the app
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
        "start_new_session": True,
    }
    command = [sys.executable, "-c", SPACE, tmp_path, *flags]
    with subprocess.Popen(command, env=environment(lender), cwd=ROOT, **options) as started:
        try:
            for line in started.stdout:
                said.append(line)
                if "public link" in line:
                    break
            assert lender.asked == asked, said
            assert any("no GPU was lent, going on without: 'No GPU was available'" in line for line in said)
            client = Client(address, verbose=False)
            inspection, _ = client.predict(handle_file(image), api_name="/inspect")
            assert inspection["model"]["name"] == "model"
            assert "OpenVINO" in httpx.get(address, timeout=60).text
        finally:
            os.killpg(started.pid, signal.SIGTERM)
    assert lender.asked == asked
    monkeypatch.setattr("chipdemo.vision.anomaly.features.GRID", 12)
    found = [Found(path.name, path) for path in sorted(goods.iterdir())]
    here = extract_features(found, starting_backbone()).intermediates
    for name in ("lent", "refused"):
        with np.load(tmp_path / f"{name}.npz") as found:
            for layer, expected in zip(found.values(), here, strict=True):
                np.testing.assert_allclose(layer, expected.numpy(), atol=0.02)
