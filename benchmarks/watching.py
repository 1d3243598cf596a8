"""A watched folder: images a second, the time to a verdict while images arrive, and what many files cost.

    python benchmarks/watching.py --data FOLDER          # 10 minutes on 2 cores; FOLDER: MVTec AD, transistor
    python benchmarks/watching.py --images 20 --seconds 2 --lines 10000     # a quick try

The images are JPEGs of 5 megapixels: ELPV, and with --data transistors of MVTec AD, enlarged, with the noise
of a camera. They are inspected as a whole (`--tiles off`), with all that `watch` writes. Each row runs in a
process of its own. Waiting: that many files lie in the folder when it starts; `inspect` takes the same ones
before and after. Arriving: so many a second are renamed into the folder; a verdict is there when its line is
written. Many files: a start with so many results, and a look at so many files.
"""

import argparse
import datetime
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from chipdemo.batch.run import RESULTS, Task, inspect_all
from chipdemo.batch.sources import find_images
from chipdemo.batch.watch import Watch, watching
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import DEFAULT_MODEL, LITE0_MODEL, SHIPPED, Settings
from chipdemo.vision.predictor import load_model
from training.sources import read_elpv

OUT = Path(__file__).with_suffix(".json")
SIZE = (2592, 1944)  # width, height: 5 megapixels
NOISE = 3  # gray levels, standard deviation
DISTINCT = 40  # images, linked under as many names as needed
POLL_S = 1.0
SMALL = b"a file that was judged"
MODELS = {
    "ELPV, ResNet-50 + CBAM": [DEFAULT_MODEL],
    "both shipped models": list(SHIPPED),
    "ELPV, EfficientNet-Lite0 + CBAM": [LITE0_MODEL],
}


def write_images(folder: Path, transistors: Path | None) -> None:
    """Every second one a transistor, if there are some."""
    generator, paths = np.random.default_rng(0), [sample.path for sample in read_elpv().samples[:DISTINCT]]
    if transistors:
        paths[1::2] = sorted(transistors.rglob("test/*/*.jpg"))[:: 100 // len(paths[1::2])][
            : len(paths[1::2])
        ]
    for number, path in enumerate(paths):
        image = Image.open(path).convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)
        noise = generator.normal(0, NOISE, (SIZE[1], SIZE[0], 1)).astype(np.int16)
        noisy = (np.asarray(image, np.int16) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:02}.jpg", quality=90)


def task_of(sources: list[Path]) -> Task:
    settings = Settings()  # as the command has them
    models = [
        load_model(
            str(source), runtime=settings.runtime, graphs=settings.graphs, precision=settings.precision
        )
        for source in sources
    ]
    return Task(Judge(Models(*models)), models, tiles=False)


def rss_mb() -> int:
    return round(psutil.Process().memory_info().rss / 1e6)


def waiting(sources: list[Path], images: Path, count: int) -> dict:
    """watch, between two runs of inspect_all in the same process, since a machine's speed drifts."""
    task, files = task_of(sources), sorted(images.iterdir())
    with tempfile.TemporaryDirectory(dir=images.parent) as place:
        folder = Path(place) / "in"
        folder.mkdir()
        for index in range(count):
            os.link(files[index % len(files)], folder / f"{index:05}.jpg")
        listed = find_images([str(folder)])
        inspect_all(task, listed, Path(place) / "warm")

        def inspect(out: str) -> float:
            started = time.perf_counter()
            inspect_all(task, listed, Path(place) / out)
            return count / (time.perf_counter() - started)

        def watch() -> float:
            with watching(task, folder, Path(place) / "watched", POLL_S) as watched:
                watched.run(once=True)
                return watched.pace.per_second

        before, rate, after = inspect("before"), watch(), inspect("after")
    inspected = (before + after) / 2
    return {
        "images": count,
        "per_second": round(rate, 1),
        "inspect_per_second": round(inspected, 1),
        "share_of_inspect": round(rate / inspected, 2),
    }


