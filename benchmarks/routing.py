"""Whether each image goes to the model that knows it, and what that costs.

    python benchmarks/routing.py --data FOLDER/transistor --others FOLDER/screw

The shipped models share an app. Test images of the solar cells of ELPV (from its package) and of the
transistors of MVTec AD have to go to their own model; all images of --others are to be out of distribution
for both.
"""

import chipdemo  # noqa: F401, I001 - before numpy: it sets the threads of OpenBLAS

import argparse
import datetime
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chipdemo.images import read_image
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import AUTO, DEFAULT_MODEL, SHIPPED, TRANSISTOR_MODEL
from chipdemo.vision.checkpoint import SPLIT, read_json, write_json
from chipdemo.vision.predictor import load_model
from training.sources import read_elpv

REPORT = Path(__file__).with_suffix(".json")


def routed(judge: Judge, paths: Sequence[Path]) -> dict:
    """To which models the images go, how far they are from it and from the other, and the median time."""
    found, times = [], []
    for path in paths:
        image, started = read_image(path), time.perf_counter()
        found.append(judge.inspect(image, tiles=False))
        times.append(1000 * (time.perf_counter() - started))
    return {
        "images": len(found),
        "judged_by": Counter(one.model_name for one in found),
        "out_of_distribution": sum(one.out_of_distribution for one in found),
        "farthest": round(max(one.distance for one in found), 2),
        "nearest_to_the_other_model": round(min(one.other_models[0].distance for one in found), 2),
        "one_image_ms": round(float(np.median(times)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--others", type=Path, required=True)
    options = parser.parse_args()
    judge = Judge(Models(*(load_model(str(folder), runtime=AUTO) for folder in SHIPPED)))
    test = set(read_json(DEFAULT_MODEL / SPLIT)["test"])
    cells = [sample.path for sample in read_elpv().samples if read_image(sample.path).sha256 in test]
    rows = {
        DEFAULT_MODEL.name: routed(judge, cells),
        TRANSISTOR_MODEL.name: routed(judge, sorted((options.data / "test").glob("*/*"))),
        "neither": routed(judge, sorted(options.others.glob("*/*/*.*"))),
    }
    for name, row in rows.items():
        print(name, row)
    command = " ".join(["python benchmarks/routing.py", *sys.argv[1:]])
    write_json(REPORT, {"command": command, "date": datetime.date.today().isoformat(), "rows": rows})


if __name__ == "__main__":
    main()
