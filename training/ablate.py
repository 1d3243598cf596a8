"""Train and compare every system of the two papers on the same images.

    python training/ablate.py --data elpv --split benchmarks/elpv_split.json

trains each row and seed, writes what it measured into a folder of its own, and then ablation.json,
ablation.md and pictures of all that are finished. Rows that are finished are not trained again; a
killed one goes on. `--rows` does some only, `--report` none. `--ship chipdemo/ablation` also puts
what is finished where the app opens it, with the checkpoints of a few rows.
"""

import argparse
import datetime
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from safetensors.torch import save
from scipy.special import expit, logit
from torch.utils.flop_counter import FlopCounterMode
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
from chipdemo.errors import ChipDemoError, DataError
from chipdemo.settings import DEFAULT_MODEL
from chipdemo.vision.checkpoint import METRICS, SPLIT, ModelSpec, read_json, read_metrics, write_json
from chipdemo.vision.model import ChipNet
from chipdemo.vision.runtimes.pytorch import TorchEngine
from chipdemo.vision.transforms import pixels_of
from chipdemo.vision.weights import load_checkpoint
from training.ablation_report import draw, table
from training.calibration import choose_threshold, fit_temperature
from training.classical import Fitted, hog_features
from training.data import PARTS, load_images, read_split, split_by_hash
from training.measure import auroc, measure
from training.predict import predict
from training.resume import STATE
from training.sources import read_data
from training.starting_weights import load_starting_weights
from training.train import Options, train
from training.uncertainty import RESAMPLES, interval, resampled, two_sided_p

SCRATCH = {"init": "none", "freeze": 0, "learning_rate": 2e-3, "head_rate": 1.0}
KIM, ULLAH = "Kim et al., Table 1", "Ullah et al."
START = SCRATCH | {"attention": "none", "stages": 1, "image_size": 160, "epochs": 10}
TIMED = 20  # calls a latency is the median of


@dataclass(frozen=True)
class Plan:
    """A row before it is trained. flags: of training/train.py; learner: of training/classical.py.

    members: rows whose networks of the same seed it averages. twin: the row that differs from it
    in attention alone. start: flags for distilling what it starts from where ImageNet weights are
    out of reach, other than START.
    """

    id: str
    name: str
    source: str
    flags: dict = field(default_factory=dict)
    twin: str | None = None
    learner: str = ""
    members: tuple[str, ...] = ()
    start: dict = field(default_factory=dict)
    seeds: int = 1


def pair(backbone: str, name: str, id: str, source: str, seeds: int = 3, **flags) -> tuple[Plan, Plan]:
    """A network without and with CBAM, trained alike."""
    flags |= {"backbone": backbone}
    plain = Plan(id, name, source, flags | {"attention": "none"}, seeds=seeds)
    with_cbam = flags | {"attention": "cbam"}
    return plain, Plan(f"{id}-cbam", f"{name} + CBAM", source, with_cbam, id, seeds=seeds)


PLANS = (
    *pair("mobilenetv2_100", "MobileNetV2", "mobilenetv2", KIM, stages=1),
    *pair("resnet50", "ResNet-50", "resnet50", KIM, stages=1),
    *pair("tf_efficientnet_lite0", "EfficientNet-Lite0", "lite0", "the shipped default", seeds=5),
    Plan(
        "vgg16",
        "VGG16, block 5 tuned",
        f"{ULLAH}, public code",
        {"backbone": "chip_vgg16", "attention": "none", "stages": 1, "freeze": 1},
        start={"image_size": 96, "epochs": 4},  # it costs four times what ResNet-50 does
    ),
    Plan(
        "small-cnn",
        "Small CNN",
        ULLAH,
        SCRATCH | {"backbone": "chip_small_cnn", "attention": "none", "stages": 1, "epochs": 40},
    ),
    Plan(
        "unet",
        "U-Net encoder-decoder",
        ULLAH,
        SCRATCH
        | {"backbone": "chip_unet", "attention": "none", "stages": 1, "image_size": 160, "epochs": 16},
    ),
    Plan("svm", "SVM, deep features", ULLAH, learner="svm"),
    Plan("random-forest", "Random forest, deep features", ULLAH, learner="random_forest"),
    Plan("knn", "k-nearest neighbors, deep features", ULLAH, learner="knn"),
    Plan("logistic", "Logistic regression, deep features", ULLAH, learner="logistic_regression"),
    Plan("boosting", "Gradient boosting, deep features", ULLAH, learner="gradient_boosting"),
    Plan("svm-hog", "SVM, HOG", ULLAH, learner="svm_hog"),
    Plan(
        "ensemble",
        "MobileNetV2 + CBAM and EfficientNet-Lite0 + CBAM",
        "the ensemble of lowest validation loss",
        members=("mobilenetv2-cbam", "lite0-cbam"),
        seeds=3,
    ),
)
SHIPPED = ("mobilenetv2", "mobilenetv2-cbam", "resnet50-cbam")  # rows whose checkpoints the app brings ...
DEFAULT = "lite0-cbam"  # ... beside its default model, which is a seed of this row
DEEP_FEATURES = "tf_efficientnet_lite0"  # pooled, of the last resolution, as ImageNet left them


