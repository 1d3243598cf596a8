"""One inspection by the Judge, in OpenVINO and in PyTorch, against bare networks and pytorch-grad-cam.

    python benchmarks/latency.py --model FOLDER [FOLDER ...]

Then what each step costs, from the bytes of a file to JSON: of ELPV images, and of a JPEG of 24 megapixels
that is inspected as a whole. The report keeps what was measured under other names.

Decoded image in; verdict, CAM, CBAM map and regions out. The script does with timm and
pytorch-grad-cam what a page needs: a forward and GradCAM. Single precision, batch 1. Every contestant
in turn within one round, so that a machine whose speed drifts is fair to all; each is called twice and
the second call is timed. Medians of ratios.
"""

import chipdemo  # noqa: F401, I001 - before numpy: it sets the threads of OpenBLAS

import argparse
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import timm
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM

import chipdemo.vision.backbones  # noqa: F401 - timm knows them then
from chipdemo.images import DecodedImage, content_sha256, read_image
from chipdemo.inspection import INVERSE, Inspection
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import DEFAULT_MODEL, LITE0_MODEL, TRANSISTOR_MODEL
from chipdemo.vision.checkpoint import read_json, write_json
from chipdemo.vision.predictor import load_model
from chipdemo.vision.transforms import normalize, pixels_of
from training.sources import read_elpv

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 3  # rounds that are not timed
LARGE, NOISE, QUALITY = (6000, 4000), 2, 90  # the large JPEG: size, standard deviation of its noise, JPEG's
GRAPHS = ROOT / "runs" / "graphs"
CLOCKS = {"clock": time.perf_counter, "processor": time.process_time}  # the second hardly sees other work
FAST, EAGER = "Judge, OpenVINO", "Judge, PyTorch"


def contestants(model: str) -> dict[str, Callable[[DecodedImage], object]]:
    """By name: a function of one image."""
    fast = load_model(model, runtime="openvino", graphs=GRAPHS, precision="auto")
    eager = load_model(model)
    spec = eager.spec
    bare = alone(spec.backbone)
    packed = alone(spec.backbone).to(memory_format=torch.channels_last)
    batch = torch.randn(1, 3, spec.image_size, spec.image_size)
    packed_batch = batch.to(memory_format=torch.channels_last)
    bare_graph = Bare(spec.backbone, spec.image_size, precision_of(fast))

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
        "bare forward, OpenVINO": lambda _: bare_graph.one(),
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


def exported(net: torch.nn.Module, batch: torch.Tensor) -> bytes:
    """A network as an ONNX file."""
    stream = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (batch,), stream, input_names=["batch"], opset_version=18, dynamo=False)
    return stream.getvalue()


class Bare:
    """A backbone alone in OpenVINO. precision: "f32" or "bf16", as the app has it."""

    def __init__(self, backbone: str, image_size: int, precision: str):
        core = openvino.Core()
        batch = torch.randn(1, 3, image_size, image_size)
        model = core.read_model(exported(alone(backbone), batch))
        model.reshape([1, 3, image_size, image_size])
        self.numbers = {"batch": batch.numpy()}
        hints = {"INFERENCE_PRECISION_HINT": precision}
        self.single = core.compile_model(model, "CPU", hints | {"PERFORMANCE_HINT": "LATENCY"})
        self.streams = core.compile_model(model, "CPU", hints | {"PERFORMANCE_HINT": "THROUGHPUT"})

        self.request = self.single.create_infer_request()

    def one(self) -> None:
        """One image, on all cores."""
        self.request.infer(self.numbers, share_inputs=True)

    def one_ms(self, rounds: int = 100) -> float:
        """Median of one image at a time."""
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            self.one()
            times.append(1000 * (time.perf_counter() - started))
        return float(np.median(times))

    def per_second(self, seconds: float) -> float:
        """Images, the faster of one stream and several."""
        rates = []
        for compiled in (self.single, self.streams):
            queue, count = openvino.AsyncInferQueue(compiled), 0
            started = time.perf_counter()
            while time.perf_counter() - started < seconds / 2:
                queue.start_async(self.numbers, share_inputs=True)
                count += 1
            queue.wait_all()
            rates.append(count / (time.perf_counter() - started))
        return max(rates)


def precision_of(model) -> str:
    """The precision of a loaded model's backbone, as Bare has it."""
    return "bf16" if "bfloat16" in model.info.runtime else "f32"


def measured(model: str, rounds: int, quick: bool) -> dict:
    """Medians of every contestant, and of the ratios of the Judge to the others. quick: of OpenVINO alone."""
    runs = {name: run for name, run in contestants(model).items() if "OpenVINO" in name or not quick}
    images = [read_image(sample.path) for sample in read_elpv().samples[: rounds + WARM_UP]]
    times = {name: [] for name in runs}
    for image in images:
        for name, run in runs.items():
            run(image)  # wakes its threads: another library's were at work before
            _, ms = timed(run, image)
            times[name].append(ms)
    times = {name: np.array(values[WARM_UP:]) for name, values in times.items()}  # (rounds, clocks)
    over = {
        f"{ours}, over": medians({name: times[ours] / times[name] for name in times if name != ours}, 3)
        for ours in (FAST, EAGER)
        if ours in times
    }
    return {"median_ms": medians(times)} | over


