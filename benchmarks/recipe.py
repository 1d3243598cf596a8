"""What each part of the training recipe brings, judged without the test part.

    python benchmarks/recipe.py NAME ...

trains the named variants (all, when none is named) with training/train.py on the 1,968 learning
images of elpv_split.json alone: 60 % train, 8 % validation, 32 % held out. The 656 test
images are not read. Each variant is compared with the first one on the same held-out images. Finished
runs are kept, killed ones resumed; recipe.json holds all that are finished. The first variant has to be
among them.
"""

import argparse
import csv
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import expit

from chipdemo.splits import split_by_hash
from chipdemo.vision.checkpoint import METRICS, read_json, read_metrics, write_json
from chipdemo.vision.transforms import pixels_of
from chipdemo.vision.weights import load_checkpoint
from training.data import load_images
from training.measure import auroc, measure
from training.predict import predict
from training.resume import STATE
from training.robustness import measure_robustness
from training.sources import read_csv, read_elpv
from training.uncertainty import RESAMPLES, resampled

ROOT = Path(__file__).resolve().parent.parent
SPLIT = ROOT / "benchmarks" / "elpv_split.json"
REPORT = ROOT / "benchmarks" / "recipe.json"
RUNS = ROOT / "runs" / "recipe"
CHANGED = 250  # held-out images whose verdicts are asked for again under each change
HARD = "hard-labels"
HELD_OUT = "held_out.json"  # the probabilities of a run
FRACTIONS = (0.60, 0.08, 0.32)  # train, validation, held out; of the 1,968
BASE = {
    "backbone": "chip_resnet50",
    "init": ROOT.parent / "shared" / "weights" / "resnet50.imagenet.safetensors",
    "freeze": 4,
    "views": 12,
    "epochs": 12,
    "learning_rate": 2e-4,
    "linear": "off",
}
LAYER3 = {"freeze": 3}
HALF = {"augmentation": 0.5}
VARIANTS = {
    "base": {},
    "layer3": LAYER3,
    "layer3-decay": LAYER3 | {"layer_decay": 0.7},
    "half-augmentation": HALF,
    "half-long-average": HALF | {"averaging": 0.4},
    "long-average": {"averaging": 0.4},
    "half-consistency": HALF | {"consistency": 0.3, "epochs": 8, "batch_size": 16},
    "half-linear": HALF | {"epochs": 0, "linear": "auto"},
    "no-augmentation": {"augmentation": 0.0},
    "consistency": {"consistency": 0.3, "epochs": 7, "batch_size": 16},
    HARD: {},
    "no-averaging": {"averaging": 0.0},
    "300px": {"image_size": 300},
    "long": {"averaging": 0.4, "epochs": 24},
    "no-cbam": {"attention": "none"},
    "one-stage": {"stages": 1},
    "distilled": {"teacher": f"{RUNS}/linear-head-0,{RUNS}/base-0"},
    "linear-head": {"epochs": 0, "linear": "auto"},
    "lite0": {"backbone": "tf_efficientnet_lite0", "init": "imagenet", "freeze": -1, "learning_rate": 1e-3},
    "lite0-distilled": {
        "backbone": "tf_efficientnet_lite0",
        "init": "imagenet",
        "freeze": 0,
        "learning_rate": 1e-3,
        "teacher": f"{RUNS}/layer3-0",
    },
}


ENVIRONMENT = os.environ | {  # glibc keeps large blocks of memory for the next step
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**36),
    "MALLOC_TOP_PAD_": str(2**30),
}


def prepare(hard: bool = False) -> tuple[Path, Path]:
    """The learning images as a CSV, and their division. hard: labels of 0 and 1 alone."""
    learning, split_file = RUNS / f"elpv-{'hard' if hard else 'learning'}.csv", RUNS / "split.json"
    published = read_json(SPLIT)
    files = published["train_files"] + published["val_files"]
    hash_of = dict(zip(files, published["train"] + published["val"]))
    samples = [sample for sample in read_elpv().samples if sample.path.name in hash_of]
    RUNS.mkdir(parents=True, exist_ok=True)
    with learning.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label", *(() if hard else ("probability",))])
        rows.writerows([s.path, s.label, *(() if hard else (s.probability,))] for s in samples)
    if not split_file.exists():
        strata = {hash_of[sample.path.name]: sample.stratum for sample in samples}
        write_json(split_file, split_by_hash(strata, FRACTIONS))
    return learning, split_file


