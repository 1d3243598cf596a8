"""What each part of the training recipe brings, judged without the test part.

    python benchmarks/recipe.py NAME ...

trains the named variants (all, when none is named) with training/train.py on the 1,968 learning
images of elpv_split.json alone: 70 % train, 8 % validation, 22 % held out. The 656 test
images are not read. Finished runs are kept, killed ones resumed; recipe.json holds all that
are finished.
"""

import argparse
import csv
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import expit

from chipdemo.vision.checkpoint import METRICS, read_json, read_metrics, write_json
from chipdemo.vision.transforms import pixels_of
from chipdemo.vision.weights import load_checkpoint
from training.data import load_images
from training.distillation import predict_turned
from training.measure import measure
from training.predict import predict
from training.resume import STATE
from training.sources import read_csv, read_elpv
from training.splits import split_by_hash

ROOT = Path(__file__).resolve().parent.parent
SPLIT = ROOT / "benchmarks" / "elpv_split.json"
REPORT = ROOT / "benchmarks" / "recipe.json"
RUNS = ROOT / "runs" / "recipe"
FRACTIONS = (0.70, 0.08, 0.22)  # train, validation, held out; of the 1,968
PLAIN = {"freeze": 0, "epochs": 10}
VARIANTS = {
    "plain": PLAIN,
    "frozen": {},
    "rate": PLAIN | {"learning_rate": 1.5e-3, "head_rate": 2.0},
    "300px": PLAIN | {"image_size": 300, "epochs": 8},
    "long": {"epochs": 16},
    "stride8": {"stages": 3},
    "distilled": {"teacher": f"{RUNS}/frozen-0,{RUNS}/plain-0"},
}


def prepare() -> tuple[Path, Path]:
    """The learning images as a CSV, and their division."""
    learning, split_file = RUNS / "elpv-learning.csv", RUNS / "split.json"
    if not split_file.exists():
        published = read_json(SPLIT)
        files = published["train_files"] + published["val_files"]
        hash_of = dict(zip(files, published["train"] + published["val"]))
        samples = [sample for sample in read_elpv().samples if sample.path.name in hash_of]
        RUNS.mkdir(parents=True, exist_ok=True)
        with learning.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["image", "label", "probability"])
            rows.writerows([s.path, s.label, s.probability] for s in samples)
        strata = {hash_of[sample.path.name]: sample.stratum for sample in samples}
        write_json(split_file, split_by_hash(strata, FRACTIONS))
    return learning, split_file


def train(flags: dict, seed: int, out: Path) -> None:
    learning, split_file = prepare()
    if (out / METRICS).exists():
        return
    flags = {"data": learning, "split": split_file, "seed": seed, "out": out} | flags
    command = [sys.executable, ROOT / "training" / "train.py"]
    for name, value in flags.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    subprocess.run([*command, *(["--resume"] if (out / STATE).exists() else [])], check=True)


def judge(out: Path) -> dict[str, dict]:
    """The held-out images, each as it is and as the mean of its eight turns and flips."""
    learning, split_file = prepare()
    net, spec, _ = load_checkpoint(out)
    images = load_images(
        read_csv(learning), partial(pixels_of, size=spec.image_size, interpolation=spec.interpolation)
    )
    chosen = [images.sha256.index(sha256) for sha256 in read_json(split_file)["test"]]
    pixels, abnormal = images.pixels[chosen], images.abnormal[chosen]
    answers = {}
    for name, answer in (("single", predict), ("turned", predict_turned)):
        probability = expit(answer(net, pixels, spec).log_odds / spec.temperature)
        answers[name] = measure(probability, abnormal, spec.threshold) | {
            "auroc_se": auroc_error(probability, abnormal),
            "probabilities": [round(float(p), 4) for p in probability],
        }
    return answers | {"abnormal": abnormal.tolist()}


def auroc_error(scores: np.ndarray, abnormal: np.ndarray) -> float:
    """Standard error of the AUROC (Hanley and McNeil, Radiology 143, 1982)."""
    higher = scores[abnormal][:, None] > scores[~abnormal]  # (abnormal, normal)
    area, n1, n0 = higher.mean(), *higher.shape
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (n1 - 1) * (q1 - area**2) + (n0 - 1) * (q2 - area**2)
    return float(np.sqrt(variance / (n1 * n0)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variants", nargs="*", help=", ".join(VARIANTS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.variants or VARIANTS:
        out = RUNS / f"{name}-{options.seed}"
        train(VARIANTS[name], options.seed, out)
        flags, seconds = VARIANTS[name], read_metrics(out)["training"]["seconds"]
        row = {"flags": {k: str(v).replace(f"{ROOT}/", "") for k, v in flags.items()}, "seconds": seconds}
        row |= judge(out)
        rows = read_json(REPORT) if REPORT.exists() else {}  # read late: another may run beside us
        write_json(REPORT, rows | {out.name: row})
        for way in ("single", "turned"):
            print(f"{out.name} {way}: accuracy {row[way]['accuracy']:.4f}, AUROC {row[way]['auroc']:.4f}")


if __name__ == "__main__":
    main()
