"""Reading labeled images: `--data` of every training command."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

from chipdemo.errors import DataError
from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.labeling.folders import label_of
from chipdemo.labeling.label import UNSURE
from chipdemo.spreadsheet import unescaped
from chipdemo.tables import local_path, read_rows
from training.data import LabeledData, Sample, sample_of
from training.folders import read_folder

DATA_HELP = (
    "elpv, a CSV, a folder with normal/ and abnormal/ or as of MVTec AD, "
    "or hf:OWNER/NAME[/CONFIG][@REVISION] of the Hugging Face Hub"
)
GROUP_HELP = (
    "regular expression; its first group, found in the path of an image, is the name of a group of images "
    "that are kept in one split"
)


def read_data(name: str, group_pattern: str = "") -> LabeledData:
    """The dataset that `--data` names, grouped by `--group-pattern` if that is given.

    name: "elpv", "hf:..." (see read_hub), a CSV file or a folder. Raises DataError.
    """
    if name == "elpv":
        data = read_elpv()
    elif name.startswith("hf:"):
        from training.hub_data import read_hub  # here, since importing the Hub's client takes a second

        data = read_hub(name)
    elif name.lower().endswith(".csv"):
        data = read_csv(Path(name))
    else:
        data = read_folder(Path(name))
    return group_by_path(data, group_pattern) if group_pattern else data


def group_by_path(data: LabeledData, pattern: str) -> LabeledData:
    """Put every sample into the group that the first group of the pattern finds in its path.

    A sample in whose path it finds nothing is in no group. Raises DataError if that is all of them.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--group-pattern {pattern!r} is not a regular expression: {error}.") from error
    if not expression.groups:
        raise DataError(
            f"--group-pattern {pattern!r} has no parentheses. Put them around the name of a group, for "
            "example (wafer\\d+)."
        )
    found = [expression.search(sample.path.as_posix()) for sample in data.samples]
    if not any(found):
        raise DataError(
            f"--group-pattern {pattern!r} is in no path of {data.name}, such as "
            f"{data.samples[0].path.as_posix()}."
        )
    groups = [match[1] or "" if match else "" for match in found]
    samples = tuple(replace(sample, group=group) for sample, group in zip(data.samples, groups))
    return replace(data, samples=samples)


def read_elpv() -> LabeledData:
    """2,624 electroluminescence images of solar cells, 300x300 gray, from their package.

    Deitsch et al., Solar Energy 185 (2019): experts gave each a probability of being defective;
    0 and 1/3 are normal here, 2/3 and 1 abnormal. Strata are label and cell type.
    """
    spec = importlib.util.find_spec("elpv_dataset")  # found, not imported: the import reads all images
    if spec is None:
        raise DataError("The dataset elpv comes in a package: pip install elpv-dataset")
    root = Path(spec.origin).parent / "data"
    samples = []
    for line in (root / "labels.csv").read_text().splitlines():
        path, probability, cell_type = line.split()  # aligned by spaces
        label = ABNORMAL if float(probability) > 0.5 else NORMAL
        samples.append(Sample(root / path, label, float(probability), f"{label}, {cell_type}"))
    return LabeledData("ELPV", "CC BY-NC-SA 4.0 (non-commercial)", tuple(samples))


def read_csv(path: Path) -> LabeledData:
    """A CSV with the columns `image` (a path, relative to the CSV) and `label`; see read_rows for its form.

    Optional columns: `probability` (of being abnormal, 0-1), `defect_type`, `group`.
    Labels are those of folders: normal, good, ok, 0 ... or abnormal, defect, ng, 1 ...; images
    labeled unsure are left out and listed.
    Raises DataError that names the first line it cannot use.
    """
    samples, left_out = [], []
    for line, cells in read_rows(path, ("image", "label")):
        row = {column: unescaped(cell) for column, cell in cells.items()}
        image = local_path(path.parent, row["image"])
        if label_of(row["label"]) == UNSURE:
            left_out.append(f"{image}: unsure")
        else:
            samples.append(sample_of(row, image, f"Line {line} of {path}"))
    if not samples:
        raise DataError(f"{path} has no labeled image.")
    return LabeledData(path.resolve().stem, "", tuple(samples), tuple(left_out))
