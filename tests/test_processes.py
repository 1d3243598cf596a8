import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.scripts import run_script
from tests.tiny import draw_chips

SCRIPT = Path(__file__).parent.parent / "training" / "train.py"
LAUNCH = "-m accelerate.commands.launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no"
# Layer norm: a batch norm would see half of a batch in each process, and differ a little for that
FLAGS = (
    "--backbone test_convnext --init none --image-size 64 --batch-size 8 --freeze 0 --epochs 2 --dropout 0"
)


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return draw_chips(tmp_path_factory.mktemp("data") / "chips", normal=50, abnormal=40)


def launch(chips, out):
    """Train in two processes as a user would; what they printed. One thread each, as the one has."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *LAUNCH.split(), SCRIPT, "--data", chips, "--out", out, *FLAGS.split()]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def test_two_processes_train_what_one_does_and_write_one_checkpoint(chips, tmp_path, monkeypatch):
    flags = ("--data", chips, "--out", tmp_path / "one", *FLAGS.split())
    assert run_script(monkeypatch, "training/train.py", *flags) == ""
    printed = launch(chips, tmp_path / "two")
    assert printed.count("epoch 2/2") == printed.count("wrote ") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(
            one[name].float(), two[name].float(), atol=2e-3, rtol=5e-3
        )  # one thread or two
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert one["validation"]["probabilities"] == pytest.approx(two["validation"]["probabilities"], abs=2e-3)
