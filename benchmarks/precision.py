"""What fewer bits cost and bring EfficientNet-Lite0 + CBAM in OpenVINO: single precision, bfloat16, 8 bits.

    python benchmarks/precision.py

Accuracy and AUROC on ELPV's test part, which chooses nothing here: the steps of the 8-bit network come from
300 training images. The time of one image is of the network alone, all in turn within one round;
bfloat16 only where the processor has it.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import openvino
from sklearn.metrics import roc_auc_score

from chipdemo.images import read_image
from chipdemo.inspection import ABNORMAL
from chipdemo.settings import LITE0_MODEL
from chipdemo.vision.checkpoint import SPLIT, read_json, write_json
from chipdemo.vision.runtimes.export import save_graph
from chipdemo.vision.transforms import pixels_of
from chipdemo.vision.weights import load_checkpoint
from training.sources import read_elpv

ROOT = Path(__file__).resolve().parent.parent
CALIBRATING = 300  # images
ROUNDS, WARM_UP = 60, 10


def request_of(folder: Path, precision: str) -> openvino.InferRequest:
    """One image at a time, in "f32" or "bf16"."""
    core = openvino.Core()
    model = core.read_model(folder / "model.xml")
    shape = model.input(0).partial_shape
    shape[0] = 1
    model.reshape(shape)
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    return core.compile_model(model, "CPU", hints).create_infer_request()


def times_of(requests: dict[str, openvino.InferRequest], pixels: np.ndarray) -> dict[str, float]:
    """Median milliseconds of one image."""
    times = {name: [] for name in requests}
    for number in range(ROUNDS + WARM_UP):
        one = pixels[number % len(pixels)][None]
        for name, request in requests.items():
            started = time.perf_counter()
            request.infer({"pixels": one}, share_inputs=True)
            if number >= WARM_UP:
                times[name].append((time.perf_counter() - started) * 1000)
    return {name: float(np.median(values)) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "precision.json")
    options = parser.parse_args()
    net, spec, info = load_checkpoint(LITE0_MODEL)
    split, shown = read_json(LITE0_MODEL / SPLIT), {}
    for sample in read_elpv().samples:
        decoded = read_image(sample.path)
        pixels = pixels_of(decoded.image, spec.image_size, spec.interpolation)
        shown[decoded.sha256] = pixels, sample.label == ABNORMAL
    train, test = ([shown[sha256] for sha256 in split[part]] for part in ("train", "test"))
    seen = [pixels for pixels, _ in train[:: len(train) // CALIBRATING][:CALIBRATING]]
    pixels, abnormal = np.stack([pixels for pixels, _ in test]), np.array([label for _, label in test])
    with tempfile.TemporaryDirectory() as folder:
        exact, coarse = Path(folder, "exact"), Path(folder, "coarse")
        save_graph(net, spec, info, exact, "openvino")
        save_graph(net, spec, info, coarse, "openvino", seen)
        requests = {"float32": request_of(exact, "f32"), "int8": request_of(coarse, "f32")}
        able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if "BF16" in able:
            requests["bfloat16"] = request_of(exact, "bf16")
        size_mb = {"float32": (exact / "model.bin").stat().st_size / 1e6}
        size_mb["int8"] = (coarse / "model.bin").stat().st_size / 1e6
    found = {
        name: np.array([request.infer({"pixels": one[None]})["probability"][0] for one in pixels])
        for name, request in requests.items()
    }
    times = times_of(requests, pixels)
    report = {
        "command": "python benchmarks/precision.py",
        "machine": f"{platform.machine()}, {', '.join(able)}",
        "images": len(pixels),
        "rows": {},
    }
    for name, values in found.items():
        verdicts, exactly = values >= spec.threshold, found["float32"] >= spec.threshold
        report["rows"][name] = {
            "one_image_ms": round(times[name], 2),
            "accuracy": round(float((verdicts == abnormal).mean()), 4),
            "auroc": round(float(roc_auc_score(abnormal, values)), 4),
            "other_verdicts": int((verdicts != exactly).sum()),
            "mean_difference": round(float(np.abs(values - found["float32"]).mean()), 4),
            **({"weights_mb": round(size_mb[name], 1)} if name in size_mb else {}),
        }
    write_json(options.report, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
