"""What fewer bits cost and bring in OpenVINO: single precision, bfloat16, 8 bits.

    python benchmarks/precision.py --transistors FOLDER
    python benchmarks/precision.py --model FOLDER --data DATA --record

Of the shipped ResNet-50 + CBAM and of EfficientNet-Lite0 + CBAM on ELPV, and of the model that was taught
transistors on the test images of MVTec AD (FOLDER has good/ and a folder for each defect), half of them
as a validation split. Only the backbone is in fewer bits; attention, head, distance and maps stay in
single precision. bfloat16 only where the processor has it. The steps of the 8-bit backbone, one scale a
channel, come from 300 training images, or from the validation images of the taught model.

A precision holds where, on the validation split, at most 1 % of the outcomes (normal, abnormal, out of
distribution) differ from single precision and the AUROC falls by at most 0.002. Of what holds, the test split
is read too; it chooses nothing. A memory bank that only explains is left out. The time of one image is of the
network alone, all in turn within one round. --record writes what bfloat16 did on validation into metrics.json
of each model, by which --precision auto goes.
"""

import argparse
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nncf
import numpy as np
import openvino
from sklearn.metrics import roc_auc_score

from chipdemo.images import DecodedImage, read_image
from chipdemo.inspection import ABNORMAL, Inspection
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import BFLOAT16, DEFAULT_MODEL, FLOAT32, LITE0_MODEL, TRANSISTOR_MODEL
from chipdemo.vision.checkpoint import GRAPH, HEAD, SPLIT, read_json, write_json
from chipdemo.vision.predictor import NetworkModel, load_model
from chipdemo.vision.runtimes.export import write_graph
from chipdemo.vision.runtimes.graph import GraphEngine
from chipdemo.vision.runtimes.precision import (
    MEASURED,
    backbone_and_rest,
    holds,
)
from training.record import record
from training.sources import read_data

ROOT = Path(__file__).resolve().parent.parent
INT8 = "int8"
CALIBRATING = 300  # images
ROUNDS, WARM_UP = 40, 10


class Shown(NamedTuple):
    """An image of a split."""

    image: DecodedImage
    abnormal: bool


def splits_of(folder: Path, data: str) -> dict[str, list[Shown]]:
    """train, val and test of a trained model."""
    by_sha256 = {}
    for sample in read_data(data).samples:
        image = read_image(sample.content or sample.path)
        by_sha256[image.sha256] = Shown(image, sample.label == ABNORMAL)
    return {split: [by_sha256[one] for one in names] for split, names in read_json(folder / SPLIT).items()}


def halves_of(folder: Path) -> dict[str, list[Shown]]:
    """val and test of the images of a folder with a folder for each kind."""
    files = [path for path in folder.glob("*/*") if path.suffix in (".png", ".jpg")]
    found = [Shown(read_image(path), path.parent.name != "good") for path in files]
    found.sort(key=lambda one: one.image.sha256)
    return {"train": found[::2], "val": found[::2], "test": found[1::2]}


def in_8_bits(folder: Path, seen: Sequence[np.ndarray]) -> GraphEngine:
    """The engine of a checkpoint folder, whose backbone is quantized by NNCF. seen: pixels of images."""
    logging.getLogger("nncf").setLevel(logging.ERROR)
    core = openvino.Core()
    model = core.read_model(folder / GRAPH)
    shape = model.input(0).partial_shape
    shape[0] = 1
    model.reshape(shape)
    backbone, rest = backbone_and_rest(model)
    examples = nncf.Dataset([{"pixels": pixels[None]} for pixels in seen])
    preset = nncf.QuantizationPreset.MIXED
    # cloned, since NNCF follows shared constants into the rest
    backbone = nncf.quantize(backbone.clone(), examples, preset=preset, subset_size=len(seen))
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    first, second = (
        core.compile_model(part, "CPU", hints).create_infer_request() for part in (backbone, rest)
    )

    def one(pixels: np.ndarray) -> dict[str, np.ndarray]:
        first.infer({"pixels": pixels}, share_outputs=True)
        for index, tensor in enumerate(first.output_tensors):
            second.set_input_tensor(index, tensor)
        return {name: values for output, values in second.infer().items() for name in output.get_names()}

    def run(inputs: dict[str, np.ndarray], patches: bool = True) -> dict[str, np.ndarray]:
        found = [one(pixels[None]) for pixels in inputs["pixels"]]
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}

    return GraphEngine(run, load_torch=lambda: None)


