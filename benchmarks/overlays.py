"""Which overlay to trust: how well each explanation of a classifier finds defects.

    python benchmarks/overlays.py --data FOLDER [--record CHECKPOINT ...]

after benchmarks/transistor.py --data FOLDER, whose EfficientNet-Lite0 + CBAM of each fold, trained on normal
and abnormal images by their labels alone, gets a memory bank of its good training images and explains
the images it has not seen. Heat is judged as the app shows it, on its scale; the curves of deletion
and insertion are of the defects that the classifier detects. Folds that are finished in --runs are kept.

    python benchmarks/overlays.py --data FOLDER --model CHECKPOINT [--record CHECKPOINT ...]

measures one model instead, on the images of FOLDER/test (in the layout of MVTec AD) that it has not learned
from; with --data elpv, on its normal test images, into half of which a defect is drawn (drawn_defects.py).

--record writes the figures into the metrics.json and the model card of checkpoints: the app shows the overlay
with the highest AUPRO first.
"""

import argparse
import datetime
import math
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.special import expit
from tqdm import tqdm

from benchmarks.teaching import MASK_SIDE, enlarged, files, read_masks
from benchmarks.transistor import FOLDS, folds
from chipdemo.images import DecodedImage, decode_image, read_image
from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.splits import TEST
from chipdemo.vision.anomaly.drawn_defects import KINDS, draw_defect
from chipdemo.vision.anomaly.features import extract_features, trained_backbone
from chipdemo.vision.anomaly.fitting import fit
from chipdemo.vision.anomaly.saving import save_with_memory_bank
from chipdemo.vision.checkpoint import SPLIT, find_checkpoint, read_metrics, write_json
from chipdemo.vision.predictor import NetworkModel, load_model
from training.localization import (
    SHARES,
    area_under,
    aupro,
    energy_inside,
    pixel_auroc,
    pointing_game,
    removal_curves,
)
from training.record import record
from training.sources import read_data, read_elpv
from training.splits import read_split

ROOT = Path(__file__).resolve().parent.parent
ROW = "lite0-cbam-0"
CENTER = "a spot in the center"  # a baseline that uses nothing but where chips lie
TRANSISTORS = "transistors of MVTec AD"  # CC BY-NC-SA 4.0
SHOWN = {  # in the model card
    "aupro": "AUPRO",
    "pixel_auroc": "pixel AUROC",
    "pointing_game": "pointing game",
    "deletion": "deletion",
    "insertion": "insertion",
}
WIDTH = 0.2  # of a side, the standard deviation of that spot


def spot(side: int = 32) -> np.ndarray:
    """(side, side) float32, 0-1: CENTER."""
    away = (np.arange(side) + 0.5) / side - 0.5
    profile = np.exp(-0.5 * (away / WIDTH) ** 2)
    return np.outer(profile, profile).astype(np.float32)


def add_memory_bank(folder: Path, trained: Path, good: list[Path]) -> None:
    """A copy of a trained classifier with a memory bank of good images."""
    features = extract_features(files(good), trained_backbone(trained))
    save_with_memory_bank(folder, trained, fit(features))


def explain(model: NetworkModel, images: Iterable[DecodedImage], masks: np.ndarray) -> dict[str, np.ndarray]:
    """Every explanation of every image, and the curves of the defects that are detected.

    masks: (N, side, side) bool, empty for a good image.
    """
    judge = Judge(Models(model))
    heat, curves = {}, {}
    for image, mask in zip(tqdm(images, total=len(masks), desc=model.info.name, disable=None), masks):
        found = judge.inspect(image, tiles=False)
        maps = dict(found.heatmaps) | {CENTER: spot()}
        for method in model.methods:
            if method not in maps:
                maps[method] = judge.explain(image, method, model, tiles=False).heatmap
        detected = mask.any() and found.verdict == ABNORMAL
        for name, one in maps.items():
            heat.setdefault(name, []).append(one)
            if detected:
                curves.setdefault(name, []).append(curves_of(model, image.image, one))
    arrays = {f"heat of {name}": np.stack(maps) for name, maps in heat.items()}
    arrays |= {f"curves of {name}": np.stack(pairs) for name, pairs in curves.items()}
    return {"methods": np.array(list(heat))} | arrays


def curves_of(model: NetworkModel, image: Image.Image, heat: np.ndarray) -> np.ndarray:
    """Deletion and insertion, (2, len(SHARES)) probabilities of abnormal."""

    def probability(pixels: np.ndarray) -> np.ndarray:
        return expit(model.engine.run(pixels).log_odds / model.spec.temperature)

    pixels = model.prepare(image).pixels
    return np.stack(removal_curves(probability, pixels, enlarged([heat], len(pixels))[0]))


def row_of(name: str, explained: list[dict], masks: np.ndarray) -> dict:
    """One explanation over all folds. masks: (N, side, side) bool, in the order of the folds."""
    heat = np.concatenate([enlarged(fold[f"heat of {name}"]) for fold in explained])
    curves = [fold[f"curves of {name}"] for fold in explained if f"curves of {name}" in fold]
    abnormal = masks.any((1, 2))
    if curves:
        deletion, insertion = np.concatenate(curves).mean(0)
        removal = {
            "deletion": area_under(deletion),
            "insertion": area_under(insertion),
            "deletion_curve": deletion.tolist(),
            "insertion_curve": insertion.tolist(),
        }
    return {
        "overlay": name,
        "pixel_auroc": pixel_auroc(heat, masks),
        "pixel_auroc_abnormal_alone": pixel_auroc(heat[abnormal], masks[abnormal]),
        "aupro": aupro(heat, masks),
        "pointing_game": pointing_game(heat[abnormal], masks[abnormal]),
        "energy_inside": energy_inside(heat[abnormal], masks[abnormal]),
        **(removal if curves else {}),
    }


