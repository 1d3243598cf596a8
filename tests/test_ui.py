import base64
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from chipdemo.errors import ImageTooLargeError, UnreadableImageError
from chipdemo.examples import ELPV_CREDIT, Example, elpv_examples
from chipdemo.inspection import ModelInfo
from chipdemo.monitoring import Recent
from chipdemo.settings import Settings
from chipdemo.threshold import OperatingCurve
from chipdemo.ui.inspect import html as fragments
from chipdemo.ui.inspect import logic as inspecting
from chipdemo.ui.page import build_app
from chipdemo.ui.theme import stage_template
from chipdemo.ui.uploads import uploaded_path
from tests.fakes import INFO, METHODS, FakeModel, fake_judge

HOSTILE = "<img src=x onerror=alert(1)>${alert(2)}{{value}}"


@pytest.fixture
def dark(tmp_path) -> Path:
    """A black image: abnormal for the fake model, probability 1."""
    Image.new("RGB", (60, 40), "black").save(tmp_path / "dark.png")
    return tmp_path / "dark.png"


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


def inspected(model: FakeModel, path: Path, threshold: float = 0.4, method: str = "CAM"):
    return inspecting.inspect_image(fake_judge(model), path, threshold, method, 64)


def picture(uri: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_another_threshold_changes_the_verdict_without_running_the_model(model, tmp_path):
    Image.new("RGB", (60, 40), (128, 128, 128)).save(tmp_path / "gray.png")
    current = inspected(model, tmp_path / "gray.png", threshold=0.4)
    assert current.inspection.verdict == "abnormal"
    assert inspecting.rejudge(current, 0.6).inspection.verdict == "normal"
    assert model.predictions == 1


def test_the_maps_at_hand_cost_no_explanation(model, dark):
    current = inspected(model, dark)
    inspecting.explain_current(current, "CBAM", 64)
    assert model.explanations == 0
    inspecting.explain_current(current, "Grad-CAM", 64)
    assert model.explanations == 1


def test_a_matching_draws_and_lists_what_it_finds_and_other_explanations_the_verdicts_regions(tmp_path):
    image = Image.new("RGB", (90, 90), "white")
    image.paste("black", (0, 20, 30, 50))
    image.save(tmp_path / "spot.png")
    model = FakeModel()
    model.methods = (*METHODS, "inverse matching")
    current = inspected(model, tmp_path / "spot.png")
    assert [box["left"] for box in current.view["regions"]] == [0]
    matched = inspecting.explain_current(current, "inverse matching", 64)
    assert 40 < matched.view["regions"][0]["left"] < 50 and matched.regions != current.regions
    back = inspecting.explain_current(matched, "CBAM", 64)
    assert back.regions == current.regions == current.inspection.regions


@pytest.mark.parametrize("method", METHODS)
def test_each_explanation_says_what_it_shows_and_on_what_scale(model, dark, method):
    view = inspected(model, dark, method=method).view
    assert view["explanation"].startswith(f"{method}: ")
    assert ("cannot be compared" in view["explanation"]) == (method not in ("CAM", "CBAM"))


@pytest.mark.parametrize("method", METHODS[1:])
def test_only_the_evidence_may_be_red(model, dark, method):
    pixels = np.asarray(picture(inspected(model, dark, method=method).view["heat"])).astype(int)
    assert (pixels[..., 0] <= pixels[..., 2]).all()


def test_the_page_shows_the_decoded_upright_image_and_not_the_upload(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), "gray").save(tmp_path / "turned.jpg", exif=exif)
    view = inspected(model, tmp_path / "turned.jpg").view
    assert (view["width"], view["height"]) == (40, 60) == picture(view["photo"]).size
    assert "Turned upright" in view["about"]


def test_a_16_bit_image_is_shown_scaled_with_a_note(model, tmp_path):
    values = np.linspace(1000, 4000, 2400).astype(np.uint16).reshape(40, 60)
    Image.fromarray(values).save(tmp_path / "deep.tif")
    current = inspected(model, tmp_path / "deep.tif")
    assert picture(current.view["photo"]).convert("L").getextrema() == (0, 255)
    assert "16-bit" in current.view["about"]
    assert current.to_json()["notes"] == list(current.notes) != []


def test_a_large_image_travels_as_a_bounded_preview_and_regions_keep_their_place(model, tmp_path):
    Image.new("RGB", (4000, 1000), "black").save(tmp_path / "large.png")
    view = inspected(model, tmp_path / "large.png").view
    assert picture(view["photo"]).size == (1600, 400)
    box = view["regions"][0]
    assert (box["left"], box["top"], box["width"], box["height"]) == (0, 0, 100, 100)


