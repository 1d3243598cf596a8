"""Folders of labeled images as training data."""

from collections import Counter
from pathlib import Path

from chipdemo.errors import DataError
from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.labeling.folders import labeled_files, split_of
from chipdemo.labeling.label import UNSURE
from training.data import LabeledData, Sample


def read_folder(root: Path) -> LabeledData:
    """A folder of images whose class folders give the labels; see labeled_folders for the layouts.

    In `train/`, `val/` and `test/` these give the splits too. Images in `unsure/` are left out and listed.
    Raises DataError unless both classes have images.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder. --data also takes elpv, hf:... and a CSV.")
    samples, left_out = [], []
    for path, label, defect_type in labeled_files(root):
        if label == UNSURE:
            left_out.append(f"{path}: unsure")
        else:
            stratum = f"{ABNORMAL}, {defect_type}" if label == ABNORMAL else NORMAL
            target, split = float(label == ABNORMAL), split_of(path, root)
            samples.append(Sample(path, label, target, stratum, defect_type, split=split))
    counts = Counter(sample.label for sample in samples)
    if not (counts[NORMAL] and counts[ABNORMAL]):
        raise DataError(
            f"{root} has {counts[NORMAL]} normal and {counts[ABNORMAL]} abnormal images. Training needs "
            "both, each in a folder of its name: normal/ and abnormal/."
        )
    return LabeledData(root.resolve().name, "", tuple(samples), tuple(left_out))
