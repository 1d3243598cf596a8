"""From the results of all seeds to ablation.json, a Markdown table and charts."""

import datetime
import os
import platform
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from chipdemo.ablation.format import METRICS as SHOWN
from chipdemo.ablation.format import (
    Ablation,
    DataUsed,
    Difference,
    Images,
    Row,
    SeedResult,
    Summary,
    read_ablation,
    write_ablation,
)
from chipdemo.errors import DataError
from chipdemo.settings import DEFAULT_MODEL
from chipdemo.vision.checkpoint import METRICS, read_json
from chipdemo.vision.transforms import pixels_of
from training.ablation.plans import DEFAULT, SHIPPED, Plan
from training.ablation.seeds import Run, result_file
from training.ablation.tables import draw, table
from training.data import load_images
from training.measure import auroc, measure
from training.sources import read_data
from training.splits import read_split
from training.uncertainty import RESAMPLES, interval, resampled, two_sided_p


def report(run: Run, plans: Sequence[Plan], earlier: Path | None = None) -> Path:
    """Write ablation.json, ablation.md and charts of every row with a finished seed. Raises DataError.

    earlier: an ablation.json of the same images, which has the rows that are not trained anew.
    """
    split = read_split(run.split)
    files = {plan.id: [result_file(plan.id, seed, run) for seed in range(plan.seeds)] for plan in plans}
    results = {name: [read_json(file) for file in of_row if file.exists()] for name, of_row in files.items()}
    results = {name: of_row for name, of_row in results.items() if of_row}
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}{on_gpus(results)}"
    if earlier:
        before = read_ablation(earlier)
        machine += (
            f" (new: {', '.join(results) or 'no row'}); the other rows: {before.date}, {before.machine}"
        )
        results = results_of(before, earlier, split["test"]) | results
    if not results:
        raise DataError(f"No row in {run.out} is finished. Run without --report first.")
    data = read_data(run.data)
    images = load_images(data, partial(pixels_of, size=8, interpolation="bilinear"), progress)
    row = {sha256: index for index, sha256 in enumerate(images.sha256)}
    chosen = [row[sha256] for sha256 in split["test"]]
    abnormal = images.abnormal[chosen]
    finished = tqdm([plan for plan in plans if plan.id in results], disable=None, desc="bootstrap")
    ablation = Ablation(
        command=run.command,
        date=datetime.date.today().isoformat(),
        machine=machine,
        data=DataUsed(
            name=data.name,
            license=data.license,
            split=f"{data.name}, test split, {len(chosen):,} images",
            train=len(split["train"]),
            validation=len(split["val"]),
            test=len(chosen),
        ),
        images=Images(
            sha256=tuple(split["test"]),
            abnormal=tuple(abnormal.tolist()),
            file=tuple(images.samples[index].path.name for index in chosen),
        ),
        rows=tuple(row_of(plan, run, abnormal, results) for plan in finished),
    )
    write_ablation(run.out / "ablation.json", ablation)
    (run.out / "ablation.md").write_text(table(ablation), encoding="utf-8")
    draw(ablation, run.out)
    return run.out / "ablation.json"


def results_of(ablation: Ablation, file: Path, test: Sequence[str]) -> dict[str, list[dict]]:
    """The results of an ablation.json, as in the files of finished seeds, by row.

    file: of the ablation. test: sha256 of the test images. Raises DataError if it was measured on others.
    """
    if list(ablation.images.sha256) != list(test):
        raise DataError(f"{file} has other test images. Leave out --keep, or give the split of its rows.")
    of_row = ("starting_weights", "precision", "parameters", "macs")
    of_row += ("latency_ms", "throughput", "training_seconds")
    return {
        row.id: [
            {"probabilities": list(seed.probabilities), "threshold": seed.threshold}
            | {name: getattr(row, name) for name in of_row}
            for seed in row.seeds
        ]
        for row in ablation.rows
    }


def row_of(plan: Plan, run: Run, abnormal: np.ndarray, results: dict[str, list[dict]]) -> Row:
    """A finished row. abnormal: (N,) bool. results: by the plan's id, one for each seed."""
    own, baseline = results[plan.id], results.get(plan.baseline)
    checkpoint = run.out / f"{plan.id}-0"
    return Row(
        id=plan.id,
        name=plan.name,
        source=plan.source,
        baseline=plan.baseline if baseline else None,
        starting_weights=own[0]["starting_weights"],
        precision=own[0]["precision"],
        parameters=own[0]["parameters"],
        macs=own[0]["macs"],
        latency_ms=float(np.median([result["latency_ms"] for result in own])),
        throughput=float(np.median([result["throughput"] for result in own])),
        training_seconds=round(float(np.mean([result["training_seconds"] for result in own])), 1),
        checkpoint=checkpoint.name if (checkpoint / METRICS).exists() else "",
        seeds=tuple(seed_result(seed, result, abnormal) for seed, result in enumerate(own)),
        summary=summary_of(own, abnormal),
        versus_baseline=difference_of(own, baseline, abnormal) if baseline else None,
    )


