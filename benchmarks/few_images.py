"""How many good images inverse feature matching needs: 10 to 213 transistors of MVTec AD.

    python benchmarks/few_images.py --data FOLDER

FOLDER as for benchmarks/teaching.py. The network sees every image once. Each draw takes so many of
the 213 good images at random, fits a memory bank to them and judges the 100 test images; of all
213, only the patches that are kept differ from draw to draw.
"""

import argparse
import datetime
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.teaching import files
from chipdemo.vision.anomaly.features import ImageFeatures, extract_features, starting_backbone
from chipdemo.vision.anomaly.fitting import fit, scores_of
from chipdemo.vision.checkpoint import write_json
from training.measure import auroc

ROOT = Path(__file__).resolve().parent.parent
COUNTS = (10, 25, 50, 100, 213)
DRAWS = 5


def image_auroc(
    good: ImageFeatures, test: ImageFeatures, abnormal: np.ndarray, count: int, draw: int
) -> float:
    """Of the test images, by a memory bank of so many good ones. draw: seed of which."""
    rows = np.random.default_rng(draw).permutation(len(good.names))[:count]
    return auroc(scores_of(fit(good.of(rows.tolist())).bank, test), abnormal)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS, help="of good images")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of each count")
    options = parser.parse_args()
    backbone = starting_backbone()
    paths = sorted((options.data / "test").glob("*/*"))
    abnormal = np.array([path.parent.name != "good" for path in paths])
    test = extract_features(files(paths), backbone)
    good = extract_features(files(sorted((options.data / "train" / "good").iterdir())), backbone)
    rows = []
    for count in options.counts:
        draws = tqdm(range(options.draws), desc=f"{count} images", disable=None)
        values = [image_auroc(good, test, abnormal, count, draw) for draw in draws]
        mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
        rows.append({"good": count, "mean": mean, "sd": sd, "image_auroc": values})
        print(f"{count:4} good images: image AUROC {mean:.4f} ± {sd:.4f}", flush=True)
    report = {
        "command": "python benchmarks/few_images.py --data FOLDER",
        "date": datetime.date.today().isoformat(),
        "data": "MVTec AD, transistor (CC BY-NC-SA 4.0)",
        "starting_weights": backbone.starting_weights,
        "threads": torch.get_num_threads(),
        "rows": rows,
    }
    write_json(ROOT / "benchmarks" / "few_images.json", report)


if __name__ == "__main__":
    main()
