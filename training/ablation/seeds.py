"""Training one seed of a row of an ablation, and its result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from scipy.special import logit
from torch.utils.flop_counter import FlopCounterMode

from chipdemo.errors import DataError
from chipdemo.vision.checkpoint import METRICS, ModelSpec, read_json, read_metrics, write_json
from chipdemo.vision.model import ChipNet
from chipdemo.vision.runtimes.pytorch import TorchEngine
from chipdemo.vision.transforms import pixels_of
from chipdemo.vision.weights import load_checkpoint
from training.ablation.plans import SCRATCH, START, Plan
from training.calibration import THRESHOLD, fit_calibration
from training.classical import Fitted, hog_features
from training.data import load_images
from training.options import Options
from training.predict import predict
from training.resume import STATE
from training.sources import read_data
from training.splits import read_split
from training.starting_weights import load_starting_weights
from training.train import build, train

DEEP_FEATURES = "chip_resnet50"  # whose pooled ImageNet features the classical learners get ...
WITHOUT_WEIGHTS = "tf_efficientnet_lite0"  # ... and these where its weights are not in the folder
TIMED = 20  # calls that a latency is the median of


@dataclass(frozen=True)
class Run:
    """What all rows of an ablation share.

    command: that made it. data, split: as of training/train.py. out: folder of all results. weights: folder
    with BACKBONE.imagenet.safetensors, or None. teacher: a checkpoint, or "".
    """

    command: str
    data: str
    split: Path
    out: Path
    weights: Path | None
    teacher: str


def start_of(plan: Plan, run: Run) -> dict[str, str | int]:
    """Flags for the starting weights: ImageNet from a file, a package or the Hub, else distilled.

    Distilled weights are trained further at the image size of the distillation. Without ImageNet weights
    and a teacher the whole network is trained from random weights.
    """
    backbone = plan.flags["backbone"]
    if "init" in plan.flags:
        return {}
    if file := weights_file(backbone, run):
        return {"init": str(file)}
    try:
        load_starting_weights(ChipNet(backbone, "none"), backbone, "imagenet")
    except DataError:
        if not run.teacher:
            return SCRATCH
        size = (START | plan.start)["image_size"]
        return {"init": str(distilled_start(plan, run)), "image_size": size}
    return {"init": "imagenet"}


def weights_file(backbone: str, run: Run) -> Path | None:
    """The file with the ImageNet weights of a backbone, in the folder of the run."""
    name = f"{backbone.removeprefix('chip_')}.imagenet.safetensors"
    return run.weights / name if run.weights and (run.weights / name).exists() else None


def distilled_start(plan: Plan, run: Run) -> Path:
    """Weights of a backbone distilled from the teacher on the training split, once for all rows and seeds."""
    backbone = plan.flags["backbone"]
    file, out = run.out / f"{backbone}.distilled.safetensors", run.out / f"{backbone}-start"
    if not file.exists():
        flags = START | plan.start
        print(f"{backbone}, starting weights: {flags}", flush=True)
        if not (out / METRICS).exists():
            given = {"data": run.data, "split": str(run.split), "backbone": backbone, "teacher": run.teacher}
            train(Options(**given, **flags, linear="off", out=str(out), resume=(out / STATE).exists()))
        net, *_ = load_checkpoint(out)
        temporary = file.with_suffix(".part")
        source = f"distilled from {Path(run.teacher).name} on the training split, no ImageNet"
        temporary.write_bytes(save(net.backbone.state_dict(), {"source": source}))
        temporary.replace(file)
    return file


def train_network(plan: Plan, seed: int, run: Run, out: Path) -> dict:
    """Train one seed of a network, or continue with it; returns its result."""
    if not (out / METRICS).exists():
        flags = {"data": run.data, "split": str(run.split), "out": str(out), "cache": str(run.out / "cache")}
        flags |= plan.flags | start_of(plan, run)
        train(Options(**flags, linear="off", seed=seed, resume=(out / STATE).exists()))
    metrics = read_metrics(out)
    net, spec, _ = load_checkpoint(out)
    engine = TorchEngine(net, spec)
    return {
        "probabilities": metrics["test"]["probabilities"],
        "threshold": spec.threshold,
        "starting_weights": metrics["starting_weights"],
        "precision": metrics["training"]["precision"],
        "training_seconds": metrics["training"]["seconds"],
        "trained_on": metrics["training"].get("device", "CPU"),
        **cost_of(net, spec.image_size),
        **timing_of(engine.run, spec.image_size),
    }


def train_classical(plan: Plan, seed: int, run: Run) -> dict:
    """Fit one seed of a classical learner; returns its result. Its time is that without the features."""
    net, spec, source = deep_network(run)
    deep = plan.learner != "svm_hog"
    features = features_of(run, deep)
    truth = {split: abnormal for split, (_, abnormal) in pixels_and_truth(run).items()}
    learner = plan.learner.removesuffix("_hog")
    started = perf_counter()
    fitted = Fitted(learner, seed, features["train"], truth["train"], features["val"], truth["val"])
    seconds = perf_counter() - started
    extract = extractor(run, deep)
    return {
        "probabilities": [round(float(p), 5) for p in fitted.probability(features["test"])],
        "threshold": fitted.threshold,
        "starting_weights": f"{source}, not trained further" if deep else "none",
        "precision": "float32",
        "training_seconds": round(seconds, 1),
        **(cost_of(net, spec.image_size) if deep else {"parameters": 0, "macs": 0}),
        **timing_of(lambda pixels: fitted.probability(extract(pixels)), spec.image_size),
    }


def combine(plan: Plan, seed: int, run: Run) -> dict:
    """An ensemble: the mean of its members' log-odds, calibrated on validation. Raises DataError."""
    files = [result_file(member, seed, run) for member in plan.members]
    if missing := [file.stem for file in files if not file.exists()]:
        raise DataError(
            f"{plan.name} needs its members, which are not trained: {', '.join(missing)}. Add them to "
            "--rows, or leave --rows out."
        )
    members, metrics = zip(*((read_json(file), read_metrics(file.with_suffix(""))) for file in files))

    def log_odds(split: str) -> np.ndarray:
        """(N,)"""
        probabilities = np.array([of_member[split]["probabilities"] for of_member in metrics])  # (members, N)
        return logit(probabilities.clip(1e-5, 1 - 1e-5)).mean(0)

    on_val, val_abnormal = log_odds("validation"), np.array(metrics[0]["validation"]["abnormal"])
    calibration = fit_calibration(on_val, val_abnormal)
    sums = ("parameters", "macs", "latency_ms", "training_seconds")
    return {
        "probabilities": [round(float(p), 5) for p in calibration.probability(log_odds("test"))],
        "threshold": THRESHOLD,
        "starting_weights": "; ".join(dict.fromkeys(one["starting_weights"] for one in members)),
        "precision": "; ".join(dict.fromkeys(one["precision"] for one in members)),
        **{name: round(sum(one[name] for one in members), 2) for name in sums},
        "throughput": round(1 / sum(1 / one["throughput"] for one in members), 1),
    }