def seed_result(seed: int, result: dict, abnormal: np.ndarray) -> SeedResult:
    metrics = measure(np.array(result["probabilities"]), abnormal, result["threshold"])
    return SeedResult(
        seed=seed,
        threshold=result["threshold"],
        probabilities=tuple(result["probabilities"]),
        metrics={name: metrics[name] for name in SHOWN},
        confusion=tuple(map(tuple, metrics["confusion"])),
    )


def summary_of(results: list[dict], abnormal: np.ndarray) -> dict[str, Summary]:
    """Every metric: mean and standard deviation over the seeds, interval over the images."""

    def score(result: dict, rows: np.ndarray) -> list[float]:
        metrics = measure(np.array(result["probabilities"])[rows], abnormal[rows], result["threshold"])
        return [metrics[name] for name in SHOWN]

    values = np.array([score(result, np.arange(len(abnormal))) for result in results])  # (seeds, metrics)
    low, high = interval(
        resampled(lambda rows: np.mean([score(r, rows) for r in results], 0), abnormal, RESAMPLES)
    )
    return {
        name: Summary(
            mean=float(values[:, i].mean()),
            sd=float(values[:, i].std(ddof=1)) if len(values) > 1 else None,
            low=float(low[i]),
            high=float(high[i]),
        )
        for i, name in enumerate(SHOWN)
    }


def difference_of(results: list[dict], baseline: list[dict], abnormal: np.ndarray) -> Difference:
    """AUROC less the baseline's, mean over the seeds, by a paired bootstrap over the images."""

    def area(runs: list[dict], rows: np.ndarray) -> float:
        return np.mean([auroc(np.array(one["probabilities"])[rows], abnormal[rows]) for one in runs])

    def difference(rows: np.ndarray) -> float:
        return area(results, rows) - area(baseline, rows)

    differences = resampled(difference, abnormal, RESAMPLES)
    low, high = interval(differences)
    return Difference(
        metric="auroc",
        difference=float(difference(np.arange(len(abnormal)))),
        low=float(low),
        high=float(high),
        p=two_sided_p(differences),
        test=f"paired bootstrap over images, mean of {len(results)} and {len(baseline)} seeds",
    )


def ship(written: Path, folder: Path, name: str) -> Path:
    """Copy an ablation for the app: folder/NAME.json, and the checkpoints of SHIPPED in folder/NAME/.

    A row that was not trained anew keeps the checkpoint that is there.
    """
    ablation, rows = read_ablation(written), []
    for row in ablation.rows:
        checkpoint = Path(os.path.relpath(DEFAULT_MODEL, folder)).as_posix() if row.id == DEFAULT else ""
        place = folder / name / row.id
        if row.id in SHIPPED and row.checkpoint:
            shutil.copytree(written.parent / row.checkpoint, place, dirs_exist_ok=True)
        if row.id in SHIPPED and (place / METRICS).exists():
            checkpoint = f"{name}/{row.id}"
        rows.append(replace(row, checkpoint=checkpoint))
    folder.mkdir(parents=True, exist_ok=True)
    write_ablation(folder / f"{name}.json", replace(ablation, rows=tuple(rows)))
    return folder / f"{name}.json"


def on_gpus(results: dict[str, list[dict]]) -> str:
    """Which seeds were trained on a GPU, e.g. "; trained on one NVIDIA H100: 4 seeds of unet"."""
    devices = {row: Counter(one.get("trained_on", "CPU") for one in seeds) for row, seeds in results.items()}
    gpus = {device for of_row in devices.values() for device in of_row} - {"CPU"}
    return "".join(
        f"; trained on one {gpu}: "
        + ", ".join(
            f"{of_row[gpu]} seed{'s' if of_row[gpu] > 1 else ''} of {row}"
            for row, of_row in devices.items()
            if of_row[gpu]
        )
        for gpu in sorted(gpus)
    )


progress = partial(tqdm, disable=None, leave=False)  # None: not into a file