@dataclass(frozen=True)
class Run:
    """What every row shares. weights: folder with BACKBONE.imagenet.safetensors, or None."""

    command: str
    data: str
    split: Path
    out: Path
    weights: Path | None
    teacher: str


def start_of(plan: Plan, run: Run) -> dict[str, str | int]:
    """Flags for the starting weights: the Hub's or a package's ImageNet, a file's, or a teacher's.

    What a teacher gave is trained on in the size in which it was given. Where ImageNet weights are
    out of reach and there is no teacher, all of the network is trained, from nothing.
    """
    backbone = plan.flags["backbone"]
    if "init" in plan.flags:
        return {}
    file = run.weights / f"{backbone}.imagenet.safetensors" if run.weights else None
    if file and file.exists():
        return {"init": str(file)}
    try:
        load_starting_weights(ChipNet(backbone, "none"), backbone, "imagenet")
    except DataError:
        if not run.teacher:
            return SCRATCH
        size = (START | plan.start)["image_size"]
        return {"init": str(distilled_start(plan, run)), "image_size": size}
    return {"init": "imagenet"}


def distilled_start(plan: Plan, run: Run) -> Path:
    """Weights of a backbone that has learned from the teacher, once for all of its rows and seeds.

    Only images of the training part are used.
    """
    backbone = plan.flags["backbone"]
    file, out = run.out / f"{backbone}.distilled.safetensors", run.out / f"{backbone}-start"
    if not file.exists():
        print(f"{backbone}, to start from", flags := START | plan.start, flush=True)
        if not (out / METRICS).exists():
            given = {"data": run.data, "split": str(run.split), "backbone": backbone, "teacher": run.teacher}
            train(Options(**given, **flags, out=str(out), resume=(out / STATE).exists()))
        net, *_ = load_checkpoint(out)
        temporary = file.with_suffix(".part")
        source = f"distilled from {Path(run.teacher).name} on the training part, no ImageNet"
        temporary.write_bytes(save(net.backbone.state_dict(), {"source": source}))
        temporary.replace(file)
    return file


def train_network(plan: Plan, seed: int, run: Run, out: Path) -> dict:
    """Train one seed of a network, or go on with it, and say what came out."""
    if not (out / METRICS).exists():
        flags = {"data": run.data, "split": str(run.split), "out": str(out), "cache": str(run.out / "cache")}
        flags |= plan.flags | start_of(plan, run)
        train(Options(**flags, seed=seed, resume=(out / STATE).exists()))
    metrics = read_metrics(out)
    net, spec, _ = load_checkpoint(out)
    engine = TorchEngine(net, spec)
    return {
        "probabilities": metrics["test"]["probabilities"],
        "threshold": spec.threshold,
        "starting_weights": metrics["starting_weights"],
        "precision": metrics["training"]["precision"],
        "training_seconds": metrics["training"]["seconds"],
        **cost_of(net, spec.image_size),
        **timing_of(engine.run, spec.image_size),
    }


