"""Teaching from good images alone, as the app does it, on parts of MVTec AD and on hard versions of them.

    python benchmarks/teaching.py --data FOLDER/transistor FOLDER/screw

FOLDER is mvtec_anomaly_detection (Bergmann et al., CVPR 2019; CC BY-NC-SA 4.0): a model is taught by
train/good and judges test/*. Versions:
    as it is
    contaminated    5 % of the taught images are defective test images, which are left out of the test then;
                    those that teaching shows as outliers are left out, as a user would
    half turned     every second image, taught and judged, is turned by 90 degrees
    moved           judged good images are turned by up to 10 degrees, shifted by up to 5 % of the side and
                    brightened or darkened by up to 15 %; the defective ones stay as they are

With --learned, nothing of test/ is read: three quarters of train/good teach, the others are judged, as they
are and with drawn defects. By these figures settings are chosen.
"""

import chipdemo  # noqa: F401, I001 - before numpy: it sets the threads of OpenBLAS

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageEnhance

from chipdemo.files import DEFAULT_LIMITS, Found
from chipdemo.images import read_image
from chipdemo.inspection import ABNORMAL
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import AUTO
from chipdemo.teaching import silent
from chipdemo.vision.anomaly.alignment import ALIGNMENTS
from chipdemo.vision.anomaly.drawn_defects import KINDS, draw_defect
from chipdemo.vision.anomaly.teacher import NetworkTeacher
from chipdemo.vision.checkpoint import write_json
from chipdemo.vision.predictor import NetworkModel, load_model
from training.localization import aupro, pixel_auroc
from training.measure import auroc

REPORT = Path(__file__).with_suffix(".json")
MASK_SIDE = 256  # pixels, at which heat and masks are compared
CONTAMINATION = 0.05
MOST_TURNED, MOST_SHIFTED, MOST_LIT = 10, 0.05, 0.15  # degrees, sides, share
TIMED = 20  # images, of which the median time is reported
JUDGED = 4  # with --learned, one good image in so many is judged
GOOD = "good"


@dataclass(frozen=True)
class Part:
    """The images of a part. masks: (N, MASK_SIDE, MASK_SIDE) bool of the judged ones, empty for a good one.

    planted: names of defective images among the taught ones.
    """

    taught: Sequence[Path]
    judged: Sequence[Path]
    masks: np.ndarray
    planted: frozenset[str] = frozenset()


def files(paths: Sequence[Path]) -> list[Found]:
    return [Found(path.name, path) for path in paths]


def read_part(root: Path) -> Part:
    judged = sorted((root / "test").glob("*/*"))
    return Part(sorted((root / "train" / GOOD).iterdir()), judged, read_masks(judged, root))


def learned_part(part: Part, folder: Path) -> Part:
    """Without test images: some of the good ones are judged, as they are and with a drawn defect each."""
    good, judged, masks = part.taught[::JUDGED], [], []
    for number, path in enumerate(good):
        image, kind = read_image(path).image, KINDS[number % len(KINDS)]
        drawn, mask = draw_defect(image, kind, seed=number)
        judged += [path, changed(path, folder, f"drawn-{number}", lambda _: drawn)]  # noqa: B023
        masks += [np.zeros_like(mask), mask]
    masks = np.stack([cv2.resize(one.astype(np.uint8), (MASK_SIDE, MASK_SIDE)) > 0 for one in masks])
    return Part([path for row, path in enumerate(part.taught) if row % JUDGED], judged, masks)


def read_masks(paths: Sequence[Path], root: Path) -> np.ndarray:
    """(N, MASK_SIDE, MASK_SIDE) bool; full where a defective image has no mask."""
    masks = []
    for path in paths:
        file = root / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        blank = Image.new("L", (8, 8), 0 if path.parent.name == GOOD else 255)
        mask = Image.open(file).convert("L") if file.exists() else blank
        masks.append(np.asarray(mask.resize((MASK_SIDE, MASK_SIDE), Image.Resampling.NEAREST)) > 0)
    return np.stack(masks)


def contaminated(part: Part, folder: Path) -> Part:
    """With defective test images among the taught ones."""
    defective = np.flatnonzero(part.masks.any((1, 2)))
    count = round(CONTAMINATION * len(part.taught) / (1 - CONTAMINATION))
    rows = np.random.default_rng(0).permutation(defective)[:count]
    planted = [changed(part.judged[row], folder, f"planted-{row}", lambda image: image) for row in rows]
    left = np.setdiff1d(np.arange(len(part.judged)), rows)
    names = frozenset(path.name for path in planted)
    return Part([*part.taught, *planted], [part.judged[row] for row in left], part.masks[left], planted=names)


def half_turned(part: Part, folder: Path) -> Part:
    """Every second image turned by 90 degrees."""

    def some(paths: Sequence[Path], name: str) -> list[Path]:
        return [
            changed(path, folder, f"{name}-{row}", lambda image: image.transpose(Image.Transpose.ROTATE_90))
            if row % 2
            else path
            for row, path in enumerate(paths)
        ]

    masks = np.stack([np.rot90(mask) if row % 2 else mask for row, mask in enumerate(part.masks)])
    return Part(some(part.taught, "taught"), some(part.judged, "judged"), masks)


