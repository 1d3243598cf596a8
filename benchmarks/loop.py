"""The loop under the shift that users have: a model of one kind of cells goes to work on another.

    python benchmarks/loop.py --seeds 3

A model is trained on ELPV's monocrystalline cells. Then polycrystalline ones are put into the queue of an
app that uses it, an annotator (the true labels) labels those that the queue gives first, and after 60, 120
and 240 labels the command that `labels status` prints trains the next model. The app takes it over or not,
as --hot-reload does. The same with the queue in random order.

Each model is measured on the test images of elpv_split.json, of both kinds, which no run sees. --development
holds out a quarter of the other images instead, to choose settings by; --without-earlier trains as if the
monocrystalline images were not at hand. Finished rounds are kept in runs/loop, killed ones begin anew.
loop.json holds all that are finished.
"""

import argparse
import csv
import datetime
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chipdemo.comparison import comparison_of
from chipdemo.images import read_image
from chipdemo.inspection import ABNORMAL
from chipdemo.judge import Judge
from chipdemo.labeling.intake import add_paths
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Label
from chipdemo.labeling.queue import INFORMATIVE, RANDOM, Queue
from chipdemo.labeling.ranking import rank
from chipdemo.labeling.scoring import Scorer
from chipdemo.models import Models
from chipdemo.splits import split_by_hash
from chipdemo.vision.checkpoint import METRICS as METRICS_FILE
from chipdemo.vision.checkpoint import model_revision, read_json, read_metrics, write_json
from chipdemo.vision.predictor import load_model
from chipdemo.vision.revisions import newest_accepted
from training.comparison import METRICS, NEW, Answers, answers_of, compare
from training.data import Sample
from training.sources import read_elpv

ROOT = Path(__file__).resolve().parent.parent
SPLIT, REPORT = ROOT / "benchmarks" / "elpv_split.json", ROOT / "benchmarks" / "loop.json"
RUNS = ROOT / "runs" / "loop"
MONO, POLY = "mono", "poly"
ROUNDS = (60, 120, 240)  # labels
STEP = 20  # labels between two rankings of the queue
ANNOTATOR = "expert"


@dataclass(frozen=True)
class Cells:
    """The images by kind: to learn from, and held out."""

    learning: dict[str, list[Sample]]
    held_out: dict[str, list[Sample]]

    @cached_property
    def truth(self) -> dict[str, str]:
        """The labels of the polycrystalline cells to learn from, by sha256."""
        return {read_image(sample.path).sha256: sample.label for sample in self.learning[POLY]}


def kind_of(sample: Sample) -> str:
    return sample.stratum.rpartition(", ")[2]


def cells(samples: Sequence[Sample], held_out: set[str]) -> Cells:
    """held_out: names of files."""
    groups = {True: {MONO: [], POLY: []}, False: {MONO: [], POLY: []}}
    for sample in samples:
        groups[sample.path.name in held_out][kind_of(sample)].append(sample)
    return Cells(learning=groups[False], held_out=groups[True])


def elpv_cells(development: bool) -> Cells:
    """The test split held out; for development, a quarter of the others, without the test split."""
    published, samples = read_json(SPLIT), read_elpv().samples
    if not development:
        return cells(samples, set(published["test_files"]))
    learning = set(published["train_files"] + published["val_files"])
    samples = [sample for sample in samples if sample.path.name in learning]
    strata = {sample.path.name: sample.stratum for sample in samples}
    return cells(samples, set(split_by_hash(strata, (0.75, 0.0, 0.25))["test"]))


