"""Large images, tile by tile. The fake inspector's tiles are 672 pixels wide; dark is abnormal."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from chipdemo.batch.run import inspect_all, picture
from chipdemo.batch.sources import listed
from chipdemo.errors import BatchError
from chipdemo.inspection import Region
from chipdemo.monitoring import MonitoredInspector
from chipdemo.tiling import TiledInspector, stitched, tiles_of
from chipdemo.ui.inspect import html as fragments
from chipdemo.ui.inspect import logic as inspecting
from tests.fakes import FakeModel

SIDE = 672


def drawn(size=(1600, 1600), dark=(1200, 300, 1300, 400)) -> Image.Image:
    """Light, with a dark square: (left, top, right, bottom)."""
    image = Image.new("RGB", size, (240, 240, 240))
    image.paste((0, 0, 0), dark)
    return image


@pytest.mark.parametrize("size", [(1344, 1344), (4000, 3000), (3001, 700), (500, 2500)])
def test_tiles_cover_every_pixel_and_overlap(size):
    covered = np.zeros(size[::-1], int)
    for left, top, right, bottom in tiles_of(size, SIDE):
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        assert (right - left, bottom - top) == (min(SIDE, size[0]), min(SIDE, size[1]))
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1
    lefts = sorted({box[0] for box in tiles_of(size, SIDE)})
    assert all(b - a <= 0.75 * SIDE + 1 for a, b in zip(lefts, lefts[1:]))


def test_a_image_of_one_tile_is_one_tile():
    assert tiles_of((300, 200), SIDE) == ((0, 0, 300, 200),)


def test_a_small_image_is_inspected_as_ever():
    inner = FakeModel()
    tiled = TiledInspector(inner)
    image = drawn((1300, 1000), (0, 0, 400, 400))
    assert tiled.tiles(image.size) == () and tiled.inspect(image).to_json() == inner.inspect(image).to_json()
    assert inner.inspections == 2
    np.testing.assert_array_equal(tiled.explain(image, "Grad-CAM"), inner.explain(image, "Grad-CAM"))


def test_a_defect_that_vanishes_in_the_whole_is_found_in_its_tile():
    inner, image = FakeModel(), drawn(dark=(1000, 100, 1590, 690))
    tiled = TiledInspector(inner)
    assert inner.inspect(image).verdict == "normal"
    inspection = tiled.inspect(image)
    assert inspection.verdict == "abnormal" and inspection.abnormal_probability > 0.6
    assert inspection.image_size == (1600, 1600)
    assert any(
        1000 <= r.x + r.width / 2 <= 1590 and 100 <= r.y + r.height / 2 <= 690 for r in inspection.regions
    )


def test_the_cost_is_one_inspection_a_tile_and_one_for_the_whole():
    inner = FakeModel()
    tiled = TiledInspector(inner)
    tiles = tiled.inspect(drawn()).tiles
    assert len(tiled.tiles((1600, 1600))) == 9 and inner.inspections == 10
    assert (tiles.count, tiles.seen, tiles.out_of_distribution, tiles.decide) == (9, 9, 0, True)
    assert tiles.whole_ms == pytest.approx(15.75) and tiles.ms > 9 * 1.25


def test_heat_is_where_the_defect_is_and_as_fine_as_that_of_a_tile():
    heat = TiledInspector(FakeModel()).inspect(drawn()).heat["evidence"]
    assert heat.shape == (22, 22)  # 9 places a tile of 672 pixels
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert 1150 < (x + 0.5) / 22 * 1600 < 1350 and 250 < (y + 0.5) / 22 * 1600 < 450


def test_an_explanation_is_stitched_too_unless_each_map_is_stretched_to_its_own_maximum():
    inner = FakeModel()
    assert TiledInspector(inner).explain(drawn(), "CBAM").shape == (22, 22)
    assert inner.explanations == 10
    assert TiledInspector(inner).explain(drawn(), "Grad-CAM").shape == (9, 9)
    assert inner.explanations == 11


def test_the_threshold_that_was_asked_for_counts():
    tiled, image = TiledInspector(FakeModel()), drawn()
    assert tiled.inspect(image, 0.999).verdict == "normal" and tiled.inspect(image, 0.999).threshold == 0.999


def test_a_defect_in_two_tiles_is_one_region():
    inspection = TiledInspector(FakeModel()).inspect(drawn(dark=(500, 300, 900, 400)))
    (region,) = inspection.regions
    assert 400 < region.x < 550 and 850 < region.x + region.width < 1000


def test_of_overlapping_maps_the_highest_counts():
    left, right = np.full((2, 2), 0.2, np.float32), np.full((2, 2), 0.6, np.float32)
    whole = np.full((1, 1), 0.3, np.float32)
    parts = [((0, 0, 20, 20), left), ((10, 0, 30, 20), right), ((0, 0, 30, 20), whole)]
    expected = np.array([[0.3, 0.6, 0.6]] * 2, np.float32)
    np.testing.assert_array_equal(stitched((30, 20), parts), expected)


class Close(FakeModel):
    """Its tiles are 224 pixels wide, which makes for many of them in a small image."""

    info = replace(FakeModel.info, image_side=224)


class Batches(Close):
    """Keeps how many images it got at a time."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def inspect_batch(self, images, threshold=None):
        self.sizes.append(len(images))
        return super().inspect_batch(images, threshold)