def test_a_image_over_the_limit_is_refused(model, tmp_path):
    Image.new("1", (2000, 1000)).save(tmp_path / "large.png")
    with pytest.raises(ImageTooLargeError):
        inspecting.inspect_image(fake_judge(model), tmp_path / "large.png", 0.4, "CAM", 1)
    assert model.predictions == 0


def test_the_timings_begin_with_reading_the_file(model, dark):
    assert list(inspected(model, dark).inspection.timing_ms) == [
        "read the file", "resize", "network and heatmaps", "regions",
    ]  # fmt: skip


def test_the_overlay_to_download_has_the_size_of_the_image_and_a_bar(model, dark):
    current = inspected(model, dark)
    data = inspecting.overlay_file(current, "CAM", 1.0, 64)
    image = Image.open(BytesIO(data))
    assert image.format == "PNG" and image.width == 60 and image.height > 40


def test_the_verdict_says_what_its_threshold_means_and_on_what(model, dark):
    text = fragments.verdict_html(inspected(model, dark).inspection, INFO)
    assert "ABNORMAL" in text
    assert "of 1,000 good chips <strong>200</strong> would be flagged" in text
    assert "of 100 defective <strong>75</strong> are caught" in text
    assert "drawn chips, validation, 9 images" in text


def test_a_threshold_that_stops_nothing_says_so_instead_of_nan():
    text = fragments.meaning(INFO, 1.0)
    assert "none of the held-out images was stopped" in text and "nan" not in text


def test_without_a_known_defect_nothing_is_said_of_defects():
    goods = replace(INFO, validation=OperatingCurve("5 good chips", (0.1, 0.2, 0.3, 0.4, 0.6), (False,) * 5))
    text = fragments.meaning(goods, 0.5)
    assert "<strong>200</strong> would be flagged" in text and "defective" not in text


def test_a_image_unlike_the_training_images_gets_no_verdict_in_red(model, tmp_path):
    Image.new("RGB", (60, 40), "red").save(tmp_path / "red.png")
    text = fragments.verdict_html(inspected(model, tmp_path / "red.png").inspection, INFO)
    assert "Out of distribution" in text
    assert "class='verdict unlike'" in text and "ABNORMAL" not in text


def test_names_from_outside_are_escaped():
    info = ModelInfo(
        **{**vars(INFO), "name": HOSTILE, "data": HOSTILE, "test": {"split": HOSTILE, "accuracy": 1}}
    )
    for text in (fragments.header_html(info), fragments.intro_html(info)):
        assert "<img" not in text


def test_no_value_passes_through_the_template_that_gradio_evaluates():
    assert not any(part in stage_template() for part in ("${", "{{", "`"))


def test_examples_name_their_license_and_a_missing_package_its_remedy():
    assert ELPV_CREDIT in fragments.examples_html(elpv_examples())
    assert "elpv-dataset" in fragments.examples_html(())


def test_the_examples_are_there_and_readable(model):
    examples = elpv_examples()
    assert len(examples) == 6
    for example in examples:
        assert inspected(model, example.path).inspection.image_size == (300, 300)


def test_a_path_that_was_not_uploaded_is_refused(dark):
    for payload in (
        str(dark),
        {"path": str(dark)},
        {"path": f"{get_upload_folder()}/../../etc/passwd"},
        None,
        {},
    ):
        with pytest.raises(UnreadableImageError):
            uploaded_path(payload)


@pytest.mark.parametrize(
    "name, stem",
    [
        ("cell0001.png", "cell0001"),
        ("../../etc/passwd", "passwd"),
        ("a b;rm.png", "a_b_rm"),
        (".png", "png"),
        ("", "image"),
    ],
)
def test_a_download_has_a_harmless_name(name, stem):
    assert inspecting.file_stem(name) == stem


def test_only_what_judges_images_is_part_of_the_api(model, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "example.png")
    app = build_app(fake_judge(model), Settings(), Recent(), [Example(tmp_path / "example.png", "drawn")])
    assert list(app.get_api_info()["named_endpoints"]) == ["/inspect", "/inspect_batch", "/compare"]
    assert not app.get_api_info()["unnamed_endpoints"]


def test_the_json_of_an_inspection_is_json(model, dark):
    assert json.loads(json.dumps(inspected(model, dark).to_json()))["verdict"] == "abnormal"