def contestants(source: Path, seen: Sequence[np.ndarray]) -> dict[str, NetworkModel]:
    """By precision."""
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(shutil.copytree(source, Path(parent, source.name)))
        write_graph(folder)
        load = partial(load_model, str(folder), runtime="openvino")
        found = {FLOAT32: load(precision=FLOAT32)}
        if "BF16" in able:
            found[BFLOAT16] = load(precision=BFLOAT16)
        found[INT8] = load(precision=FLOAT32)
        found[INT8].engine = in_8_bits(folder, seen)
    if found[FLOAT32].spec.verdict_by == HEAD:
        return {name: NetworkModel(one.engine, one.spec, one.info) for name, one in found.items()}
    return found


def inspected(model: NetworkModel, images: Sequence[Shown]) -> list[Inspection]:
    judge = Judge(Models(model))
    return [judge.inspect(one.image, tiles=False) for one in images]


def row_of(ours: list[Inspection], exact: list[Inspection], abnormal: np.ndarray) -> dict:
    """Of one precision on one split, against single precision."""

    def auroc(found: list[Inspection]) -> float:
        return float(roc_auc_score(abnormal, [one.log_odds for one in found]))

    def most(of: Callable[[Inspection], float]) -> float:
        return round(max(abs(of(one) - of(other)) for one, other in zip(ours, exact)), 4)

    def others(of: Callable[[Inspection], object]) -> int:
        return sum(of(one) != of(other) for one, other in zip(ours, exact))

    heats = [
        abs(one.heatmaps[name] - other.heatmaps[name]).mean()
        for one, other in zip(ours, exact)
        for name in one.heatmaps
    ]
    right = [(one.verdict == ABNORMAL) == bool(is_so) for one, is_so in zip(ours, abnormal)]
    return {
        "images": len(ours),
        "accuracy": round(float(np.mean(right)), 4),
        "auroc": round(auroc(ours), 4),
        "auroc_loss": round(auroc(exact) - auroc(ours), 4),
        "other_verdicts": others(lambda one: one.verdict),
        "other_outcomes": others(lambda one: one.outcome),
        "most_change_of_probability": most(lambda one: one.abnormal_probability),
        "most_change_of_distance": most(lambda one: one.distance),
        "mean_change_of_heat": round(float(np.mean(heats)), 4),
    }


def times_of(models: dict[str, NetworkModel], pixels: np.ndarray) -> dict[str, float]:
    """Median milliseconds of the network for one image."""
    times = {name: [] for name in models}
    for number in range(ROUNDS + WARM_UP):
        one = pixels[number % len(pixels)][None]
        for name, model in models.items():
            started = time.perf_counter()
            model.engine.run(one)
            if number >= WARM_UP:
                times[name].append((time.perf_counter() - started) * 1000)
    return {name: round(float(np.median(values)), 2) for name, values in times.items()}


def measured(folder: Path, splits: dict[str, list[Shown]]) -> dict:
    """By precision: the time of an image, whether it is used, and a row of each split."""
    spec = load_model(str(folder), runtime="openvino").spec
    train = splits["train"]
    seen = [
        np.asarray(one.image.image.convert("RGB").resize((spec.image_size,) * 2))
        for one in train[:: max(len(train) // CALIBRATING, 1)][:CALIBRATING]
    ]
    models = contestants(folder, seen)
    times = times_of(models, np.stack(seen))
    report = {name: {"one_image_ms": times[name], "holds": True} for name in models}
    for split in ("val", "test"):
        abnormal = np.array([one.abnormal for one in splits[split]])
        found = {
            name: inspected(model, splits[split]) for name, model in models.items() if report[name]["holds"]
        }
        for name, inspections in found.items():
            row = report[name][split] = row_of(inspections, found[FLOAT32], abnormal)
            report[name]["holds"] &= split == "test" or holds(row)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", type=Path, default=[DEFAULT_MODEL, LITE0_MODEL])
    parser.add_argument("--data", default="elpv")
    parser.add_argument("--transistors", type=Path)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "precision.json")
    options = parser.parse_args()
    given = [(folder, partial(splits_of, folder, options.data)) for folder in options.model]
    if options.transistors:
        given.append((TRANSISTOR_MODEL, partial(halves_of, options.transistors)))
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    report = {
        "command": " ".join(["python benchmarks/precision.py", *sys.argv[1:]]),
        "processor": f"{openvino.Core().get_property('CPU', 'FULL_DEVICE_NAME')}: {', '.join(able)}",
        "models": {},
    }
    for folder, splits in given:
        rows = report["models"][folder.name] = measured(folder, splits())
        if options.record and BFLOAT16 in rows:
            record(folder, MEASURED, {"split": "validation", **rows[BFLOAT16]["val"]})
        print(folder.name, json.dumps(rows, indent=1), flush=True)
    write_json(options.report, report)


if __name__ == "__main__":
    main()
