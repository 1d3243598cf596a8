"""Evaluate a checkpoint on labeled images.

    python training/evaluate.py --model runs/my_chips-tf_efficientnet_lite0-cbam --data my_chips

writes report.md, report.json and charts into a folder. Images that the model was trained or
calibrated on, and their near-duplicates, are left out, unless --include-training is given.
"""

import argparse
import datetime
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import DEFAULT_MODEL
from chipdemo.vision.checkpoint import SPLIT, find_checkpoint, write_json
from chipdemo.vision.output import replacing
from chipdemo.vision.predictor import NetworkModel
from chipdemo.vision.runtimes.pytorch import TorchEngine
from chipdemo.vision.transforms import pixels_of
from chipdemo.vision.weights import load_checkpoint
from training.data import Images, Sample, load_images
from training.divided import AUTO, GROUPS, groups_of, near_duplicate_groups
from training.measure import (
    PICTURES,
    RELIABILITY,
    draw,
    draw_reliability,
    intervals,
    measure,
    operating_point,
)
from training.predict import device_name, predict
from training.report import markdown
from training.robustness import CHANGES, measure_robustness
from training.sources import DATA_HELP, read_data
from training.splits import NONE_SEEN, read_split

REPORT, PAGE = "report.json", "report.md"
RECALL = 0.98  # of the operating point that is reported besides the model's own
RESAMPLES = 1000  # of the bootstrap
TIMED = 30  # images whose latency is measured


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default=str(DEFAULT_MODEL), help="checkpoint folder or Hub id (default: the shipped model)"
    )
    parser.add_argument("--data", default="elpv", help=f"{DATA_HELP} (default: elpv)")
    parser.add_argument(
        "--include-training",
        action="store_true",
        help="also use images that the model was trained or calibrated on",
    )
    parser.add_argument(
        "--groups",
        default=AUTO,
        choices=GROUPS,
        help="auto: near-duplicates are looked for, unless the data has groups of its own; those of training "
        f"images are left out; off: they are used, and the figures may be too good (default: {AUTO})",
    )
    parser.add_argument("--split", default="", help="split.json; use the images of its test split only")
    parser.add_argument(
        "--robustness",
        action="store_true",
        help=f"also under {len(CHANGES)} changes that no inspector would notice, such as a JPEG file",
    )
    parser.add_argument("--out", default="", help="folder to write (default: runs/evaluation-MODEL-DATA)")
    return parser.parse_args(arguments)


def evaluate(
    model: str,
    data: str,
    include_training: bool = False,
    groups: str = AUTO,
    split: str = "",
    robustness: bool = False,
    out: str = "",
) -> Path:
    """Write the report, and return its folder. The arguments are those of the command line."""
    net, spec, info = load_checkpoint(model)
    source = read_data(data)
    images = load_images(
        source, partial(pixels_of, size=spec.image_size, interpolation=spec.interpolation), progress
    )
    for line in images.left_out:
        print("left out", line)
    own = read_split(find_checkpoint(model) / SPLIT)
    wanted = read_split(Path(split))["test"] if split else images.sha256
    near = near_duplicate_groups(images, NONE_SEEN, progress) if groups == AUTO else {}
    group_of = groups_of(images, near)
    rows, seen = rows_to_use(images, group_of, wanted, own, include_training)
    warn_of_seen(info.name, seen, include_training)
    samples, abnormal = [images.samples[row] for row in rows], images.abnormal[rows]
    check_classes(source.name, abnormal)
    title = f"{source.name}, {'all' if include_training else 'test split'}, {len(rows):,} images"
    kept_together = [group_of[row] for row in rows]
    if (parts := len(set(kept_together))) < len(rows):
        title += f" of {parts:,} groups"

    engine = TorchEngine(net, spec)
    predictions = predict(engine.net, images.pixels[rows], spec)
    probability = expit(predictions.log_odds / spec.temperature)
    flagged = probability >= spec.threshold
    report = {
        "model": {"name": info.name, "revision": info.revision, "threshold": spec.threshold},
        "data": {"name": source.name, "license": source.license, "split": title},
        "date": datetime.date.today().isoformat(),
        "metrics": measure(probability, abnormal, spec.threshold),
        "interval_95": intervals(probability, abnormal, spec.threshold, RESAMPLES, kept_together),
        "defect_types": by_type(samples, flagged),
        "recall_98": asdict(operating_point(probability, abnormal, RECALL)),
        "out_of_distribution": int((predictions.distance > spec.distance_limit).sum()),
        "seen": seen | {"left_out": not include_training},
        "latency_ms": latency(NetworkModel(engine, spec, info), samples),
        "unreadable": images.unreadable,
        "left_out": images.left_out,
    }
    if robustness:
        sha256 = [images.sha256[row] for row in rows]
        report["robustness"] = measure_robustness(engine.net, spec, source, sha256, progress)
    folder = Path(out or Path("runs") / f"evaluation-{Path(info.name).name}-{Path(source.name).name}")
    with replacing(folder, (REPORT, PAGE, RELIABILITY, *PICTURES)) as new:
        draw(probability, abnormal, spec.threshold, title, new)
        draw_reliability(probability, abnormal, title, new)
        write_json(new / REPORT, report)
        (new / PAGE).write_text(markdown(report), encoding="utf-8")
    return folder


