"""Inverse feature matching on MVTec AD's transistors, taught from good images alone.

    python benchmarks/matching.py --data FOLDER --choose     the settings, by drawn defects
    python benchmarks/matching.py --data FOLDER              what they are worth, on the test images

FOLDER is mvtec_anomaly_detection/transistor (Bergmann et al., CVPR 2019; CC BY-NC-SA 4.0): 213 good
images to teach from, 60 good and 40 abnormal ones to judge. --choose reads the 213 alone: a bank is fitted
to three quarters of them; the others are judged, as they are and with two defects each drawn into them.
"""

import argparse
import datetime
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from chipdemo.errors import DataError
from chipdemo.files import Found
from chipdemo.images import DecodedImage, read_image
from chipdemo.inspection import ABNORMAL
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import AUTO
from chipdemo.teaching import FALSE_POSITIVE_RATE
from chipdemo.vision.anomaly.descriptor import PatchDescriptor
from chipdemo.vision.anomaly.drawn_defects import KINDS, draw_defect
from chipdemo.vision.anomaly.features import (
    DESCRIPTOR,
    IMAGE_SIZE,
    Backbone,
    ImageFeatures,
    backbone_of,
    extract_features,
    starting_backbone,
)
from chipdemo.vision.anomaly.fitting import PATCHES, anomaly_map, fit, fit_bank, heat_limit
from chipdemo.vision.anomaly.matching import black_patches, score_of
from chipdemo.vision.anomaly.saving import save_taught
from chipdemo.vision.checkpoint import MEMORY, read_metrics, write_json
from chipdemo.vision.predictor import NetworkModel, load_model
from training.localization import aupro, pixel_auroc
from training.measure import auroc

ROOT = Path(__file__).resolve().parent.parent
MASK_SIDE = 256  # pixels, at which heat and masks are compared
TIMED = 20  # images, of which the median time is reported
MOBILENET = "mobilenetv2_100"


@dataclass(frozen=True)
class Variant:
    """One way of matching. size: side of the network's input, pixels. patches: in the memory bank."""

    backbone: str = "lite0"
    size: int = IMAGE_SIZE
    descriptor: PatchDescriptor = DESCRIPTOR
    patches: int = PATCHES


def described(**changes) -> Variant:
    return Variant(descriptor=replace(DESCRIPTOR, **changes))


def files(paths: Sequence[Path]) -> list[Found]:
    return [Found(path.name, path) for path in paths]


VARIANTS = {
    "as it is": Variant(),
    "1 x 1": described(window=1),
    "5 x 5": described(window=5),
    "stride 8 alone": described(strides=(8,)),
    "stride 16 alone": described(strides=(16,)),
    "strides 4, 8 and 16": described(strides=(4, 8, 16)),
    "reach 0.05": described(reach=0.05),
    "reach 0.2": described(reach=0.2),
    "anywhere": described(reach=float("inf")),
    "320 px": Variant(size=320),
    "2,000 patches": Variant(patches=2_000),
    "5,000 patches": Variant(patches=5_000),
    "40,000 patches": Variant(patches=40_000),
    "MobileNetV2": Variant(backbone="mobilenetv2"),
}


@cache
def sized_backbone(name: str, size: int, weights: str) -> Backbone:
    if name == "lite0":
        backbone = starting_backbone()
    else:
        backbone = backbone_of(MOBILENET, load_file(weights), "ImageNet (timm)")
    return replace(backbone, spec=replace(backbone.spec, image_size=size))


def enlarged(maps: Sequence[np.ndarray], side: int = MASK_SIDE) -> np.ndarray:
    """(N, side, side) float32."""
    size = (side, side)
    return np.stack([np.asarray(Image.fromarray(m).resize(size, Image.Resampling.BILINEAR)) for m in maps])


