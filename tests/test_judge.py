"""The judging path, with a fake model. Its tiles are 672 pixels wide; dark is abnormal, red is unknown."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from chipdemo.errors import SettingsError
from chipdemo.images import DecodedImage, decode_image
from chipdemo.inspection import CAM, CBAM, CLASS_WEIGHTS, INVERSE, Region
from chipdemo.judge import Judge, explanation_of
from chipdemo.models import Models
from tests.fakes import METHODS, FakeModel, Knows, TaughtModel, fake_judge

SIDE = 672


def drawn(size=(1600, 1600), dark=(1200, 300, 1300, 400)) -> DecodedImage:
    """A light image with a dark square: (left, top, right, bottom)."""
    image = Image.new("RGB", size, (240, 240, 240))
    image.paste((0, 0, 0), dark)
    return decode_image(image)


def plain(color, size=(60, 40)) -> DecodedImage:
    return decode_image(Image.new("RGB", size, color))


class Close(FakeModel):
    """Its tiles are 224 pixels wide, so that a small image has many."""

    info = replace(FakeModel.info, image_side=224)


class Batches(Close):
    """Keeps how many views it got in each forward pass."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def predict(self, views, methods=()):
        self.sizes.append(len(views))
        return super().predict(views, methods)


def test_an_inspection_says_what_the_model_predicts():
    inspection = fake_judge().inspect(plain("black"))
    assert (inspection.verdict, inspection.outcome) == ("abnormal", "abnormal")
    assert inspection.abnormal_probability == 1.0 and inspection.threshold == 0.4
    assert inspection.image_size == (60, 40) and inspection.image_sha256 == plain("black").sha256
    assert inspection.method == CAM and list(inspection.heatmaps) == [CAM, CBAM]
    assert inspection.tiles is None and len(inspection.regions) == 1


def test_a_large_jpeg_is_read_with_no_more_pixels_than_the_model_needs(tmp_path):
    """It scales images to 224 pixels; three times as many are enough. Its tiles have 672 or 2,000."""
    path, judge = tmp_path / "chip.jpg", fake_judge()
    drawn(size=(3200, 2700), dark=(1200, 300, 1800, 900)).image.save(path)
    assert judge.read(path).image.size == (3200, 2700)
    whole, reduced = judge.read(path), judge.read(path, tiles=False)
    assert reduced.image.size == (800, 675) and reduced.size == (3200, 2700)
    found, wanted = (judge.inspect(image, tiles=False) for image in (reduced, whole))
    assert found.abnormal_probability == pytest.approx(wanted.abnormal_probability, abs=0.001)
    assert found.regions == wanted.regions and found.image_size == (3200, 2700)
    image = found.to_json()["image"]
    assert image == {"sha256": reduced.sha256, "sha256_of": "file", "width": 3200, "height": 2700}
    assert found.tiles.count == wanted.tiles.count > 0
    wide = FakeModel()
    wide.info = replace(wide.info, image_side=2000)
    assert (
        judge.read(path, models=[wide]).reduced and not judge.read(path, models=[wide, FakeModel()]).reduced
    )


def test_an_image_that_was_read_as_a_whole_has_no_tiles(tmp_path):
    path, judge = tmp_path / "chip.jpg", fake_judge()
    drawn().image.save(path)
    with pytest.raises(ValueError, match="inspected as a whole"):
        judge.inspect(judge.read(path, tiles=False))


def test_the_verdict_follows_the_threshold_without_running_the_model():
    model = FakeModel()
    inspection = fake_judge(model).inspect(plain((128, 128, 128)), threshold=0.9)
    assert inspection.verdict == "normal"
    assert inspection.at_threshold(0.4).verdict == "abnormal" and model.predictions == 1


def test_out_of_distribution_is_an_outcome_of_its_own():
    inspection = fake_judge().inspect(plain("red"))
    assert inspection.outcome == inspection.to_json()["outcome"] == "out_of_distribution"
    assert inspection.verdict in ("normal", "abnormal") and inspection.out_of_distribution


