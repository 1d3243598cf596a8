"""One inspection by the Judge, in OpenVINO and in PyTorch, against bare networks and pytorch-grad-cam.

    python benchmarks/latency.py --model FOLDER [FOLDER ...]

Decoded image in; verdict, CAM, CBAM map and regions out. The script does with timm and
pytorch-grad-cam what a page needs: a forward and GradCAM. Single precision, batch 1. Every contestant
in turn within one round, so that a machine whose speed drifts is fair to all; each is called twice and
the second call is timed. Medians of ratios.
"""

import argparse
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import timm
import torch
from pytorch_grad_cam import GradCAM

from chipdemo.images import DecodedImage, read_image
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import DEFAULT_MODEL
from chipdemo.vision.checkpoint import write_json
from chipdemo.vision.predictor import load_model
from chipdemo.vision.runtimes.graph import openvino_run
from chipdemo.vision.transforms import normalize, pixels_of
from training.sources import read_elpv

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 10  # rounds that are not timed
GRAPHS = ROOT / "runs" / "graphs"
FAST, EAGER = "Judge, OpenVINO", "Judge, PyTorch"


def contestants(model: str) -> dict[str, Callable[[DecodedImage], object]]:
    """By name: a function of one image."""
    fast, eager = (load_model(model, runtime=runtime, graphs=GRAPHS) for runtime in ("openvino", "torch"))
    spec = eager.spec
    bare = alone(spec.backbone)
    packed = alone(spec.backbone).to(memory_format=torch.channels_last)
    batch = torch.randn(1, 3, spec.image_size, spec.image_size)
    packed_batch = batch.to(memory_format=torch.channels_last)
    bare_graph, numbers = exported(bare, batch), {"batch": batch.numpy()}

    def prepared(image):
        pixels = pixels_of(image, spec.image_size, spec.interpolation)[None]
        return normalize(torch.from_numpy(pixels), spec.mean, spec.std)

    def script(decoded):
        image = decoded.image
        with GradCAM(bare, [bare.get_submodule(bare.feature_info[-1]["module"])]) as cam:
            heat = cam(prepared(image), targets=[lambda logits: logits[1] - logits[0]])
        return forward(bare, prepared(image)).softmax(1), heat

    def forward(network, given):
        with torch.inference_mode():
            return network(given)

    return {
        FAST: Judge(Models(fast)).inspect,
        EAGER: Judge(Models(eager)).inspect,
        "bare forward, OpenVINO": lambda _: bare_graph(numbers),
        "bare forward, timm": lambda _: forward(bare, batch),
        "bare forward, timm, channels last": lambda _: forward(packed, packed_batch),
        "timm + pytorch-grad-cam script": script,
    }


def alone(backbone: str) -> torch.nn.Module:
    """A backbone with its own classifier; those that timm lacks have none, and give their features."""
    net = timm.create_model(backbone, num_classes=2).eval()
    if backbone.startswith("chip_"):  # see chipdemo.vision.backbones
        net.forward = lambda batch: net.forward_features(batch).mean((2, 3))
    return net


def exported(net: torch.nn.Module, batch: torch.Tensor) -> Callable:
    """A network in OpenVINO, as our own graphs are run."""
    stream = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (batch,), stream, input_names=["batch"], opset_version=18, dynamo=False)
    return openvino_run(stream.getvalue())


def measured(model: str, rounds: int) -> dict:
    """Medians of every contestant, and of the ratios of the Judge to the others."""
    runs = contestants(model)
    images = [read_image(sample.path) for sample in read_elpv().samples[: rounds + WARM_UP]]
    times = {name: [] for name in runs}
    for number, image in enumerate(images):
        for name, run in runs.items():
            run(image)  # wakes its threads: another library's were at work before
            started = time.perf_counter()
            run(image)
            if number >= WARM_UP:
                times[name].append((time.perf_counter() - started) * 1000)
    times = {name: np.array(values) for name, values in times.items()}

    def over(ours: str) -> dict[str, float]:
        return {name: float(np.median(times[ours] / times[name]).round(3)) for name in times if name != ours}

    return {
        "median_ms": {name: round(float(np.median(values)), 2) for name, values in times.items()},
        f"{FAST}, over": over(FAST),
        f"{EAGER}, over": over(EAGER),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", default=[str(DEFAULT_MODEL)])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "latency.json")
    options = parser.parse_args()
    report = {
        "command": " ".join(["python benchmarks/latency.py", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "rounds": options.rounds,
        "models": {Path(model).name: measured(model, options.rounds) for model in options.model},
    }
    write_json(options.report, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
