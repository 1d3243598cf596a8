"""A model that is replaced while it serves, from a Hub on this machine and from a folder."""

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import gradio as gr
import pytest
import torch
from gradio_client import Client, handle_file
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from safetensors.torch import load_file, save_file

from chipdemo.__main__ import main
from chipdemo.comparison import Refused, comparison_of
from chipdemo.images import decode_image
from chipdemo.judge import Judge
from chipdemo.models import HotReload, ModelInUse, Models
from chipdemo.monitoring import Recent
from chipdemo.settings import Settings
from chipdemo.threshold import Target
from chipdemo.ui.html import header_html
from chipdemo.ui.inspect import logic, tab
from chipdemo.ui.inspect.layout import layout
from chipdemo.vision.checkpoint import CONFIG, METRICS, STATE, WEIGHTS, ModelSpec, latest_revision
from chipdemo.vision.predictor import load_model
from tests.fakes import INFO, FakeModel, fake_judge
from tests.hub import CUT, Account, Hub
from tests.serving import served
from tests.tiny import SPEC, compared, draw_chip, tiny_checkpoint
from training.push import push

ROOT = Path(__file__).parent.parent
TOKEN = "hf_ada"
NEWER = replace(SPEC, threshold=0.6)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with Hub({TOKEN: Account("ada")}) as hub:
        hub.serve(monkeypatch, tmp_path / "home", TOKEN)
        yield hub


class Heard(logging.Handler):
    """What the app's own code logs, as "LEVEL message"; heard is set by a message with `awaited`."""

    def __init__(self):
        super().__init__()
        self.lines, self.awaited, self.heard = [], "is in use", threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")
        if self.awaited in self.lines[-1]:
            self.heard.set()


@pytest.fixture
def said(caplog) -> Iterator[Heard]:
    caplog.set_level(logging.INFO, "chipdemo")
    handler = Heard()
    logging.getLogger("chipdemo").addHandler(handler)
    yield handler
    logging.getLogger("chipdemo").removeHandler(handler)


def checkpoint(folder: Path, spec: ModelSpec = SPEC, comparison: dict | None = None) -> Path:
    (tiny_checkpoint(folder, spec, comparison) / "README.md").write_text("---\nlicense: other\n---\n")
    return folder


def pushed(folder: Path, spec: ModelSpec = SPEC, comparison: dict | None = None) -> str:
    """The commit that made it what the Hub has now."""
    return push(checkpoint(folder, spec, comparison), "ada/chips").oid


@pytest.fixture
def reload(hub, tmp_path) -> HotReload:
    """At the first of the Hub's revisions, whose threshold is 0.4."""
    pushed(tmp_path / "chips")
    reload = reload_of("ada/chips")
    reload.look()
    return reload


def reload_of(source: str, every_s: float = 60) -> HotReload:
    return HotReload(ModelInUse(load_model(source)), source, every_s, load_model, latest_revision)


def test_a_model_that_somebody_chose_stays_until_there_is_a_newer_one(tmp_path):
    reload = reload_of(str(checkpoint(tmp_path / "chips")))
    chosen = FakeModel()
    reload.in_use.choose(chosen, "chosen")
    for _ in range(2):  # a folder is taken at the second look
        reload.look()
    assert (reload.in_use.model, reload.in_use.source) == (chosen, "chosen")
    shutil.rmtree(tmp_path / "chips")
    checkpoint(tmp_path / "chips", NEWER)
    for _ in range(2):
        reload.look()
    assert reload.in_use.model.info.threshold == 0.6 and reload.in_use.source == str(tmp_path / "chips")


def test_a_second_push_takes_over_without_a_restart(reload, tmp_path, said):
    commit = pushed(tmp_path / "chips", NEWER)
    reload.look()
    assert reload.in_use.model.info.threshold == 0.6
    assert reload.in_use.model.info.revision == load_model(str(tmp_path / "chips")).info.revision
    assert (
        Judge(Models(reload.in_use)).inspect(decode_image(draw_chip(1))).model_revision
        == reload.in_use.model.info.revision
    )
    (line,) = said.lines
    assert line.startswith("INFO") and commit in line and reload.in_use.model.info.revision in line


def test_a_revision_that_cannot_keep_the_promise_is_refused(tmp_path, said):
    load = partial(load_model, target=Target("recall", 0.3))
    folder = checkpoint(tmp_path / "chips")
    reload = HotReload(ModelInUse(load(str(folder))), str(folder), 60, load, latest_revision)
    reload.look()
    checkpoint(folder, NEWER)
    nothing = {"split": "no images", "probabilities": [], "abnormal": []}
    (folder / METRICS).write_bytes(changed(METRICS, validation=nothing)(folder))
    for _ in range(2):  # a folder is whole when two looks agree
        reload.look()
    (line,) = said.lines
    assert "Cannot promise to detect at least 30 %" in line and reload.in_use.model.info.threshold == 0.59999


