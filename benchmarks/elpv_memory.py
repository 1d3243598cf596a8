"""The memory bank of the shipped model: a copy of a classifier of ELPV with one of its normal images.

    python benchmarks/elpv_memory.py runs/ablation/elpv/resnet50-cbam-0 OUT

does what `python -m chipdemo teach FOLDER --memory-for MODEL --without-images` does, with fewer patches, so
that a search takes 8 ms.
"""

import argparse
from pathlib import Path

from benchmarks.teaching import files
from chipdemo.inspection import NORMAL
from chipdemo.vision.anomaly.features import extract_features, trained_backbone
from chipdemo.vision.anomaly.fitting import fit
from chipdemo.vision.anomaly.saving import save_with_memory_bank
from chipdemo.vision.checkpoint import read_json
from training.sources import read_elpv

SPLIT = Path(__file__).resolve().parent / "elpv_split.json"
PATCHES = 4_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="checkpoint folder")
    parser.add_argument("out", type=Path, help="gets the copy")
    options = parser.parse_args()
    train = set(read_json(SPLIT)["train_files"])
    normal = [s.path for s in read_elpv().samples if s.label == NORMAL and s.path.name in train]
    features = extract_features(files(normal), trained_backbone(options.model))
    save_with_memory_bank(options.out, options.model, fit(features, PATCHES), keep_images=False)
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(f"wrote {options.out}: {len(normal):,} images, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