def train_classical(plan: Plan, seed: int, run: Run) -> dict:
    """Fit one seed of a classical learner and say what came out; its time is without the features'."""
    net, spec, source = deep_network()
    deep = plan.learner != "svm_hog"
    features = described(run.data, run.split, deep)
    truth = {part: abnormal for part, (_, abnormal) in parts_of(run.data, run.split).items()}
    learner = plan.learner.removesuffix("_hog")
    started = perf_counter()
    fitted = Fitted(learner, seed, features["train"], truth["train"], features["val"], truth["val"])
    seconds = perf_counter() - started
    describe = describer(deep)
    return {
        "probabilities": [round(float(p), 5) for p in fitted.probability(features["test"])],
        "threshold": fitted.threshold,
        "starting_weights": f"{source}, not trained further" if deep else "none",
        "precision": "float32",
        "training_seconds": round(seconds, 1),
        **(cost_of(net, spec.image_size) if deep else {"parameters": 0, "macs": 0}),
        **timing_of(lambda pixels: fitted.probability(describe(pixels)), spec.image_size),
    }


def combine(plan: Plan, seed: int, run: Run) -> dict:
    """The mean of its members' log-odds, calibrated anew on validation. Raises DataError."""
    files = [result_file(member, seed, run) for member in plan.members]
    if missing := [file.stem for file in files if not file.exists()]:
        raise DataError(
            f"Expected the members of {plan.name} to be finished; {', '.join(missing)} is not. "
            "Train them first: leave --rows out, or name them too."
        )
    members, metrics = zip(*((read_json(file), read_metrics(file.with_suffix(""))) for file in files))

    def log_odds(part: str) -> np.ndarray:
        stated = np.array([of_member[part]["probabilities"] for of_member in metrics])
        return logit(stated.clip(1e-5, 1 - 1e-5)).mean(0)

    on_val, val_abnormal = log_odds("validation"), np.array(metrics[0]["validation"]["abnormal"])
    temperature = fit_temperature(on_val, val_abnormal)
    sums = ("parameters", "macs", "latency_ms", "training_seconds")
    return {
        "probabilities": [round(float(p), 5) for p in expit(log_odds("test") / temperature)],
        "threshold": choose_threshold(on_val, val_abnormal, temperature),
        "starting_weights": "; ".join(dict.fromkeys(one["starting_weights"] for one in members)),
        "precision": "; ".join(dict.fromkeys(one["precision"] for one in members)),
        **{name: round(sum(one[name] for one in members), 2) for name in sums},
        "throughput": round(1 / sum(1 / one["throughput"] for one in members), 1),
    }


@cache
def deep_network():
    """The network whose pooled features the classical learners get, its spec and its source."""
    spec = ModelSpec(DEEP_FEATURES, "none")
    net = spec.build()
    return net, spec, load_starting_weights(net, DEEP_FEATURES, "imagenet")


def describer(deep: bool) -> Callable[[np.ndarray], np.ndarray]:
    """(N, size, size, 3) uint8 pixels -> (N, D) features: the deep network's pooled ones, or HOG."""
    net, spec, _ = deep_network()
    return (lambda pixels: predict(net, pixels, spec).embedding) if deep else hog_features


@cache
def described(data: str, split: Path, deep: bool) -> dict[str, np.ndarray]:
    """The features of every part, the same for all classical learners."""
    return {part: describer(deep)(pixels) for part, (pixels, _) in parts_of(data, split).items()}


@cache
def parts_of(data: str, split: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels and truth of every part, in the size of the deep features."""
    spec = deep_network()[1]
    images = load_images(
        read_data(data), partial(pixels_of, size=spec.image_size, interpolation=spec.interpolation)
    )
    row = {sha256: index for index, sha256 in enumerate(images.sha256)}
    rows = {part: [row[sha256] for sha256 in hashes] for part, hashes in read_split(split).items()}
    return {part: (images.pixels[r], images.abnormal[r]) for part, r in rows.items()}


def cost_of(net: ChipNet, image_size: int) -> dict[str, int]:
    """Parameters, and multiply-adds of one image."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(1, 3, image_size, image_size, device=next(net.parameters()).device))
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "macs": counter.get_total_flops() // 2,
    }


