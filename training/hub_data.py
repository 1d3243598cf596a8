"""Datasets of the Hugging Face Hub as training data: labeled images, or label events."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
from huggingface_hub import DatasetCard

from chipdemo.errors import DataError, ExchangeError, ImageError
from chipdemo.inspection import CLASSES
from chipdemo.labeling.agreement import consensus_of
from chipdemo.labeling.hub.read import CARD, HubData, download, open_folder
from chipdemo.labeling.label import UNSURE
from training.data import LabeledData, Sample, sample_of
from training.folders import read_folder

ADDRESS = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(/(?P<config>[\w.-]+))?(@(?P<revision>.+))?")
LABELS = ("image", "label")
EVENTS = (*LABELS, "event_id", "image_sha256", "annotator", "created_at", "retracts")
OPTIONAL = ("defect_type", "group", "probability", "decides")
SPLIT_WORDS = {  # in the names of files and folders, as `datasets` reads them
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


@dataclass(frozen=True)
class Row:
    """A row of a table without its image. where: its table and number. cells: by column."""

    where: str
    table: str
    number: int
    name: str
    cells: dict[str, Any]


def read_hub(address: str) -> LabeledData:
    """`hf:OWNER/NAME[/CONFIG][@REVISION]`, or `hf:FOLDER`, a dataset of the Hub in a folder.

    Its Parquet files have columns `image` and `label` (a class or a string, named as folders are),
    optionally `probability`, `defect_type`, `group`, and give the split by their name; or they have label
    events, and the label of an image is the consensus: images that annotators disagree on or are unsure
    of are left out and listed. A dataset of image files is read as a folder. One that has neither may
    have Parquet files at the revision refs/convert/parquet. Images are read when they are needed.
    Raises DataError.
    """
    data, root, card = _open(address.removeprefix("hf:"))
    license = _license(card)
    if not data.tables:
        return replace(read_folder(root), name=data.name, license=license)
    try:
        rows, columns = _rows(data)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{data.name} has a table that cannot be read ({error}).") from error
    samples, left_out = (_of_events if columns == EVENTS else _of_labels)(data, rows)
    return LabeledData(data.name, license, tuple(samples), tuple(left_out))


def _open(name: str) -> tuple[HubData, Path, Path]:
    """The dataset, the folder it is in, and the path of its card."""
    match, folder = ADDRESS.fullmatch(name), Path(name).expanduser()
    if folder.is_dir():
        return open_folder(folder), folder, folder / CARD
    if not match:
        raise DataError(
            f"hf:{name} is not an address. Write hf:OWNER/NAME, with /CONFIG or @REVISION if needed."
        )
    try:
        root = download(match["repository"], match["config"] or "", match["revision"])
    except ExchangeError as error:
        raise DataError(str(error)) from error
    folder = root / (match["config"] or "")
    data = open_folder(folder, name) if folder.is_dir() else None
    if not data or not (data.tables or data.images):
        raise DataError(
            f"hf:{name} has no Parquet files and no images. A public dataset of another format may have them "
            "at @refs/convert/parquet."
        )
    return data, folder, root / CARD


def _license(card: Path) -> str:
    """As a card states it, or ""."""
    try:
        license = DatasetCard.load(card).data.license
    except (OSError, ValueError):  # no card, or one that cannot be read
        license = ""
    return license if isinstance(license, str) else ""


def _rows(data: HubData) -> tuple[list[Row], tuple[str, ...]]:
    """All rows, and the columns that each must have: EVENTS or LABELS. Raises DataError if one is missing."""
    rows, columns = [], LABELS
    for path in data.tables:
        table = data.files.table(path)
        columns = EVENTS if "event_id" in table.names else columns
        if missing := [column for column in columns if column not in table.names]:
            raise DataError(
                f"{data.name} needs the columns {', '.join(columns)}; {path} has {', '.join(table.names)}. "
                f"Add {', '.join(missing)}, or choose another dataset."
            )
        names = table.image_names()
        for number, cells in enumerate(table.rows([*columns[1:], *OPTIONAL])):
            rows.append(Row(f"Row {number} of {path}", path, number, names[number], cells))
    return rows, columns


def _of_labels(data: HubData, rows: Sequence[Row]) -> tuple[list[Sample], list[str]]:
    """A sample for each row, and a line for each image that is labeled unsure."""
    samples, left_out = [], []
    for row in rows:
        path = Path(data.name) / row.name
        if row.cells["label"] == UNSURE:
            left_out.append(f"{path}: unsure")
        else:
            content = partial(_image, data, [row])
            samples.append(sample_of(row.cells, path, row.where, _split_of(row.table), content))
    return samples, left_out


def _of_events(data: HubData, rows: Sequence[Row]) -> tuple[list[Sample], list[str]]:
    """A sample for each image with a consensus, in the order of the tables; a line for each other image."""
    events, rows_of = [], {}
    for row, time in zip(rows, _times(data.name, rows)):
        cells = row.cells
        if time is pd.NaT or not cells["retracts"] and cells["label"] not in (*CLASSES, UNSURE):
            raise DataError(
                f"{row.where} has {cells}. A label event needs a time and normal, abnormal or unsure."
            )
        rows_of.setdefault(cells["image_sha256"], []).append(row)
        events.append(SimpleNamespace(**{"defect_type": "", "decides": False, **cells, "created_at": time}))
    agreed = consensus_of(events)
    samples, left_out = [], []
    for sha256, of_image in rows_of.items():
        if sha256 not in agreed:  # every event is retracted
            continue
        consensus, path = agreed[sha256], Path(data.name) / sha256
        if consensus.label in CLASSES:
            cells = {name: getattr(consensus, name) for name in ("label", "probability", "defect_type")}
            samples.append(sample_of(cells, path, "", content=partial(_image, data, of_image)))
        else:
            left_out.append(f"{path}: {consensus}")
    return samples, left_out


def _times(name: str, rows: Sequence[Row]) -> Iterator[pd.Timestamp]:
    try:
        return iter(pd.to_datetime([row.cells["created_at"] for row in rows], utc=True, format="ISO8601"))
    except (ValueError, TypeError) as error:
        raise DataError(f"{name} has a created_at that is not a time: {error}.") from error


def _split_of(table: str) -> str:
    """The split that the name of a table, or of a folder it is in, says; "" for none."""
    for name in reversed(PurePosixPath(table).parts):
        words = re.split(r"[^a-z]+", name.lower())
        for split, synonyms in SPLIT_WORDS.items():
            if not set(synonyms).isdisjoint(words):
                return split
    return ""


def _image(data: HubData, rows: Iterable[Row]) -> bytes:
    """The first image in one of these rows. Raises ImageError."""
    missing = ImageError("No row has the image.")
    for row in rows:
        try:
            return data.files.row(row.table, row.number)[1]
        except ImageError as error:
            missing = error
    raise missing