def over_folds(options: argparse.Namespace) -> tuple[list[dict], np.ndarray, dict]:
    """Of every fold its explanations; (N, side, side) masks in the order of the folds; what was measured."""
    samples = {read_image(sample.path).sha256: sample for sample in read_data(str(options.data)).samples}
    options.runs.mkdir(parents=True, exist_ok=True)
    explained, masks, tests = [], [], []
    for number, division in enumerate(folds(str(options.data))[: options.folds]):
        folder = options.runs / f"fold{number}"
        result = folder.with_suffix(".npz")
        paths = [samples[sha256].path for sha256 in division["test"]]
        masks.append(read_masks(paths, options.data))
        if not result.exists():
            learned = [samples[sha256] for sha256 in division["train"]]
            good = [sample.path for sample in learned if sample.label == NORMAL]
            add_memory_bank(folder, options.trained / f"fold{number}" / ROW, good)
            np.savez(result, **explain(load_model(str(folder)), map(read_image, paths), masks[-1]))
        explained.append(dict(np.load(result)))
        tests.append(read_metrics(folder)["test"])
    about = {
        "data": TRANSISTORS,
        "folds": options.folds,
        "classifier": {n: [fold[n] for fold in tests] for n in ("auroc", "recall", "confusion")},
    }
    return explained, np.concatenate(masks), about


def of_one(source: str, data: Path, most: int) -> tuple[list[dict], np.ndarray, dict]:
    """The same of one checkpoint, on images that it has not learned from. most: drawn ones."""
    model, split = load_model(source), read_split(find_checkpoint(source) / SPLIT)
    if str(data) == "elpv":
        images, masks = drawn(set(split[TEST]), most)
        name = "drawn defects in normal ELPV test images"
    else:
        paths = sorted((data / "test").glob("*/*"))
        learned = {*split["train"], *split["val"]}
        paths = [path for path in paths if read_image(path).sha256 not in learned]
        images, masks = map(read_image, paths), read_masks(paths, data)
        name = data.resolve().name
    about = {"data": name, "model": f"{model.info.name} {model.info.revision}"}
    return [explain(model, images, masks)], masks, about


def drawn(test: set[str], most: int) -> tuple[list[DecodedImage], np.ndarray]:
    """Normal ELPV images of a test split, every second one with a defect, and (N, side, side) masks.

    most: so many images at most, evenly spaced.
    """
    normal = (read_image(sample.path) for sample in read_elpv().samples if sample.label == NORMAL)
    normal = [image for image in normal if image.sha256 in test]
    images, masks = [], []
    for image in normal[:: math.ceil(len(normal) / most)]:
        mask = np.zeros((MASK_SIDE, MASK_SIDE), bool)
        if len(images) % 2:
            kind = KINDS[len(images) // 2 % len(KINDS)]
            picture, defect = draw_defect(image.image, kind, seed=len(images))
            image, mask = decode_image(picture), np.asarray(Image.fromarray(defect).resize(mask.shape))
        images.append(image)
        masks.append(mask)
    return images, np.stack(masks)


def overlay_entry(report: dict) -> dict:
    """What metrics.json has as "overlay": the overlays that the app offers, the highest AUPRO first."""
    rows = [
        {key: value for key, value in row.items() if "curve" not in key}
        for row in report["rows"]
        if row["overlay"] != CENTER
    ]
    rows.sort(key=lambda row: row["aupro"], reverse=True)
    data = f"{report['data']} ({report['images']:,} images, {report['abnormal']:,} of them defective)"
    return {"best": rows[0]["overlay"], "data": data, "rows": rows}


def overlay_table(entry: dict) -> str:
    """The same as Markdown, for the model card."""
    lines = [
        f"How well each overlay finds defects, on {entry['data']}. The app shows the first that it can.",
        "",
        f"| overlay | {' | '.join(SHOWN.values())} |",
        f"|---|{'---|' * len(SHOWN)}",
    ]
    for row in entry["rows"]:
        cells = [f"{row[name]:.3f}" if name in row else "" for name in SHOWN]
        lines.append(f"| {row['overlay']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "overlays")
    parser.add_argument("--trained", type=Path, default=ROOT / "runs" / "transistor")
    parser.add_argument("--folds", type=int, default=FOLDS, help="how many of them, the first ones")
    parser.add_argument("--model", default="", help="measure this checkpoint instead of the folds'")
    parser.add_argument("--images", type=int, default=120, help="of ELPV, at most (default: 120)")
    parser.add_argument("--record", nargs="+", type=Path, default=[], help="write the figures into these")
    parser.add_argument(
        "--report", type=Path, help="(default: overlays.json, of a model overlays_model.json)"
    )
    options = parser.parse_args()
    name = "overlays_model.json" if options.model else "overlays.json"
    if options.model:
        explained, masks, about = of_one(options.model, options.data, options.images)
    else:
        explained, masks, about = over_folds(options)
    rows = []
    for method in explained[0]["methods"].tolist():
        rows.append(row_of(method, explained, masks))
        print({k: v if k == "overlay" else round(v, 3) for k, v in rows[-1].items() if "curve" not in k})
    report = {
        "command": " ".join(["python benchmarks/overlays.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        **about,
        "threads": torch.get_num_threads(),
        "images": len(masks),
        "abnormal": int(masks.any((1, 2)).sum()),
        "removed": SHARES,
        "rows": rows,
    }
    write_json(options.report or ROOT / "benchmarks" / name, report)
    for folder in options.record:
        entry = overlay_entry(report)
        record(folder, "overlay", entry, ("Overlays", overlay_table(entry)))


if __name__ == "__main__":
    main()
