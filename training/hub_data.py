"""Datasets of the Hugging Face Hub: labeled images, or the events of people labeling them."""

import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow.compute as pc
from datasets import Dataset, Image, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetsError
from huggingface_hub import DatasetCard
from huggingface_hub.errors import EntryNotFoundError

from chipdemo.errors import DataError
from chipdemo.images import Source
from chipdemo.inspection import CLASSES
from chipdemo.labeling.agreement import UNSURE, consensus_of
from training.data import LabeledData, Sample, sample_of

ADDRESS = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(/(?P<config>[\w.-]+))?(@(?P<revision>.+))?")
LABELS = ("image", "label")
EVENTS = (*LABELS, "event_id", "image_sha256", "annotator", "created_at", "retracts")
OPTIONAL = ("defect_type", "group", "probability", "decides")


def read_hub(address: str) -> LabeledData:
    """`hf:OWNER/NAME[/CONFIG][@REVISION]`, or `hf:FOLDER`, a dataset of the Hub that lies on disk.

    Its splits are taken together. It has columns `image` and `label` (a class or a string, named
    as folders are), optionally `probability`, `defect_type`, `group`; or it has label events, and
    what holds now is derived from them: images that people disagree on or are unsure of are
    left out and listed. Images stay in the library's cache on disk until they are read.
    Raises DataError.
    """
    name, table, license = _fetch(address.removeprefix("hf:"))
    columns = EVENTS if "event_id" in table.column_names else LABELS
    if missing := [column for column in columns if column not in table.column_names]:
        raise DataError(
            f"Expected columns {', '.join(columns)} in {name}; found {', '.join(table.column_names)}. "
            f"Add {', '.join(missing)}, or choose another dataset."
        )
    images = table.select_columns(["image"]).cast_column("image", Image(decode=False))
    rows = _rows(table, (*columns, *OPTIONAL))
    samples, left_out = (_agreed if columns is EVENTS else _labeled)(name, rows, images)
    return LabeledData(name, license, tuple(samples), tuple(left_out))


def _fetch(name: str) -> tuple[str, Dataset, str]:
    """What to call it, all rows, mapped from the library's cache, and the license that its card states."""
    match, folder = ADDRESS.fullmatch(name), Path(name).expanduser()
    if not match and not folder.is_dir():
        raise DataError(f"Expected hf:OWNER/NAME, /CONFIG or @REVISION behind it; found hf:{name}.")
    try:
        if folder.is_dir():
            splits = load_dataset(str(folder))
        else:
            splits = load_dataset(match["repository"], match["config"], revision=match["revision"])
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"Expected a dataset at hf:{name}; it could not be read: {error or type(error).__name__}. Check "
            "the name, the network, and for a private dataset HF_TOKEN or `hf auth login`."
        ) from error
    try:
        card = DatasetCard.load(folder / "README.md" if folder.is_dir() else match["repository"])
        license = card.data.license
    except (EntryNotFoundError, OSError, ValueError):  # it has no card, or none that can be read
        license = ""
    name = folder.resolve().name if folder.is_dir() else name
    return name, concatenate_datasets(list(splits.values())), license if isinstance(license, str) else ""


def _rows(table: Dataset, columns: tuple[str, ...]) -> list[dict]:
    """The named columns but the image, row by row; a class by its name."""
    names = getattr(table.features["label"], "names", None)  # of a ClassLabel, whose -1 says unlabeled
    rows = table.select_columns([c for c in columns if c in table.column_names and c != "image"]).to_list()
    for row in rows if names else ():
        row["label"] = names[row["label"]] if row["label"] is not None and row["label"] >= 0 else None
    return rows


def _labeled(name: str, rows: list[dict], images: Dataset) -> tuple[list[Sample], list[str]]:
    """A sample a row, and a line for every image that is labeled unsure."""
    files = pc.struct_field(images.with_format("arrow")["image"][:], "path").to_pylist()
    samples, left_out = [], []
    for index, (row, file) in enumerate(zip(rows, files)):
        path, content = Path(name) / (file or f"row {index}"), partial(_image, images, [index])
        if row["label"] == UNSURE:
            left_out.append(f"{path}: unsure")
        else:
            samples.append(sample_of(row, path, f"row {index} of {name}", content))
    return samples, left_out


def _agreed(name: str, rows: list[dict], images: Dataset) -> tuple[list[Sample], list[str]]:
    """The samples that most annotators agree on, and a line for every other image."""
    try:
        times = pd.to_datetime([row["created_at"] for row in rows], utc=True, format="ISO8601")
    except (ValueError, TypeError) as error:
        raise DataError(f"Expected times in created_at of {name}; found others: {error}.") from error
    rows_of: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if times[index] is pd.NaT or not row["retracts"] and row["label"] not in (*CLASSES, UNSURE):
            raise DataError(
                f"Expected normal, abnormal or unsure and a time in every event of {name}; row {index} "
                f"says {row}. Correct it."
            )
        rows_of.setdefault(row["image_sha256"], []).append(index)
    events = [
        SimpleNamespace(**{"defect_type": "", "decides": False, **row, "created_at": time})
        for row, time in zip(rows, times)
    ]
    samples, left_out = [], []
    for sha256, consensus in consensus_of(events).items():
        path = Path(name) / sha256
        if consensus.label in CLASSES:
            row = {
                "label": consensus.label,
                "probability": consensus.probability,
                "defect_type": consensus.defect_type,
            }
            samples.append(sample_of(row, path, "", partial(_image, images, rows_of[sha256])))
        else:
            left_out.append(f"{path}: {consensus}")
    return samples, left_out


def _image(images: Dataset, rows: list[int]) -> Source:
    """The first image that is in one of these rows; b"" if there is none."""
    for row in rows:
        image = images[row]["image"] or {}
        if source := image.get("bytes") or image.get("path"):
            return source
    return b""