def moved(part: Part, folder: Path) -> Part:
    """The judged good images in another pose and another light."""
    generator, judged = np.random.default_rng(0), list(part.judged)
    for row in np.flatnonzero(~part.masks.any((1, 2))):
        turn, light = generator.uniform(-MOST_TURNED, MOST_TURNED), generator.uniform(-MOST_LIT, MOST_LIT)
        shift = generator.uniform(-MOST_SHIFTED, MOST_SHIFTED, 2)

        def other(image: Image.Image) -> Image.Image:
            width, height = image.size
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1)  # noqa: B023
            matrix[:, 2] += shift * image.size  # noqa: B023
            flags = {"flags": cv2.INTER_CUBIC, "borderMode": cv2.BORDER_REPLICATE}
            pixels = cv2.warpAffine(np.asarray(image), matrix, image.size, **flags)
            return ImageEnhance.Brightness(Image.fromarray(pixels)).enhance(1 + light)  # noqa: B023

        judged[row] = changed(judged[row], folder, f"moved-{row}", other)
    return replace(part, judged=judged)


VERSIONS = {
    "as it is": lambda part, folder: part,
    "contaminated": contaminated,
    "half turned": half_turned,
    "moved": moved,
}


def changed(path: Path, folder: Path, name: str, change: Callable[[Image.Image], Image.Image]) -> Path:
    """A changed copy of an image."""
    out = folder / f"{name}.png"
    change(read_image(path).image).save(out, compress_level=1)
    return out


def enlarged(maps: Sequence[np.ndarray], side: int = MASK_SIDE) -> np.ndarray:
    """(N, side, side) float32."""
    size = (side, side)
    return np.stack([np.asarray(Image.fromarray(m).resize(size, Image.Resampling.BILINEAR)) for m in maps])


def measure(part: Part, teacher: NetworkTeacher) -> dict:
    """Teach as the command line does, load the checkpoint, judge the test images with it."""
    started = time.perf_counter()
    draft = teacher.draft(files(part.taught), [], DEFAULT_LIMITS, silent)
    without = [one.row for one in draft.outliers if one.name in part.planted]
    with tempfile.TemporaryDirectory() as folder:
        teacher.save(Path(folder) / "taught", draft, without, "part")
        seconds = time.perf_counter() - started
        model = load_model(str(Path(folder) / "taught"), runtime=AUTO)  # as the app does
    return (
        {
            "alignment": draft.choice.alignment.kind,
            "auroc_of_drawn_defects": draft.choice.auroc,
            "auroc_by_side": draft.scale.auroc if draft.scale else {},
            "side": draft.scale.side if draft.scale else 0,
            "taught": len(part.taught),
            "planted": len(part.planted),
            "planted_shown": len(without),
            "outliers_shown": len(draft.outliers),
        }
        | judged(model, part)
        | {"seconds_to_teach": round(seconds, 1)}
    )


def judged(model: NetworkModel, part: Part) -> dict:
    """What the model finds in the test images, each judged as a whole."""
    judge, found, maps, times = Judge(Models(model)), [], [], []
    for path in part.judged:
        image = read_image(path)
        started = time.perf_counter()
        found.append(judge.inspect(image, tiles=False))
        times.append(1000 * (time.perf_counter() - started))
        maps.append(anomaly_of(model, image.image))
    abnormal = part.masks.any((1, 2))
    scores = np.array([one.log_odds for one in found])
    heat = enlarged(maps)
    flagged = np.array([one.verdict == ABNORMAL for one in found])
    pixels = not part.masks.all((1, 2)).any()  # every defect has a mask
    return {
        "good": int((~abnormal).sum()),
        "defective": int(abnormal.sum()),
        "image_auroc": round(auroc(scores, abnormal), 4),
        "pixel_auroc": round(pixel_auroc(heat, part.masks), 4) if pixels else None,
        "aupro": round(aupro(heat, part.masks), 4) if pixels else None,
        "false_positive_rate": round(float(flagged[~abnormal].mean()), 4),
        "detected": round(float(flagged[abnormal].mean()), 4),
        "one_image_ms": round(float(np.median(times[1 : TIMED + 1])), 1),
        "runtime": model.info.runtime,
    }


def anomaly_of(model: NetworkModel, image: Image.Image) -> np.ndarray:
    """(h, w), the anomaly behind the heatmap, which ends at 1."""
    view = model.prepare(image)
    return view.on_image(model.anomaly_map(view))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--versions", nargs="+", choices=VERSIONS, default=list(VERSIONS))
    parser.add_argument("--alignment", choices=ALIGNMENTS, default="", help="instead of the one found out")
    parser.add_argument("--size", type=int, default=0, help="pixels, instead of the size found out")
    parser.add_argument("--learned", action="store_true", help="read no test images")
    parser.add_argument("--backbone", default="", help="any that --backbone of teach takes")
    parser.add_argument("--weights", type=Path, help="its weights, a file")
    parser.add_argument("--out", type=Path, default=REPORT, help="the report")
    options = parser.parse_args()
    teacher = NetworkTeacher(None, options.alignment, options.backbone, options.weights, options.size)
    rows = []
    for root in options.data:
        for version in options.versions:
            with tempfile.TemporaryDirectory() as name:
                part = read_part(root)
                part = learned_part(part, Path(name)) if options.learned else part
                row = measure(VERSIONS[version](part, Path(name)), teacher)
            rows.append({"data": root.name, "version": version} | row)
            print(rows[-1], flush=True)
            write_report(options.out, teacher, rows)


def write_report(path: Path, teacher: NetworkTeacher, rows: Sequence[dict]) -> None:
    write_json(
        path,
        {
            "command": " ".join(["python benchmarks/teaching.py", *sys.argv[1:]]),
            "date": datetime.date.today().isoformat(),
            "starting_weights": teacher.backbone.starting_weights,
            "threads": torch.get_num_threads(),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