def rows_to_use(
    images: Images,
    group_of: Sequence[str],
    wanted: Iterable[str],
    own: Mapping[str, list[str]],
    include_training: bool,
) -> tuple[list[int], dict[str, int]]:
    """The rows of the wanted images, and how many of these the model was trained and calibrated on.

    group_of: (N,) the images' groups. wanted: sha256. own: the model's split. Also counted: images in a group
    with one of these. The rows of all three are left out unless include_training.
    """
    chosen, known = set(images.sha256) & set(wanted), {*own["train"], *own["val"]}
    seen = {split: len(chosen & set(own[split])) for split in ("train", "val")}
    groups = {group for group, sha256 in zip(group_of, images.sha256) if sha256 in known}
    related = {sha256 for group, sha256 in zip(group_of, images.sha256) if group in groups}
    seen["same_group"] = len((chosen & related) - known)
    if not include_training:
        chosen -= known | related
    return [row for row, sha256 in enumerate(images.sha256) if sha256 in chosen], seen


def warn_of_seen(model: str, seen: Mapping[str, int], include_training: bool) -> None:
    """Print that a model has seen some of the images, if it has. seen: as of rows_to_use."""
    if any(seen.values()):
        print(
            f"warning: {model} was trained on {seen['train']:,} and calibrated on {seen['val']:,} of these "
            f"images, and {seen['same_group']:,} others are in a group with one of them;",
            "the figures are better than on new ones" if include_training else "they are left out",
        )


def check_classes(name: str, abnormal: np.ndarray) -> None:
    """Raises DataError unless the images, (N,) bool, are of both classes. name: of the data."""
    if len(set(abnormal)) < 2:
        raise DataError(
            f"{name} has {(~abnormal).sum()} normal and {abnormal.sum()} abnormal images to evaluate on; "
            "both are needed. Choose other data, or add --include-training."
        )


def progress(iterable, **more):
    return tqdm(iterable, disable=None, leave=False, **more)  # None: not into a file


def by_type(samples: Sequence[Sample], flagged: np.ndarray) -> dict[str, dict[str, int]]:
    """The number of abnormal images of each defect type, and how many of them are flagged. flagged: (N,)."""
    counts = defaultdict(lambda: {"count": 0, "detected": 0})
    for sample, detected in zip(samples, flagged.tolist()):
        if sample.label == ABNORMAL:
            of_type = counts[sample.defect_type or "no type given"]
            of_type["count"] += 1
            of_type["detected"] += detected
    return dict(sorted(counts.items()))


def latency(model: NetworkModel, samples: Sequence[Sample]) -> dict[str, float | str]:
    """Milliseconds from a decoded image to its inspection as a whole, one image at a time."""
    chosen = [samples[row] for row in np.linspace(0, len(samples) - 1, min(len(samples), TIMED), dtype=int)]
    judge, images = Judge(Models(model)), [read_image(sample.source) for sample in chosen]
    judge.inspect(images[0])  # the first call is slower
    times = []
    for image in images:
        timing_ms = judge.inspect(image, tiles=False).timing_ms
        times.append(sum(ms for step, ms in timing_ms.items() if step != "read the file"))
    return {
        "median": float(np.median(times)),
        "95_percent_within": float(np.percentile(times, 95)),
        "images": len(times),
        "device": f"{device_name(model.engine.device)}, {torch.get_num_threads()} threads",
    }


if __name__ == "__main__":
    try:
        folder = evaluate(**vars(parse()))
        print((folder / PAGE).read_text(encoding="utf-8"), f"wrote {folder}", sep="\n")
    except ChipDemoError as error:
        sys.exit(f"error: {error}")
