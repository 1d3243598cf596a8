"""Small defects in large images: boards of 40 transistors, one of them defective.

    python benchmarks/boards.py --data FOLDER/transistor

FOLDER is mvtec_anomaly_detection (CC BY-NC-SA 4.0). A board is 4096 x 3072 px and shows 8 x 5 transistors,
each turned by up to 2 degrees and shifted by a few pixels. A model is taught by good boards of train/good; it
judges boards of test/good, half of which have one defective transistor of test/*. Then one image of 24
megapixels is timed, from the decoded image to the verdict with its regions.
"""

import chipdemo  # noqa: F401, I001 - before numpy: it sets the threads of OpenBLAS

import argparse
import datetime
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.teaching import GOOD, files
from chipdemo.files import DEFAULT_LIMITS
from chipdemo.images import DecodedImage, read_image
from chipdemo.inspection import ABNORMAL
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import AUTO
from chipdemo.teaching import silent
from chipdemo.vision.anomaly.teacher import NetworkTeacher
from chipdemo.vision.checkpoint import write_json
from chipdemo.vision.predictor import load_model
from training.measure import auroc

REPORT = Path(__file__).with_suffix(".json")
COLUMNS, ROWS, CELL, GAP = 8, 5, 480, 32  # of a board; pixels
SIZE = (4096, 3072)
TAUGHT, JUDGED = 24, 60  # boards
LARGE = (5657, 4243)  # 24 megapixels
TURN, SHIFT = 2, 6  # degrees, pixels
TIMED = 5  # images of LARGE


def cell_box(index: int) -> tuple[int, int, int, int]:
    """left, top, right, bottom of a transistor on a board, pixels."""
    row, column = divmod(index, COLUMNS)
    left, top = (SIZE[0] - COLUMNS * (CELL + GAP)) // 2, (SIZE[1] - ROWS * (CELL + GAP)) // 2
    x, y = left + column * (CELL + GAP) + GAP // 2, top + row * (CELL + GAP) + GAP // 2
    return x, y, x + CELL, y + CELL


def board(parts: Sequence[Path], generator: np.random.Generator) -> Image.Image:
    """A board of 40 images."""
    image = Image.new("RGB", SIZE, (70, 74, 70))
    for index, path in enumerate(parts):
        left, top, *_ = cell_box(index)
        x, y = (int(value) for value in generator.integers(-SHIFT, SHIFT + 1, 2))
        part = read_image(path).image.rotate(generator.uniform(-TURN, TURN), Image.Resampling.BICUBIC)
        edge = (min(part.size) - round(min(part.size) * 0.94)) // 2  # no black corners
        part = part.crop((edge, edge, part.width - edge, part.height - edge)).resize((CELL, CELL))
        image.paste(part, (left + x, top + y))
    return image


def boards(
    good: Sequence[Path], defective: Sequence[Path], count: int, folder: Path, seed: int
) -> list[tuple[Path, int]]:
    """Boards and the index of the defective transistor of each; -1 for a good board. Every second is one."""
    generator, found = np.random.default_rng(seed), []
    for number in range(count):
        parts = [good[row] for row in generator.permutation(len(good))[: COLUMNS * ROWS]]
        where = -1
        if len(defective) and number % 2:
            where = int(generator.integers(len(parts)))
            parts[where] = defective[number // 2 % len(defective)]
        path = folder / f"{seed}-{number}.jpg"
        board(parts, generator).save(path, quality=92)
        found.append((path, where))
    return found


def judged(judge: Judge, made: Sequence[tuple[Path, int]]) -> dict:
    scores, flagged, hottest, only, times = [], [], [], [], []
    for path, where in made:
        image = read_image(path)
        started = time.perf_counter()
        found = judge.inspect(image, tiles=False)
        times.append(time.perf_counter() - started)
        scores.append(found.log_odds)
        flagged.append(found.verdict == ABNORMAL)
        if where >= 0:
            at = [overlaps(region, cell_box(where)) for region in found.regions]
            hottest.append(bool(at) and at[0])
            only.append(bool(at) and all(at))
    bad = np.array([where >= 0 for _, where in made])
    flagged = np.array(flagged)
    return {
        "good": int((~bad).sum()),
        "defective": int(bad.sum()),
        "auroc": round(auroc(np.array(scores), bad), 4),
        "false_positive_rate": round(float(flagged[~bad].mean()), 4),
        "detected": round(float(flagged[bad].mean()), 4),
        "hottest_region_in_the_defective_one": round(float(np.mean(hottest)), 4),
        "no_region_elsewhere": round(float(np.mean(only)), 4),
        "seconds_an_image": round(float(np.median(times)), 2),
    }


def overlaps(region, box: tuple[int, int, int, int]) -> bool:
    """Whether the middle of a region is in a box."""
    x, y = region.x + region.width / 2, region.y + region.height / 2
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def large_image(judge: Judge, image: DecodedImage) -> float:
    """Seconds for one of 24 megapixels."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.jpg"
        image.image.resize(LARGE).save(path, quality=92)
        image = read_image(path)
    times = []
    for _ in range(TIMED):
        started = time.perf_counter()
        judge.inspect(image, tiles=False)
        times.append(time.perf_counter() - started)
    return round(float(np.median(times)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    test = sorted((options.data / "test").glob("*/*"))
    good, defective = (
        [path for path in test if (path.parent.name == GOOD) == wanted] for wanted in (True, False)
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        learned = boards(sorted((options.data / "train" / GOOD).iterdir()), [], TAUGHT, folder, seed=0)
        made = boards(good, defective, JUDGED, folder, seed=1)
        teacher, started = NetworkTeacher(), time.perf_counter()
        draft = teacher.draft(files([path for path, _ in learned]), [], DEFAULT_LIMITS, silent)
        teacher.save(folder / "taught", draft, [], "board")
        seconds = time.perf_counter() - started
        print(draft.alignment, f"{seconds:.0f} s", flush=True)
        judge = Judge(Models(load_model(str(folder / "taught"), runtime=AUTO)))
        row = judged(judge, made) | {"seconds_for_24_megapixels": large_image(judge, read_image(made[0][0]))}
    row |= {
        "found_out": draft.alignment,
        "taught": len(learned),
        "outliers_shown": len(draft.outliers),
        "seconds_to_teach": round(seconds),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }
    print(row, flush=True)
    write_json(
        REPORT,
        {
            "command": " ".join(["python benchmarks/boards.py", *sys.argv[1:]]),
            "date": datetime.date.today().isoformat(),
            "threads": torch.get_num_threads(),
            **row,
        },
    )


if __name__ == "__main__":
    main()
