"""A batch of images: images per second, memory, and what limits them, beside other ways to do it.

    python benchmarks/batch.py                # all of it: about half an hour on 2 cores
    python benchmarks/batch.py --images 100 --memory 100 200    # a quick try
    python benchmarks/batch.py --ray          # and the same images on Ray, 2 workers on this machine

Each row runs in a process of its own. Batch: `inspect_all` on the ELPV images as files, with decoding,
heatmaps, regions and results on disk. Bare: the timm backbone with its own classifier, 16 random images at a
time, without decoding, before and after the batch in the same process, since a machine's speed drifts.
Alone: decoding, hashing and scaling on the same cores. Memory: resident, of the set repeated under other
paths. Where anomalib is installed (see anomalib_peers.py), its PatchCore with the same backbone is timed too.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil

from chipdemo.batch.run import BATCH, Task, inspect_all
from chipdemo.batch.sources import ImageList, find_images
from chipdemo.files import in_parallel
from chipdemo.images import read_image
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import DEFAULT_MODEL, Settings
from chipdemo.vision.predictor import NetworkModel, load_model
from training.sources import read_elpv

ROOT = Path(__file__).resolve().parent.parent
RUNTIMES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}  # and their packages
MODEL, GRAPHS = str(DEFAULT_MODEL), Settings().graphs
MEMORY = (1_000, 10_000, 100_000)  # images
SINGLY = 100  # images for those that take one at a time
BARE_S, WARM_UP = 5, 3  # seconds that the bare network is run each time; batches that are not timed
FEW = 32  # images that get a process going before it is timed
MANY = 10_000_000


def elpv_images(folder: Path, count: int) -> ImageList:
    """So many images: the ELPV ones, as often as needed, each time under another path."""
    paths = [sample.path for sample in read_elpv().samples]
    root = Path(os.path.commonpath(paths))
    for turn in range(-(-count // len(paths))):
        link = folder / f"{turn:05}"
        if not link.exists():
            link.symlink_to(root)
    chosen = folder / f"{count}.csv"
    with chosen.open("w", encoding="utf-8") as file:
        file.write("image\n")
        for number in range(count):
            turn, index = divmod(number, len(paths))
            file.write(f"{turn:05}/{paths[index].relative_to(root)}\n")
    return find_images([str(chosen)])


def load_models(runtime: str) -> list[NetworkModel]:
    return [load_model(MODEL, runtime=runtime, graphs=GRAPHS)]


def task_of(runtime: str = "torch") -> Task:
    """The shipped model with its own threshold."""
    model = load_model(MODEL, runtime=runtime, graphs=GRAPHS)
    return Task(Judge(Models(model)), [model])


def measured(run: Callable[[], int]) -> dict:
    """run: gives the number of images it processed."""
    started, cpu = perf_counter(), cpu_s()
    count = run()
    seconds, cpu = perf_counter() - started, cpu_s() - cpu
    return {
        "images": count,
        "per_second": round(count / seconds, 1),
        "per_core_second": round(count / cpu, 1),  # a second of one core's work
    }


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def counted(results: Iterable) -> int:
    return sum(1 for _ in results)


def decoding(count: int) -> dict:
    """Reading, decoding, hashing and scaling in threads, as the batch does it."""
    with tempfile.TemporaryDirectory() as folder:
        task, images = task_of(), elpv_images(Path(folder), count)

        def prepare(image):
            return task.judge.prepare(task.read(image))

        return measured(lambda: counted(in_parallel(prepare, images)))


def batch(runtime: str, count: int) -> dict:
    """The batch, between two runs of the bare network."""
    task = task_of(runtime)
    with tempfile.TemporaryDirectory() as folder:
        images = elpv_images(Path(folder), count)
        inspect_all(task, elpv_images(Path(folder), FEW), Path(folder) / "few")
        network = bare(runtime, task.model.spec)
        before = network()
        row = measured(lambda: counted(inspect_all(task, images, Path(folder) / "out")))
        bare_rate = (before + network()) / 2
    share = round(row["per_second"] / bare_rate, 3) if bare_rate else None
    return row | {"bare_network_per_second": round(bare_rate, 1) or None, "share_of_bare": share}


def bare(runtime: str, spec) -> Callable[[], float]:
    """A function that measures images per second of the timm network alone; 0 in a runtime without it."""
    import timm
    import torch

    net = timm.create_model(spec.backbone, num_classes=2).eval().to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, spec.image_size, spec.image_size).to(memory_format=torch.channels_last)
    if runtime == "torch":

        def forward():
            with torch.inference_mode():
                net(images)
    elif runtime == "openvino":
        import openvino

        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        converted = openvino.convert_model(net, example_input=images)
        converted.reshape(list(images.shape))
        request = openvino.Core().compile_model(converted, "CPU", hints).create_infer_request()
        given = np.ascontiguousarray(images.numpy())

        def forward():
            request.infer([given], share_inputs=True)
    else:
        return lambda: 0.0

    def rate() -> float:
        for _ in range(WARM_UP):
            forward()
        started, runs = perf_counter(), 0
        while perf_counter() - started < BARE_S:
            forward()
            runs += 1
        return runs * BATCH / (perf_counter() - started)

    return rate


def memory(runtime: str, count: int) -> dict:
    """Resident memory when the first images are done, and the most until the last one is."""
    task, process, used = task_of(runtime), psutil.Process(), []

    def progress(done: int) -> None:
        used.append(process.memory_info().rss / 1e6)

    with tempfile.TemporaryDirectory() as folder:
        inspect_all(task, elpv_images(Path(folder), FEW), Path(folder) / "few")
        images = elpv_images(Path(folder), count)
        row = measured(lambda: counted(inspect_all(task, images, Path(folder) / "out", progress)))
    return row | {"first_mb": round(used[0]), "most_mb": round(max(used))}


def on_ray(runtime: str, count: int, workers: int = 2) -> dict:
    """On Ray on this machine; the rate with and without the time that it and its workers take to start."""
    from chipdemo.batch.ray import inspect_on_ray

    load = partial(load_models, runtime)
    task, times = task_of(runtime), []

    def progress(done: int) -> None:
        if done:
            times.append((perf_counter(), done))

    with tempfile.TemporaryDirectory() as folder:
        images, out = elpv_images(Path(folder), count), Path(folder) / "out"
        started = perf_counter()
        inspect_on_ray(task, images, out, progress, load=load, workers=workers)
        seconds = perf_counter() - started
    (first, done), (last, _) = times[0], times[-1]
    running = round((count - done) / (last - first), 1) if last > first else None
    rates = {"per_second": round(count / seconds, 1), "per_second_when_running": running}
    return {"images": count, "workers": workers, **rates}


def timm_and_grad_cam(count: int) -> dict:
    """As a short script does it: image, verdict and Grad-CAM, one image at a time."""
    import timm
    import torch
    from PIL import Image
    from pytorch_grad_cam import GradCAM
    from timm.data import create_transform, resolve_data_config

    spec = load_model(MODEL).spec
    net = timm.create_model(spec.backbone, num_classes=2).eval()
    size = {"input_size": (3, spec.image_size, spec.image_size)}
    transform = create_transform(**resolve_data_config(size, model=net))
    cam = GradCAM(net, [net.get_submodule(net.feature_info[-1]["module"])])

    def run() -> int:
        for sample in read_elpv().samples[:count]:
            given = transform(Image.open(sample.path).convert("RGB"))[None]
            with torch.no_grad():
                net(given).softmax(1)
            cam(given, targets=[lambda logits: logits[1]])
        return count

    return measured(run)


def anomalib(count: int) -> dict:
    """PatchCore; its memory bank is a random tenth of the patches of as many normal images."""
    import timm
    import torch
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    from chipdemo.vision.transforms import normalize, pixels_of

    spec, samples = load_model(MODEL).spec, read_elpv().samples
    stages = timm.create_model(spec.backbone).feature_info
    layers = [stage["module"] for stage in stages if stage["reduction"] in (8, 16)]
    model = PatchcoreModel(layers, spec.backbone, False).train()

    def prepared(path: Path) -> torch.Tensor:
        image = read_image(path).image
        pixels = pixels_of(image, spec.image_size, spec.interpolation)[None].copy()
        return normalize(torch.from_numpy(pixels), spec.mean, spec.std)

    for path in [sample.path for sample in samples if sample.label == "normal"][:count]:
        model(prepared(path))
    seen = torch.vstack(model.embedding_store)
    model.memory_bank = seen[torch.randperm(len(seen))[: len(seen) // 10]]
    model.eval()

    def run() -> int:
        with torch.inference_mode():
            for sample in samples[:count]:
                model(prepared(sample.path))
        return count

    return measured(run)


def in_a_process(function: Callable[..., dict], *arguments) -> dict:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        row = pool.submit(function, *arguments).result()
    print(function.__name__, *arguments, row, flush=True)
    return row


def rows(count: int, memory_of: Iterable[int], ray: bool) -> Iterator[tuple[str, dict]]:
    batches = {
        name: in_a_process(batch, name, count) for name, package in RUNTIMES.items() if find_spec(package)
    }
    yield "batch", batches
    fastest = max(batches, key=lambda name: batches[name]["per_second"])
    yield "decoding and scaling alone", in_a_process(decoding, count)
    yield "timm and pytorch-grad-cam", in_a_process(timm_and_grad_cam, min(count, SINGLY))
    if find_spec("anomalib"):
        yield "anomalib, PatchCore", in_a_process(anomalib, min(count, SINGLY))
    if ray:
        yield "ray", in_a_process(on_ray, fastest, count)
    yield "memory", [in_a_process(memory, fastest, number) for number in memory_of]


def summary(found: dict, core_hour: float) -> dict:
    """What follows from the rows. core_hour: its price."""
    batches, alone = found["batch"], found["decoding and scaling alone"]
    fastest = max(batches, key=lambda name: batches[name]["per_second"])
    best, bare_rates = batches[fastest], [row["bare_network_per_second"] or 0 for row in batches.values()]
    network = max(bare_rates)
    others = [name for name in ("timm and pytorch-grad-cam", "anomalib, PatchCore") if name in found]
    core_hours = MANY / best["per_core_second"] / 3600
    return {
        "fastest": fastest,
        "share_of_the_bare_network": round(best["per_second"] / network, 3),
        "limit": "the network" if network < alone["per_second"] else "decoding and scaling",
        # all cores busy, first with one and then with the other: no arrangement of the two is faster
        "ceiling_per_second": round(1 / (1 / network + 1 / alone["per_second"]), 1),
        "times_faster_than": {
            name: round(best["per_second"] / found[name]["per_second"], 1) for name in others
        },
        f"core_hours_for_{MANY}": round(core_hours),
        f"price_for_{MANY}": f"{core_hours * core_hour:,.0f} at {core_hour} a core hour",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=len(read_elpv().samples))
    parser.add_argument("--memory", nargs="+", type=int, default=MEMORY, metavar="IMAGES")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--core-hour", type=float, default=0.04, help="price of one (default: %(default)s)")
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "batch.json")
    options = parser.parse_args()
    found = dict(rows(options.images, options.memory, options.ray))
    report = {
        "command": " ".join(["python benchmarks/batch.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "model": Path(MODEL).name,
        **found,
        "summary": summary(found, options.core_hour),
    }
    options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report["summary"], indent=1))


if __name__ == "__main__":
    main()