def timing_of(judge, image_size: int) -> dict[str, float]:
    """Milliseconds of one image and images a second in batches of 32; medians, on this machine."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, image_size, image_size, 3), np.uint8)

    def seconds(count: int, calls: int) -> float:
        times = []
        for _ in range(calls + 2):  # the first two warm up
            started = perf_counter()
            judge(pixels[:count])
            times.append(perf_counter() - started)
        return float(np.median(times[2:]))

    return {
        "latency_ms": round(1000 * seconds(1, TIMED), 2),
        "throughput": round(32 / seconds(32, TIMED // 4), 1),
    }


def finish(plan: Plan, seed: int, run: Run) -> None:
    """One seed of one row, unless it is there."""
    file = result_file(plan.id, seed, run)
    if file.exists():
        return
    print(f"{plan.name}, seed {seed}", flush=True)
    if plan.members:
        result = combine(plan, seed, run)
    elif plan.learner:
        result = train_classical(plan, seed, run)
    else:
        result = train_network(plan, seed, run, file.with_suffix(""))
    temporary = file.with_suffix(".part")
    write_json(temporary, result)
    temporary.replace(file)


def result_file(row: str, seed: int, run: Run) -> Path:
    """What a finished seed of a row left; its checkpoint is the folder of the same name."""
    return run.out / f"{row}-{seed}.json"


def row_of(plan: Plan, run: Run, abnormal: np.ndarray, results: dict[str, list[dict]]) -> Row:
    """A finished row. results: by plan's id, one a seed."""
    own = results[plan.id]
    seeds = []
    for seed, result in enumerate(own):
        metrics = measure(np.array(result["probabilities"]), abnormal, result["threshold"])
        seeds.append(
            SeedResult(
                seed,
                result["threshold"],
                tuple(result["probabilities"]),
                {name: metrics[name] for name in SHOWN},
                tuple(map(tuple, metrics["confusion"])),
            )
        )
    checkpoint = run.out / f"{plan.id}-0"
    return Row(
        id=plan.id,
        name=plan.name,
        source=plan.source,
        twin=plan.twin if plan.twin in results else None,
        starting_weights=own[0]["starting_weights"],
        precision=own[0]["precision"],
        parameters=own[0]["parameters"],
        macs=own[0]["macs"],
        latency_ms=float(np.median([result["latency_ms"] for result in own])),
        throughput=float(np.median([result["throughput"] for result in own])),
        training_seconds=round(float(np.mean([result["training_seconds"] for result in own])), 1),
        checkpoint=checkpoint.name if (checkpoint / METRICS).exists() else "",
        seeds=tuple(seeds),
        summary=summary_of(own, abnormal),
        versus_twin=difference_of(own, results[plan.twin], abnormal) if plan.twin in results else None,
    )


def summary_of(results: list[dict], abnormal: np.ndarray) -> dict[str, Summary]:
    """Every metric: mean and sd over the seeds, interval over the images."""

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


def difference_of(results: list[dict], twin: list[dict], abnormal: np.ndarray) -> Difference:
    """AUROC less the twin's, mean over the seeds, by a bootstrap over the images that both judge."""

    def area(runs: list[dict], rows: np.ndarray) -> float:
        return np.mean([auroc(np.array(one["probabilities"])[rows], abnormal[rows]) for one in runs])

    def difference(rows: np.ndarray) -> float:
        return area(results, rows) - area(twin, rows)

    differences = resampled(difference, abnormal, RESAMPLES)
    low, high = interval(differences)
    seeds = f"mean of {len(results)} and {len(twin)} seeds"
    return Difference(
        "auroc",
        float(difference(np.arange(len(abnormal)))),
        float(low),
        float(high),
        two_sided_p(differences),
        f"paired bootstrap over images, {seeds}",
    )


def report(run: Run) -> Path:
    """Write ablation.json, ablation.md and pictures of every row with a finished seed. Raises DataError."""
    images = load_images(
        read_data(run.data), partial(pixels_of, size=8, interpolation="bilinear"), tqdm_or_nothing
    )
    split = read_split(run.split)
    row = {sha256: index for index, sha256 in enumerate(images.sha256)}
    chosen = [row[sha256] for sha256 in split["test"]]
    abnormal = images.abnormal[chosen]
    results = {}
    for plan in PLANS:
        files = [result_file(plan.id, seed, run) for seed in range(plan.seeds)]
        if finished := [read_json(file) for file in files if file.exists()]:
            results[plan.id] = finished
    if not results:
        raise DataError(f"Expected a finished row in {run.out}; found none. Run without --report first.")
    data = read_data(run.data)
    ablation = Ablation(
        command=run.command,
        date=datetime.date.today().isoformat(),
        machine=f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, {device_name()}",
        data=DataUsed(
            data.name,
            data.license,
            f"{data.name}, test, {len(chosen):,} images",
            *(len(split[part]) for part in PARTS),
        ),
        images=Images(
            tuple(split["test"]),
            tuple(map(bool, abnormal)),
            tuple(images.samples[index].path.name for index in chosen),
        ),
        rows=tuple(
            row_of(plan, run, abnormal, results)
            for plan in tqdm([p for p in PLANS if p.id in results], disable=None, desc="bootstrap")
        ),
    )
    write_ablation(run.out / "ablation.json", ablation)
    (run.out / "ablation.md").write_text(table(ablation), encoding="utf-8")
    draw(ablation, run.out)
    return run.out / "ablation.json"


