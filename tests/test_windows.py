"""Views larger than the network's input: their windows, and the size that is chosen."""

from dataclasses import replace

import numpy as np
import pytest

from chipdemo.files import Found
from chipdemo.images import decode_image
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.view import SQUEEZED, View
from chipdemo.vision.anomaly.alignment import Alignment
from chipdemo.vision.anomaly.anomaly_model import load_anomaly_model
from chipdemo.vision.anomaly.features import extract_features, starting_backbone
from chipdemo.vision.anomaly.fitting import fit
from chipdemo.vision.anomaly.saving import save_taught
from chipdemo.vision.anomaly.scale import largest_side
from chipdemo.vision.anomaly.windows import Windows
from chipdemo.vision.predictor import load_model
from tests.drawn import chip, chips


def pooled(pixels: np.ndarray) -> np.ndarray:
    """(N, S, S, 3) -> (N, S / 8, S / 8, 3): a layer of stride 8 that sees nothing beside its patches."""
    count, side = pixels.shape[:2]
    return pixels.reshape(count, side // 8, 8, side // 8, 8, 3).mean((2, 4))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_windows_of_a_view_give_the_layers_of_the_whole(count):
    windows = Windows(count, 96, 16)
    side = count * 64 + 32
    assert windows.side == side
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    (layer,) = windows.run(View(pixels, SQUEEZED, (side, side)), lambda parts: (pooled(parts),))
    np.testing.assert_allclose(layer, pooled(pixels[None])[0])


def test_windows_that_show_nothing_of_the_image_are_not_run():
    windows, seen = Windows(4, 96, 16), []
    side = windows.side
    to_image = np.array([[1.0, 0, 0], [0, 4.0, -1.5]])  # a wide image, in the middle quarter of the rows

    def network(parts):
        seen.append(len(parts))
        return (pooled(parts),)

    view = View(np.full((side, side, 3), 200, np.uint8), to_image, (4 * side, side))
    (layer,) = windows.run(view, network)
    assert sum(seen) == 8 and layer[0, 0].max() == 0 and layer[side // 16, side // 16].min() == 200


def test_only_images_large_enough_are_tried_at_a_larger_size():
    backbone = starting_backbone()
    assert largest_side(backbone, [(100, 80)]) == largest_side(backbone, [(300, 200)]) == 256
    assert largest_side(backbone, [(1024, 1024)] * 3) == 928
    assert largest_side(backbone, [(6000, 4000)]) == 1824


def test_a_model_of_several_windows_is_kept_and_finds_where_the_defect_is(tmp_path):
    made = starting_backbone()
    small = replace(made, spec=replace(made.spec, image_size=64))
    windows = small.windows(2)
    files = [Found(path.name, path) for path in sorted(chips(tmp_path, 12).iterdir())]
    features = extract_features(files, small, alignment=Alignment(windows=windows))
    assert features.inside.shape[1:] == (12, 12)
    save_taught(tmp_path / "model", small, fit(features), "board")
    assert load_anomaly_model(tmp_path / "model").alignment.windows == windows
    judge = Judge(Models(load_model(str(tmp_path / "model"))))
    good, bad = (judge.inspect(decode_image(chip(200, defect))) for defect in ("", "missing lead"))
    assert bad.log_odds > good.log_odds and bad.verdict == "abnormal"
    difference = np.abs(np.asarray(chip(200, "missing lead"), int) - np.asarray(chip(200), int)).max(2) > 40
    rows, columns = np.nonzero(difference)
    region = bad.regions[0]
    assert region.x <= columns.mean() <= region.x + region.width
    assert region.y - 5 <= rows.mean() <= region.y + region.height + 5
