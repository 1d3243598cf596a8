"""Inverse feature matching on MVTec AD's transistors, learned from good images alone.

    python benchmarks/matching.py --data FOLDER --choose     the settings, by drawn defects
    python benchmarks/matching.py --data FOLDER              what they are worth, on the test images

FOLDER is mvtec_anomaly_detection/transistor (Bergmann et al., CVPR 2019; CC BY-NC-SA 4.0): 213 good
images to learn from, 60 good and 40 abnormal ones to judge. --choose reads the 213 alone: three
quarters of them are learned, the others judge, as they are and with two defects each drawn into them.
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

from benchmarks.drawn_defects import KINDS, draw_defect
from chipdemo.errors import DataError
from chipdemo.images import read_image
from chipdemo.inspection import INVERSE
from chipdemo.settings import AUTO
from chipdemo.vision.anomaly import fitting as teaching
from chipdemo.vision.anomaly.features import (
    DESCRIPTION,
    IMAGE_SIZE,
    Backbone,
    Study,
    backbone_of,
    starting_backbone,
    study_images,
)
from chipdemo.vision.anomaly.fitting import PLACES
from chipdemo.vision.anomaly.matching import score_of
from chipdemo.vision.anomaly.memory_bank import Description
from chipdemo.vision.checkpoint import MEMORY, write_json
from chipdemo.vision.predictor import load_model
from training.localization import aupro, pixel_auroc
from training.measure import auroc

ROOT = Path(__file__).resolve().parent.parent
MASK_SIDE = 256  # pixels, at which heat and masks are compared
TIMED = 20  # images, of which the median time is told
MOBILENET = "mobilenetv2_100"


@dataclass(frozen=True)
class Variant:
    """One way of matching. size: side of the network's input, pixels. places: kept in the memory."""

    backbone: str = "lite0"
    size: int = IMAGE_SIZE
    description: Description = DESCRIPTION
    patches: int = PLACES


def described(**changes) -> Variant:
    return Variant(description=replace(DESCRIPTION, **changes))


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
    "2,000 places": Variant(patches=2_000),
    "5,000 places": Variant(patches=5_000),
    "40,000 places": Variant(patches=40_000),
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
    held_out, learned = np.split(order, [len(order) // 4])
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
            yield name, _tried(variant, [good[row] for row in learned], paths, np.stack(masks), mobilenet)


@cache
def _studied(paths: tuple[Path, ...], backbone: str, size: int, strides: tuple, mobilenet: str) -> Study:
    return study_images(paths, sized_backbone(backbone, size, mobilenet), strides=strides)


def _tried(variant: Variant, learned: list[Path], judged: list[Path], masks: np.ndarray, mobilenet: str):
    about = (variant.backbone, variant.size, variant.description.strides, mobilenet)
    knowledge = teaching.fill(_studied(tuple(learned), *about), variant.description, variant.patches)
    study = _studied(tuple(judged), *about)
    started = time.process_time()
    maps = [knowledge.anomaly(study, row) for row in range(len(study.names))]
    if study.left_out:
        raise DataError(f"Expected every image to be judged; left out: {study.left_out}")
    return figures(maps, masks) | {
        "search_cpu_ms": round((time.process_time() - started) / len(maps) * 1000, 1)
    }


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
    study = study_images(good, backbone)
    lesson = teaching.learn(study, patches=variant.patches)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "taught"
        metrics = teaching.save_taught(out, backbone, lesson, "MVTec AD, transistor")
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        megabytes = (out / MEMORY).stat().st_size / 1e6
        inspector = load_model(str(out), runtime=AUTO)  # as the app does
    images = [read_image(path).image for path in judged]
    times, cpu_times, maps, stopped, regions, unlike = [], [], [], [], [], []
    for image in images:
        pixels = inspector.prepare(image).pixels
        output = inspector._run(pixels[None])
        maps.append(inspector.matchings[INVERSE].anomaly(output, pixels))
        log_odds, distance = inspector._judged(output, pixels)
        stopped.append(log_odds >= 0)
        unlike.append(distance > 1)
        regions.append(len(inspector.matchings[INVERSE].match(output, pixels, "", image.size).regions))
    for image in images[: TIMED + 1]:
        started, cpu_started = time.perf_counter(), time.process_time()
        inspector.inspect(image)
        times.append(1000 * (time.perf_counter() - started))
        cpu_times.append(1000 * (time.process_time() - cpu_started))
    abnormal, stopped, regions, unlike = masks.any((1, 2)), *map(np.array, (stopped, regions, unlike))
    return (
        figures(maps, masks)
        | {
            "false_alarms_chosen": teaching.FALSE_ALARMS,
            "false_positive_rate": float(stopped[~abnormal].mean()),
            "recall": float(stopped[abnormal].mean()),
            "good_without_a_region": float((regions[~abnormal] == 0).mean()),
            "held_out_good_without_a_region": float((lesson.highest < _heat_limit(lesson)).mean()),
            "abnormal_with_a_region": float((regions[abnormal] > 0).mean()),
            "unlike_good_and_abnormal": [int(unlike[~abnormal].sum()), int(unlike[abnormal].sum())],
            "stand_out": [study.names[row] for row in lesson.outliers],
            "seconds_to_teach": round(seconds, 1),
            "cpu_seconds_to_teach": round(cpu_seconds, 1),  # what a busy machine does not falsify
            "one_image_ms": round(float(np.median(times[1:])), 1),
            "one_image_cpu_ms": round(float(np.median(cpu_times[1:])), 1),
            "runtime": inspector.info.runtime,
            "memory_mb": round(megabytes, 2),
            "places": len(lesson.knowledge.memory.features),
            "starting_weights": metrics["starting_weights"],
        }
    )


def _heat_limit(lesson: teaching.Lesson) -> float:
    return teaching.limits_of(lesson, teaching.FALSE_ALARMS, np.empty(0)).heat


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--choose", action="store_true", help="compare settings without the test images")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="of --choose")
    parser.add_argument("--backbones", nargs="+", choices=("lite0", "mobilenetv2"), default=["lite0"])
    parser.add_argument("--places", nargs="+", type=int, default=[PLACES], help="in the memory")
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