def test_tiles_run_a_few_at_a_time_and_no_image_has_more_than_256():
    inner = Batches()
    TiledInspector(inner).inspect(drawn((896, 728)))
    assert inner.sizes == [1, 16, 4]
    tiled = TiledInspector(inner)
    assert len(tiled.tiles((8000, 8000))) <= 256
    assert len(tiled.tiles((64_000_000, 1))) <= 256 and len(tiled.tiles((32_000, 2000))) <= 256


def test_a_tile_is_as_large_as_the_images_that_the_model_learned_from():
    inner = FakeModel()
    for side, shown, count in ((300, 600, 9), (300, 599, 0), (1000, 1999, 0), (100, 448, 9)):
        inner.info = replace(FakeModel.info, image_side=side)
        assert len(TiledInspector(inner).tiles((shown, shown))) == count


def test_where_most_tiles_are_unlike_the_training_images_the_whole_decides():
    image = Image.new("RGB", (1600, 1600), (0, 255, 255))
    image.paste((200, 0, 0), (0, 0, 1100, 1600))
    inner = FakeModel()
    whole, inspection = inner.inspect(image), TiledInspector(inner).inspect(image)
    assert (inspection.tiles.seen, inspection.tiles.out_of_distribution, inspection.tiles.decide) == (
        9,
        6,
        False,
    )
    assert (
        inspection.abnormal_probability == whole.abnormal_probability and not inspection.out_of_distribution
    )
    assert inspection.regions == whole.regions and inspection.heat["evidence"].shape == (9, 9)


def test_after_a_few_tiles_that_the_model_does_not_know_it_stops():
    inner = Close()
    tiles = TiledInspector(inner).inspect(Image.new("RGB", (1120, 896), "red")).tiles
    assert (tiles.count, tiles.seen, tiles.out_of_distribution, inner.inspections) == (35, 16, 16, 17)


class KnowsTilesAlone(FakeModel):
    """Trained on images of 672 pixels: what is wider is unlike them."""

    def inspect(self, image, threshold=None):
        inspection = super().inspect(image, threshold)
        return replace(inspection, out_of_distribution=image.width > SIDE)


def test_a_whole_that_the_model_does_not_know_has_no_say_where_it_knows_the_tiles():
    inspection = TiledInspector(KnowsTilesAlone()).inspect(drawn(dark=(1000, 100, 1590, 690)))
    assert inspection.verdict == "abnormal" and not inspection.out_of_distribution
    assert inspection.heat["evidence"].max() < 1.01 and len(inspection.regions) == 1


def test_as_a_whole_it_is_said_how_many_tiles_there_would_be():
    inner = FakeModel()
    inspection = TiledInspector(inner).whole.inspect(drawn())
    tiles = inspection.tiles
    assert (tiles.count, tiles.seen, tiles.decide, inner.inspections) == (9, 0, False, 1)
    assert tiles.ms == pytest.approx(9 * 14.5) and inspection.heat["evidence"].shape == (9, 9)


def test_listeners_are_told_of_the_image_and_not_of_its_tiles():
    told = []
    monitored = MonitoredInspector(TiledInspector(FakeModel()), told.append)
    monitored.inspect(drawn())
    monitored.whole.inspect(drawn())
    assert [inspection.tiles.seen for inspection in told] == [9, 0]