@cache
def deep_network(run: Run) -> tuple[ChipNet, ModelSpec, str]:
    """The network whose pooled features the classical learners get, its spec and its starting weights."""
    file = weights_file(DEEP_FEATURES, run)
    backbone = DEEP_FEATURES if file else WITHOUT_WEIGHTS
    net, spec = build(Options(backbone=backbone, attention="none"), None)
    return net, spec, load_starting_weights(net, backbone, str(file or "imagenet"))


def extractor(run: Run, deep: bool) -> Callable[[np.ndarray], np.ndarray]:
    """(N, size, size, 3) uint8 pixels -> (N, D) features: the deep network's pooled ones, or HOG."""
    net, spec, _ = deep_network(run)
    return (lambda pixels: predict(net, pixels, spec).embedding) if deep else hog_features


@cache
def features_of(run: Run, deep: bool) -> dict[str, np.ndarray]:
    """The features of every split, the same for all classical learners."""
    return {name: extractor(run, deep)(pixels) for name, (pixels, _) in pixels_and_truth(run).items()}


@cache
def pixels_and_truth(run: Run) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    """(N, size, size, 3) uint8 and (N,) bool of every split, in the size of the deep network."""
    spec = deep_network(run)[1]
    images = load_images(
        read_data(run.data), partial(pixels_of, size=spec.image_size, interpolation=spec.interpolation)
    )
    row = {sha256: index for index, sha256 in enumerate(images.sha256)}
    rows = {name: [row[sha256] for sha256 in hashes] for name, hashes in read_split(run.split).items()}
    return {name: (images.pixels[r], images.abnormal[r]) for name, r in rows.items()}


def cost_of(net: ChipNet, image_size: int) -> dict[str, int]:
    """The number of parameters, and of multiply-adds for one image."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(1, 3, image_size, image_size, device=next(net.parameters()).device))
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "macs": counter.get_total_flops() // 2,
    }


def timing_of(predict_pixels: Callable[[np.ndarray], Any], image_size: int) -> dict[str, float]:
    """Milliseconds for one image, and images a second in batches of 32; medians, on this machine."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, image_size, image_size, 3), np.uint8)

    def seconds(count: int, calls: int) -> float:
        times = []
        for _ in range(calls + 2):  # the first two warm up
            started = perf_counter()
            predict_pixels(pixels[:count])
            times.append(perf_counter() - started)
        return float(np.median(times[2:]))

    return {
        "latency_ms": round(1000 * seconds(1, TIMED), 2),
        "throughput": round(32 / seconds(32, TIMED // 4), 1),
    }


def finish(plan: Plan, seed: int, run: Run) -> None:
    """Train one seed of a row and write its result, unless that exists."""
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
    """The result of a finished seed; its checkpoint is the folder of the same name."""
    return run.out / f"{row}-{seed}.json"
