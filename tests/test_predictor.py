from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from chipdemo.errors import TargetError
from chipdemo.images import decode_image
from chipdemo.inspection import CAM, CAM_OF_FLIPS, CBAM, CLASS_WEIGHTS
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.threshold import Target
from chipdemo.vision.predictor import load_model
from tests.tiny import SPEC, draw_chip, tiny_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")))


def changed(folder, **spec):
    return load_model(str(tiny_checkpoint(folder, replace(SPEC, **spec))))


def predict(model, seed=1, methods=()):
    (prediction,) = model.predict([model.prepare(draw_chip(seed))], methods)
    return prediction


def test_a_model_is_loaded_with_the_threshold_that_keeps_a_promise(tmp_path):
    folder, target = str(tiny_checkpoint(tmp_path / "tiny")), Target("recall", 0.3)
    info = load_model(folder, target=target).info
    assert (info.threshold, info.target) == (0.59999, target)  # below the lower one of two abnormal images
    with pytest.raises(TargetError, match="takes 22 abnormal validation images, and there are 2"):
        load_model(folder, target=Target("recall", 0.9))


def test_an_inspection_by_a_network_is_complete(model):
    image = decode_image(draw_chip(1).resize((90, 60)))
    inspection = Judge(Models(model)).inspect(image)
    assert inspection.image_size == (90, 60) and inspection.image_sha256 == image.sha256
    assert set(inspection.heatmaps) == {CAM, CBAM} and inspection.method == CAM
    assert all(0 <= heatmap.min() <= heatmap.max() <= 1 for heatmap in inspection.heatmaps.values())
    assert len(inspection.channels) == 6 and inspection.model_name == "tiny"
    assert inspection.embedding.dtype == np.float32 and "embedding" not in inspection.to_json()


def test_the_embedding_is_what_the_verdict_rests_on(model):
    prediction, head = predict(model), model.engine.net.head
    weight, bias = (tensor.cpu().numpy() for tensor in (head.weight, head.bias))
    log_odds = prediction.embedding @ (weight[1] - weight[0]) + bias[1] - bias[0]
    assert log_odds == pytest.approx(prediction.log_odds, abs=1e-4)


def test_the_probability_is_calibrated_by_the_temperature(tmp_path):
    prediction = predict(changed(tmp_path / "hot", temperature=3.0))
    assert prediction.abnormal_probability == pytest.approx(1 / (1 + np.exp(-prediction.log_odds / 3)))


def test_an_image_beyond_the_distance_limit_is_out_of_distribution(tmp_path):
    assert not predict(changed(tmp_path / "near", distance_limit=1e9)).out_of_distribution
    assert predict(changed(tmp_path / "far", distance_limit=1e-9)).out_of_distribution


def test_without_attention_there_is_no_cbam_map(tmp_path):
    plain = changed(tmp_path / "plain", attention="none")
    prediction = predict(plain)
    assert CBAM not in plain.methods and set(prediction.heatmaps) == {CAM} and prediction.channels == ()


def test_each_method_gives_a_map_over_the_whole_image(model):
    view = model.prepare(draw_chip(3))
    (prediction,) = model.predict([view], model.methods)
    grid = prediction.heatmaps[CAM].shape
    assert model.methods[:2] == (CAM, CBAM) and len(model.methods) == 9
    for method in model.methods:
        heatmap = prediction.heatmaps.get(method)
        assert (model.explain(view, method) if heatmap is None else heatmap).shape == grid
    with pytest.raises(ValueError, match="guess"):
        model.explain(view, "guess")


def test_the_cam_of_flips_is_the_same_for_mirror_images_and_the_mean_of_theirs(tmp_path):
    model = changed(tmp_path / "model", heat_scale=1e3)  # nothing is clipped at 1
    view = model.prepare(draw_chip(3, abnormal=True))
    mirrored = replace(view, pixels=np.ascontiguousarray(view.pixels[:, ::-1]))
    predictions = model.predict([view, mirrored], [CAM_OF_FLIPS])
    here, there = (prediction.heatmaps[CAM_OF_FLIPS] for prediction in predictions)
    pixels = view.pixels[None]
    np.testing.assert_allclose(here, there[:, ::-1], atol=1e-6)
    cams = [
        np.flip(model.engine.run(np.flip(pixels, axes)).cam[0], [axis - 1 for axis in axes])
        for axes in ((), (1,), (2,), (1, 2))
    ]
    np.testing.assert_allclose(here, np.clip(np.mean(cams, 0) / 2e3, 0, 1), atol=1e-6)
    assert CAM_OF_FLIPS not in model.predict([view])[0].heatmaps


def test_class_weights_match_nothing_in_an_image_judged_normal(tmp_path):
    for threshold, hot in ((0.0, True), (1.0, False)):
        model = changed(tmp_path / str(threshold), threshold=threshold, heat_scale=0.01)
        assert predict(model, methods=[CLASS_WEIGHTS]).heatmaps[CLASS_WEIGHTS].any() == hot


def test_threads_do_not_mix_up_images(model):
    inputs = [model.prepare(draw_chip(seed, seed % 2 == 1)) for seed in range(12)]

    def probability(view):
        return model.predict([view])[0].abnormal_probability

    def explained(view):
        return model.explain(view, "Grad-CAM++")

    alone, maps = list(map(probability, inputs)), list(map(explained, inputs))
    with ThreadPoolExecutor(6) as pool:
        np.testing.assert_allclose(list(pool.map(probability, inputs)), alone, atol=1e-6)
        np.testing.assert_allclose(list(pool.map(explained, inputs)), maps, atol=1e-5)
