"""Judge a checkpoint on labeled images.

    python training/evaluate.py --model runs/my_chips-tf_efficientnet_lite0-cbam --data my_chips

writes report.md, report.json and pictures into a folder. Images that the model was trained or
calibrated on are left out, unless --part all says otherwise.
"""

import argparse
import datetime
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from tqdm import tqdm

from chipdemo.errors import ChipDemoError, DataError
from chipdemo.images import read_image
from chipdemo.inspection import ABNORMAL
from chipdemo.settings import DEFAULT_MODEL
from chipdemo.vision.checkpoint import SPLIT, find_checkpoint, write_json
from chipdemo.vision.output import replacing
from chipdemo.vision.predictor import NetworkInspector
from chipdemo.vision.runtimes.pytorch import TorchEngine
from chipdemo.vision.transforms import pixels_of
from chipdemo.vision.weights import load_checkpoint
from training.data import Sample, load_images, read_split
from training.measure import (
    PICTURES,
    RELIABILITY,
    draw,
    draw_reliability,
    intervals,
    measure,
    operating_point,
)
from training.predict import predict
from training.report import markdown
from training.sources import DATA_HELP, read_data

REPORT, PAGE = "report.json", "report.md"
RECALL = 0.98  # of the operating point that is reported beside the model's own
RESAMPLES = 1000  # of the bootstrap
TIMED = 30  # images whose latency is measured


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default=str(DEFAULT_MODEL), help="checkpoint folder or Hub id (default: shipped)"
    )
    parser.add_argument("--data", default="elpv", help=f"{DATA_HELP} (default: elpv)")
    parser.add_argument(
        "--part",
        choices=("test", "all"),
        default="test",
        help="test leaves out what the model was trained or calibrated on, all does not (default: test)",
    )
    parser.add_argument("--split", default="", help="split.json; judge the images of its test part alone")
    parser.add_argument("--out", default="", help="folder to write (default: runs/evaluation-MODEL-DATA)")
    return parser.parse_args(arguments)


def evaluate(model: str, data: str, part: str = "test", split: str = "", out: str = "") -> Path:
    """Judge and report; returns the report's folder. The arguments are the command line's."""
    net, spec, info = load_checkpoint(model)
    own = read_split(find_checkpoint(model) / SPLIT)
    source = read_data(data)
    images = load_images(
        source, partial(pixels_of, size=spec.image_size, interpolation=spec.interpolation), progress
    )
    for line in images.left_out:
        print("left out", line)

    # Which of them
    asked = set(images.sha256) & set(read_split(Path(split))["test"] if split else images.sha256)
    learned = {name: len(asked & set(own[name])) for name in ("train", "val")}
    if any(learned.values()):
        print(
            f"warning: {info.name} was trained on {learned['train']:,} and calibrated on {learned['val']:,} "
            f"of these {len(asked):,} images;",
            "they are left out" if part == "test" else "figures that count them flatter it",
        )
    if part == "test":
        asked -= {*own["train"], *own["val"]}
    rows = [row for row, sha256 in enumerate(images.sha256) if sha256 in asked]
    samples, abnormal = [images.samples[row] for row in rows], images.abnormal[rows]
    if len(set(abnormal)) < 2:
        raise DataError(
            f"Expected both classes among the images of {source.name} to judge; found "
            f"{(~abnormal).sum()} normal and {abnormal.sum()} abnormal. Choose other data, or --part all "
            "for what the model has learned from too."
        )
    judged = f"{source.name}, {part}, {len(rows):,} images"

    # Judge
    engine = TorchEngine(net, spec)
    answers = predict(engine.net, images.pixels[rows], spec)
    probability = expit(answers.log_odds / spec.temperature)
    stopped = probability >= spec.threshold
    report = {
        "model": {"name": info.name, "revision": info.revision, "threshold": spec.threshold},
        "data": {"name": source.name, "license": source.license, "split": judged},
        "date": datetime.date.today().isoformat(),
        "metrics": measure(probability, abnormal, spec.threshold),
        "interval_95": intervals(probability, abnormal, spec.threshold, RESAMPLES),
        "false_alarms": {"normal": int((~abnormal).sum()), "stopped": int((stopped & ~abnormal).sum())},
        "defect_types": by_type(samples, stopped),
        "recall_98": asdict(operating_point(probability, abnormal, RECALL)),
        "out_of_distribution": int((answers.distance > spec.distance_limit).sum()),
        "learned": learned | {"left_out": part == "test"},
        "latency_ms": latency(NetworkInspector(engine, spec, info), samples),
        "unreadable": images.unreadable,
        "left_out": images.left_out,
    }

    # Write
    slug = f"evaluation-{Path(info.name).name}-{Path(source.name).name}"
    folder = Path(out or Path("runs") / slug)
    with replacing(folder, (REPORT, PAGE, RELIABILITY, *PICTURES)) as new:
        draw(probability, abnormal, spec.threshold, judged, new)
        draw_reliability(probability, abnormal, judged, new)
        write_json(new / REPORT, report)
        (new / PAGE).write_text(markdown(report), encoding="utf-8")
    return folder


def progress(iterable, **more):
    return tqdm(iterable, disable=None, leave=False, **more)  # none where the output is a file


def by_type(samples: Sequence[Sample], stopped: np.ndarray) -> dict[str, dict[str, int]]:
    """How many images of each defect type there are, and how many of them were caught."""
    counts = defaultdict(lambda: {"count": 0, "caught": 0})
    for sample, caught in zip(samples, stopped.tolist()):
        if sample.label == ABNORMAL:
            of_type = counts[sample.defect_type or "no type given"]
            of_type["count"] += 1
            of_type["caught"] += caught
    return dict(sorted(counts.items()))


def latency(inspector: NetworkInspector, samples: Sequence[Sample]) -> dict[str, float | str]:
    """Milliseconds from a decoded image to its inspection, one at a time, as the app does it."""
    chosen = [samples[row] for row in np.linspace(0, len(samples) - 1, min(len(samples), TIMED), dtype=int)]
    images = [read_image(sample.source).image for sample in chosen]
    inspector.inspect(images[0])  # the first call is slower than all others
    took = [sum(inspector.inspect(image).timing_ms.values()) for image in images]
    device = torch.cuda.get_device_name() if inspector.engine.device.type == "cuda" else "CPU"
    return {
        "median": float(np.median(took)),
        "95_percent_within": float(np.percentile(took, 95)),
        "images": len(took),
        "device": f"{device}, {torch.get_num_threads()} threads",
    }


if __name__ == "__main__":
    try:
        folder = evaluate(**vars(parse()))
        print((folder / PAGE).read_text(encoding="utf-8"), f"wrote {folder}", sep="\n")
    except ChipDemoError as error:
        sys.exit(f"error: {error}")