def test_several_images_share_one_forward_pass():
    model = Batches()
    judge = fake_judge(model)
    images = [plain((level,) * 3) for level in (0, 100, 200)]
    together = judge.inspect_batch([judge.prepare(image) for image in images])
    assert model.sizes == [3]
    for image, inspection in zip(images, together):
        alone = judge.inspect(image)
        assert replace_times(inspection.to_json()) == replace_times(alone.to_json())


def replace_times(content: dict) -> dict:
    return content | {"timing_ms": 0}


def test_what_began_with_one_model_ends_with_it():
    judge = fake_judge()
    prepared = judge.prepare(plain("black"))
    judge.models.first.replace(TaughtModel("newer"))
    (inspection,) = judge.inspect_batch([prepared])
    assert inspection.model_revision == FakeModel.info.revision
    assert judge.inspect(plain("black")).model_name == "newer"


def test_of_several_models_the_one_that_knows_an_image_best_judges_it():
    dark, light = Knows("dark", 0.2), Knows("light", 0.9)
    judge = Judge(Models(dark, light))
    images = [plain((level,) * 3) for level in (230, 50, 190)]
    found = judge.inspect_batch([judge.prepare(image) for image in images])
    assert [one.model_name for one in found] == ["light", "dark", "light"]
    assert [one.threshold for one in found] == [0.9, 0.2, 0.9]  # of the model that judged
    assert [[other.name for other in one.other_models] for one in found] == [["dark"], ["light"], ["dark"]]
    assert (dark.predictions, light.predictions) == (3, 3)
    content = judge.inspect(images[1]).to_json()
    assert content["model"] == {"name": "dark", "revision": "dark-1"}
    assert content["other_models"] == [{"name": "light", "revision": "light-1", "distance": 2.8157}]


def test_an_image_that_no_model_knows_is_out_of_distribution_for_all_and_the_nearest_is_named():
    judge = Judge(Models(Knows("dark", 0.1), Knows("light", 0.9)))
    inspection = judge.inspect(plain((120,) * 3))
    assert inspection.outcome == "out_of_distribution" and inspection.model_name == "dark"
    assert all(other.distance > inspection.distance > 1 for other in inspection.other_models)


def test_a_model_may_be_fixed():
    dark, light = Knows("dark", 0.2), Knows("light", 0.9)
    inspection = Judge(Models(dark, light)).inspect(plain((230,) * 3), models=[dark])
    assert inspection.model_name == "dark" and inspection.other_models == () and light.predictions == 0


def test_two_models_of_one_name_are_refused():
    with pytest.raises(SettingsError, match="Two models are called chips"):
        Models(Knows("chips", 0.2), Knows("chips", 0.9))


def test_the_tiles_of_a_large_image_are_judged_by_its_model_alone():
    dark, light = Knows("dark", 0.0), Knows("light", 0.94)
    inspection = Judge(Models(dark, light)).inspect(drawn())
    assert inspection.model_name == "light" and inspection.tiles.seen == 9
    assert (dark.predictions, light.predictions) == (1, 10)


def test_listeners_are_called_once_with_each_inspection_and_not_with_tiles():
    heard = []
    judge = fake_judge(None, heard.append)
    judge.inspect(drawn())
    judge.inspect(drawn(), tiles=False)
    judge.inspect_batch([judge.prepare(plain("white")), judge.prepare(plain("black"))])
    assert [inspection.tiles and inspection.tiles.seen for inspection in heard] == [9, 0, None, None]


# Explanations


def test_a_map_that_costs_nothing_is_at_hand():
    model = FakeModel()
    inspection = fake_judge(model).inspect(plain("black"), methods=[CBAM])
    explanation = explanation_of(inspection, CBAM)
    assert explanation.regions == () and explanation.heatmap is inspection.heatmaps[CBAM]
    assert (model.predictions, model.explanations) == (1, 0)


