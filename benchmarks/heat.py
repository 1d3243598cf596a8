"""What the fixed scale and the distance limit do on images the model was not fitted on.

    python benchmarks/heat.py --others FOLDER [FOLDER ...]

On ELPV's test split: how many normal images that are judged normal show a pixel at or above
half heat, how many detected defects show a region, how many images are out of distribution.
FOLDERs hold images of other things, which should be out of distribution; drawn ones (noise,
plain gray, gradients) are always among them.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from chipdemo.images import decode_image, read_image
from chipdemo.inspection import CAM
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import DEFAULT_MODEL
from chipdemo.vision.checkpoint import SPLIT, find_checkpoint, read_json, write_json
from chipdemo.vision.predictor import load_model
from training.sources import read_elpv

ROOT = Path(__file__).resolve().parent.parent


def drawn(count: int = 20, size: int = 300) -> dict[str, list[Image.Image]]:
    generator = np.random.default_rng(0)
    ramp = np.linspace(0, 255, size)[None, :, None] * np.ones((size, 1, 3))
    return {
        "noise": [
            Image.fromarray(generator.integers(0, 256, (size, size, 3), np.uint8)) for _ in range(count)
        ],
        "plain": [Image.new("RGB", (size, size), (level,) * 3) for level in range(0, 256, 25)],
        "gradients": [Image.fromarray(np.rot90(ramp, turn).astype(np.uint8).copy()) for turn in range(4)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=str(DEFAULT_MODEL))
    parser.add_argument("--others", nargs="*", type=Path, default=[])
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "heat.json")
    options = parser.parse_args()
    model = load_model(options.model)
    judge = Judge(Models(model))
    test = set(read_json(find_checkpoint(options.model) / SPLIT)["test"])
    rows = []
    for sample in read_elpv().samples:
        decoded = read_image(sample.path)
        if decoded.sha256 in test:
            rows.append((sample.label, judge.inspect(decoded)))
    passed = [i for label, i in rows if label == "normal" and i.verdict == "normal"]
    detected = [i for label, i in rows if label == "abnormal" and i.verdict == "abnormal"]
    others = {name: list(map(decode_image, images)) for name, images in drawn().items()} | {
        folder.name: [read_image(path) for path in sorted(folder.rglob("*.[jp][pn]g"))]
        for folder in options.others
    }
    report = {
        "command": " ".join(["python benchmarks/heat.py", *sys.argv[1:]]),
        "model": f"{model.info.name} {model.info.revision}",
        "split": model.info.test.split,
        "normals_judged_normal": len(passed),
        "of_them_below_half_heat_everywhere": float(np.mean([i.heatmaps[CAM].max() < 0.5 for i in passed])),
        "defects_detected": len(detected),
        "of_them_with_a_region": float(np.mean([len(i.regions) > 0 for i in detected])),
        "out_of_distribution": {
            "ELPV, test split": float(np.mean([i.out_of_distribution for _, i in rows])),
            **{
                name: float(np.mean([judge.inspect(image).out_of_distribution for image in images]))
                for name, images in others.items()
                if images
            },
        },
    }
    write_json(options.report, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
