"""What the fixed scale and the distance limit do on images the model was not fitted on.

    python benchmarks/heat.py --unlike FOLDER [FOLDER ...]

On ELPV's test part: how many normal images that are judged normal show a pixel at or above
half heat, how many caught defects show a region, how many images are called unlike the
training ones. FOLDERs hold images of other things, which should be called unlike; drawn
ones (noise, plain gray, gradients) are always among them.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from chipdemo.images import read_image
from chipdemo.vision.checkpoint import SPLIT, find_checkpoint, read_json, write_json
from chipdemo.vision.predictor import load_inspector
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
    parser.add_argument("--model", default=str(ROOT / "chipdemo/weights/elpv-efficientnet-lite0-cbam"))
    parser.add_argument("--unlike", nargs="*", type=Path, default=[])
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "heat.json")
    options = parser.parse_args()
    inspector = load_inspector(options.model)
    test = set(read_json(find_checkpoint(options.model) / SPLIT)["test"])
    rows = []
    for sample in read_elpv().samples:
        decoded = read_image(sample.path)
        if decoded.sha256 in test:
            rows.append((sample.label, inspector.inspect(decoded.image)))
    passed = [i for label, i in rows if label == "normal" and i.verdict == "normal"]
    caught = [i for label, i in rows if label == "abnormal" and i.verdict == "abnormal"]
    others = drawn() | {
        folder.name: [read_image(path).image for path in sorted(folder.rglob("*.[jp][pn]g"))]
        for folder in options.unlike
    }
    report = {
        "command": " ".join(["python benchmarks/heat.py", *sys.argv[1:]]),
        "model": f"{inspector.info.name} {inspector.info.revision}",
        "split": inspector.info.test["split"],
        "normals_judged_normal": len(passed),
        "of_them_below_half_heat_everywhere": float(
            np.mean([i.heat["evidence"].max() < 0.5 for i in passed])
        ),
        "defects_caught": len(caught),
        "of_them_with_a_region": float(np.mean([len(i.regions) > 0 for i in caught])),
        "called_unlike_the_training_images": {
            "ELPV test part": float(np.mean([i.out_of_distribution for _, i in rows])),
            **{
                name: float(np.mean([inspector.inspect(image).out_of_distribution for image in images]))
                for name, images in others.items()
                if images
            },
        },
    }
    write_json(options.report, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