def test_a_matching_comes_with_its_regions_by_the_same_forward_pass():
    model = FakeModel()
    model.methods = (*METHODS, CLASS_WEIGHTS)
    image = drawn((448, 448), (100, 100, 200, 200))
    inspection = fake_judge(model).inspect(image, methods=[CLASS_WEIGHTS])
    found = explanation_of(inspection, CLASS_WEIGHTS)
    assert model.predictions == 1 and found.regions and found.regions != inspection.regions
    alone = fake_judge(model).explain(image, CLASS_WEIGHTS, model)
    assert model.predictions == 2 and alone.regions == found.regions
    assert all(region.area <= region.width * region.height for region in found.regions)


def test_a_gradient_method_is_asked_of_the_model():
    model = FakeModel()
    explanation = fake_judge(model).explain(plain("black"), "Grad-CAM", model)
    assert explanation.heatmap.shape == (9, 9) and explanation.regions == ()
    assert (model.predictions, model.explanations) == (0, 1)


def test_a_method_that_the_model_lacks_is_refused():
    with pytest.raises(ValueError, match="guess"):
        fake_judge().explain(plain("black"), "guess", FakeModel())


# Tiles


def test_a_small_image_is_inspected_as_a_whole():
    model = FakeModel()
    image = drawn((1300, 1000), (0, 0, 400, 400))
    assert fake_judge(model).inspect(image).tiles is None and model.predictions == 1


def test_a_defect_that_vanishes_in_the_whole_is_found_in_its_tile():
    image = drawn(dark=(1000, 100, 1590, 690))
    assert fake_judge().inspect(image, tiles=False).verdict == "normal"
    inspection = fake_judge().inspect(image)
    assert inspection.verdict == "abnormal" and inspection.abnormal_probability > 0.6
    assert inspection.image_size == (1600, 1600)
    assert any(
        1000 <= r.x + r.width / 2 <= 1590 and 100 <= r.y + r.height / 2 <= 690 for r in inspection.regions
    )


def test_the_cost_is_one_view_for_each_tile_and_one_for_the_whole():
    model = FakeModel()
    tiles = fake_judge(model).inspect(drawn()).tiles
    assert model.predictions == 10
    assert (tiles.count, tiles.seen, tiles.out_of_distribution, tiles.decide) == (9, 9, 0, True)
    assert tiles.whole.verdict == "normal" and tiles.ms > 0 and tiles.whole_ms > 0


def test_the_heatmap_is_where_the_defect_is_and_as_fine_as_that_of_a_tile():
    heatmap = fake_judge().inspect(drawn()).heatmaps[CAM]
    assert heatmap.shape == (22, 22)  # 9 patches a tile of 672 pixels
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    assert 1150 < (x + 0.5) / 22 * 1600 < 1350 and 250 < (y + 0.5) / 22 * 1600 < 450


@pytest.mark.parametrize("red", [0, 640, 1200])
def test_an_explanation_is_the_same_whenever_it_is_asked_for(red):
    """red: pixels; the whole is out of distribution at 640, most tiles too at 1,200."""
    image = Image.new("RGB", (1600, 1600), (240, 240, 240))
    image.paste((255, 0, 0), (0, 0, red, 1600))
    image.paste((0, 0, 0), (1400, 700, 1500, 800))
    model, decoded = TaughtModel("chips"), decode_image(image)
    judge = fake_judge(model)
    for method in (INVERSE, CBAM):
        before = explanation_of(judge.inspect(decoded, methods=[method]), method)
        after = judge.explain(decoded, method, model)
        np.testing.assert_array_equal(after.heatmap, before.heatmap)
        assert after.regions == before.regions


def test_comparable_maps_are_stitched_and_stretched_ones_explain_the_whole():
    model = Batches()
    judge = fake_judge(model)
    image = drawn((896, 728), (600, 300, 700, 400))
    assert judge.explain(image, CBAM, model).heatmap.shape == (30, 36) and model.sizes == [1, 16, 4]
    assert judge.explain(image, "Grad-CAM", model).heatmap.shape == (9, 9) and model.explanations == 1
    assert judge.explain(image, CBAM, model, tiles=False).heatmap.shape == (9, 9)


