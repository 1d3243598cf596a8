"""Accuracy on ELPV under the size of Deitsch's protocol: 1,968 to learn from, 656 to judge.

    python benchmarks/elpv_accuracy.py --seeds 5

trains one model a seed with training/train.py, all on the division of elpv_split.json (stratified
by label and cell type; part of the 1,968 is validation), and writes elpv_accuracy.json. Finished
seeds are not trained again; a killed one is resumed. Flags it does not know go to the trainer.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import expit

from chipdemo.splits import split_by_hash
from chipdemo.vision.checkpoint import CONFIG, METRICS, read_json, read_metrics, write_json
from chipdemo.vision.transforms import pixels_of
from chipdemo.vision.weights import load_checkpoint
from training.data import load_images
from training.distillation import predict_turned
from training.measure import measure
from training.resume import STATE
from training.sources import read_elpv

ROOT = Path(__file__).resolve().parent.parent
SPLIT = ROOT / "benchmarks" / "elpv_split.json"
FRACTIONS = (0.65, 0.10, 0.25)  # train, validation, test
SHOWN = ("accuracy", "recall", "precision", "f1", "auroc", "average_precision", "expected_calibration_error")


def write_split() -> None:
    """Divide ELPV once; the file is in the repository."""
    images = load_images(read_elpv(), partial(pixels_of, size=8, interpolation="bilinear"))
    strata = {h: sample.stratum for h, sample in zip(images.sha256, images.samples)}
    split = split_by_hash(strata, FRACTIONS)
    names = {h: sample.path.name for h, sample in zip(images.sha256, images.samples)}
    files = {part + "_files": [names[h] for h in hashes] for part, hashes in split.items()}
    write_json(SPLIT, split | files)


def train(seed: int, flags: list[str], out: Path) -> None:
    if (out / METRICS).exists():
        return
    resume = ["--resume"] if (out / STATE).exists() else []
    command = [
        sys.executable,
        ROOT / "training" / "train.py",
        "--split",
        os.path.relpath(SPLIT),  # it is recorded, and the same on every machine
        "--seed",
        str(seed),
        "--out",
        out,
    ]
    subprocess.run([*command, *flags, *resume], check=True)


def with_turns(out: Path) -> dict[str, float]:
    """The same checkpoint with the log-odds averaged over the eight flips and right-angle turns."""
    net, spec, _ = load_checkpoint(out)
    images = load_images(
        read_elpv(), partial(pixels_of, size=spec.image_size, interpolation=spec.interpolation)
    )
    chosen = [images.sha256.index(h) for h in read_json(SPLIT)["test"]]
    pixels, abnormal = images.pixels[chosen], images.abnormal[chosen]
    log_odds = predict_turned(net, pixels, spec).log_odds
    return measure(expit(log_odds / spec.temperature), abnormal, spec.threshold)


def on_sure_ones(out: Path) -> dict[str, float]:
    """Judged by the images alone whose label the experts were sure of: probability 0 or 1."""
    test, probability = (
        read_metrics(out)["test"],
        {s.path.name: s.probability for s in read_elpv().samples},
    )
    sure = np.isin([probability[name] for name in read_json(SPLIT)["test_files"]], (0, 1))
    judged, abnormal = np.array(test["probabilities"])[sure], np.array(test["abnormal"])[sure]
    return measure(judged, abnormal, read_json(out / CONFIG)["threshold"])


def summary(rows: list[dict]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "mean": float(np.mean([row[name] for row in rows])),
            "sd": float(np.std([row[name] for row in rows], ddof=1)) if len(rows) > 1 else 0.0,
        }
        for name in SHOWN
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "elpv_accuracy")
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "elpv_accuracy.json")
    options, flags = parser.parse_known_args()
    if not SPLIT.exists():
        write_split()
    outs = [options.runs / f"seed{seed}" for seed in range(options.seeds)]
    for seed, out in enumerate(outs):
        train(seed, flags, out)
    metrics = [read_metrics(out) for out in outs]
    single = [m["test"] for m in metrics]
    turned = [with_turns(out) for out in outs]
    sure = [on_sure_ones(out) for out in outs]
    report = {
        "command": " ".join(["python benchmarks/elpv_accuracy.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "split": single[0]["split"],
        "starting_weights": metrics[0]["starting_weights"],
        "options": metrics[0]["training"]["options"],
        "training_seconds": [m["training"]["seconds"] for m in metrics],
        "one_image_one_forward": summary(single),
        "averaged_over_8_turns_and_flips": summary(turned),
        "on_images_the_experts_were_sure_of": {"count": sure[0]["count"], **summary(sure)},
        "seeds": single,
    }
    write_json(options.report, report)
    for way, rows in (("one forward", single), ("mean of 8 turns and flips", turned), ("sure ones", sure)):
        print(way, json.dumps({k: f"{v['mean']:.4f} +- {v['sd']:.4f}" for k, v in summary(rows).items()}))


if __name__ == "__main__":
    main()