def run(command: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """A command of ours in a folder; what it printed."""
    words = [sys.executable if word == "python" else word for word in command]
    words = [str(ROOT / word) if word == "training/train.py" else word for word in words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        words, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def first_model(samples: Sequence[Sample], seed: int, flags: Sequence[str], out: Path) -> Path:
    """Trained on monocrystalline cells as a user would, once for both orders."""
    if not (out / METRICS_FILE).exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        table = out.parent / "mono.csv"
        with table.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["image", "label", "probability"])
            rows.writerows([sample.path, sample.label, sample.probability] for sample in samples)
        command = ["python", "training/train.py", "--data", str(table), "--out", str(out)]
        print(run([*command, "--seed", str(seed), *flags], out.parent, {}), flush=True)
    return out


class Used(NamedTuple):
    """The model that an app uses: its folder, and what changes with it."""

    source: str
    revision: str


class App:
    """What a user of the app has: its model folder and its journal. folder: of both."""

    def __init__(self, folder: Path, order: str):
        self.folder, self.order = folder, order
        self.models, self.journal = folder / "models", folder / "labels.db"
        self.model = self.models / "chips"

    def install(self, model: Path, pool: Sequence[Sample]) -> None:
        if not self.model.exists():
            shutil.copytree(model, self.model)
        with Journal(self.journal) as journal:
            add_paths(journal, [sample.path for sample in pool])

    def in_use(self) -> Used:
        source = newest_accepted(str(self.model)).source
        return Used(source, model_revision(Path(source)))

    def label(self, truth: dict[str, str], wanted: int) -> None:
        """The annotator labels what the queue gives, until there are so many labels. truth: by sha256."""
        with Journal(self.journal) as journal:
            queue, model = Queue(journal), load_model(self.in_use().source)
            scorer = Scorer(journal, Judge(Models(model)))
            while self.order == INFORMATIVE and scorer.work():
                pass
            while (missing := wanted - journal.counts().labeled) > 0:
                if self.order == INFORMATIVE:
                    rank(journal, model.info.revision)
                images = queue.next(ANNOTATOR, min(STEP, missing), self.order)
                journal.append(*(Label(one.sha256, truth[one.sha256], ANNOTATOR) for one in images))

    def train(self, seed: int) -> None:
        """By the commands that `labels status` prints for an app with --hot-reload."""
        environment = {"CHIPDEMO_JOURNAL": str(self.journal), "CHIPDEMO_HOT_RELOAD": "60"}
        status = ["python", "-m", "chipdemo", "labels", "status", "--model", str(self.model)]
        printed = run(status, self.folder, environment).splitlines()
        for command in (shlex.split(line) for line in printed if line.startswith("  python")):
            seeded = ["--seed", str(seed)] if "training/train.py" in command else []
            print(run([*command, *seeded], self.folder, environment), flush=True)


@cache
def answers(model: str, revision: str, held_out: tuple[Sample, ...]) -> Answers:
    """revision: of the model, so that one in the same place is asked anew."""
    return answers_of(load_model(model), held_out)


def one_round(app: App, labels: int, seed: int, data: Cells) -> dict:
    """Label, train, and see what the app makes of it; the models are measured on what is held out."""
    before = app.folder / f"models-before-{labels}"
    if before.exists():  # a round that was killed begins anew
        shutil.rmtree(app.models, ignore_errors=True)
        shutil.copytree(before, app.models)
    else:
        shutil.copytree(app.models, before)
    used = app.in_use()
    held_out = {kind: tuple(samples) for kind, samples in data.held_out.items()}
    before_answers = {kind: answers(used.source, used.revision, each) for kind, each in held_out.items()}
    app.label(data.truth, labels)
    app.train(seed)
    comparison = comparison_of(read_metrics(app.model))
    result = {
        "order": app.order,
        "seed": seed,
        "labels": labels,
        "verdict": comparison.verdict,
        "reasons": list(comparison.reasons),
        "taken_over": app.in_use().source == str(app.model),
    }
    for kind, samples in held_out.items():
        now = answers(str(app.model), model_revision(app.model), samples)
        abnormal = np.array([sample.label == ABNORMAL for sample in samples])
        found = compare(before_answers[kind], now, abnormal, np.zeros(len(samples), bool))
        result[kind] = {metric: found["sets"][NEW][metric] for metric in METRICS}
    shutil.rmtree(before)
    return result


def run_order(
    order: str, seed: int, data: Cells, first: Path, folder: Path, rounds: Sequence[int]
) -> list[dict]:
    """The results of all rounds; those that are in the folder are not repeated. rounds: labels after each."""
    app = App(folder, order)
    pool = data.learning[POLY]
    app.install(first, [pool[row] for row in np.random.default_rng(seed).permutation(len(pool))])
    results = []
    for labels in rounds:
        file = folder / f"{labels}.json"
        if not file.exists():
            write_json(file, one_round(app, labels, seed, data))
        results.append(read_json(file))
        print(line_of(results[-1]), flush=True)
    return results


def line_of(result: dict) -> str:
    areas = "; ".join(
        f"{kind} AUROC {result[kind]['auroc']['before']:.3f} -> {result[kind]['auroc']['now']:.3f}"
        for kind in (POLY, MONO)
    )
    what = f"{result['order']}, seed {result['seed']}, {result['labels']} labels"
    return f"{what}: {result['verdict']}, {'' if result['taken_over'] else 'not '}taken over; {areas}"


def summary_of(results: list[dict]) -> dict:
    """By order and number of labels: AUROC of the model that is then in use, mean and sd over the seeds."""
    summary, rounds = {}, sorted({one["labels"] for one in results})
    for order in (INFORMATIVE, RANDOM):
        in_use = {}  # by seed and kind: one value before the first round, and one after each
        for one in (one for one in results if one["order"] == order):
            for kind in (POLY, MONO):
                values = in_use.setdefault((one["seed"], kind), [one[kind]["auroc"]["before"]])
                values.append(one[kind]["auroc"]["now"] if one["taken_over"] else values[-1])
        for kind in (POLY, MONO):
            runs = np.array([values for (_, found), values in in_use.items() if found == kind])
            if len(runs):
                sd = runs.std(0, ddof=1) if len(runs) > 1 else np.full(runs.shape[1], np.nan)
                summary.setdefault(order, {"labels": [0, *rounds]})[kind] = {
                    "mean": runs.mean(0).round(4).tolist(),
                    "sd": [None if np.isnan(value) else round(value, 4) for value in sd],
                    "lowest_change_in_a_round": round(float(np.diff(runs).min()), 4),
                }
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--orders", nargs="+", choices=(INFORMATIVE, RANDOM), default=(INFORMATIVE, RANDOM))
    parser.add_argument(
        "--rounds", type=int, nargs="+", default=ROUNDS, help="labels after which a model is trained"
    )
    parser.add_argument("--development", action="store_true", help="without the test images")
    parser.add_argument(
        "--without-earlier", action="store_true", help="as if the first data were not at hand"
    )
    parser.add_argument("--flags", default="", help="more flags of the first training, in quotes")
    parser.add_argument("--name", default="loop", help="of the runs and of the report")
    options = parser.parse_args()
    data, folder = elpv_cells(options.development), RUNS / options.name
    report = benchmark(data, folder, options)
    write_json(REPORT.with_stem(options.name), report)
    print(report["summary"])


def benchmark(data: Cells, folder: Path, options: argparse.Namespace) -> dict:
    """options: of the command line. folder: of the runs."""
    results = []
    for seed in range(options.seeds):
        first = first_model(data.learning[MONO], seed, shlex.split(options.flags), folder / f"first-{seed}")
        if options.without_earlier:
            forget_data(first)
        for order in options.orders:
            results += run_order(order, seed, data, first, folder / f"{order}-{seed}", options.rounds)
    return {
        "command": shlex.join(["python", "benchmarks/loop.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "held_out": {kind: len(samples) for kind, samples in data.held_out.items()},
        "first_model": read_metrics(first)["training"]["command"],
        "device": read_metrics(first)["training"]["device"],
        "summary": summary_of(results),
        "rounds": results,
    }


def forget_data(model: Path) -> None:
    """So that the model's training data is not found."""
    metrics = read_json(model / METRICS_FILE)
    metrics["training"]["options"]["data"] = "not-at-hand"
    write_json(model / METRICS_FILE, metrics)


if __name__ == "__main__":
    main()
