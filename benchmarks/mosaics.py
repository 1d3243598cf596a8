"""A module photographed as a whole, inspected cell by cell: is the one defective cell found?

    python benchmarks/mosaics.py --model FOLDER

makes 200 mosaics of 5 x 5 ELPV cells, half of them with exactly one defective cell, and inspects each in
tiles, as the app does; once with the cells side by side and once with a dark gap between them. A mosaic has
cells of one type (mono- or polycrystalline) from the model's test split, and only those of which the experts
were sure (probability 0 or 1): with the others, "exactly one" would not be known. No cell is twice in a
mosaic; there are fewer cells than the mosaics need, so most are in several of them.
"""

import argparse
import datetime
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from chipdemo.images import decode_image, read_image
from chipdemo.inspection import ABNORMAL, Box, Inspection
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import AUTO, DEFAULT_MODEL
from chipdemo.splits import TEST
from chipdemo.vision.checkpoint import SPLIT, find_checkpoint, read_metrics, write_json
from chipdemo.vision.predictor import NetworkModel, load_model
from training.data import Sample
from training.measure import auroc
from training.sources import read_elpv
from training.splits import read_split
from training.uncertainty import RESAMPLES, interval, resampled

REPORT = Path(__file__).with_suffix(".json")
ACROSS, SIDE = 5, 300  # cells along a side; pixels of a cell
GAPS = (0, 6)  # pixels between cells
DARK = 8  # gray level between cells, 0-255


@dataclass(frozen=True)
class Cell:
    """A cell of the test split. alone: the abnormal probability that metrics.json has of it, 0-1."""

    sample: Sample
    alone: float


@dataclass(frozen=True)
class Mosaic:
    """cells: row by row. defective: the index of the defective one, or None. gap: pixels between cells."""

    cells: Sequence[Cell]
    defective: int | None
    gap: int

    @property
    def image(self) -> Image.Image:
        """Gray, upright."""
        side = ACROSS * SIDE + (ACROSS - 1) * self.gap
        image = Image.new("L", (side, side), DARK)
        for index, cell in enumerate(self.cells):
            image.paste(read_image(cell.sample.path).image.convert("L"), self.box(index)[:2])
        return image

    def box(self, index: int) -> Box:
        top, left = (number * (SIDE + self.gap) for number in divmod(index, ACROSS))
        return left, top, left + SIDE, top + SIDE


def cells_of_test_split(model: str) -> list[Cell]:
    """The cells of which the experts were sure."""
    folder = find_checkpoint(model)
    alone = dict(zip(read_split(folder / SPLIT)[TEST], read_metrics(folder)["test"]["probabilities"]))
    samples = {read_image(sample.path).sha256: sample for sample in read_elpv().samples}
    return [
        Cell(samples[sha256], probability)
        for sha256, probability in alone.items()
        if samples[sha256].probability in (0, 1)
    ]


def mosaics(cells: Sequence[Cell], count: int, gap: int) -> list[Mosaic]:
    """The same in every call. Every second one has a defective cell, two in turn are of one cell type."""
    made = []
    for number in range(count):
        generator = np.random.default_rng(number)
        of_type = [cell for cell in cells if cell.sample.stratum.endswith(("mono", "poly")[number // 2 % 2])]
        normal = [cell for cell in of_type if cell.sample.label != ABNORMAL]
        defects = [cell for cell in of_type if cell.sample.label == ABNORMAL]
        chosen = [normal[row] for row in generator.choice(len(normal), ACROSS**2, replace=False)]
        defective = int(generator.integers(ACROSS**2)) if number % 2 else None
        if defective is not None:
            chosen[defective] = defects[generator.integers(len(defects))]
        made.append(Mosaic(chosen, defective, gap))
    return made


def is_inside(box: Box, x: float, y: float) -> bool:
    left, top, right, bottom = box
    return left <= x < right and top <= y < bottom


def figures(made: Sequence[Mosaic], inspections: Sequence[Inspection]) -> dict:
    """Counts are over the mosaics, or over those with a defective cell."""
    abnormal = np.array([mosaic.defective is not None for mosaic in made])
    probability = np.array([inspection.abnormal_probability for inspection in inspections])
    flagged = np.array([inspection.verdict == ABNORMAL for inspection in inspections])
    alone = np.array([max(cell.alone for cell in mosaic.cells) for mosaic in made])
    low, high = interval(
        resampled(lambda rows: auroc(probability[rows], abnormal[rows]), abnormal, RESAMPLES)
    )
    in_tile = in_region = 0
    for mosaic, inspection in zip(made, inspections):
        if mosaic.defective is None:
            continue
        box = mosaic.box(mosaic.defective)
        if inspection.tiles and (tile := inspection.tiles.most_abnormal):
            in_tile += is_inside(box, (tile[0] + tile[2]) / 2, (tile[1] + tile[3]) / 2)
        if inspection.regions:
            first = inspection.regions[0]
            in_region += is_inside(box, first.x + first.width / 2, first.y + first.height / 2)
    tiles = [inspection.tiles for inspection in inspections if inspection.tiles]
    return {
        "mosaics": len(made),
        "with_a_defective_cell": int(abnormal.sum()),
        "auroc": auroc(probability, abnormal),
        "auroc_interval_95": [float(low), float(high)],
        "auroc_of_the_highest_of_cells_inspected_alone": auroc(alone, abnormal),
        "detected": int(flagged[abnormal].sum()),
        "normal_flagged": int(flagged[~abnormal].sum()),
        "most_abnormal_tile_in_the_defective_cell": in_tile,
        "hottest_region_in_the_defective_cell": in_region,
        "tiles_of_a_mosaic": float(np.median([one.count for one in tiles])) if tiles else 0,
        "tiles_out_of_distribution": sum(one.out_of_distribution for one in tiles)
        / max(sum(one.seen for one in tiles), 1),
        "decided_by_tiles": sum(one.decide for one in tiles),
    }


def inspected(model: NetworkModel, made: Sequence[Mosaic]) -> dict:
    """Every mosaic inspected as the app does it, and the time that one takes."""
    judge, started = Judge(Models(model)), time.perf_counter()
    progress = tqdm(made, desc=f"gap {made[0].gap}", disable=None)
    inspections = [judge.inspect(decode_image(mosaic.image.convert("RGB"))) for mosaic in progress]
    seconds = (time.perf_counter() - started) / len(made)
    return {"gap": made[0].gap, **figures(made, inspections), "seconds_a_mosaic": round(seconds, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=str(DEFAULT_MODEL), help="checkpoint folder or Hub id")
    parser.add_argument("--count", type=int, default=200, help="mosaics of each kind (default: 200)")
    parser.add_argument("--report", type=Path, default=REPORT)
    options = parser.parse_args()
    cells = cells_of_test_split(options.model)
    model = load_model(options.model, runtime=AUTO)
    abnormal = np.array([cell.sample.label == ABNORMAL for cell in cells])
    report = {
        "command": "python benchmarks/mosaics.py --model FOLDER",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "model": f"{model.info.name} {model.info.revision}",
        "runtime": model.info.runtime,
        "image_side": model.info.image_side,
        "cells": {
            "normal": int((~abnormal).sum()),
            "defective": int(abnormal.sum()),
            "auroc_of_one_cell": auroc(np.array([cell.alone for cell in cells]), abnormal),
        },
        "layouts": [],
    }
    for gap in GAPS:
        report["layouts"].append(inspected(model, mosaics(cells, options.count, gap)))
        print(json.dumps(report["layouts"][-1], indent=1), flush=True)
    write_json(options.report, report)


if __name__ == "__main__":
    main()