def test_a_region_is_compared_with_normal_chips_in_the_tile_around_it():
    asked = []

    class Asked(FakeModel):
        def nearest_normals(self, image, regions):
            asked.append((image.size, *regions))
            return super().nearest_normals(image, regions)

    region = Region(x=1250, y=320, width=20, height=30, score=0.9, area=600)
    patches = TiledInspector(Asked()).nearest_normals(drawn(), [region])
    assert len(patches) == 1 and asked == [((SIDE, SIDE), replace(region, x=1250 - 928))]


@pytest.fixture
def large(tmp_path):
    """A folder with an image whose defect only a tile shows."""
    (tmp_path / "large").mkdir()
    drawn((533, 533), dark=(333, 33, 530, 230)).save(tmp_path / "large" / "chip.png")
    return tmp_path / "large"


def test_many_images_are_looked_at_in_tiles_if_so_wanted(large, tmp_path):
    images = listed([str(large)])
    (tiled,) = inspect_all(Close(), images, tmp_path / "tiled", tiles=True)
    (whole,) = inspect_all(Close(), images, tmp_path / "whole")
    assert (tiled["verdict"], whole["verdict"]) == ("abnormal", "normal")
    assert tiled["tiles"] == {"count": 9, "seen": 9, "unlike": 0, "decide": True} and not whole["tiles"]
    with pytest.raises(BatchError, match="Choose another --out"):
        inspect_all(Close(), images, tmp_path / "whole", tiles=True)


def test_the_report_shows_what_the_tiles_found(large):
    (one,) = listed([str(large)])
    in_tiles, whole = (np.asarray(picture(Close(), one, tiles=tiles), int) for tiles in (True, False))
    assert in_tiles.shape[1] == 480 and (in_tiles != whole).any()
    red = (in_tiles[:480, :, 0] > in_tiles[:480, :, 2] + 40).nonzero()
    assert 300 < red[1].mean() < 480 and red[0].mean() < 210


def looked_at(inspector, large, in_tiles=True):
    return inspecting.inspect_image(inspector, large / "chip.png", 0.4, "evidence", 64, in_tiles)


def test_the_other_way_of_looking_is_at_hand_where_both_were_run(large):
    inner = Close()
    current = looked_at(TiledInspector(inner), large)
    assert current.inspection.verdict == "abnormal" and inner.inspections == 10
    whole = inspecting.looked_at(current, False, "evidence", 64)
    assert whole.inspection.verdict == "normal" and whole.regions == whole.inspection.regions
    assert whole.view["alt"] == "chip.png, judged normal" and whole.view["heat"] != current.view["heat"]
    again = inspecting.looked_at(inspecting.rejudge(whole, 0.99), True, "evidence", 64)
    assert again.inspection.verdict == "normal" and again.inspection.tiles.decide
    assert again.view["regions"] == current.view["regions"] and inner.inspections == 10


def test_tiles_are_looked_at_when_they_are_asked_for(large):
    inner = Close()
    whole = looked_at(TiledInspector(inner), large, in_tiles=False)
    assert inner.inspections == 1 and "as chosen" in fragments.verdict_html(whole.inspection, inner.info)
    assert fragments.tiles_labels(whole.inspection.tiles) == ("In 9 tiles, about 0.1 s", "As a whole, 0.02 s")
    tiled = inspecting.looked_at(whole, True, "evidence", 64)
    assert tiled.inspection.verdict == "abnormal" and inner.inspections == 11


def test_the_page_says_in_how_many_tiles_and_what_decided(large):
    current = looked_at(TiledInspector(Close()), large)
    assert "in 9 overlapping tiles" in fragments.verdict_html(current.inspection, Close.info)
    label, whole = fragments.tiles_labels(current.inspection.tiles)
    assert label.startswith("In 9 tiles, ") and label.endswith(" s") and whole == "As a whole, 0.02 s"
    Image.new("RGB", (1120, 896), "red").save(large / "chip.png")
    current = looked_at(TiledInspector(Close()), large)
    assert fragments.tiles_labels(current.inspection.tiles)[0].startswith("In 16 of 35 tiles, ")
    assert "of the 16 tiles looked at, 16 are unlike" in fragments.verdict_html(
        current.inspection, Close.info
    )


def test_the_explanation_is_of_what_decided(large):
    inner = Close()
    current = looked_at(TiledInspector(inner), large)
    inspecting.explain_current(inspecting.looked_at(current, False, "evidence", 64), "LayerCAM", 64)
    assert inner.explanations == 1