def test_a_look_at_nothing_new_is_one_small_request(reload, hub):
    hub.requests.clear()
    reload.look()
    assert hub.requests == ["GET /api/models/ada/chips"]


def test_a_commit_that_changes_no_more_than_a_note_changes_nothing(reload, said):
    before = reload.in_use.model
    HfApi().create_commit("ada/chips", [CommitOperationAdd("NOTES.md", b"new")], commit_message="card")
    reload.look()
    assert reload.in_use.model is before and said.lines == []


def nan_weights(folder: Path) -> bytes:
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {"head.bias": torch.full((2,), float("nan"))}, folder / WEIGHTS)
    return (folder / WEIGHTS).read_bytes()


def changed(name: str, **values):
    return lambda folder: json.dumps(json.loads((folder / name).read_text()) | values).encode()


BROKEN = {
    "no weights": (WEIGHTS, None, "model.safetensors"),
    "damaged weights": (WEIGHTS, lambda folder: b"half a file", "damaged"),
    "weights that are no numbers": (WEIGHTS, nan_weights, "nan"),
    "no JSON": (CONFIG, lambda folder: b"{", "config.json"),
    "another network": (CONFIG, changed(CONFIG, backbone="resnet18"), "does not fit"),
    "other classes": (CONFIG, changed(CONFIG, classes=["cat", "dog"]), "cat"),
    "a threshold in words": (CONFIG, changed(CONFIG, threshold="high"), "high"),
    "colors of two channels": (CONFIG, changed(CONFIG, mean=[0.5, 0.5]), "size"),
    "metrics without validation": (METRICS, changed(METRICS, validation={}), "split"),
}


