"""What CBAM brings: the same network with and without it, seed by seed, on the same test images.

    python benchmarks/attention.py

after training/ablate.py with the rows resnet50 and resnet50-cbam; or --without and --with folders of
checkpoints that have learned from the same images. On ELPV's test split: AUROC, accuracy, and the verdicts
that flip under the changes of training/robustness.py; on its normal images, into half of which a defect is
drawn: where the class activation map lies. Every difference is a mean over the seeds, with a 95 % interval
by a paired bootstrap over the images; that of AUPRO, which is no mean over images, has its standard
deviation over the seeds.
"""

import argparse
import datetime
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from tqdm import tqdm

from benchmarks.overlays import drawn
from benchmarks.teaching import enlarged
from chipdemo.inspection import ABNORMAL
from chipdemo.splits import TEST
from chipdemo.vision.checkpoint import SPLIT, ModelSpec, write_json
from chipdemo.vision.model import ChipNet
from chipdemo.vision.transforms import normalize, pixels_of
from chipdemo.vision.weights import load_checkpoint
from training.localization import aupro, pixel_auroc, pointing_game
from training.measure import auroc
from training.predict import BATCH_SIZE, device_name, predict
from training.robustness import changed_images
from training.sources import read_elpv
from training.splits import read_split
from training.uncertainty import RESAMPLES, interval, resampled

RUNS = Path(__file__).resolve().parent.parent / "runs" / "ablation" / "elpv"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
REPORT = Path(__file__).with_suffix(".json")


@torch.inference_mode()
def activation_maps(net: ChipNet, pixels: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """(N, size, size, 3) uint8 pixels -> (N, h, w) class activation maps."""
    device, maps = next(net.parameters()).device, []
    for start in range(0, len(pixels), BATCH_SIZE):
        batch = torch.from_numpy(pixels[start : start + BATCH_SIZE]).to(device)
        maps.append(net(normalize(batch, spec.mean, spec.std)).cam.float().cpu().numpy())
    return np.concatenate(maps)


def figures(folder: Path, changed: np.ndarray, defects: np.ndarray, masks: np.ndarray) -> dict:
    """What one checkpoint says of every image.

    changed: (N, 15, S, S, 3) uint8, each test image as it is and under each change. defects: (M, S, S, 3)
    uint8. masks: (M, side, side) bool, empty where nothing is drawn.
    """
    net, spec, _ = load_checkpoint(str(folder))
    net = net.eval().to(DEVICE, memory_format=torch.channels_last)
    log_odds = np.stack([predict(net, changed[:, i], spec).log_odds for i in range(changed.shape[1])])
    probability = expit(log_odds / spec.temperature)  # (15, N)
    verdict, heat = probability >= spec.threshold, enlarged(activation_maps(net, defects, spec))
    drawn_into = masks.any((1, 2))
    pairs = list(zip(heat[drawn_into], masks[drawn_into]))
    return {
        "probability": probability[0],
        "verdict": verdict[0],
        "flips": (verdict[1:] != verdict[0]).mean(0),
        "of each change": (verdict[1:] != verdict[0]).mean(1),
        "pointing game": np.array([pointing_game(h[None], m[None]) for h, m in pairs]),
        "pixel AUROC in an image": np.array([pixel_auroc(h[None], m[None]) for h, m in pairs]),
        "aupro": aupro(heat, masks),
    }


METRICS = {  # of one checkpoint on the chosen test images; abnormal: (N,) bool
    "AUROC": lambda of, rows, abnormal: auroc(of["probability"][rows], abnormal[rows]),
    "accuracy": lambda of, rows, abnormal: np.mean((of["verdict"] == abnormal)[rows]),
    "flips": lambda of, rows, abnormal: np.mean(of["flips"][rows]),
}
LOCATION = {  # of the same on the chosen drawn defects
    name: lambda of, rows, _, name=name: np.mean(of[name][rows])
    for name in ("pointing game", "pixel AUROC in an image")
}


def compared(without: list[dict], with_cbam: list[dict], abnormal: np.ndarray) -> list[dict]:
    """One row a metric. without, with_cbam: figures() of each seed. abnormal: (N,) bool, the test images."""
    defects = np.ones(len(without[0]["pointing game"]), bool)  # one class
    rows = [row_of(name, METRICS[name], without, with_cbam, abnormal) for name in METRICS]
    rows += [row_of(name, LOCATION[name], without, with_cbam, defects) for name in LOCATION]
    areas = np.array([[one["aupro"] for one in of] for of in (without, with_cbam)])  # (2, seeds)
    difference = areas[1] - areas[0]
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else None
    rows.append(
        {
            "metric": "AUPRO",
            "without": areas[0].tolist(),
            "with": areas[1].tolist(),
            "difference": float(difference.mean()),
            "sd_over_seeds": spread,
        }
    )
    return rows


def row_of(
    name: str, metric: Callable, without: list[dict], with_cbam: list[dict], truth: np.ndarray
) -> dict:
    """A metric of each seed, and its mean difference with the interval of a paired bootstrap."""

    def mean(of: list[dict], rows: np.ndarray) -> float:
        return float(np.mean([metric(one, rows, truth) for one in of]))

    every = np.arange(len(truth))
    differences = resampled(
        lambda rows: mean(with_cbam, rows) - mean(without, rows), truth, RESAMPLES, stratified=truth.all()
    )
    low, high = interval(differences)
    return {
        "metric": name,
        "without": [float(metric(one, every, truth)) for one in without],
        "with": [float(metric(one, every, truth)) for one in with_cbam],
        "difference": mean(with_cbam, every) - mean(without, every),
        "interval_95": [float(low), float(high)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--without", nargs="+", type=Path, default=sorted(RUNS.glob("resnet50-[0-9]")))
    parser.add_argument("--with", nargs="+", type=Path, default=sorted(RUNS.glob("resnet50-cbam-[0-9]")))
    parser.add_argument("--report", type=Path, default=REPORT)
    options = vars(parser.parse_args())
    without, with_cbam = options["without"], options["with"]
    if not without or len(without) != len(with_cbam):
        sys.exit(f"error: {len(without)} checkpoints without CBAM and {len(with_cbam)} with it. Give pairs.")
    _, spec, _ = load_checkpoint(str(without[0]))
    test = read_split(without[0] / SPLIT)[TEST]
    found = list(tqdm(changed_images(spec, read_elpv(), frozenset(test)), total=len(test), disable=None))
    changed = np.stack([pixels for pixels, _ in found])
    abnormal = np.array([sample.label == ABNORMAL for _, sample in found])
    images, masks = drawn(set(test), len(test))
    defects = np.stack([pixels_of(image.image, spec.image_size, spec.interpolation) for image in images])
    measured = {}
    for folder in tqdm([*without, *with_cbam], disable=None):
        measured[folder] = figures(folder, changed, defects, masks)
    rows = compared([measured[f] for f in without], [measured[f] for f in with_cbam], abnormal)
    for row in rows:
        print({k: np.round(v, 4).tolist() if k != "metric" else v for k, v in row.items() if v is not None})
    report = {
        "command": " ".join(["python benchmarks/attention.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "device": device_name(DEVICE),
        "images": len(abnormal),
        "drawn_defects": int(masks.any((1, 2)).sum()),
        "rows": rows,
        "flips_of_each_change": {f.name: m["of each change"].tolist() for f, m in measured.items()},
    }
    write_json(options["report"], report)


if __name__ == "__main__":
    main()