def ship(written: Path, folder: Path, name: str) -> Path:
    """The ablation for the app: folder/NAME.json, and the checkpoints of SHIPPED in folder/NAME/."""
    ablation, rows = read_ablation(written), []
    for row in ablation.rows:
        checkpoint = Path(os.path.relpath(DEFAULT_MODEL, folder)).as_posix() if row.id == DEFAULT else ""
        if row.id in SHIPPED and row.checkpoint:
            checkpoint = f"{name}/{row.id}"
            shutil.copytree(written.parent / row.checkpoint, folder / checkpoint, dirs_exist_ok=True)
        rows.append(replace(row, checkpoint=checkpoint))
    folder.mkdir(parents=True, exist_ok=True)
    write_ablation(folder / f"{name}.json", replace(ablation, rows=tuple(rows)))
    return folder / f"{name}.json"


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


tqdm_or_nothing = partial(tqdm, disable=None, leave=False)  # none where the output is a file


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="elpv", help="as of training/train.py (default: elpv)")
    parser.add_argument("--split", type=Path, help="split.json to keep to (default: divided 70/20/10)")
    parser.add_argument("--out", type=Path, help="default: runs/ablation/DATA")
    parser.add_argument(
        "--weights",
        type=Path,
        help="folder with BACKBONE.imagenet.safetensors, for where the Hub is out of reach",
    )
    parser.add_argument(
        "--teacher",
        default="",
        help="checkpoint that backbones without ImageNet weights within reach learn from before they start",
    )
    ids = [plan.id for plan in PLANS]
    parser.add_argument("--rows", nargs="+", choices=ids, default=ids, metavar="ROW", help=", ".join(ids))
    parser.add_argument("--seeds", type=int, help="at most so many of a row's seeds")
    parser.add_argument("--report", action="store_true", help="train nothing, report what is finished")
    parser.add_argument(
        "--ship", type=Path, metavar="FOLDER", help="bring what is finished to the app's FOLDER"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    out = options.out or Path("runs") / "ablation" / Path(options.data).stem
    out.mkdir(parents=True, exist_ok=True)
    command = shlex.join(
        ["python", "training/ablate.py", *(sys.argv[1:] if arguments is None else arguments)]
    )
    split = division(options.data, options.split, out)
    run = Run(command, options.data, split, out, options.weights, options.teacher)
    if not options.report:
        for seed in range(max(plan.seeds for plan in PLANS)):  # every row once before any row twice
            for plan in PLANS:
                if plan.id in options.rows and seed < min(plan.seeds, options.seeds or plan.seeds):
                    finish(plan, seed, run)
    written = report(run)
    print("wrote", written)
    if options.ship:
        print("wrote", ship(written, options.ship, out.name))


def division(data: str, given: Path | None, out: Path) -> Path:
    """One division for all rows: the given one, or a new one. Raises DataError if rows have another."""
    images = load_images(read_data(data), partial(pixels_of, size=8, interpolation="bilinear"))
    strata = {h: sample.stratum for h, sample in zip(images.sha256, images.samples)}
    known = read_split(given) if given else None
    split = split_by_hash(strata, known=known, groups=images.groups)
    path = out / SPLIT
    if path.exists() and read_split(path) != split:
        raise DataError(
            f"Expected the division of the finished rows, {path}; --split or the data have another. "
            "Choose another --out."
        )
    write_json(path, split)
    return path


if __name__ == "__main__":
    try:
        main()
    except ChipDemoError as error:
        sys.exit(f"error: {error}")
