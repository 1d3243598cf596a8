"""One call of the inspector against the bare network and against pytorch-grad-cam.

    python benchmarks/latency.py --model FOLDER [FOLDER ...]

Decoded photograph in; verdict, evidence, CBAM map and regions out. Batch 1, every contestant in
turn within one round, so that a machine whose speed drifts is fair to all. Medians of ratios.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import timm
import torch
from pytorch_grad_cam import GradCAM

ROOT = Path(__file__).resolve().parent.parent
import sys  # noqa: E402

sys.path.insert(0, str(ROOT))

from chipdemo.images import read_photograph  # noqa: E402
from chipdemo.settings import DEFAULT_MODEL  # noqa: E402
from chipdemo.vision.checkpoint import write_json  # noqa: E402
from chipdemo.vision.inspector import load_inspector  # noqa: E402
from chipdemo.vision.transforms import normalise, pixels_of  # noqa: E402
from training.sources import read_elpv  # noqa: E402

WARM_UP = 10  # rounds that are not timed


def contestants(model: str) -> dict:
    """By name: a function of one photograph."""
    inspector = load_inspector(model)
    spec = inspector.spec
    bare = timm.create_model(spec.backbone, num_classes=2).eval()
    packed = timm.create_model(spec.backbone, num_classes=2).eval().to(memory_format=torch.channels_last)
    batch = torch.randn(1, 3, spec.image_size, spec.image_size)
    packed_batch = batch.to(memory_format=torch.channels_last)

    def prepared(image):
        pixels = pixels_of(image, spec.image_size, spec.interpolation)[None]
        return normalise(torch.from_numpy(pixels), spec.mean, spec.std)

    def grad_cam(image):
        with GradCAM(bare, [bare.get_submodule(bare.feature_info[-1]["module"])]) as cam:
            return cam(prepared(image), targets=[lambda logits: logits[1] - logits[0]])

    def forward(network, given):
        with torch.inference_mode():
            return network(given)

    return {
        "inspector": inspector.inspect,
        "bare timm forward": lambda _: forward(bare, batch),
        "bare timm forward, channels last": lambda _: forward(packed, packed_batch),
        "pytorch-grad-cam GradCAM": grad_cam,
    }


def measured(model: str, rounds: int) -> dict:
    """Medians of every contestant, and of the inspector's ratio to each of the others."""
    runs = contestants(model)
    images = [read_photograph(sample.path).image for sample in read_elpv().samples[: rounds + WARM_UP]]
    times = {name: [] for name in runs}
    for number, image in enumerate(images):
        for name, run in runs.items():
            started = time.perf_counter()
            run(image)
            if number >= WARM_UP:
                times[name].append((time.perf_counter() - started) * 1000)
    ours = np.array(times.pop("inspector"))
    return {
        "inspector_ms": round(float(np.median(ours)), 2),
        "median_ms": {name: round(float(np.median(values)), 2) for name, values in times.items()},
        "inspector_over": {name: round(float(np.median(ours / values)), 3) for name, values in times.items()},
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