def arriving(sources: list[Path], images: Path, per_second: float, seconds: float) -> dict:
    """The time from a file's arrival to its line, while they come at that rate and until all are judged."""
    task, files, arrived = task_of(sources), sorted(images.iterdir()), {}

    def send(folder: Path, watch: Watch) -> None:
        started = time.time()
        for number in range(round(per_second * seconds)):
            time.sleep(max(0.0, started + number / per_second - time.time()))
            name = f"{number:05}.jpg"
            os.link(files[number % len(files)], folder / f"{name}.part")
            (folder / f"{name}.part").rename(folder / name)
            arrived[name] = time.time()
        last["mb"], last["judged"] = rss_mb(), watch.pace.outcomes.total()
        while watch.pace.outcomes.total() < len(arrived):
            time.sleep(0.1)
        watch.stop()

    last = {}
    with tempfile.TemporaryDirectory(dir=images.parent) as place:
        folder, out = Path(place) / "in", Path(place) / "out"
        folder.mkdir()
        with watching(task, folder, out, POLL_S) as watch:
            sender = threading.Thread(target=send, args=(folder, watch))
            sender.start()
            watch.run()
            sender.join()
        lines = [json.loads(line) for line in (out / RESULTS).read_text(encoding="utf-8").splitlines()]
    judged = {line["file"]: datetime.datetime.fromisoformat(line["judged_at"]).timestamp() for line in lines}
    took = [judged[name] - at for name, at in arrived.items()]
    p50, p95 = np.percentile(took, (50, 95)).round(2).tolist()
    left = len(arrived) - last["judged"]
    return {"per_second": per_second, "p50_s": p50, "p95_s": p95, "wait_at_the_end": left, "mb": last["mb"]}


def many(images: Path, count: int) -> dict:
    """A start with so many results, and a look at so many files."""
    task, (one, *_) = task_of(MODELS["ELPV, ResNet-50 + CBAM"]), sorted(images.iterdir())
    with tempfile.TemporaryDirectory(dir=images.parent) as place:
        folder, out = Path(place) / "in", Path(place) / "out"
        folder.mkdir()
        os.link(one, folder / "0.jpg")
        with watching(task, folder, out, 0.01) as watch:
            watch.run(once=True)
        (line,) = map(json.loads, (out / RESULTS).read_text(encoding="utf-8").splitlines())
        (folder / "0.jpg").unlink()
        with (out / RESULTS).open("w", encoding="utf-8") as lines:
            for number in range(count):
                name = f"lot{number // 1000:05}/{number:08}.jpg"
                lines.write(json.dumps(line | {"file": name, "size": len(SMALL)}) + "\n")
                if number % 1000 == 0:
                    (folder / name).parent.mkdir()
                if number % 50_000:
                    os.link(one, folder / name)
                else:  # a file has at most 65,000 links
                    one = folder / name
                    one.write_bytes(SMALL)
                    os.utime(one, ns=(0, line["mtime_ns"]))
        before, started = rss_mb(), time.perf_counter()
        with watching(task, folder, out, POLL_S):  # also writes a CSV, which the next start has
            first_s = time.perf_counter() - started
        started = time.perf_counter()
        with watching(task, folder, out, POLL_S) as watch:
            again_s, now = time.perf_counter() - started, rss_mb()
            started = time.perf_counter()
            while watch.arrivals.walked_at is None:
                watch.arrivals.look(0.0)
            walk_s = time.perf_counter() - started
            assert watch.arrivals.counts.judged == count
    rounded = {"start_s": again_s, "start_without_csv_s": first_s, "look_at_all_files_s": walk_s}
    return {"lines": count, **{name: round(s, 1) for name, s in rounded.items()}, "more_mb": now - before}


def in_a_process(function: Callable[..., dict], *arguments) -> dict:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        row = pool.submit(function, *arguments).result()
    print(function.__name__, row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="MVTec AD, transistor")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--per-second", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--lines", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        images = Path(place) / "images"
        images.mkdir()
        write_images(images, options.data)
        sizes = [path.stat().st_size for path in images.iterdir()]
        report = {
            "command": "python benchmarks/watching.py" + (" --data FOLDER" if options.data else ""),
            "date": datetime.date.today().isoformat(),
            "cores": os.cpu_count(),
            "load_of_the_machine_before": round(os.getloadavg()[0], 1),
            "image": {"width": SIZE[0], "height": SIZE[1], "mb": round(sum(sizes) / len(sizes) / 1e6, 2)},
        }
        for name, sources in MODELS.items():
            print(name)
            report[name] = {
                "waiting": in_a_process(waiting, sources, images, options.images),
                "arriving": in_a_process(arriving, sources, images, options.per_second, options.seconds),
            }
        report["many files"] = in_a_process(many, images, options.lines)
    OUT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
