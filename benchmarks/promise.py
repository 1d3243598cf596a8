"""Whether the promise of teaching holds: how many new good images are flagged.

    python benchmarks/promise.py --data FOLDER/transistor FOLDER/screw

FOLDER is mvtec_anomaly_detection (CC BY-NC-SA 4.0), of which only train/good is read. In each draw, some of
the good images teach, each in a group of up to four near-duplicates (other light, shifted by a pixel, JPEG of
quality 75), at a wanted false positive rate of 1 %. The remaining good images are judged. The promise is what
teaching says of new good images: at most so many are flagged, with 90 % confidence. It holds if no larger
share is flagged.
"""

import chipdemo  # noqa: F401, I001 - before numpy: it sets the threads of OpenBLAS

import argparse
import datetime
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops, ImageEnhance
from threadpoolctl import threadpool_limits

from benchmarks.teaching import changed, files
from chipdemo.files import DEFAULT_LIMITS
from chipdemo.rates import Rate
from chipdemo.teaching import silent
from chipdemo.threshold import CONFIDENCE, promised
from chipdemo.vision.anomaly.choice import IMAGES as SAMPLE
from chipdemo.vision.anomaly.choice import choose_alignment
from chipdemo.vision.anomaly.features import ImageFeatures, extract_features, some_views, starting_backbone
from chipdemo.vision.anomaly.fitting import fit, limits_of, scores_of
from chipdemo.vision.checkpoint import write_json

REPORT = Path(__file__).with_suffix(".json")
WANTED = 0.01  # false positive rate
LEARNED = (20, 40, 80)  # images that teach and differ


def jpeg(image: Image.Image) -> Image.Image:
    image.save(stream := BytesIO(), "JPEG", quality=75)
    return Image.open(stream).convert("RGB")


def lit(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.05)


def shifted(image: Image.Image) -> Image.Image:
    return ImageChops.offset(image, 1, 1)


COPIES = (lit, shifted, jpeg)


def with_copies(paths: Sequence[Path], folder: Path) -> dict[Path, int]:
    """Each and none to three near-duplicates of it -> the number of the original."""
    found = {}
    for number, path in enumerate(paths):
        found[path] = number
        for copy in COPIES[: number % (len(COPIES) + 1)]:
            found[changed(path, folder, f"{number}-{copy.__name__}", copy)] = number
    return found


def features_of(paths: Sequence[Path]) -> tuple[ImageFeatures, np.ndarray]:
    """Features of all, and (N,) the number of the original of each."""
    backbone = starting_backbone()
    views = some_views(files(paths), backbone, SAMPLE)
    alignment = choose_alignment(views, backbone).alignment
    with tempfile.TemporaryDirectory() as name:
        every = with_copies(paths, Path(name))
        features = extract_features(files(list(every)), backbone, silent, DEFAULT_LIMITS, alignment)
    numbers = {path.name: number for path, number in every.items()}
    return features, np.array([numbers[name] for name in features.names])


def draw(features: ImageFeatures, original: np.ndarray, learned: int, seed: int) -> tuple[float, float]:
    """The promised false positive rate of one draw, and the rate among the images that are left."""
    torch.set_num_threads(1)
    with threadpool_limits(1):  # threads of several processes wait for each other
        return _drawn(features, original, learned, seed)


def _drawn(features: ImageFeatures, original: np.ndarray, learned: int, seed: int) -> tuple[float, float]:
    order = np.random.default_rng(seed).permutation(original.max() + 1)
    rows = np.flatnonzero(np.isin(original, order[:learned]))
    fitted = fit(features.of(rows.tolist()))
    limit = limits_of(fitted.independent, fitted.highest, WANTED).score
    flagged = int((fitted.independent > limit).sum())
    first = np.unique(original, return_index=True)[1]  # of the near-duplicates of each
    new = scores_of(fitted.bank, features.of(first[order[learned:]].tolist()))
    return promised(Rate(flagged, len(fitted.independent))), float((new > limit).mean())


def measure(root: Path, learned: int, draws: int, jobs: int) -> dict:
    features, original = features_of(sorted((root / "train" / "good").iterdir()))
    with ProcessPoolExecutor(jobs, get_context("fork")) as pool:
        found = np.array(list(pool.map(partial(draw, features, original, learned), range(draws))))
    promises, rates = found.T
    return {
        "data": root.name,
        "images": len(features.names),
        "that_differ": int(original.max() + 1),
        "groups_found": len(set(features.groups)),
        "alignment": features.alignment.kind,
        "learned_that_differ": learned,
        "draws": draws,
        "wanted": WANTED,
        "confidence": CONFIDENCE,
        "promised_median": round(float(np.median(promises)), 4),
        "flagged_mean": round(float(rates.mean()), 4),
        "flagged_highest": round(float(rates.max()), 4),
        "holds": round(float((rates <= promises).mean()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument(
        "--learned", type=int, nargs="+", default=LEARNED, help="images that teach and differ"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=REPORT, help="the report")
    options = parser.parse_args()
    rows = []
    for root in options.data:
        for learned in options.learned:
            rows.append(measure(root, learned, options.draws, options.jobs))
            print(rows[-1], flush=True)
    write_json(
        options.out,
        {
            "command": " ".join(["python benchmarks/promise.py", *sys.argv[1:]]),
            "date": datetime.date.today().isoformat(),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