def test_a_matching_of_a_large_image_takes_as_many_forward_passes_as_its_inspection():
    model = Batches()
    model.methods = (*METHODS, CLASS_WEIGHTS)
    image = drawn((896, 728), (600, 300, 700, 400))
    inspection = fake_judge(model).inspect(image, methods=[CLASS_WEIGHTS])
    assert model.sizes == [1, 16, 4] and explanation_of(inspection, CLASS_WEIGHTS).regions


def test_a_defect_in_two_tiles_is_one_region():
    (region,) = fake_judge().inspect(drawn(dark=(500, 300, 900, 400))).regions
    assert 400 < region.x < 550 and 850 < region.x + region.width < 1000


def test_where_most_tiles_are_out_of_distribution_the_whole_decides():
    image = Image.new("RGB", (1600, 1600), (0, 255, 255))
    image.paste((200, 0, 0), (0, 0, 1100, 1600))
    image = decode_image(image)
    whole, inspection = fake_judge().inspect(image, tiles=False), fake_judge().inspect(image)
    tiles = inspection.tiles
    assert (tiles.seen, tiles.out_of_distribution, tiles.decide) == (9, 6, False)
    assert inspection.abnormal_probability == whole.abnormal_probability
    assert inspection.outcome == whole.verdict and inspection.regions == whole.regions
    assert inspection.heatmaps[CAM].shape == (9, 9)


def test_it_stops_after_a_batch_of_unknown_tiles():
    model = Batches()
    tiles = fake_judge(model).inspect(plain("red", (1120, 896))).tiles
    assert (tiles.count, tiles.seen, tiles.out_of_distribution) == (35, 16, 16) and model.sizes == [1, 16]


class KnowsTilesAlone(FakeModel):
    """The whole of a large image is out of distribution, its tiles are not."""

    def predict(self, views, methods=()):
        predictions = super().predict(views, methods)
        return [replace(one, distance=2.0 if len(views) == 1 else 0.5) for one in predictions]


def test_a_whole_that_the_model_does_not_know_has_no_say_where_it_knows_the_tiles():
    inspection = fake_judge(KnowsTilesAlone()).inspect(drawn(dark=(1000, 100, 1590, 690)))
    assert inspection.outcome == "abnormal" and len(inspection.regions) == 1


def test_what_the_tiles_take_is_told_apart_from_what_the_whole_takes():
    inspection = fake_judge().inspect(drawn())
    of_tiles = {step: ms for step, ms in inspection.timing_ms.items() if "tiles" in step}
    assert list(of_tiles) == ["resize tiles", "9 of 9 tiles"]
    assert inspection.tiles.ms == pytest.approx(sum(of_tiles.values()))
    assert inspection.tiles.whole_ms == pytest.approx(
        sum(inspection.timing_ms.values()) - sum(of_tiles.values())
    )


def test_as_a_whole_the_number_of_tiles_is_said():
    model = FakeModel()
    tiles = fake_judge(model).inspect(drawn(), tiles=False).tiles
    assert (tiles.count, tiles.seen, tiles.decide, model.predictions) == (9, 0, False, 1)
    assert tiles.ms > 0


def test_a_region_is_matched_with_normal_patches_in_the_tile_around_it():
    asked = []

    class Asked(FakeModel):
        def nearest_normal_patches(self, image, regions):
            asked.append((image.size, *regions))
            return super().nearest_normal_patches(image, regions)

    region = Region(x=1250, y=320, width=20, height=30, score=0.9, area=600)
    model = Asked()
    patches = fake_judge(model).nearest_normal_patches(drawn(), [region], model)
    assert len(patches) == 1 and asked == [((SIDE, SIDE), replace(region, x=1250 - 928))]
