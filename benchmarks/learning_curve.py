"""How good a model becomes with how many labeled images: training/train.py on parts of ELPV.

    python benchmarks/learning_curve.py --seeds 3

A part is drawn from the 1,968 learning images of elpv_split.json, stratified by label and cell type, and
contains the smaller parts of its seed; a fifth of it is the validation split. The test split is the 656
images of elpv_split.json. Each part is trained twice with the default options: the network, and the linear
head on frozen features alone. The trainer keeps one of them by validation, which is what the solid line of
the figure shows. Finished runs are kept, killed ones resumed; further flags go to training/train.py. Writes
learning_curve.json and learning_curve.png.
"""

import argparse
import csv
import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from benchmarks.elpv_accuracy import ROOT, SPLIT
from chipdemo.splits import split_by_hash
from chipdemo.vision.checkpoint import METRICS, read_json, read_metrics, write_json
from training.linear import LINEAR, NETWORK, kept_of, log_losses
from training.resume import STATE
from training.sources import read_elpv

REPORT = ROOT / "benchmarks" / "learning_curve.json"
SIZES = (60, 120, 240, 480, 960)
WAYS = {NETWORK: ["--linear", "off"], LINEAR: ["--epochs", "0"]}


def write_part(size: int, seed: int, folder: Path) -> tuple[Path, Path]:
    """The CSV and the split.json of `size` learning images and of all test images."""
    published, samples = read_json(SPLIT), {s.path.name: s for s in read_elpv().samples}
    learning = dict(
        zip(published["train"] + published["val"], published["train_files"] + published["val_files"])
    )
    strata = {sha256: samples[name].stratum for sha256, name in learning.items()}
    share = size / len(strata)  # the same order for each size of a seed: the parts are nested
    split = split_by_hash(strata, (0.8 * share, 0.2 * share, 1 - share), seed)
    test = dict(zip(published["test"], published["test_files"]))
    folder.mkdir(parents=True, exist_ok=True)
    data, division = folder / f"elpv-{size}.csv", folder / f"split-{size}.json"
    with data.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label", "probability"])
        for sha256 in (*split["train"], *split["val"], *test):
            sample = samples[(learning | test)[sha256]]
            rows.writerow([sample.path, sample.label, sample.probability])
    write_json(division, split | {"test": list(test)})
    return data, division


def train(size: int, seed: int, way: str, flags: list[str], runs: Path) -> dict:
    """metrics.json of one run."""
    out = runs / f"{way.replace(' ', '-')}-{size}-{seed}"
    if not (out / METRICS).exists():
        data, division = write_part(size, seed, runs / f"seed{seed}")
        command = [sys.executable, ROOT / "training" / "train.py", "--data", data, "--split", division]
        resume = ["--resume"] if (out / STATE).exists() else []
        given = ["--seed", str(seed), "--out", out, "--cache", runs / "cache"]
        subprocess.run([*command, *given, *flags, *WAYS[way], *resume], check=True)
    return read_metrics(out)


def kept(runs: dict[str, dict]) -> dict:
    """The run that the trainer keeps if it fits both."""
    validation = {way: metrics["validation"] for way, metrics in runs.items()}
    losses = {
        way: log_losses(np.array(one["probabilities"]), np.array(one["abnormal"]))
        for way, one in validation.items()
    }
    return runs[kept_of(losses)]


def draw(rows: list[dict]) -> None:
    figure, ax = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
    for way, style in (("kept", "k-"), (NETWORK, "C0--"), (LINEAR, "C1--")):
        mean = np.array([np.mean(row["auroc"][way]) for row in rows])
        spread = np.array([np.std(row["auroc"][way]) for row in rows])
        ax.errorbar([row["images"] for row in rows], mean, spread, fmt=style, capsize=3, label=way)
    ax.set(xscale="log", xlabel="labeled images", ylabel="AUROC, ELPV test split, 656 images")
    ax.set_xticks(SIZES, labels=map(str, SIZES))
    ax.minorticks_off()
    ax.legend(frameon=False)
    figure.savefig(REPORT.with_suffix(".png"), dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "learning_curve")
    options, flags = parser.parse_known_args()
    rows = []
    for size in options.sizes:
        auroc, choices = {NETWORK: [], LINEAR: [], "kept": []}, []
        for seed in range(options.seeds):
            runs = {way: train(size, seed, way, flags, options.runs) for way in WAYS}
            chosen = kept(runs)
            choices.append(next(way for way in WAYS if runs[way] is chosen))
            for way, metrics in {**runs, "kept": chosen}.items():
                auroc[way].append(round(metrics["test"]["auroc"], 4))
        rows.append({"images": size, "auroc": auroc, "kept": choices})
        print(rows[-1], flush=True)
    write_json(
        REPORT,
        {
            "command": " ".join(["python benchmarks/learning_curve.py", *sys.argv[1:]]),
            "date": datetime.date.today().isoformat(),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
            "starting_weights": runs[NETWORK]["starting_weights"],
            "rows": rows,
        },
    )
    draw(rows)


if __name__ == "__main__":
    main()
