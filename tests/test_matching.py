"""Inverse feature matching and class-weight matching, and the memory bank behind the first."""

import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from chipdemo.images import decode_image
from chipdemo.inspection import CLASS_WEIGHTS, INVERSE, Region
from chipdemo.overlay import encode
from chipdemo.regions import find_regions
from chipdemo.view import turned
from chipdemo.vision.anomaly.alignment import Alignment
from chipdemo.vision.anomaly.anomaly_model import AnomalyModel, FittedBank, NormalAnomaly, NormalLimits
from chipdemo.vision.anomaly.descriptor import PatchDescriptor
from chipdemo.vision.anomaly.matching import (
    black_patches,
    class_weight_heatmap,
    inverse_heatmap,
    score_of,
    without_small,
)
from chipdemo.vision.anomaly.memory_bank import MemoryBank
from chipdemo.vision.anomaly.nearest import nearest_patches
from chipdemo.vision.anomaly.patches import CHANNELS, describe_patches, fit_statistics
from chipdemo.vision.predictor import load_model
from chipdemo.vision.runtimes.engine import EngineOutput
from chipdemo.vision.transforms import squeezed
from tests.fakes import fake_judge
from tests.tiny import SPEC, draw_chip, tiny_checkpoint

SIZE = (224, 224)
LIMIT = 0.2  # the anomaly that shows as half heat
WHITE = np.full((64, 64, 3), 255, np.uint8)


