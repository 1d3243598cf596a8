"""The model in the repository, on images it was not trained on."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chipdemo.examples import elpv_examples
from chipdemo.images import decode_image, read_image
from chipdemo.inspection import CAM
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import DEFAULT_MODEL, SHIPPED
from chipdemo.vision.checkpoint import METRICS, SPLIT, WEIGHTS, read_json, read_metrics
from chipdemo.vision.predictor import load_model
from tests.test_runtimes import assert_same
from training.sources import read_elpv

ROOT = Path(__file__).parent.parent
TRANSISTORS = ROOT.parent / "shared" / "data" / "mvtec-transistor" / "test" / "good"


@pytest.fixture(scope="module")
def model():
    return load_model(str(DEFAULT_MODEL))


@pytest.fixture(scope="module")
def fast():
    """As the app runs it."""
    return load_model(str(DEFAULT_MODEL), runtime="openvino")


@pytest.fixture(scope="module")
def samples():
    """The test part."""
    test = set(read_json(ROOT / "benchmarks" / "elpv_split.json")["test_files"])
    return [sample for sample in read_elpv().samples if sample.path.name in test]


@pytest.fixture(scope="module")
def judged(fast, samples):
    """Every fourth image of the test part with its label and inspection."""
    samples = samples[::4]
    judge = Judge(Models(fast))
    return [(sample.label, judge.inspect(read_image(sample.path))) for sample in samples]


def test_the_examples_on_offer_are_of_its_test_part():
    test = set(read_json(ROOT / "benchmarks" / "elpv_split.json")["test_files"])
    labels = {sample.path.name: sample.label for sample in read_elpv().samples}
    for example in elpv_examples():
        assert example.path.name in test
        assert ("defective" in example.caption) == (labels[example.path.name] == "abnormal")


def test_it_is_small_and_complete():
    assert sum(path.stat().st_size for path in DEFAULT_MODEL.iterdir()) < 60e6
    names = {path.name for path in DEFAULT_MODEL.iterdir()}
    assert {WEIGHTS, "config.json", METRICS, SPLIT, "README.md"} <= names


def test_it_was_trained_and_judged_on_the_published_division():
    published, own = read_json(ROOT / "benchmarks" / "elpv_split.json"), read_json(DEFAULT_MODEL / SPLIT)
    assert all(own[part] == published[part] for part in ("train", "val", "test"))
    assert read_metrics(DEFAULT_MODEL)["test"]["split"] == "ELPV, test split, 656 images"


def test_its_verdicts_are_as_good_as_its_card_says(judged):
    accuracy = np.mean([label == inspection.verdict for label, inspection in judged])
    stated = read_metrics(DEFAULT_MODEL)["test"]["accuracy"]
    assert accuracy == pytest.approx(stated, abs=0.06)  # three standard errors of 164 images


def test_openvino_says_of_75_images_what_pytorch_says(fast, model, samples):
    for start in range(0, 75, 25):
        images = [read_image(sample.path).image for sample in samples[start : start + 25]]
        pixels = np.stack([model.prepare(image).pixels for image in images])
        assert_same(fast.engine.run(pixels), model.engine.run(pixels), rtol=1e-3)


def test_normal_chips_show_no_red(judged):
    passed = [i for label, i in judged if label == i.verdict == "normal"]
    assert len(passed) > 80
    assert np.mean([inspection.heatmaps[CAM].max() < 0.5 for inspection in passed]) >= 0.95


def test_most_detected_defects_show_where(judged):
    detected = [i for label, i in judged if label == i.verdict == "abnormal"]
    assert np.mean([len(inspection.regions) > 0 for inspection in detected]) > 0.8


def test_the_cam_adds_up_to_the_log_odds(model):
    head = model.engine.net.head
    bias = (head.bias[1] - head.bias[0]).item()
    for sample in read_elpv().samples[:5]:
        view = model.prepare(read_image(sample.path).image)
        cam = model.engine.run(view.pixels[None]).cam[0]
        assert cam.mean() + bias == pytest.approx(model.predict([view])[0].log_odds, abs=1e-4)


def test_its_own_kind_of_image_is_in_distribution(judged):
    assert np.mean([inspection.out_of_distribution for _, inspection in judged]) < 0.03


def is_unknown(model, image: Image.Image) -> bool:
    return model.predict([model.prepare(image)])[0].out_of_distribution


def test_noise_and_plain_gray_are_out_of_distribution(model):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    assert is_unknown(model, Image.fromarray(noise)) and is_unknown(
        model, Image.new("RGB", (300, 300), "gray")
    )


@pytest.mark.skipif(not TRANSISTORS.exists(), reason=f"no images of transistors at ../shared{os.sep}data")
def test_another_kind_of_chip_is_out_of_distribution(model):
    images = [read_image(path).image for path in sorted(TRANSISTORS.glob("*"))[:20]]
    assert all(is_unknown(model, image) for image in images)


@pytest.mark.parametrize("size", [(100, 3200), (4000, 100), (10, 320), (5000, 1), (1, 5000)])
@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_an_image_however_thin_gets_an_answer(folder, size):
    model, thin = load_model(str(folder), runtime="openvino"), Image.new("RGB", size, "gray")
    assert model.prepare(thin).inside((14, 14)).any()
    assert Judge(Models(model)).inspect(decode_image(thin)).image_size == size