def timed(run: Callable[..., Any], *arguments: Any) -> tuple[Any, list[float]]:
    """What it gives, and the milliseconds that it took by each of CLOCKS."""
    started = [now() for now in CLOCKS.values()]
    result = run(*arguments)
    return result, [1000 * (now() - start) for now, start in zip(CLOCKS.values(), started)]


def medians(times: Mapping[str, np.ndarray], digits: int = 2) -> dict[str, dict[str, float]]:
    """By clock and name. times: (rounds, clocks)."""
    return {
        clock: {name: round(float(np.median(values[:, index])), digits) for name, values in times.items()}
        for index, clock in enumerate(CLOCKS)
    }


def large_jpeg() -> bytes:
    """An image of a chip, enlarged, with noise as a camera's."""
    image = next(iter(sorted((TRANSISTOR_MODEL / "examples").glob("*.jpg"))))
    width, height = LARGE
    with Image.open(image) as chip:
        square = chip.convert("RGB").resize((width, width), Image.Resampling.BICUBIC)
    pixels = np.asarray(square.crop((0, (width - height) // 2, width, (width + height) // 2)), np.float32)
    noise = np.random.default_rng(0).standard_normal(pixels.shape, np.float32)
    noisy = np.clip(pixels + NOISE * noise, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(stream := BytesIO(), "JPEG", quality=QUALITY)
    return stream.getvalue()


def steps(source: str, contents: Sequence[bytes], rounds: int, all_pixels: bool) -> dict:
    """Milliseconds of each step of an inspection as a whole, by clock. all_pixels: all are decoded."""
    model = load_model(source, runtime="openvino", graphs=GRAPHS, precision="auto")
    judge = Judge(Models(model))
    times: dict[str, list[list[float]]] = {}

    def step(name: str, run: Callable[..., Any], *arguments: Any) -> Any:
        result, ms = timed(run, *arguments)
        times.setdefault(name, []).append(ms)
        return result

    def read(content: bytes) -> DecodedImage:
        return read_image(content) if all_pixels else judge.read(content, tiles=False)

    def to_json(inspection: Inspection) -> str:
        return json.dumps(inspection.to_json())

    def one(content: bytes) -> None:
        step("bytes to JSON", lambda: to_json(judge.inspect(read(content), tiles=False)))
        decoded = step("decode and hash", read, content)
        if all_pixels:
            step("hash alone", content_sha256, decoded.image)
        prepared = step("resize", lambda: judge.prepare(decoded, tiles=False))
        view = prepared.candidates[0].view
        model.predict([view])  # wakes its threads
        step("network", lambda: model.engine.run(view.pixels[None], patches=False))
        step("network, heatmaps", model.predict, [view])
        (inspection,) = step("network, heatmaps, regions", judge.inspect_batch, [prepared])
        step("JSON", to_json, inspection)

    def one_with_memory(content: bytes) -> None:
        view = judge.prepare(read(content), tiles=False).candidates[0].view
        model.predict([view], [INVERSE])
        step("network, patches", model.engine.run, view.pixels[None])
        step("network, patches, heatmaps, inverse matching", model.predict, [view], [INVERSE])

    # one after the other: the graphs with and without patches would push each other out of the cache
    for run in (one, one_with_memory) if INVERSE in model.methods else (one,):
        for number in range(rounds + WARM_UP):
            run(contents[number % len(contents)])
    return medians({name: np.array(values[WARM_UP:]) for name, values in times.items()})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", default=[str(LITE0_MODEL), str(DEFAULT_MODEL)])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="leave PyTorch out")
    parser.add_argument("--name", default="now", help="of these figures in the report")
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "latency.json")
    options = parser.parse_args()
    elpv = [sample.path.read_bytes() for sample in read_elpv().samples[: options.rounds]]
    large, few = [large_jpeg()], max(options.rounds // 4, 1)
    found = {
        "command": " ".join(["python benchmarks/latency.py", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "rounds": options.rounds,
        "large_jpeg_megabytes": round(len(large[0]) / 1e6, 1),
        "models": {
            Path(model).name: measured(model, options.rounds, options.quick)
            | {
                "steps_ms": steps(model, elpv, options.rounds, all_pixels=True),
                "steps_of_24_megapixels_ms": steps(model, large, few, all_pixels=False),
                "steps_of_24_megapixels_all_decoded_ms": steps(model, large, few, all_pixels=True),
            }
            for model in options.model
        },
    }
    kept = read_json(options.report) if options.report.exists() else {}
    report = kept | {options.name: found}
    write_json(options.report, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
