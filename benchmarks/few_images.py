"""How many good images inverse feature matching needs: 10 to 100 transistors of MVTec AD.

    python benchmarks/few_images.py --data FOLDER

FOLDER as for benchmarks/teaching.py. Each draw takes so many of the 213 good images at random, teaches them
as the app does, outliers kept, and judges the 100 test images.
"""

import chipdemo  # noqa: F401, I001 - before numpy: it sets the threads of OpenBLAS

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.teaching import files
from chipdemo.files import DEFAULT_LIMITS
from chipdemo.teaching import silent
from chipdemo.vision.anomaly.features import extract_features
from chipdemo.vision.anomaly.fitting import scores_of
from chipdemo.vision.anomaly.teacher import NetworkTeacher
from chipdemo.vision.checkpoint import write_json
from training.measure import auroc

REPORT = Path(__file__).with_suffix(".json")
COUNTS = (10, 25, 50, 100)
DRAWS = 5


def image_auroc(
    teacher: NetworkTeacher, good: Sequence[Path], test: Sequence[Path], count: int, draw: int
) -> float:
    """Of the test images, taught with so many good ones. draw: seed of which."""
    some = [good[row] for row in np.random.default_rng(draw).permutation(len(good))[:count]]
    fitted = teacher.draft(files(some), [], DEFAULT_LIMITS, silent, True).fitted
    features = extract_features(files(test), teacher.backbone, alignment=fitted.features.alignment)
    abnormal = np.array([path.parent.name != "good" for path in test])
    return auroc(scores_of(fitted.bank, features), abnormal)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS, help="of good images")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of each count")
    options = parser.parse_args()
    test = sorted((options.data / "test").glob("*/*"))
    good, teacher = sorted((options.data / "train" / "good").iterdir()), NetworkTeacher()
    rows = []
    for count in options.counts:
        draws = tqdm(range(options.draws), desc=f"{count} images", disable=None)
        values = [image_auroc(teacher, good, test, count, draw) for draw in draws]
        mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
        rows.append({"good": count, "mean": mean, "sd": sd, "image_auroc": values})
        print(f"{count:4} good images: image AUROC {mean:.4f} ± {sd:.4f}", flush=True)
    report = {
        "command": "python benchmarks/few_images.py --data FOLDER",
        "date": datetime.date.today().isoformat(),
        "data": "MVTec AD, transistor (CC BY-NC-SA 4.0)",
        "starting_weights": teacher.backbone.starting_weights,
        "threads": torch.get_num_threads(),
        "rows": rows,
    }
    write_json(REPORT, report)


if __name__ == "__main__":
    main()
