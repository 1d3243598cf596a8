"""Inverse feature matching and class-weight matching, and the memory behind the first."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from chipdemo.inspection import Region
from chipdemo.vision.anomaly.matching import (
    ClassWeightMatching,
    InverseFeatureMatching,
    Match,
    black_patches,
    foreground_anomaly,
    peaks_of,
    score_of,
    without_small,
)
from chipdemo.vision.anomaly.memory_bank import Description, Memory
from chipdemo.vision.anomaly.nearest import patches_of
from chipdemo.vision.anomaly.patches import describe_patches, fit_scale
from chipdemo.vision.anomaly.stored import Limits, Normals
from chipdemo.vision.predictor import load_model
from chipdemo.vision.runtimes.engine import EngineOutput
from tests.tiny import draw_chip, tiny_checkpoint

SIZE = (224, 224)
WHITE = np.full((64, 64, 3), 255, np.uint8)


def unit(*rows) -> np.ndarray:
    rows = np.array(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(memory: Memory, patches: np.ndarray, without: int = -1) -> np.ndarray:
    """The definition, place by place."""
    height, width = memory.grid
    anomaly = np.ones((height, width))
    for y in range(height):
        for x in range(width):
            for feature, position, image in zip(memory.features, memory.position, memory.image):
                if image == without:
                    continue
                down, across = (y - int(position) // width) / height, (x - int(position) % width) / width
                apart = (down**2 + across**2) / memory.reach**2
                similarity = float(patches[y, x] @ feature) - apart
                anomaly[y, x] = min(anomaly[y, x], 1 - similarity)
    return anomaly.clip(0, 1)


@pytest.mark.parametrize("reach", [0.15, 0.4, math.inf])
def test_the_search_is_exact(reach):
    generator = np.random.default_rng(0)
    features = unit(*generator.normal(size=(60, 5)))
    memory = Memory(features, generator.integers(0, 8 * 6, 60), np.arange(60) % 4, (8, 6), reach)
    patches = unit(*generator.normal(size=(8 * 6, 5))).reshape(8, 6, 5)
    np.testing.assert_allclose(memory.search(patches), brute_force(memory, patches), atol=1e-5)
    np.testing.assert_allclose(memory.search(patches, without=2), brute_force(memory, patches, 2), atol=1e-5)


def test_what_was_learned_is_no_anomaly_and_what_was_not_is_one():
    memory = Memory(unit([1, 0], [0, 1]), np.array([0, 3]), np.array([0, 0]), (2, 2), 0.3)
    patches = unit([1, 0], [1, 0], [1, 0], [1, 0]).reshape(2, 2, 2)
    np.testing.assert_allclose(
        memory.search(patches), [[0, 1], [1, 1]], atol=1e-6
    )  # right where it was alone


def test_a_part_that_lies_elsewhere_is_an_anomaly_unless_it_may_lie_anywhere():
    patches = unit([0, 1], [0, 1], [0, 1], [1, 0]).reshape(2, 2, 2)
    for reach, found in ((0.3, 1), (math.inf, 0)):
        memory = Memory(unit([1, 0], [0, 1]), np.array([0, 3]), np.array([0, 0]), (2, 2), reach)
        assert memory.search(patches)[1, 1] == pytest.approx(found, abs=1e-6)


def test_a_images_own_places_do_not_count_when_it_is_held_out():
    memory = Memory(unit([1, 0], [0, 1]), np.array([0, 0]), np.array([0, 1]), (1, 1), 0.3)
    position = unit([1, 0]).reshape(1, 1, 2)
    assert memory.search(position)[0, 0] == pytest.approx(0)
    assert memory.search(position, without=0)[0, 0] == pytest.approx(1)


def test_the_nearest_place_of_the_memory_is_named():
    memory = Memory(unit([0, 1], [1, 0]), np.array([3, 0]), np.array([7, 9]), (2, 2), math.inf)
    nearest = memory.nearest(unit([1, 0.1], [0.1, 1], [1, 0], [0, 1]).reshape(2, 2, 2))
    assert memory.image[nearest].tolist() == [[9, 7], [9, 7]]
    assert memory.position[nearest].tolist() == [[0, 3], [0, 3]]


def test_places_are_unit_vectors_whatever_the_layers():
    layers = (torch.randn(3, 4, 8, 8) * 50 + 10, torch.randn(3, 6, 4, 4))
    scale = fit_scale(layers)
    patches = describe_patches(layers, scale, Description())
    assert patches.shape == (3, 8, 8, 4 + 1 + 6 + 1)
    torch.testing.assert_close(patches.norm(dim=3), torch.ones(3, 8, 8))


def test_layers_without_contrast_are_described_alike():
    """What hardly differs from the mean is not blown up into noise."""
    layers = (torch.randn(20, 4, 8, 8),)
    scale, description = fit_scale(layers), Description(strides=(8,), window=1)
    faint = describe_patches(
        (torch.from_numpy(scale.mean[0])[None, :, None, None] + 0.01 * torch.randn(2, 4, 8, 8),),
        scale,
        description,
    )
    assert (faint[0] * faint[1]).sum(2).min() > 0.99


NORMALS = Normals(
    Description(),
    None,
    None,
    background=np.zeros((8, 8), bool),
    limits=Limits(heat=0.2, score=0.15, spread=0.05),
    images=("a", "b"),
    thumbnails=(),
    weights_sha256="",
)


def output(**given) -> EngineOutput:
    empty = dict.fromkeys(("log_odds", "evidence", "abnormal_map", "embedding", "distance"))
    return EngineOutput(**empty | given)


def hot(*patches, value=0.8, grid=8) -> np.ndarray:
    anomaly = np.zeros((1, grid, grid), np.float32)
    for y, x in patches:
        anomaly[0, y : y + 3, x : x + 3] = value
    return anomaly


def test_inverse_matching_finds_what_is_unlike_normal_chips_whatever_the_verdict():
    match = InverseFeatureMatching(NORMALS).match(output(anomaly=hot((1, 4))), WHITE, "normal", SIZE)
    assert isinstance(match, Match) and match.heat.shape == (8, 8) and match.heat[2, 5] == 1
    (region,) = match.regions
    assert (
        abs(region.x + region.width / 2 - 5.5 * 28) < 10 and abs(region.y + region.height / 2 - 2.5 * 28) < 10
    )


def test_a_normal_chip_shows_no_red_and_no_region():
    match = InverseFeatureMatching(NORMALS).match(
        output(anomaly=hot((1, 4), value=0.15)), WHITE, "abnormal", SIZE
    )
    assert 0 < match.heat.max() < 0.5 and match.regions == ()


def test_heat_means_the_same_in_every_image():
    faint, strong = (
        InverseFeatureMatching(NORMALS).match(output(anomaly=hot((1, 1), value=v)), WHITE, "", SIZE).heat
        for v in (0.1, 0.2)
    )
    np.testing.assert_allclose(2 * faint, strong, rtol=1e-5)


def test_at_most_five_regions_are_shown():
    patches = [(y, x) for y in (0, 8, 16) for x in (0, 8, 16)]
    normals = replace(NORMALS, background=np.zeros((24, 24), bool))
    match = InverseFeatureMatching(normals).match(output(anomaly=hot(*patches, grid=24)), WHITE, "", SIZE)
    assert len(match.regions) == 5


def test_a_single_place_is_no_region_and_stays_below_red():
    heat = np.zeros((8, 8), np.float32)
    heat[2, 2], heat[5:7, 5] = 0.9, 0.6
    kept = without_small(heat)
    assert kept[2, 2] < 0.5 and kept[5, 5] == kept[6, 5] == np.float32(0.6)


def test_background_is_what_is_black_here_and_in_normal_chips():
    black, background = np.array([[True, True]]), np.array([[True, False]])
    anomaly = foreground_anomaly(np.full((1, 2), 0.7, np.float32), black, background)
    assert anomaly[0, 0] == 0 and anomaly[0, 1] == pytest.approx(0.7)  # a black crack is an anomaly
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, 3] = 200  # one bright pixel, and the place is no background
    assert black_patches(pixels, (2, 2)).tolist() == [[True, False], [True, True]]


def test_evidence_multiplies_and_keeps_the_scale():
    evidence = np.full((1, 4, 4), 2.0, np.float32)  # at heat_scale: half heat everywhere
    both = InverseFeatureMatching(NORMALS, evidence_scale=2.0)
    heat = both.match(output(anomaly=np.full((1, 8, 8), 0.2), evidence=evidence), WHITE, "", SIZE).heat
    np.testing.assert_allclose(heat, 0.5, atol=1e-3)
    none = both.match(output(anomaly=hot((1, 4)), evidence=-evidence), WHITE, "", SIZE)
    assert not none.heat.any() and none.regions == ()


def test_the_score_is_that_of_the_hottest_places_not_of_one():
    one, some = np.zeros((20, 20)), np.zeros((20, 20))
    one[3, 3], some[3, 3:7] = 1.0, 0.5
    assert score_of(one) == 0.25 and score_of(some) == 0.5


MATCHED = np.zeros((1, 7, 7), np.float32)
MATCHED[0, 1, 5] = 2.0  # as much as heat_scale / 2
CLASS_WEIGHTS = ClassWeightMatching(heat_scale=4.0)


def test_class_weights_are_matched_only_where_the_verdict_is_abnormal():
    abnormal = CLASS_WEIGHTS.match(output(abnormal_map=MATCHED), WHITE, "abnormal", SIZE)
    assert abnormal.heat[1, 5] == 0.5 and abnormal.heat.sum() == 0.5
    normal = CLASS_WEIGHTS.match(output(abnormal_map=MATCHED), WHITE, "normal", SIZE)
    assert not normal.heat.any() and normal.regions == ()


def test_class_weights_are_not_matched_in_black_background():
    pixels = WHITE.copy()
    pixels[:32, 32:] = 0
    assert not CLASS_WEIGHTS.match(output(abnormal_map=MATCHED), pixels, "abnormal", SIZE).heat.any()


def test_peaks_are_apart_and_at_least_half_as_high_as_the_highest():
    heat = np.zeros((28, 28), np.float32)
    heat[4, 4], heat[4, 20], heat[20, 4] = 0.9, 0.6, 0.3  # the last is below half of the first
    peaks = peaks_of(heat, (448, 224))
    assert [peak.score for peak in peaks] == pytest.approx([0.9, 0.6], abs=0.15)
    first = peaks[0]
    assert abs(first.x + first.width / 2 - 4.5 * 16) < 4 and abs(first.y + first.height / 2 - 4.5 * 8) < 2
    assert len(peaks_of(np.random.default_rng(0).random((28, 28)).astype(np.float32), SIZE)) == 5


def test_the_abnormal_map_is_the_features_matched_with_the_weights_of_abnormal_alone(tmp_path):
    engine = load_model(str(tiny_checkpoint(tmp_path / "tiny"))).engine
    pixels = np.array(draw_chip(1))[None]
    features, weights = engine.forward(pixels).features[0], engine.net.head.weight[1]
    expected = (features * weights[:, None, None]).sum(0)
    np.testing.assert_allclose(engine.run(pixels).abnormal_map[0], expected, atol=1e-4)


def test_every_classifier_offers_class_weight_matching(tmp_path):
    inspector = load_model(str(tiny_checkpoint(tmp_path / "tiny")))
    image = draw_chip(1)
    heat = inspector.explain(image, "class-weight matching")
    judged = inspector.inspect(image)
    assert heat.shape == judged.heat["evidence"].shape
    assert heat.any() == (judged.verdict == "abnormal") or not heat.any()
    with pytest.raises(ValueError, match="choose one of class-weight matching"):
        inspector.match(image, "inverse matching")


def test_nearest_normal_follows_the_part_to_where_it_belongs():
    image, position = np.zeros((8, 8), int), np.arange(64).reshape(8, 8)
    image[2:4, 2:4] = [[1, 1], [1, 0]]
    position[2:4, 2:4] += 1  # what it is most like lies one place to the right
    region = Region(x=20, y=20, width=20, height=20, score=1, area=400)
    first, second = patches_of(NORMALS, image, position, region, (80, 80))
    assert (first.image, first.share, first.x, first.y) == ("b", 0.75, 0.375, 0.25)
    assert (second.image, second.share) == ("a", 0.25) and first.image is None