@pytest.mark.parametrize(("name", "content", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_revision_is_refused_once_with_its_reason_and_the_old_one_goes_on(
    reload, hub, tmp_path, said, name, content, reason
):
    before = reload.in_use.model
    operation = (
        CommitOperationAdd(name, content(tmp_path / "chips")) if content else CommitOperationDelete(name)
    )
    broken = HfApi().create_commit("ada/chips", [operation], commit_message="broken").oid
    reload.look()
    assert reload.in_use.model is before
    hub.requests.clear()
    reload.look()
    assert len(hub.requests) == 1  # not fetched again
    (line,) = said.lines
    assert line.startswith("WARNING") and broken in line and reason in line and before.info.revision in line
    pushed(tmp_path / "chips", NEWER)
    reload.look()
    assert reload.in_use.model.info.threshold == 0.6


@pytest.mark.parametrize("answer", [401, 403, 404, 429, 500, CUT])
def test_a_hub_out_of_reach_is_said_once_and_tried_again(reload, hub, tmp_path, said, answer):
    pushed(tmp_path / "chips", NEWER)
    hub.fail("GET /api/models", answer, times=3)
    for _ in range(3):
        reload.look()
    assert reload.in_use.model.info.threshold == 0.4
    (line,) = said.lines
    assert line.startswith("WARNING") and "60 s" in line
    reload.look()
    assert reload.in_use.model.info.threshold == 0.6


def test_a_download_that_breaks_off_is_no_refusal(reload, hub, tmp_path, said, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    pushed(tmp_path / "chips", NEWER)
    hub.fail("GET .*config.json", CUT, times=1000)
    reload.look()
    reload.look()
    assert reload.in_use.model.info.threshold == 0.4 and len(said.lines) == 1
    hub.faults.clear()
    reload.look()
    assert reload.in_use.model.info.threshold == 0.6


# One that is worse


WORSE, BETTER = compared("worse"), compared("better")


def test_a_worse_revision_is_refused_once_with_the_reason_and_the_command_that_accepts_it(
    reload, tmp_path, said
):
    before = reload.in_use.model
    commit = pushed(tmp_path / "chips", NEWER, WORSE)
    reload.look()
    reload.look()
    assert reload.in_use.model is before
    (line,) = said.lines
    assert line.startswith("WARNING") and commit[:12] in line and before.info.revision in line
    assert "AUROC on new test images from 0.950 to 0.900" in line
    assert f"python -m chipdemo accept {commit[:12]} --model ada/chips" in line
    assert reload.in_use.refused.command in line


def test_a_worse_revision_that_is_accepted_takes_over(reload, tmp_path, said):
    commit = pushed(tmp_path / "chips", NEWER, WORSE)
    reload.look()
    assert main(["accept", commit[:12], "--model", "ada/chips"]) == 0
    reload.look()
    assert reload.in_use.model.info.threshold == 0.6 and reload.in_use.refused is None


@pytest.mark.parametrize("comparison", [BETTER, compared("not distinguishable"), None])
def test_a_revision_that_is_not_worse_takes_over_after_one_that_is(reload, tmp_path, comparison):
    pushed(tmp_path / "chips", replace(SPEC, threshold=0.5), WORSE)
    reload.look()
    pushed(tmp_path / "chips", NEWER, comparison)
    reload.look()
    assert reload.in_use.model.info.threshold == 0.6 and reload.in_use.refused is None


def test_the_log_says_whether_it_was_compared_with_the_model_in_use(reload, tmp_path, said):
    pushed(tmp_path / "chips", NEWER, compared("better", reload.in_use.model.info.revision))
    reload.look()
    pushed(tmp_path / "chips", SPEC, BETTER)
    reload.look()
    pushed(tmp_path / "chips", NEWER)
    reload.look()
    with_this, with_another, with_none = said.lines
    assert "better than chips" in with_this and "compared" not in with_this
    assert "compared with another one: better than chips 000000000000" in with_another
    assert "not compared with that one" in with_none


def test_what_was_compared_with_a_refused_revision_only_is_refused(reload, tmp_path):
    pushed(tmp_path / "chips", NEWER, compared("better", earlier_refused=True))
    reload.look()
    assert reload.in_use.model.info.threshold == 0.4
    in_use = reload.in_use.model.info.revision  # refused or not, compared with this one it is better
    pushed(tmp_path / "chips", NEWER, compared("better", in_use, earlier_refused=True))
    reload.look()
    assert reload.in_use.model.info.threshold == 0.6


def test_going_back_to_the_model_in_use_ends_the_warning(reload, tmp_path):
    pushed(tmp_path / "chips", NEWER, WORSE)
    reload.look()
    pushed(tmp_path / "chips")
    reload.look()
    assert reload.in_use.refused is None and reload.in_use.model.info.threshold == 0.4


def test_the_next_training_starts_from_the_commit_in_use(reload, hub, tmp_path):
    first = hub.repository("ada/chips").commits[-1].oid
    pushed(tmp_path / "chips", NEWER, WORSE)
    reload.look()
    assert reload.in_use.source == f"ada/chips@{first}"


def test_in_a_folder_the_next_training_starts_from_what_training_kept(folder):
    reload = looking_at(folder)
    kept = folder.with_name(f"chips-{reload.in_use.model.info.revision}")
    shutil.copytree(folder, kept)
    checkpoint(folder, NEWER, WORSE)
    reload.look()
    reload.look()
    assert reload.in_use.model.info.threshold == 0.4 and reload.in_use.source == str(kept)


# A folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return checkpoint(tmp_path / "ada" / "chips")


def looking_at(folder: Path) -> HotReload:
    """Having looked often enough to know the folder as it is."""
    reload = reload_of(str(folder))
    reload.look()
    reload.look()
    return reload


def test_a_retrained_folder_takes_over_when_two_looks_agree(folder, said):
    reload = looking_at(folder)
    checkpoint(folder, NEWER)
    reload.look()
    assert reload.in_use.model.info.threshold == 0.4
    reload.look()
    assert reload.in_use.model.info.threshold == 0.6 and len(said.lines) == 1


def test_a_folder_that_is_being_copied_is_waited_for(folder, tmp_path):
    reload = looking_at(folder)
    source = checkpoint(tmp_path / "source", NEWER)
    for name in (WEIGHTS, CONFIG, METRICS):
        content = (source / name).read_bytes() + (b"\n" if name == METRICS else b"")
        (folder / name).write_bytes(content[: len(content) // 2])
        reload.look()
        (folder / name).write_bytes(content)
        reload.look()
        assert reload.in_use.model.info.threshold == 0.4
    reload.look()
    assert reload.in_use.model.info.threshold == 0.6


def test_a_folder_in_which_training_is_at_work_is_waited_for(folder, said):
    reload = looking_at(folder)
    (folder / STATE).write_bytes(b"after the first epoch")
    checkpoint(folder, NEWER)
    reload.look()
    reload.look()
    assert reload.in_use.model.info.threshold == 0.4
    assert len(said.lines) == 1 and STATE in said.lines[0]
    (folder / STATE).unlink()
    reload.look()
    reload.look()
    assert reload.in_use.model.info.threshold == 0.6


def test_a_folder_that_goes_missing_is_not_asked_for_on_the_hub(folder, hub, tmp_path, monkeypatch, said):
    pushed(tmp_path / "other", NEWER)  # as ada/chips, what the folder's path could be taken for
    monkeypatch.chdir(tmp_path)
    reload = looking_at(Path("ada/chips"))
    hub.requests.clear()
    shutil.rmtree(folder)
    reload.look()
    reload.look()
    assert reload.in_use.model.info.threshold == 0.4 and hub.requests == [] and len(said.lines) == 1


# Its thread


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "hot reload"]


def test_it_looks_by_itself_from_start_to_stop(folder, said):
    reload = reload_of(str(folder), every_s=0.01)
    assert threads() == []
    reload.start()
    try:
        checkpoint(folder, NEWER)
        assert said.heard.wait(60)
        assert reload.in_use.model.info.threshold == 0.6
    finally:
        reload.stop()
    for thread in threading.enumerate():
        if thread.name == "hot reload":
            thread.join(60)
    assert threads() == []


# The page and the API


def test_the_page_says_that_a_worse_revision_is_not_in_use():
    judge = fake_judge()
    with gr.Blocks():
        parts = layout(judge, gr.HTML(), Settings(), ())
    handlers = tab.Handlers(parts, judge, Settings(), Recent())
    opened = partial(handlers.on_open, INFO, 0.4, "CAM")
    assert opened() == {parts.header: gr.skip()}
    judge.models.first.refused = Refused("<ada>/chips", "f" * 40, comparison_of({"comparison": WORSE}))
    header = opened()[parts.header]
    assert "Revision ffffffffffff of &lt;ada&gt;/chips is worse than chips 000000000000" in header
    assert f"{INFO.revision} stays in use" in header and "python -m chipdemo accept ffffffffffff" in header


def test_the_page_says_that_a_worse_revision_is_in_use_for_lack_of_another():
    comparison = comparison_of({"comparison": WORSE})
    header = header_html(replace(INFO, comparison=comparison), Refused("chips", INFO.revision, comparison))
    assert "in use for lack of an earlier revision" in header and "stays in use" not in header


def test_the_api_answers_with_the_model_in_use(reload, tmp_path):
    draw_chip(1).save(tmp_path / "chip.png")
    with served(Models(reload.in_use), hot_reload=60) as address:
        client = Client(address, verbose=False, download_files=tmp_path / "downloads")
        before, _ = client.predict(image=handle_file(tmp_path / "chip.png"), api_name="/inspect")
        pushed(tmp_path / "chips", NEWER)
        reload.look()
        after, _ = client.predict(image=handle_file(tmp_path / "chip.png"), api_name="/inspect")
    assert (before["threshold"], after["threshold"]) == (0.4, 0.6)
    assert before["model"]["revision"] != after["model"]["revision"] == reload.in_use.model.info.revision
    assert after["model"]["name"] == "ada/chips"


def newer_fake(**changes) -> FakeModel:
    newer = FakeModel()
    newer.info = replace(INFO, revision="fedcba987654", threshold=0.7, **changes)
    return newer


def test_a_threshold_nobody_touched_follows_the_model_and_a_chosen_one_stays():
    now = newer_fake()
    assert logic.carried_over(INFO, now, 0.4, "CAM") == (0.7, "CAM")
    assert logic.carried_over(INFO, now, 0.25, "CAM") == (0.25, "CAM")


def test_an_explanation_the_newer_model_lacks_gives_way_to_the_evidence():
    now = newer_fake(attention="none")
    now.methods = ("CAM", "Grad-CAM")
    assert logic.carried_over(INFO, now, 0.4, "CBAM") == (0.7, "CAM")
    assert logic.carried_over(INFO, now, 0.4, "Grad-CAM") == (0.7, "Grad-CAM")


def test_header_threshold_and_button_change_together():
    now = newer_fake()
    with gr.Blocks():
        parts = layout(fake_judge(), gr.HTML(), Settings(), ())
    updates = tab.of_another_model(parts, now, 0.7, "CAM")
    assert updates[parts.shown_model] == now.info and updates[parts.threshold] == 0.7
    assert "0.70" in updates[parts.reset] and "fedcba987654" in updates[parts.header]


def test_the_app_serves_a_pushed_model_and_takes_the_next_one(hub, tmp_path):
    """python app.py --model owner/name --hot-reload SECONDS, from the outside."""
    pushed(tmp_path / "chips")
    draw_chip(1).save(tmp_path / "chip.png")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "--model", "ada/chips", "--hot-reload", "1", "--port", str(port)]
    environment = os.environ | hub.environment(tmp_path / "other", TOKEN) | {"PYTHONUNBUFFERED": "1"}
    app = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    guard = threading.Timer(600, app.kill)  # so that waiting for a line ends, too
    guard.start()
    try:
        assert any(f":{port}" in line for line in app.stdout)
        commit = pushed(tmp_path / "chips", NEWER)
        assert any("is in use" in line and commit in line for line in app.stdout)
        client = Client(f"http://127.0.0.1:{port}", verbose=False, download_files=tmp_path / "downloads")
        result, _ = client.predict(image=handle_file(tmp_path / "chip.png"), api_name="/inspect")
        assert result["threshold"] == 0.6 and result["model"]["name"] == "ada/chips"
    finally:
        guard.cancel()
        app.kill()
        app.wait()
