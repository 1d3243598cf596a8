"""Which overlay to trust: how well each explanation of a classifier finds the defects of transistors.

    python benchmarks/overlays.py --data FOLDER

after benchmarks/transistor.py --data FOLDER, whose EfficientNet-Lite0 + CBAM of each fold, trained on normal
and abnormal images by their labels alone, gets a memory bank of its good training images and explains
the images it has not seen. Heat is judged as the app shows it, on its scale; the curves of deletion
and insertion are of the defects that the classifier detects. Folds that are finished in --runs are kept.
"""

import argparse
import datetime
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.special import expit
from tqdm import tqdm

from benchmarks.matching import enlarged, files, read_masks
from benchmarks.transistor import FOLDS, folds
from chipdemo.images import read_image
from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.vision.anomaly.features import extract_features, trained_backbone
from chipdemo.vision.anomaly.fitting import fit
from chipdemo.vision.anomaly.saving import save_with_memory_bank
from chipdemo.vision.checkpoint import read_metrics, write_json
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
from training.sources import read_data

ROOT = Path(__file__).resolve().parent.parent
ROW = "lite0-cbam-0"
CENTER = "a spot in the center"  # a baseline that uses nothing but where chips lie
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


def explain_fold(folder: Path, paths: list[Path]) -> dict[str, np.ndarray]:
    """Every explanation of every image, and the curves of the defects that are detected."""
    model = load_model(str(folder))
    judge = Judge(Models(model))
    heat, curves = {}, {}
    for path in tqdm(paths, desc=folder.name, disable=None):
        image = read_image(path)
        found = judge.inspect(image, tiles=False)
        maps = dict(found.heatmaps) | {CENTER: spot()}
        for method in model.methods:
            if method not in maps:
                maps[method] = judge.explain(image, method, tiles=False).heatmap
        detected = path.parent.name != "good" and found.verdict == ABNORMAL
        for name, one in maps.items():
            heat.setdefault(name, []).append(one)
            if detected:
                curves.setdefault(name, []).append(curves_of(model, image.image, one))
    arrays = {f"heat of {name}": np.stack(maps) for name, maps in heat.items()}
    arrays |= {f"curves of {name}": np.stack(pairs) for name, pairs in curves.items()}
    return {"paths": np.array([str(path) for path in paths]), "methods": np.array(list(heat))} | arrays


def curves_of(model: NetworkModel, image: Image.Image, heat: np.ndarray) -> np.ndarray:
    """Deletion and insertion, (2, len(SHARES)) probabilities of abnormal."""

    def probability(pixels: np.ndarray) -> np.ndarray:
        return expit(model.engine.run(pixels).log_odds / model.spec.temperature)

    pixels = model.prepare(image)
    return np.stack(removal_curves(probability, pixels, enlarged([heat], len(pixels))[0]))


def row_of(name: str, explained: list[dict], masks: np.ndarray) -> dict:
    """One explanation over all folds. masks: (N, side, side) bool, in the order of the folds."""
    heat = np.concatenate([enlarged(fold[f"heat of {name}"]) for fold in explained])
    curves = np.concatenate([fold[f"curves of {name}"] for fold in explained if f"curves of {name}" in fold])
    abnormal = masks.any((1, 2))
    deletion, insertion = curves.mean(0)
    return {
        "overlay": name,
        "pixel_auroc": pixel_auroc(heat, masks),
        "pixel_auroc_abnormal_alone": pixel_auroc(heat[abnormal], masks[abnormal]),
        "aupro": aupro(heat, masks),
        "pointing_game": pointing_game(heat[abnormal], masks[abnormal]),
        "energy_inside": energy_inside(heat[abnormal], masks[abnormal]),
        "deletion": area_under(deletion),
        "insertion": area_under(insertion),
        "deletion_curve": deletion.tolist(),
        "insertion_curve": insertion.tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "overlays")
    parser.add_argument("--trained", type=Path, default=ROOT / "runs" / "transistor")
    parser.add_argument("--folds", type=int, default=FOLDS, help="how many of them, the first ones")
    options = parser.parse_args()
    samples = {read_image(sample.path).sha256: sample for sample in read_data(str(options.data)).samples}
    options.runs.mkdir(parents=True, exist_ok=True)
    explained, tests = [], []
    for number, division in enumerate(folds(str(options.data))[: options.folds]):
        folder = options.runs / f"fold{number}"
        result = folder.with_suffix(".npz")
        if not result.exists():
            learned = [samples[sha256] for sha256 in division["train"]]
            good = [sample.path for sample in learned if sample.label == NORMAL]
            add_memory_bank(folder, options.trained / f"fold{number}" / ROW, good)
            arrays = explain_fold(folder, [samples[sha256].path for sha256 in division["test"]])
            np.savez(result, **arrays)
        explained.append(dict(np.load(result)))
        tests.append(read_metrics(folder)["test"])
    masks = read_masks([Path(path) for fold in explained for path in fold["paths"]], options.data)
    rows = []
    for name in explained[0]["methods"].tolist():
        rows.append(row_of(name, explained, masks))
        print({k: v if k == "overlay" else round(v, 3) for k, v in rows[-1].items() if "curve" not in k})
    report = {
        "command": "python benchmarks/overlays.py --data FOLDER",
        "date": datetime.date.today().isoformat(),
        "data": "MVTec AD, transistor (CC BY-NC-SA 4.0)",
        "folds": options.folds,
        "threads": torch.get_num_threads(),
        "images": len(masks),
        "abnormal": int(masks.any((1, 2)).sum()),
        "classifier": {n: [fold[n] for fold in tests] for n in ("auroc", "recall", "confusion")},
        "removed": SHARES,
        "rows": rows,
    }
    write_json(ROOT / "benchmarks" / "overlays.json", report)


if __name__ == "__main__":
    main()