def train(name: str, seed: int, out: Path) -> None:
    learning, split_file = prepare(hard=name == HARD)
    if (out / METRICS).exists():
        return
    flags = {"data": learning, "split": split_file, "seed": seed, "out": out} | BASE | VARIANTS[name]
    command = [sys.executable, ROOT / "training" / "train.py"]
    for flag, value in flags.items():
        command += ["--" + flag.replace("_", "-"), str(value)]
    resume = ["--resume"] if (out / STATE).exists() else []
    subprocess.run([*command, *resume], check=True, env=ENVIRONMENT)


def judge(out: Path) -> dict[str, dict]:
    """The figures of the held-out images and how often verdicts flip; writes their probabilities to out."""
    learning, split_file = prepare()
    net, spec, _ = load_checkpoint(out)
    data, held_out = read_csv(learning), read_json(split_file)["test"]
    images = load_images(data, partial(pixels_of, size=spec.image_size, interpolation=spec.interpolation))
    chosen = [images.sha256.index(sha256) for sha256 in held_out]
    abnormal = images.abnormal[chosen]
    probability = expit(predict(net, images.pixels[chosen], spec).log_odds / spec.temperature)
    robustness = measure_robustness(net, spec, data, held_out[:CHANGED])
    found = {
        "threshold": spec.threshold,
        "probabilities": [round(float(p), 6) for p in probability],
        "abnormal": abnormal.tolist(),
    }
    write_json(out / HELD_OUT, found)
    flips = {key: robustness[key] for key in ("images", "mean", "worst")}
    return {**measure(probability, abnormal, spec.threshold), "flips": flips}


def compared(out: Path, base: Path) -> dict[str, list[float]]:
    """What a variant brought over the first one: the difference and its standard error. Folders of runs."""
    variant, first = read_json(out / HELD_OUT), read_json(base / HELD_OUT)
    abnormal = np.array(variant["abnormal"])

    def figures(of: dict, rows: np.ndarray) -> np.ndarray:
        scores = np.array(of["probabilities"])
        correct = (scores >= of["threshold"]) == abnormal
        return np.array([auroc(scores[rows], abnormal[rows]), correct[rows].mean()])

    def difference(rows: np.ndarray) -> np.ndarray:
        return figures(variant, rows) - figures(first, rows)

    found = difference(np.arange(len(abnormal)))
    errors = resampled(difference, abnormal, RESAMPLES, stratified=True).std(0)
    return {name: [float(d), float(e)] for name, d, e in zip(("auroc", "accuracy"), found, errors)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variants", nargs="*", help=", ".join(VARIANTS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.variants or VARIANTS:
        out = RUNS / f"{name}-{options.seed}"
        train(name, options.seed, out)
        row = {"flags": {k: Path(v).name if isinstance(v, Path) else v for k, v in VARIANTS[name].items()}}
        row |= {"seconds": read_metrics(out)["training"]["seconds"], **judge(out)}
        rows = read_json(REPORT) if REPORT.exists() else {}  # read late: another may run beside us
        row["against_base"] = compared(out, RUNS / f"base-{options.seed}")
        rows[out.name] = row
        write_json(REPORT, rows)
        (d_auroc, e_auroc), (d_accuracy, e_accuracy) = row["against_base"].values()
        print(
            f"{out.name}: AUROC {row['auroc']:.4f} ({d_auroc:+.4f} ± {e_auroc:.4f}), accuracy "
            f"{row['accuracy']:.4f} ({d_accuracy:+.4f} ± {e_accuracy:.4f}), flips "
            f"{row['flips']['mean']['share']:.3f}, worst {row['flips']['worst']['share']:.3f} "
            f"({row['flips']['worst']['change']}), {row['seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
