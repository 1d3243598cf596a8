"""Every command of README.md, run as it stands, on tiny images, a tiny model and a Hub on this machine."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import datasets
import httpx
import pytest

from chipdemo.__main__ import main
from tests.fakes import FakeModel
from tests.hub import Account, Hub
from tests.scripts import run_script
from tests.serving import served
from tests.tiny import BACKBONE, draw_chip, draw_chips, tiny_checkpoint
from tests.waiting import until
from training.options import parse
from training.push import push
from training.train import train

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = {
    section.partition("\n")[0]: shlex_lines
    for section in re.split(r"^##? ", README, flags=re.MULTILINE)[1:]
    if (shlex_lines := [
        words
        for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if (words := shlex.split(line, comments=True))
    ])
}  # fmt: skip
TINY = {"backbone": BACKBONE, "init": "none", "image_size": 64, "freeze": 0, "epochs": 1, "batch_size": 8}
TOKEN, LABELS_TOKEN = "hf_owner", "hf_labels"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder with all that the commands name, settings for a tiny model, and a Hub with owner/name."""
    draw_chip(1, size=80).save(tmp_path / "chip.png")
    for folder, count in (("my_images", 2), ("my_good_chips", 10), ("lot1", 1)):
        (tmp_path / folder).mkdir()
        for seed in range(count):
            draw_chip(seed).save(tmp_path / folder / f"{folder}-{seed}.png")
    draw_chips(tmp_path / "my_chips", 40, 24)
    draw_chips(tmp_path / "labeled_chips", 2, 1)
    for label in ("normal", "abnormal"):
        (tmp_path / "other_chips" / label).mkdir(parents=True)
        for seed in range(3):
            draw_chip(500 + seed, label == "abnormal").save(tmp_path / "other_chips" / label / f"{seed}.png")
    shutil.make_archive(str(tmp_path / "chips"), "zip", tmp_path / "labeled_chips")
    (tmp_path / "list.csv").write_text("image,label\nchip.png,normal\nmissing.png,abnormal\n")
    model = tiny_checkpoint(tmp_path / "tiny")
    (model / "README.md").write_text("A model with random weights.")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHIPDEMO_MODEL", str(model))
    monkeypatch.setenv("CHIPDEMO_RUNTIME", "torch")
    monkeypatch.setenv("CHIPDEMO_JOURNAL", str(tmp_path / "labels.db"))
    monkeypatch.setenv("CHIPDEMO_PORT", str(free_port()))
    monkeypatch.setenv("CHIPS_TOKEN", LABELS_TOKEN)
    with Hub({TOKEN: Account("owner"), LABELS_TOKEN: Account("owner")}) as hub:
        hub.serve(monkeypatch, tmp_path / "home", TOKEN)
        for name, value in hub.environment(tmp_path / "home", TOKEN).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.address)
        push(model, "owner/name")
        yield tmp_path


def run_make(arguments: list[str]) -> None:
    subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def run_app(arguments: list[str]) -> None:
    """Start it, wait until it answers, and stop it as a container does."""
    address = f"http://127.0.0.1:{os.environ['CHIPDEMO_PORT']}"

    def answers() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"{address}/health").text.strip() == "ok"
        except httpx.TransportError:
            return False

    with subprocess.Popen([sys.executable, ROOT / "app.py", *arguments]) as process:
        try:
            until(answers)
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()


def run_curl(arguments: list[str], address: str) -> None:
    if not shutil.which("curl"):
        return
    with served(FakeModel()) as here:
        command = ["curl", *arguments, address.replace("http://127.0.0.1:7860", here)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(answer)["outcome"]


def run_command(words: list[str], monkeypatch) -> None:
    match words:
        case ["make", *targets]:
            run_make(targets)
        case ["pip", "install", "-e", ".[train]"]:
            assert (ROOT / "pyproject.toml").read_text().count("chipdemo.__main__:main") == 1
        case ["hf", *_]:
            assert [script for script in entry_points(group="console_scripts") if script.name == "hf"]
        case ["python", "app.py", *arguments]:
            run_app(arguments)
        case ["python", "-m", "chipdemo", *arguments]:
            assert main(arguments) == (1 if "--fail-on" in arguments else 0)
        case ["python", "training/train.py", *arguments]:
            train(replace(parse(arguments), **TINY))
        case ["python", script, *arguments]:
            assert run_script(monkeypatch, script, *arguments) == ""
        case ["curl", *arguments, address]:
            run_curl(arguments, address)
        case _:
            pytest.fail(f"no way to run {shlex.join(words)}")


@pytest.mark.parametrize("section", SECTIONS)
def test_every_command_runs_as_it_stands(section, place, monkeypatch):
    for words in SECTIONS[section]:
        run_command(words, monkeypatch)


def test_each_task_has_a_quick_start():
    text = " ".join(SECTIONS).lower()
    assert all(task in text for task in ("inspect", "teach", "label", "train", "batch", "deploy"))
    assert len(README.encode()) <= 8000
