"""The notebook of docs/, cell by cell in this process: a kernel of its own would import torch for seconds."""

import json
import sys
from pathlib import Path

import pytest

from tests.fakes import FakeModel
from tests.serving import served

ROOT = Path(__file__).parent.parent


@pytest.fixture
def cells() -> list[dict]:
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_runs_from_the_first_cell_to_the_last(cells, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    found = {}
    with served(FakeModel()) as address:
        for cell in cells:
            exec("".join(cell["source"]).replace("http://127.0.0.1:7860", address), found)
    assert found["result"]["model"]["name"] == "fake-model"
    assert found["picture"].width == 128
    assert found["own"].models.first.model.info.backbone == "test_efficientnet"
    assert (found["folder"] / "model" / "model.safetensors").exists()
    assert "fake-model abnormal" in capsys.readouterr().out


def test_the_notebook_is_kept_without_outputs(cells):
    assert cells and all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
