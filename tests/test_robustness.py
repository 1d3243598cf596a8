import numpy as np
import pytest
from PIL import Image

from chipdemo.errors import DataError
from chipdemo.images import read_image
from chipdemo.vision.checkpoint import CONFIG, METRICS, SPLIT, read_json, read_metrics, write_json
from chipdemo.vision.transforms import pixels_of
from chipdemo.vision.weights import load_checkpoint
from tests.scripts import run_script
from tests.tiny import draw_chip, draw_chips, tiny_checkpoint
from training.predict import predict
from training.record import with_section
from training.robustness import CHANGES, flips, measure_robustness, robustness_table
from training.sources import read_data


@pytest.fixture
def chips(tmp_path):
    return draw_chips(tmp_path / "chips", normal=6, abnormal=5)


@pytest.fixture
def model(tmp_path, chips):
    """Its test split is 4 of the normal and 3 of the abnormal images."""
    folder = tiny_checkpoint(tmp_path / "model")
    test = hashes(chips / "normal")[:4] + hashes(chips / "abnormal" / "crack")[:3]
    write_json(folder / SPLIT, {"train": [], "val": [], "test": test})
    return folder


def hashes(folder):
    return [read_image(path).sha256 for path in sorted(folder.glob("*.png"))]


def measured(model, chips):
    net, spec, _ = load_checkpoint(model)
    return measure_robustness(net, spec, read_data(str(chips)), read_json(model / SPLIT)["test"])


def gray(side=300) -> Image.Image:
    return Image.new("RGB", (side, side), (100, 100, 100))


# The changes


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_small_and_the_same_in_every_call(name):
    image = draw_chip(3, abnormal=True, size=300)
    before = image.tobytes()
    changed = CHANGES[name](image)
    assert changed.mode == "RGB" and changed.tobytes() == CHANGES[name](image).tobytes()
    assert changed.tobytes() != before == image.tobytes()
    assert all(0.8 * 300 <= side <= 300 for side in changed.size)


def test_no_edge_turns_black():
    for name in ("rotation by 2 degrees", "shift by 2 % (6 of 300 px)", "crop of 5 %"):
        assert set(np.asarray(CHANGES[name](gray())).ravel()) == {100}


def test_the_sizes_of_the_changes():
    image = gray()
    image.paste((255, 255, 255), (150, 150, 151, 151))
    shifted = np.asarray(CHANGES["shift by 2 % (6 of 300 px)"](image))[..., 0]
    assert np.argwhere(shifted == 255).tolist() == [[156, 156]]
    assert CHANGES["resize to 5/6 (250 of 300 px)"](image).size == (250, 250)
    assert CHANGES["crop of 5 %"](image).size == (284, 284)
    noise = np.asarray(CHANGES["noise of 4 gray levels"](gray())).astype(float)
    assert noise.std() == pytest.approx(4, rel=0.02) and (noise[..., 0] == noise[..., 2]).all()
    assert set(np.asarray(CHANGES["brightness 0.8"](gray())).ravel()) == {80}
    turned = np.asarray(CHANGES["rotation by 2 degrees"](draw_chip(1, size=300)))
    assert turned.shape == (300, 300, 3)


# The figures


def test_flips_are_counted_with_their_interval():
    abnormal = np.array([False] * 60 + [True] * 40)
    original = np.where(abnormal, 0.9, 0.1)
    some, all_ = original.copy(), 1 - original
    some[:5] = 0.5  # at the threshold: abnormal
    found = flips(original, {"some": some, "all": all_}, abnormal, 0.5)
    first, second = found["changes"]
    assert (first["change"], first["flips"], first["share"]) == ("some", 5, 0.05)
    assert first["interval_95"] == pytest.approx([0.0215, 0.1118], abs=1e-4)  # Wilson, from a textbook
    assert (first["accuracy"], first["auroc"]) == (0.95, 1.0)
    assert (second["share"], second["accuracy"], second["auroc"]) == (1.0, 0.0, 0.0)
    assert found["worst"] == second and found["original"] == {"auroc": 1.0, "accuracy": 1.0}
    assert found["mean"]["share"] == pytest.approx(0.525)
    low, high = found["mean"]["interval_95"]
    assert 0.5 <= low < 0.525 < high < 0.56


