"""The benchmark of modules: mosaics of drawn cells, inspected with a fake model that finds dark ones."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks.mosaics import Cell, figures, mosaics
from chipdemo.images import decode_image
from tests.fakes import INFO, FakeModel, fake_judge
from tests.test_grids import draw_cell
from training.data import Sample


class KnowsCells(FakeModel):
    info = replace(INFO, image_side=300, threshold=0.6)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr("benchmarks.mosaics.RESAMPLES", 20)


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> list[Cell]:
    """30 normal and 2 defective, very dark cells of each type."""
    folder, cells = tmp_path_factory.mktemp("cells"), []
    for kind in ("mono", "poly"):
        for number in range(32):
            label = "normal" if number < 30 else "abnormal"
            pixels = draw_cell(number, 300) if label == "normal" else draw_cell(number, 300) / 3
            path = folder / f"{kind}{number}.png"
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
            alone = 0.9 if label == "abnormal" else 0.2
            cells.append(Cell(Sample(path, label, float(label == "abnormal"), f"{label}, {kind}"), alone))
    return cells


def test_half_of_the_mosaics_have_exactly_one_defective_cell_of_their_type(cells):
    made = mosaics(cells, 8, gap=6)
    assert [mosaic.defective is not None for mosaic in made] == [False, True] * 4
    for number, mosaic in enumerate(made):
        labels = [cell.sample.label for cell in mosaic.cells]
        assert len(labels) == 25 and labels.count("abnormal") == number % 2
        assert mosaic.defective is None or labels[mosaic.defective] == "abnormal"
        assert {cell.sample.stratum[-4:] for cell in mosaic.cells} == {("mono", "poly")[number // 2 % 2]}
        assert len({cell.sample.path for cell in mosaic.cells}) == 25
        assert mosaic.image.size == (1524, 1524)
    again = mosaics(cells, 8, gap=0)
    assert [mosaic.cells for mosaic in again] == [mosaic.cells for mosaic in made]
    assert again[0].image.size == (1500, 1500)
    left, top, right, bottom = made[1].box(7)
    assert (left, top, right, bottom) == (612, 306, 912, 606)


@pytest.mark.parametrize("gap", [0, 6])
def test_the_defective_cell_is_found(cells, gap):
    made = mosaics(cells, 4, gap)
    judge = fake_judge(KnowsCells())
    found = figures(made, [judge.inspect(decode_image(mosaic.image.convert("RGB"))) for mosaic in made])
    assert (found["mosaics"], found["with_a_defective_cell"], found["tiles_of_a_mosaic"]) == (4, 2, 25)
    assert found["auroc"] == found["auroc_of_the_highest_of_cells_inspected_alone"] == 1.0
    assert found["most_abnormal_tile_in_the_defective_cell"] == 2
    assert found["hottest_region_in_the_defective_cell"] == 2
    assert (found["detected"], found["normal_flagged"], found["decided_by_tiles"]) == (2, 0, 4)
    assert found["tiles_out_of_distribution"] == 0


def test_without_the_size_of_cells_nothing_is_found_cell_by_cell(cells):
    """A tile is 672 px then."""
    made = mosaics(cells, 2, gap=6)
    judge = fake_judge(FakeModel())
    found = figures(made, [judge.inspect(decode_image(mosaic.image.convert("RGB"))) for mosaic in made])
    assert found["tiles_of_a_mosaic"] == 9