def figures(maps: Sequence[np.ndarray], masks: np.ndarray) -> dict[str, float]:
    """maps: (h, w) anomaly of each image. masks: (N, MASK_SIDE, MASK_SIDE) bool."""
    heat = enlarged(maps)
    scores = np.array([score_of(one) for one in maps])
    return {
        "image_auroc": round(auroc(scores, masks.any((1, 2))), 4),
        "pixel_auroc": round(pixel_auroc(heat, masks), 4),
        "aupro": round(aupro(heat, masks), 4),
    }


def choose(good: list[Path], mobilenet: str, names: Sequence[str]) -> Iterator[tuple[str, dict]]:
    """Name and figures of each variant on good images that are held out and defects drawn into them."""
    order = np.random.default_rng(0).permutation(len(good))
    held_out, fitted = np.split(order, [len(order) // 4])
    with tempfile.TemporaryDirectory() as folder:
        paths, masks = (
            [good[row] for row in held_out],
            [np.zeros((MASK_SIDE, MASK_SIDE), bool)] * len(held_out),
        )
        for number, row in enumerate(held_out):
            image = read_image(good[row]).image
            for kind in (number % len(KINDS), (number * 5 + 3) % len(KINDS)):
                drawn, mask = draw_defect(image, KINDS[kind], seed=100 * int(row) + kind)
                paths.append(Path(folder) / f"{number}-{kind}.png")
                drawn.save(paths[-1])
                masks.append(np.asarray(Image.fromarray(mask).resize((MASK_SIDE, MASK_SIDE))))
        for name in names:
            variant = VARIANTS[name]
            yield name, _tried(variant, [good[row] for row in fitted], paths, np.stack(masks), mobilenet)


@cache
def _features(
    paths: tuple[Path, ...], backbone: str, size: int, strides: tuple, mobilenet: str
) -> ImageFeatures:
    return extract_features(files(paths), sized_backbone(backbone, size, mobilenet), strides=strides)


def _tried(variant: Variant, good: list[Path], judged: list[Path], masks: np.ndarray, mobilenet: str):
    about = (variant.backbone, variant.size, variant.descriptor.strides, mobilenet)
    bank = fit_bank(_features(tuple(good), *about), variant.descriptor, variant.patches)
    features = _features(tuple(judged), *about)
    if features.unusable:
        raise DataError(f"These images cannot be judged: {features.unusable}")
    started = time.process_time()
    maps = [anomaly_map(bank, features, row) for row in range(len(features.names))]
    search_ms = (time.process_time() - started) / len(maps) * 1000
    return figures(maps, masks) | {"search_cpu_ms": round(search_ms, 1)}


def read_masks(paths: Sequence[Path], root: Path) -> np.ndarray:
    """(N, MASK_SIDE, MASK_SIDE) bool; empty for a good image."""
    masks = []
    for path in paths:
        file = root / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        mask = Image.open(file).convert("L") if path.parent.name != "good" else Image.new("L", (8, 8))
        masks.append(np.asarray(mask.resize((MASK_SIDE, MASK_SIDE), Image.Resampling.NEAREST)) > 0)
    return np.stack(masks)


def test(root: Path, variant: Variant, mobilenet: str) -> dict:
    """Teach as the command line does, load the checkpoint, judge the test images with it."""
    good = sorted((root / "train" / "good").iterdir())
    judged = sorted((root / "test").glob("*/*"))
    masks = read_masks(judged, root)
    backbone = sized_backbone(variant.backbone, variant.size, mobilenet)
    started, cpu_started = time.perf_counter(), time.process_time()
    fitted = fit(extract_features(files(good), backbone), patches=variant.patches)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "taught"
        save_taught(out, backbone, fitted, "MVTec AD, transistor")
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        megabytes = (out / MEMORY).stat().st_size / 1e6
        starting_weights = read_metrics(out)["starting_weights"]
        model = load_model(str(out), runtime=AUTO)  # as the app does
    images = [read_image(path) for path in judged]
    return (
        _judged(model, images, masks)
        | {
            "false_positive_rate_wanted": FALSE_POSITIVE_RATE,
            "held_out_good_without_a_region": float((fitted.highest < heat_limit(fitted.highest)).mean()),
            "outliers": [fitted.features.names[row] for row in fitted.outliers],
            "seconds_to_teach": round(seconds, 1),
            "cpu_seconds_to_teach": round(cpu_seconds, 1),  # not affected by a busy machine
            "runtime": model.info.runtime,
            "memory_mb": round(megabytes, 2),
            "patches": len(fitted.bank.memory_bank.features),
            "starting_weights": starting_weights,
        }
        | _times(model, images[: TIMED + 1])
    )


def _judged(model: NetworkModel, images: Sequence[DecodedImage], masks: np.ndarray) -> dict:
    """What a model finds in test images, each judged as a whole."""
    judge, maps, found = Judge(Models(model)), [], []
    for image in images:
        pixels = model.prepare(image.image)
        patches = model.engine.run(pixels[None]).patches[0]
        maps.append(model.anomaly_model.anomaly_map(patches, black_patches(pixels, patches.shape[:2])))
        found.append(judge.inspect(image, tiles=False))
    abnormal = masks.any((1, 2))
    flagged = np.array([one.verdict == ABNORMAL for one in found])
    regions = np.array([len(one.regions) for one in found])
    unknown = np.array([one.out_of_distribution for one in found])
    return figures(maps, masks) | {
        "false_positive_rate": float(flagged[~abnormal].mean()),
        "recall": float(flagged[abnormal].mean()),
        "good_without_a_region": float((regions[~abnormal] == 0).mean()),
        "abnormal_with_a_region": float((regions[abnormal] > 0).mean()),
        "out_of_distribution_good_and_abnormal": [
            int(unknown[~abnormal].sum()),
            int(unknown[abnormal].sum()),
        ],
    }


def _times(model: NetworkModel, images: Sequence[DecodedImage]) -> dict[str, float]:
    """Median time of one image; the first one warms up."""
    judge, times, cpu_times = Judge(Models(model)), [], []
    for image in images:
        started, cpu_started = time.perf_counter(), time.process_time()
        judge.inspect(image, tiles=False)
        times.append(1000 * (time.perf_counter() - started))
        cpu_times.append(1000 * (time.process_time() - cpu_started))
    return {
        "one_image_ms": round(float(np.median(times[1:])), 1),
        "one_image_cpu_ms": round(float(np.median(cpu_times[1:])), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--choose", action="store_true", help="compare settings without the test images")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="of --choose")
    parser.add_argument("--backbones", nargs="+", choices=("lite0", "mobilenetv2"), default=["lite0"])
    parser.add_argument("--patches", nargs="+", type=int, default=[PATCHES], help="in the memory bank")
    parser.add_argument("--mobilenet", default="", help=f"ImageNet weights of {MOBILENET} (.safetensors)")
    options = parser.parse_args()
    report_path = ROOT / "benchmarks" / "matching.json"
    report = json.loads(report_path.read_text()) if report_path.exists() else {}
    about = {
        "command": f"python benchmarks/matching.py --data FOLDER{' --choose' if options.choose else ''}",
        "date": datetime.date.today().isoformat(),
        "threads": torch.get_num_threads(),
    }
    if options.choose:
        names = [n for n in options.only if options.mobilenet or VARIANTS[n].backbone == "lite0"]
        chosen = report.setdefault("chosen_by_drawn_defects", {"variants": {}})
        for name, row in choose(
            sorted((options.data / "train" / "good").iterdir()), options.mobilenet, names
        ):
            print(name, row, flush=True)
            chosen |= about
            chosen["variants"][name] = row
            write_json(report_path, report)
        return
    variants = [Variant(backbone=name, patches=n) for name in options.backbones for n in options.patches]
    rows = []
    report["test"] = about | {"data": "MVTec AD, transistor (CC BY-NC-SA 4.0)", "rows": rows}
    for variant in variants:
        row = test(options.data, variant, options.mobilenet)
        rows.append({"backbone": variant.backbone, "size": variant.size} | row)
        print(json.dumps(rows[-1], indent=1), flush=True)
        write_json(report_path, report)


if __name__ == "__main__":
    main()
