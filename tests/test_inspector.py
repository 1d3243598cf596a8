from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from chipdemo.vision.predictor import load_model
from tests.tiny import SPEC, draw_chip, tiny_checkpoint


@pytest.fixture(scope="module")
def inspector(tmp_path_factory):
    return load_model(str(tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")))


def test_an_inspection_is_complete(inspector):
    inspection = inspector.inspect(draw_chip(1).resize((90, 60)))
    assert inspection.image_size == (90, 60)
    assert set(inspection.heat) == {"evidence", "CBAM"}
    assert all(heat.min() >= 0 and heat.max() <= 1 for heat in inspection.heat.values())
    assert len(inspection.channels) == 6
    assert list(inspection.timing_ms) == ["hash and resize", "network", "heat and regions"]
    assert inspection.model_name == "tiny" and len(inspection.image_sha256) == 64


def test_the_embedding_is_what_the_verdict_rests_on(inspector):
    inspection, head = inspector.inspect(draw_chip(1)), inspector.engine.net.head
    weight, bias = (tensor.cpu().numpy() for tensor in (head.weight, head.bias))
    log_odds = inspection.embedding @ (weight[1] - weight[0]) + bias[1] - bias[0]
    assert log_odds == pytest.approx(inspection.log_odds, abs=1e-4)
    assert inspection.embedding.dtype == np.float32 and "embedding" not in inspection.to_json()


def test_the_verdict_follows_the_threshold(inspector):
    probability = inspector.inspect(draw_chip(1)).abnormal_probability
    assert inspector.inspect(draw_chip(1), threshold=probability).verdict == "abnormal"
    assert inspector.inspect(draw_chip(1), threshold=probability + 1e-6).verdict == "normal"
    assert inspector.inspect(draw_chip(1)).threshold == 0.4


def test_judging_again_equals_inspecting_at_that_threshold(inspector):
    first, second = inspector.inspect(draw_chip(2), 0.9), inspector.inspect(draw_chip(2), 0.1)
    assert first.judged_at(0.1).verdict == second.verdict
    assert first.judged_at(0.1).threshold == 0.1


def test_the_probability_is_calibrated_by_the_temperature(tmp_path):
    hot = load_model(str(tiny_checkpoint(tmp_path / "hot", replace(SPEC, temperature=3.0))))
    inspection = hot.inspect(draw_chip(1))
    assert inspection.abnormal_probability == pytest.approx(1 / (1 + np.exp(-inspection.log_odds / 3)))


def test_a_image_beyond_the_distance_limit_is_unlike_the_training_images(tmp_path):
    near = load_model(str(tiny_checkpoint(tmp_path / "near", replace(SPEC, distance_limit=1e9))))
    far = load_model(str(tiny_checkpoint(tmp_path / "far", replace(SPEC, distance_limit=1e-9))))
    assert not near.inspect(draw_chip(1)).out_of_distribution
    assert far.inspect(draw_chip(1)).out_of_distribution


def test_without_attention_there_is_no_cbam_map(tmp_path):
    plain = load_model(str(tiny_checkpoint(tmp_path / "plain", replace(SPEC, attention="none"))))
    inspection = plain.inspect(draw_chip(1))
    assert "CBAM" not in plain.methods and set(inspection.heat) == {"evidence"}
    assert inspection.channels == ()


def test_each_explanation_is_a_map_over_the_whole_image(inspector):
    grid = inspector.inspect(draw_chip(3)).heat["evidence"].shape
    assert inspector.methods[:2] == ("evidence", "CBAM") and len(inspector.methods) == 8
    for method in inspector.methods:
        assert inspector.explain(draw_chip(3), method).shape == grid
    with pytest.raises(ValueError, match="choose one of evidence"):
        inspector.explain(draw_chip(3), "guess")


def test_threads_do_not_mix_up_images(inspector):
    chips = [draw_chip(seed, seed % 2 == 1) for seed in range(12)]
    alone = [inspector.inspect(chip).abnormal_probability for chip in chips]
    explained = [inspector.explain(chip, "Grad-CAM++") for chip in chips]
    with ThreadPoolExecutor(6) as pool:
        together = [i.abnormal_probability for i in pool.map(inspector.inspect, chips)]
        explained_together = list(pool.map(lambda chip: inspector.explain(chip, "Grad-CAM++"), chips))
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(explained_together, explained, atol=1e-5)
