"""Where labeled images come from: `--data` of every training command."""

import csv
import importlib.util
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from chipdemo.errors import DataError
from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.labeling.folders import class_of, folders_in, labeled_files, split_folders
from chipdemo.labeling.label import UNSURE
from training.data import LabeledData, Sample, sample_of

DATA_HELP = (
    "elpv, a CSV, a folder with normal/ and abnormal/ or as of MVTec AD, "
    "or hf:OWNER/NAME[/CONFIG][@REVISION] of the Hugging Face Hub"
)
GROUP_HELP = (
    "regular expression; its first group, found in an image's path, names the images "
    "that stay on one side of the split"
)


def read_data(name: str, group_pattern: str = "") -> LabeledData:
    """The dataset that `--data` names, grouped by `--group-pattern` where that is given.

    "elpv", "hf:..." (see read_hub), a CSV file or a folder. Raises DataError.
    """
    if name == "elpv":
        data = read_elpv()
    elif name.startswith("hf:"):
        from training.hub_data import read_hub  # here, since importing datasets takes a second or two

        data = read_hub(name)
    elif name.lower().endswith(".csv"):
        data = read_csv(Path(name))
    else:
        data = read_folder(Path(name))
    return group_by_path(data, group_pattern) if group_pattern else data


def group_by_path(data: LabeledData, pattern: str) -> LabeledData:
    """Every sample in the group that the pattern's first group finds in its path.

    A path where it finds nothing is in no group. Raises DataError if that is all of them.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(
            f"Expected a regular expression in --group-pattern; {pattern!r} is none: {error}."
        ) from error
    if not expression.groups:
        raise DataError(
            f"Expected parentheses around what names a group; found none in --group-pattern {pattern!r}. "
            "Write, for example, (wafer\\d+)."
        )
    found = [expression.search(sample.path.as_posix()) for sample in data.samples]
    if not any(found):
        raise DataError(
            f"Expected --group-pattern {pattern!r} to be found in the paths of {data.name}; it is in none, "
            f"such as {data.samples[0].path.as_posix()}. Correct it."
        )
    groups = [match[1] or "" if match else "" for match in found]
    samples = tuple(replace(sample, group=group) for sample, group in zip(data.samples, groups))
    return replace(data, samples=samples)


def read_elpv() -> LabeledData:
    """2,624 images of solar cells by electroluminescence, 300x300 gray, from their package.

    Deitsch et al., Solar Energy 185 (2019): experts gave each a probability of being defective,
    0 and 1/3 count as normal here, 2/3 and 1 as abnormal. Strata are label and cell type.
    """
    spec = importlib.util.find_spec("elpv_dataset")  # found, not imported: the import reads all images
    if spec is None:
        raise DataError("The dataset elpv needs its package; run: pip install elpv-dataset")
    root = Path(spec.origin).parent / "data"
    samples = []
    for path, probability, cell_type in csv.reader(
        (root / "labels.csv").open(), delimiter=" ", skipinitialspace=True
    ):
        label = ABNORMAL if float(probability) > 0.5 else NORMAL
        samples.append(Sample(root / path, label, float(probability), f"{label}, {cell_type}"))
    return LabeledData("ELPV", "CC BY-NC-SA 4.0 (non-commercial)", tuple(samples))


def read_csv(path: Path) -> LabeledData:
    """A CSV with a header: `image` (path, relative to the CSV) and `label`.

    Optional columns: `probability` (of being abnormal, 0-1), `defect_type`, `group`.
    Labels are those of folders: normal, good, ok, 0 ... or abnormal, defect, ng, 1 ...; images
    labeled unsure are left out and listed.
    Raises DataError that names the first line it cannot take.
    """
    try:
        rows = list(csv.DictReader(path.open(encoding="utf-8-sig", newline="")))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path} could not be read as CSV: {error}. Check --data.") from error
    if not rows or not {"image", "label"} <= rows[0].keys():
        found = ", ".join(str(name) for name in rows[0]) if rows else "no rows"
        raise DataError(f"Expected columns image and label in {path}; found {found}. Add a header line.")
    samples, left_out = [], []
    for line, row in enumerate(rows, 2):
        image = path.parent / (row["image"] or "")
        if row["label"] == UNSURE:
            left_out.append(f"{image}: unsure")
        else:
            samples.append(sample_of(row, image, f"line {line} of {path}"))
    return LabeledData(path.resolve().stem, "", tuple(samples), tuple(left_out))


def read_folder(root: Path) -> LabeledData:
    """A folder of images, in one of three layouts; upper and lower case are the same.

    `normal/` and `abnormal/` (or synonyms such as `good`, `defect`); folders below abnormal are
    defect types. Or `good/` (or a synonym) beside one folder a defect type. Or any of these in
    `train/`, `val/` and `test/`, as MVTec AD has it: all images are taken together then, and
    `ground_truth/` and `masks/` are passed over. Images in `unsure/` are left out and listed.
    Raises DataError unless both classes have images.
    """
    if not root.is_dir():
        raise DataError(f"Expected elpv, hf:..., a CSV or a folder; {root} is none of these. Check --data.")
    parts = split_folders(root)
    classes = [folder for folder in folders_in(root) if class_of(folder.name)]
    if parts and classes:
        raise DataError(
            f"Expected either classes or parts such as train/ and test/ in {root}; found "
            f"{classes[0].name}/ beside {parts[0].name}/. Give the folder that you mean."
        )
    samples, left_out = [], []
    for path, label, defect_type in labeled_files(root):
        if label == UNSURE:
            left_out.append(f"{path}: unsure")
        else:
            stratum = f"{ABNORMAL}, {defect_type}" if label == ABNORMAL else NORMAL
            samples.append(Sample(path, label, float(label == ABNORMAL), stratum, defect_type))
    counts = Counter(sample.label for sample in samples)
    if not (counts[NORMAL] and counts[ABNORMAL]):
        raise DataError(
            f"Expected images in {root}/normal and {root}/abnormal; found {counts[NORMAL]} normal "
            f"and {counts[ABNORMAL]} abnormal. Put each class in a folder of its name."
        )
    return LabeledData(root.resolve().name, "", tuple(samples), tuple(left_out))
