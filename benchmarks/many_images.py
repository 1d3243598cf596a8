"""Teaching from 1, 10 and 100 times as many good images: time and memory, and how many a machine can take.

    python benchmarks/many_images.py --data FOLDER

FOLDER as for benchmarks/teaching.py. Its 213 good images, shifted and brightened a little, are written
as JPEGs of 512 px until there are enough. Each number of them is taught as `python -m chipdemo teach` does,
in a process of its own, whose highest resident memory is reported. What is not in --times is drawn on as a
straight line through the least and the most that were measured, and says so.
"""

import argparse
import datetime
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil
import torch
from PIL import Image, ImageChops, ImageEnhance

from benchmarks.teaching import files
from chipdemo.vision.anomaly.features import extract_features, starting_backbone
from chipdemo.vision.anomaly.fitting import fit
from chipdemo.vision.anomaly.saving import save_taught
from chipdemo.vision.checkpoint import MEMORY, write_json

ROOT = Path(__file__).resolve().parent.parent
REPORTED = (1, 10, 100)  # times as many images
SIDE = 512  # pixels, of the copies
SHIFT, LIGHT = 8, 0.05  # most that a copy is moved, pixels, and brightened, fraction
USABLE = 0.8  # of a machine's memory
STEPS = ("extracting_s", "fitting_s", "saving_s")


def write_copies(images: list[Path], times: int, folder: Path) -> None:
    """So many copies of each, no two alike."""
    generator = np.random.default_rng(0)
    for path in images:
        image = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        for copy in range(times):
            moved = ImageChops.offset(image, *map(int, generator.integers(-SHIFT, SHIFT + 1, 2)))
            lit = ImageEnhance.Brightness(moved).enhance(generator.uniform(1 - LIGHT, 1 + LIGHT))
            lit.save(folder / f"{copy:03}-{path.stem}.jpg", quality=90)


def taught(folder: Path, count: int) -> dict:
    """Teach with the first so many images of a folder. Runs in a process of its own."""
    backbone = starting_backbone()
    before = peak_mb()
    marks = [perf_counter()]
    features = extract_features(files(sorted(folder.iterdir())[:count]), backbone)
    marks.append(perf_counter())
    fitted = fit(features)
    marks.append(perf_counter())
    with tempfile.TemporaryDirectory() as out:
        save_taught(Path(out) / "taught", backbone, fitted, "transistor")
        memory_mb = (Path(out) / "taught" / MEMORY).stat().st_size / 1e6
    marks.append(perf_counter())
    return {
        "images": len(features.names),
        "measured": True,
        **{step: round(float(seconds), 1) for step, seconds in zip(STEPS, np.diff(marks))},
        "peak_mb": round(peak_mb()),
        "peak_mb_without_images": round(before),
        "memory_file_mb": round(memory_mb, 1),
    }


def peak_mb() -> float:
    """The highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000  # KiB on Linux


def in_a_process(folder: Path, count: int) -> dict:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(taught, folder, count).result()


def line_through(rows: list[dict], name: str) -> np.ndarray:
    """(slope, offset) of a figure over the images, through the first and the last measured row."""
    ends = rows[0], rows[-1]
    return np.polyfit([row["images"] for row in ends], [row[name] for row in ends], 1)


def extrapolated(rows: list[dict], images: int) -> dict:
    values = {
        name: round(float(np.polyval(line_through(rows, name), images)), 1) for name in (*STEPS, "peak_mb")
    }
    return {"images": images, "measured": False, **values}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--times", nargs="+", type=int, default=(1, 10), help="what is measured")
    options = parser.parse_args()
    good, times = sorted((options.data / "train" / "good").iterdir()), sorted(options.times)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_copies(good, times[-1], Path(folder))
        for number in times:
            rows.append(in_a_process(Path(folder), number * len(good)))
            print(rows[-1], flush=True)
    usable = USABLE * psutil.virtual_memory().total / 1e6
    slope, offset = line_through(rows, "peak_mb")
    report = {
        "command": f"python benchmarks/many_images.py --data FOLDER --times {' '.join(map(str, times))}",
        "date": datetime.date.today().isoformat(),
        "data": f"MVTec AD, transistor (CC BY-NC-SA 4.0), copies of {SIDE} px",
        "threads": torch.get_num_threads(),
        "rows": rows + [extrapolated(rows, n * len(good)) for n in REPORTED if n not in times],
        "usable_memory_mb": round(usable),
        "images_that_fit": round((usable - offset) / slope),
    }
    print(*report["rows"][len(rows) :], report["images_that_fit"], "images fit")
    write_json(ROOT / "benchmarks" / "many_images.json", report)


if __name__ == "__main__":
    main()
