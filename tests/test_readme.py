"""What the README promises, held to."""

import re
from dataclasses import fields
from pathlib import Path

from chipdemo.settings import DEFAULT_MODEL, Settings
from chipdemo.vision.predictor import load_model
from tests.serving import served
from tests.tiny import draw_chip

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_snippet_of_the_api_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    draw_chip(1, size=200).save(tmp_path / "chip.png")
    monkeypatch.chdir(tmp_path)
    with served(load_model(str(DEFAULT_MODEL))) as address:
        found = {}
        exec(snippet.replace("http://127.0.0.1:7860", address), found)
    assert found["result"]["verdict"] in ("normal", "abnormal")
    assert {"abnormal_probability", "threshold", "regions", "model", "image", "timing_ms"} <= found[
        "result"
    ].keys()
    assert Path(found["overlay"]).suffix == ".png"
    assert found["result"]["verdict"] in capsys.readouterr().out


def test_every_setting_is_documented():
    for setting in fields(Settings):
        assert f"--{setting.name.replace('_', '-')}" in README
        assert f"CHIPDEMO_{setting.name.upper()}" in README


def test_every_picture_and_file_it_names_is_there():
    names = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert names and all((ROOT / name).exists() for name in names)
