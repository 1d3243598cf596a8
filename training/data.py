"""What a model is trained on: photographs with labels, and their split by content hash."""

import csv
import hashlib
import importlib.util
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chipdemo.errors import DataError, ImageError
from chipdemo.images import read_photograph
from chipdemo.inspection import ABNORMAL, NORMAL

NORMAL_FOLDERS = {"normal", "good", "ok", "pass", "functional", "negative", "0"}
ABNORMAL_FOLDERS = {
    "abnormal",
    "defect",
    "defects",
    "defective",
    "bad",
    "ng",
    "nok",
    "fail",
    "anomaly",
    "positive",
    "1",
}
PARTS = ("train", "val", "test")
DEFAULT_FRACTIONS = (0.7, 0.2, 0.1)  # Kim et al.


@dataclass(frozen=True)
class Sample:
    """One labelled photograph.

    label: "normal" or "abnormal". probability: of being abnormal, 0-1, as sure as the people
    who labelled it were. stratum: kept in equal shares in every part of a split.
    """

    path: Path
    label: str
    probability: float
    stratum: str
    defect_type: str = ""


@dataclass(frozen=True)
class LabelledData:
    """A named data set. licence: as its owner states it; "" when unknown."""

    name: str
    licence: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Photographs:
    """Labelled photographs, decoded: row i of every array is the same photograph.

    pixels: (N, size, size, 3) uint8. probability: (N,) float32. sha256: of the content.
    left_out: why photographs of the data set are not here, a line each.
    """

    pixels: np.ndarray
    probability: np.ndarray
    sha256: tuple[str, ...]
    samples: tuple[Sample, ...]
    left_out: tuple[str, ...]

    @property
    def abnormal(self) -> np.ndarray:
        """(N,) bool, the truth."""
        return np.array([sample.label == ABNORMAL for sample in self.samples])


def read_data(name: str) -> LabelledData:
    """The data set a `--data` flag names: "elpv", a CSV file or a folder. Raises DataError."""
    if name == "elpv":
        return read_elpv()
    return read_csv(Path(name)) if name.lower().endswith(".csv") else read_folder(Path(name))


def read_elpv() -> LabelledData:
    """2,624 photographs of solar cells by electroluminescence, 300x300 grey, from their package.

    Deitsch et al., Solar Energy 185 (2019): experts gave each a probability of being defective,
    0 and 1/3 count as normal here, 2/3 and 1 as abnormal. Strata are label and cell type.
    """
    spec = importlib.util.find_spec("elpv_dataset")  # found, not imported: the import reads all images
    if spec is None:
        raise DataError("The data set elpv needs its package; run: pip install elpv-dataset")
    root = Path(spec.origin).parent / "data"
    samples = []
    for path, probability, cell_type in csv.reader(
        (root / "labels.csv").open(), delimiter=" ", skipinitialspace=True
    ):
        label = ABNORMAL if float(probability) > 0.5 else NORMAL
        samples.append(Sample(root / path, label, float(probability), f"{label}, {cell_type}"))
    return LabelledData("ELPV", "CC BY-NC-SA 4.0 (non-commercial)", tuple(samples))


def read_csv(path: Path) -> LabelledData:
    """A CSV with a header: `image` (path, relative to the CSV) and `label`.

    Optional columns: `probability` (of being abnormal, 0-1), `defect_type`.
    Labels are those of folders: normal, good, ok, 0 ... or abnormal, defect, ng, 1 ...
    Raises DataError that names the first line it cannot take.
    """
    try:
        rows = list(csv.DictReader(path.open(encoding="utf-8-sig", newline="")))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path} could not be read as CSV: {error}. Check --data.") from error
    if not rows or not {"image", "label"} <= rows[0].keys():
        found = ", ".join(str(name) for name in rows[0]) if rows else "no rows"
        raise DataError(f"Expected columns image and label in {path}; found {found}. Add a header line.")
    samples = []
    for line, row in enumerate(rows, 2):
        name, defect_type = (row["label"] or "").strip().lower(), (row.get("defect_type") or "").strip()
        label = NORMAL if name in NORMAL_FOLDERS else ABNORMAL if name in ABNORMAL_FOLDERS else None
        try:
            probability = float(row.get("probability") or (label == ABNORMAL))
        except ValueError:
            probability = -1.0
        if label is None or not 0 <= probability <= 1 or not row["image"]:
            raise DataError(
                f"Expected an image, normal or abnormal, and a probability of 0-1; line {line} of {path} "
                f"says {dict(row)}. Correct that line."
            )
        stratum = f"{label}, {defect_type}" if defect_type else label
        samples.append(Sample(path.parent / row["image"], label, probability, stratum, defect_type))
    return LabelledData(path.resolve().stem, "", tuple(samples))