def unit(*rows) -> np.ndarray:
    rows = np.array(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(bank: MemoryBank, patches: np.ndarray) -> np.ndarray:
    """The definition, patch by patch."""
    height, width = bank.grid
    anomaly = np.ones((height, width))
    for y in range(height):
        for x in range(width):
            for feature, position in zip(bank.features, bank.position):
                down, across = abs(y - int(position) // width), abs(x - int(position) % width)
                if down <= bank.reach * height and across <= bank.reach * width:
                    anomaly[y, x] = min(anomaly[y, x], 1 - float(patches[y, x] @ feature))
    return anomaly.clip(0, 1)


@pytest.mark.parametrize("reach", [0.0, 0.15, 0.4, math.inf])
def test_the_search_is_exact_and_compares_patches_within_reach(reach):
    generator = np.random.default_rng(0)
    features = unit(*generator.normal(size=(60, 5)))
    bank = MemoryBank(features, generator.integers(0, 8 * 6, 60), np.arange(60) % 4, (8, 6), reach)
    patches = unit(*generator.normal(size=(8 * 6, 5))).reshape(8, 6, 5)
    np.testing.assert_allclose(bank.search(patches), brute_force(bank, patches), atol=1e-5)


def test_a_patch_of_the_bank_is_no_anomaly_and_another_one_is():
    bank = MemoryBank(unit([1, 0], [0, 1]), np.array([0, 3]), np.array([0, 0]), (2, 2), 0.3)
    patches = unit([1, 0], [1, 0], [1, 0], [1, 0]).reshape(2, 2, 2)
    np.testing.assert_allclose(bank.search(patches), [[0, 1], [1, 1]], atol=1e-6)


@pytest.mark.parametrize("reach, anomaly", [(0.3, 1), (math.inf, 0)])
def test_a_part_in_another_position_is_an_anomaly_unless_reach_is_infinite(reach, anomaly):
    bank = MemoryBank(unit([1, 0], [0, 1]), np.array([0, 3]), np.array([0, 0]), (2, 2), reach)
    patches = unit([0, 1], [0, 1], [0, 1], [1, 0]).reshape(2, 2, 2)
    assert bank.search(patches)[1, 1] == pytest.approx(anomaly, abs=1e-6)


def test_the_nearest_patch_is_found_with_its_image_and_position():
    bank = MemoryBank(unit([0, 1], [1, 0]), np.array([3, 0]), np.array([7, 9]), (2, 2), math.inf)
    nearest = bank.nearest(unit([1, 0.1], [0.1, 1], [1, 0], [0, 1]).reshape(2, 2, 2))
    assert bank.image[nearest].tolist() == [[9, 7], [9, 7]]
    assert bank.position[nearest].tolist() == [[0, 3], [0, 3]]


def test_patches_are_unit_vectors_whatever_the_layers():
    layers = (torch.randn(3, 4, 8, 8) * 50 + 10, torch.randn(3, 6, 4, 4))
    patches = describe_patches(layers, fit_statistics(layers), PatchDescriptor((2, 3)))
    assert patches.shape == (3, 8, 8, 4 + 1 + 6 + 1)
    torch.testing.assert_close(patches.norm(dim=3), torch.ones(3, 8, 8))


def test_of_a_wide_layer_some_channels_are_compared():
    wide, narrow = torch.randn(3, 600, 8, 8), torch.randn(3, 6, 4, 4)
    statistics = fit_statistics((wide, narrow))
    patches = describe_patches((wide, narrow), statistics, PatchDescriptor((2, 3)))
    assert patches.shape == (3, 8, 8, CHANNELS + 1 + 6 + 1)
    other = torch.cat((wide[:, :1], torch.randn(3, 1, 8, 8), wide[:, 2:]), 1)  # the second is not compared
    assert torch.equal(describe_patches((other, narrow), statistics, PatchDescriptor((2, 3))), patches)


def test_patches_without_contrast_are_alike():
    """A small difference from the mean is not amplified to noise."""
    statistics, descriptor = fit_statistics((torch.randn(20, 4, 8, 8),)), PatchDescriptor((8,), window=1)
    faint = torch.from_numpy(statistics.mean[0])[None, :, None, None] + 0.01 * torch.randn(2, 4, 8, 8)
    first, second = describe_patches((faint,), statistics, descriptor)
    assert (first * second).sum(2).min() > 0.99


def hot(*patches, value=0.8, grid=8) -> np.ndarray:
    """(grid, grid) anomaly with squares of 3 x 3 patches from (y, x) on."""
    anomaly = np.zeros((grid, grid), np.float32)
    for y, x in patches:
        anomaly[y : y + 3, x : x + 3] = value
    return anomaly


def test_a_region_is_found_where_the_anomaly_is():
    heatmap = inverse_heatmap(hot((1, 4)), LIMIT)
    assert heatmap.shape == (8, 8) and heatmap[2, 5] == 1
    (region,) = find_regions(heatmap, INVERSE, SIZE)
    assert abs(region.x + region.width / 2 - 5.5 * 28) < 10
    assert abs(region.y + region.height / 2 - 2.5 * 28) < 10


def test_below_the_limit_there_is_no_region():
    heatmap = inverse_heatmap(hot((1, 4), value=0.15), LIMIT)
    assert 0 < heatmap.max() < 0.5 and find_regions(heatmap, INVERSE, SIZE) == ()


def test_heat_has_the_same_scale_in_every_image():
    faint, strong = (inverse_heatmap(hot((1, 1), value=value), LIMIT) for value in (0.1, 0.2))
    np.testing.assert_allclose(2 * faint, strong, rtol=1e-5)


def test_at_most_five_regions_are_found():
    patches = [(y, x) for y in (0, 8, 16) for x in (0, 8, 16)]
    assert len(find_regions(inverse_heatmap(hot(*patches, grid=24), LIMIT), INVERSE, SIZE)) == 5


def test_a_single_patch_stays_below_half_heat():
    heat = np.zeros((8, 8), np.float32)
    heat[2, 2], heat[5:7, 5] = 0.9, 0.6
    kept = without_small(heat)
    assert kept[2, 2] < 0.5 and kept[5, 5] == kept[6, 5] == np.float32(0.6)


def fitted_bank(bank: MemoryBank, background=None, mean=0.1, deviation=0.05) -> FittedBank:
    """A bank whose held-out normal images have this anomaly everywhere."""
    normal = NormalAnomaly(*(np.full(bank.grid, value, np.float32) for value in (mean, deviation)))
    background = np.zeros(bank.grid, bool) if background is None else background
    return FittedBank(PatchDescriptor((2, 3)), None, bank, background, normal, Alignment())


def test_an_anomaly_is_measured_in_deviations_above_normal_and_only_where_the_image_is():
    bank = MemoryBank(unit([1, 0]), np.array([0]), np.array([0]), (1, 3), math.inf)
    fitted = fitted_bank(bank, background=np.array([[True, True, False]]))
    patches = unit([0, 1], [0, 1], [0, 1]).reshape(1, 3, 2)  # anomaly 1, which is 18 deviations above 0.1
    black, inside = np.array([[True, False, True]]), np.array([[True, True, True]])
    np.testing.assert_allclose(fitted.anomaly_map(patches, black, inside), [[0, 18, 18]], rtol=1e-5)
    np.testing.assert_allclose(fitted.anomaly_map(patches, black, ~inside), [[0, 0, 0]])
    usual = unit([1, 0.05], [1, 0.05], [1, 0.05]).reshape(1, 3, 2)  # below the mean of normal images
    assert not fitted.anomaly_map(usual, ~inside, inside).any()


def test_a_patch_with_one_bright_pixel_is_not_black():
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, 3] = 200
    assert black_patches(pixels, (2, 2)).tolist() == [[True, False], [True, True]]


def test_the_product_with_the_cam_keeps_half_heat():
    anomaly = np.full((8, 8), LIMIT, np.float32)
    heatmap = inverse_heatmap(anomaly, LIMIT, cam=np.full((4, 4), 0.5, np.float32))
    np.testing.assert_allclose(heatmap, 0.5, atol=1e-3)
    assert not inverse_heatmap(hot((1, 4)), LIMIT, cam=np.zeros((4, 4), np.float32)).any()


def test_the_score_is_the_mean_of_the_hottest_patches():
    one, some = np.zeros((20, 20)), np.zeros((20, 20))
    one[3, 3], some[3, 3:13] = 1.0, 0.5
    assert score_of(one) == pytest.approx(0.1) and score_of(some) == 0.5


def abnormal_map(y: int, x: int, value: float) -> EngineOutput:
    empty = dict.fromkeys(("log_odds", "cam", "embedding", "distance"))
    matched = np.zeros((1, 7, 7), np.float32)
    matched[0, y, x] = value
    return EngineOutput(**empty, abnormal_map=matched)


def test_class_weights_show_half_heat_at_half_the_scale():
    heatmap = class_weight_heatmap(abnormal_map(1, 5, 2.0), WHITE, heat_scale=4.0)
    assert heatmap[1, 5] == 0.5 and heatmap.sum() == 0.5


def test_class_weights_are_not_matched_in_black_background():
    pixels = WHITE.copy()
    pixels[:32, 32:] = 0
    assert not class_weight_heatmap(abnormal_map(1, 5, 2.0), pixels, heat_scale=4.0).any()


def test_peaks_are_apart_and_at_least_half_as_high_as_the_highest():
    heat = np.zeros((28, 28), np.float32)
    heat[4, 4], heat[4, 20], heat[20, 4] = 0.9, 0.6, 0.3  # the last is below half of the first
    peaks = find_regions(heat, CLASS_WEIGHTS, (448, 224))
    assert [peak.score for peak in peaks] == pytest.approx([0.9, 0.6], abs=0.15)
    first = peaks[0]
    assert abs(first.x + first.width / 2 - 4.5 * 16) < 4 and abs(first.y + first.height / 2 - 4.5 * 8) < 2
    noise = np.random.default_rng(0).random((28, 28)).astype(np.float32)
    assert len(find_regions(noise, CLASS_WEIGHTS, SIZE)) == 5


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return load_model(str(tiny_checkpoint(tmp_path_factory.mktemp("tiny"))))


def test_the_abnormal_map_is_the_features_matched_with_the_weights_of_abnormal_alone(classifier):
    engine, pixels = classifier.engine, np.array(draw_chip(1))[None]
    features, weights = engine.forward(pixels).features[0], engine.net.head.weight[1]
    expected = (features * weights[:, None, None]).sum(0)
    np.testing.assert_allclose(engine.run(pixels).abnormal_map[0], expected, atol=1e-4)


@pytest.mark.parametrize("threshold, shown", [(0.0, True), (1.0, False)])
def test_a_classifier_matches_class_weights_where_its_verdict_is_abnormal(tmp_path, threshold, shown):
    model = load_model(str(tiny_checkpoint(tmp_path / "tiny", replace(SPEC, threshold=threshold))))
    explained = fake_judge(model).explain(decode_image(draw_chip(1)), CLASS_WEIGHTS, model)
    assert explained.heatmap.any() == shown and (explained.regions != ()) == shown


def test_a_classifier_without_a_memory_bank_does_not_offer_inverse_matching(classifier):
    assert INVERSE not in classifier.methods
    with pytest.raises(ValueError, match=CLASS_WEIGHTS):
        fake_judge(classifier).explain(decode_image(draw_chip(1)), INVERSE, classifier)


def model_of(bank: MemoryBank, thumbnails=()) -> AnomalyModel:
    return AnomalyModel(
        **vars(fitted_bank(bank)),
        limits=NormalLimits(0.2, 0.15, 0.05),
        head=None,
        images=("a", "b"),
        thumbnails=thumbnails,
        weights_sha256="",
    )


def test_the_nearest_normal_patch_moves_with_the_part():
    model = model_of(MemoryBank(unit([1, 0]), np.array([0]), np.array([0]), (8, 8), 0.1))
    image, position = np.zeros((8, 8), int), np.arange(64).reshape(8, 8)
    image[2:4, 2:4] = [[1, 1], [1, 0]]
    position[2:4, 2:4] += 1  # the nearest patch lies one to the right
    region = Region(x=20, y=20, width=20, height=20, score=1, area=400)
    view = squeezed(Image.new("RGB", (80, 80)), 64, "bicubic")
    first, second = nearest_patches(model, image, position, region, view)
    assert (first.sha256, first.share, first.x, first.y) == ("b", 0.75, 0.375, 0.25)
    assert (second.sha256, second.share) == ("a", 0.25) and first.image is None


def test_a_normal_patch_is_shown_as_the_image_lies():
    """The image is the normal one turned by 90 degrees: the patch beside a region looks like the region."""
    normal = np.zeros((64, 64, 3), np.uint8)
    normal[:16, 40:] = 250  # bright at the top right
    turned_image = Image.fromarray(np.rot90(normal))  # counterclockwise: now at the top left
    view = turned(squeezed(turned_image, 64, "bicubic"), np.array([[0.0, 1, 0], [-1, 0, 1]]))
    np.testing.assert_allclose(view.pixels, normal, atol=2)
    thumbnail = encode(Image.fromarray(normal), "JPEG")
    model = model_of(
        MemoryBank(unit([1, 0]), np.array([0]), np.array([0]), (8, 8), 0.1), (thumbnail, thumbnail)
    )
    image, position = np.zeros((8, 8), int), np.arange(64).reshape(8, 8)
    region = Region(x=4, y=4, width=8, height=16, score=1, area=128)
    (patch,) = nearest_patches(model, image, position, region, view)
    assert patch.image.size == (8, 16) and np.asarray(patch.image).mean() > 230


def test_threads_do_not_spin_after_a_search_unless_the_environment_says_so():
    """OpenBLAS reads the variable when numpy is imported, which chipdemo has to precede."""
    code = "import chipdemo, os, sys; print('numpy' in sys.modules, os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}

    def printed(**variables):
        return subprocess.check_output([sys.executable, "-c", code], env=environment | variables, text=True)

    assert printed() == "False 4\n"
    assert printed(OPENBLAS_THREAD_TIMEOUT="26") == "False 26\n"