def test_a_change_is_made_to_the_image_as_it_was_decoded(model, chips):
    net, spec, _ = load_checkpoint(model)
    found = measured(model, chips)
    assert found["images"] == 7 and [row["change"] for row in found["changes"]] == list(CHANGES)
    paths = (
        sorted((chips / "normal").glob("*.png"))[:4] + sorted((chips / "abnormal/crack").glob("*.png"))[:3]
    )
    images = [read_image(path).image for path in paths]
    abnormal = np.array([False] * 4 + [True] * 3)

    def verdicts(images):
        pixels = np.stack([pixels_of(image, spec.image_size, spec.interpolation) for image in images])
        probability = 1 / (1 + np.exp(-predict(net, pixels, spec).log_odds / spec.temperature))
        return probability >= spec.threshold

    for name in ("turn by 90 degrees", "noise of 4 gray levels", "brightness 1.2"):
        row = next(row for row in found["changes"] if row["change"] == name)
        changed = verdicts([CHANGES[name](image) for image in images])
        assert row["flips"] == (changed != verdicts(images)).sum()
        assert row["accuracy"] == pytest.approx((changed == abnormal).mean())


def test_no_image_is_counted_twice_and_unreadable_ones_are_skipped(model, chips):
    before = measured(model, chips)
    (chips / "normal" / "again.png").write_bytes((chips / "normal" / "0.png").read_bytes())
    (chips / "normal" / "broken.png").write_bytes(b"no image")
    assert measured(model, chips) == before


def test_data_without_the_test_images_is_an_error(model, chips):
    write_json(model / SPLIT, {"train": [], "val": [], "test": ["of another day"]})
    with pytest.raises(DataError, match="0 normal and 0 abnormal"):
        measured(model, chips)


def test_a_model_of_normal_images_alone_is_refused(model, chips):
    write_json(model / CONFIG, read_json(model / CONFIG) | {"verdict_by": "memory"})
    with pytest.raises(DataError, match="has no classifier"):
        measured(model, chips)


# Where they are written


def test_the_benchmark_writes_a_report_and_on_request_the_checkpoint(model, chips, tmp_path, monkeypatch):
    (model / "README.md").write_text("# chips\n\nA model.\n\n## Memory bank of normal images\n\nThat.\n")
    flags = ("--model", model, "--data", chips, "--report", tmp_path / "report.json")
    assert run_script(monkeypatch, "benchmarks/robustness.py", *flags) == ""
    (row,) = read_json(tmp_path / "report.json")["models"]
    assert row["model"] == "model" and row["images"] == 7
    assert "robustness" not in read_metrics(model)
    for _ in range(2):
        assert run_script(monkeypatch, "benchmarks/robustness.py", *flags, "--record") == ""
    assert read_metrics(model)["robustness"]["mean"] == row["mean"]
    assert read_metrics(model)["data"] == "drawn chips"
    card = (model / "README.md").read_text()
    assert card.count("## Robustness") == 1 and f"| {row['changes'][0]['flips']} of 7 |" in card
    assert card.index("A model.") < card.index("## Robustness") < card.index("## Memory bank")
    assert sorted(path.name for path in model.iterdir()) == sorted(
        ["README.md", CONFIG, METRICS, SPLIT, "model.safetensors"]
    )


def test_a_section_takes_the_place_of_an_earlier_one():
    card = with_section(with_section("# A\n", "Robustness", "old"), "Overlay", "more")
    assert with_section(card, "Robustness", "new").count("old") == 0
    assert card.startswith("# A\n") and "old" in card and "more" in card


def test_the_table_names_counts(model, chips):
    text = robustness_table(measured(model, chips))
    assert " of 7 | " in text and "| none | | | " in text and "on chips, 7 images" in text