def read_folder(root: Path) -> LabelledData:
    """A folder that holds `normal/` and `abnormal/` (or synonyms such as `good`, `defect`).

    Upper and lower case are the same; folders below abnormal are defect types.
    Raises DataError unless both classes have photographs.
    """
    if not root.is_dir():
        raise DataError(f"Expected elpv or a folder of photographs; {root} is neither. Check --data.")
    samples = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        name = folder.name.lower()
        if name in NORMAL_FOLDERS:
            samples += [Sample(path, NORMAL, 0.0, NORMAL) for path in _files(folder)]
        elif name in ABNORMAL_FOLDERS:
            for path in _files(folder):
                defect_type = "/".join(path.relative_to(folder).parts[:-1])
                samples.append(Sample(path, ABNORMAL, 1.0, f"{ABNORMAL}, {defect_type}", defect_type))
    counts = Counter(sample.label for sample in samples)
    if not (counts[NORMAL] and counts[ABNORMAL]):
        raise DataError(
            f"Expected photographs in {root}/normal and {root}/abnormal; found {counts[NORMAL]} normal "
            f"and {counts[ABNORMAL]} abnormal. Put each class in a folder of its name."
        )
    return LabelledData(root.resolve().name, "", tuple(samples))


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def load_photographs(
    data: LabelledData, to_pixels: Callable, progress: Callable = lambda it, **_: it
) -> Photographs:
    """Decode every photograph once.

    to_pixels: upright RGB photograph -> (size, size, 3) uint8. progress: such as tqdm.
    A photograph that cannot be read is left out and named. Of photographs with the same
    content one is kept if they agree, none if their labels differ. Raises DataError if no
    photograph of a class is left.
    """

    def load(sample: Sample):
        try:
            photograph = read_photograph(sample.path)
        except ImageError as error:
            return f"{sample.path}: {error}"
        return photograph.sha256, to_pixels(photograph.image)

    with ThreadPoolExecutor() as pool:
        loaded = list(progress(pool.map(load, data.samples), total=len(data.samples), desc="reading"))
    left_out = [entry for entry in loaded if isinstance(entry, str)]
    same = defaultdict(list)
    for sample, entry in zip(data.samples, loaded):
        if not isinstance(entry, str):
            same[entry[0]].append((sample, entry[1]))
    kept = []
    for sha256, twins in same.items():
        labels_differ = len({sample.label for sample, _ in twins}) > 1
        left_out += [
            f"{sample.path}: same content as {twins[0][0].path}" + (", other label" if labels_differ else "")
            for sample, _ in twins[0 if labels_differ else 1 :]
        ]
        if not labels_differ:
            kept.append((sha256, *twins[0]))
    if len({sample.label for _, sample, _ in kept}) < 2:
        raise DataError(
            f"Expected readable photographs of both classes in {data.name}; found {len(kept)} of one. "
            f"Left out: {'; '.join(left_out[:3]) or 'none'}"
        )
    hashes, samples, pixels = zip(*kept)
    probability = np.array([sample.probability for sample in samples], np.float32)
    return Photographs(np.stack(pixels), probability, hashes, samples, tuple(left_out))


def split_by_hash(
    strata: Mapping[str, str],
    fractions: tuple[float, float, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
    known: Mapping[str, Iterable[str]] | None = None,
) -> dict[str, list[str]]:
    """Divide photographs into train, val and test, each stratum in the same shares.

    strata: stratum by sha256. fractions: of train, val and test; they sum to 1.
    known: an earlier split; photographs it names keep their part, so that a test photograph
    never becomes a training photograph as the data set grows.
    The division depends on contents and seed alone, not on names or order.
    """
    part_of = {sha256: part for part, hashes in (known or {}).items() for sha256 in hashes}
    split = {part: [] for part in PARTS}
    taken = np.zeros(len(PARTS))  # photographs given out so far, of the sorted ones

    def by_stratum_then_hash(sha256: str):
        return strata[sha256], hashlib.sha256(f"{seed}:{sha256}".encode()).hexdigest()

    for sha256 in sorted(strata, key=by_stratum_then_hash):
        if sha256 in part_of:
            split[part_of[sha256]].append(sha256)
            continue
        # The part that is furthest behind its share: totals and strata are exact to one.
        part = int(np.argmax(np.array(fractions) * (taken.sum() + 1) - taken))
        taken[part] += 1
        split[PARTS[part]].append(sha256)
    return split
