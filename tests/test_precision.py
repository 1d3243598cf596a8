from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from chipdemo.errors import SettingsError
from chipdemo.settings import DEFAULT_MODEL
from chipdemo.vision.checkpoint import METRICS, read_json, write_json
from chipdemo.vision.predictor import load_model
from chipdemo.vision.runtimes import precision
from chipdemo.vision.runtimes.engine import EngineOutput
from chipdemo.vision.runtimes.precision import MEASURED, chosen_precision
from chipdemo.vision.weights import load_checkpoint
from tests.tiny import SPEC, draw_chip, tiny_checkpoint

GOOD = {"images": 200, "other_outcomes": 2, "auroc_loss": 0.002}


@pytest.fixture
def able(monkeypatch):
    """A processor with bfloat16; one without runs such a graph in single precision."""
    monkeypatch.setattr(precision, "processor_has_bfloat16", lambda: True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


def pixels(count: int) -> np.ndarray:
    chips = [draw_chip(seed, seed % 2 == 1, SPEC.image_size) for seed in range(count)]
    return np.stack([np.asarray(chip) for chip in chips])


@pytest.mark.parametrize(
    ("asked", "runtime", "measured", "chosen"),
    [
        ("auto", "openvino", GOOD, "bfloat16"),
        ("auto", "openvino", GOOD | {"other_outcomes": 3}, "float32"),
        ("auto", "openvino", GOOD | {"auroc_loss": 0.0021}, "float32"),
        ("auto", "openvino", None, "float32"),
        ("auto", "onnx", GOOD, "float32"),
        ("auto", "torch", GOOD, "float32"),
        ("float32", "openvino", GOOD, "float32"),
        ("bfloat16", "openvino", None, "bfloat16"),
    ],
)
def test_bfloat16_is_used_where_it_was_measured_to_keep_the_verdicts_or_is_asked_for(
    asked, runtime, measured, chosen, able
):
    assert chosen_precision(asked, runtime, measured) == chosen


def test_a_processor_without_bfloat16_stays_in_single_precision(monkeypatch):
    monkeypatch.setattr(precision, "processor_has_bfloat16", lambda: False)
    assert chosen_precision("auto", "openvino", GOOD) == "float32"
    with pytest.raises(SettingsError, match="processor"):
        chosen_precision("bfloat16", "openvino", GOOD)


def test_a_runtime_without_bfloat16_cannot_be_asked_for_it(able):
    with pytest.raises(SettingsError, match="PyTorch"):
        chosen_precision("bfloat16", "torch", GOOD)


def test_what_is_measured_of_a_model_chooses_its_precision_and_the_page_says_which(folder, able):
    assert load_model(str(folder), runtime="openvino", precision="auto").info.runtime == "OpenVINO"
    write_json(folder / METRICS, read_json(folder / METRICS) | {MEASURED: GOOD})
    assert load_model(str(folder), runtime="openvino", precision="auto").info.runtime == "OpenVINO, bfloat16"
    assert load_model(str(folder), runtime="openvino", precision="float32").info.runtime == "OpenVINO"
    shipped = load_model(str(DEFAULT_MODEL), runtime="openvino", precision="auto")
    assert shipped.info.runtime == "OpenVINO, bfloat16"


def test_the_backbone_alone_is_in_bfloat16_so_the_evidence_adds_up_to_the_verdict(folder, able):
    model = load_model(str(folder), runtime="openvino", precision="bfloat16")
    exact = load_model(str(folder), runtime="openvino")
    net, *_ = load_checkpoint(folder)
    bias = float(net.head.bias[1] - net.head.bias[0])
    for count in (1, 3):
        found, expected = (one.engine.run(pixels(count)) for one in (model, exact))
        np.testing.assert_allclose(found.cam.mean((1, 2)) + bias, found.log_odds, atol=1e-4)
        for name, ours, theirs in zip(EngineOutput._fields, found, expected):
            if theirs is not None and not name.startswith("strongest"):
                np.testing.assert_allclose(ours, theirs, atol=0.03 * np.abs(theirs).max(), err_msg=name)


def test_images_of_several_threads_are_not_mixed_up_in_bfloat16(folder, able):
    engine = load_model(str(folder), runtime="openvino", precision="bfloat16").engine
    alone = [engine.run(one[None]).log_odds[0] for one in pixels(8)]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda one: engine.run(one[None]).log_odds[0], [*pixels(8)] * 4)
    assert list(together) == pytest.approx(alone * 4)
