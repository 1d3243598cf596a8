"""Exports labels from the journal for other programs, and imports labels."""

import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chipdemo.errors import ExchangeError
from chipdemo.labeling.agreement import DISPUTED
from chipdemo.labeling.formats import (
    coco,
    folders,
    imagefolder,
    labelstudio,
    labelstudio_reading,
    parquet,
    table,
    yolo,
)
from chipdemo.labeling.formats.entry import Entry, entries_of
from chipdemo.labeling.formats.reading import Imported, keep_rows
from chipdemo.labeling.intake import Progress
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import UNSURE, Label

WRITERS = {  # write(folder, entries) -> how many it left out, by reason
    "imagefolder": imagefolder.write,
    "parquet": parquet.write,
    "csv": table.write,
    "coco": coco.write,
    "yolo": yolo.write,
    "labelstudio": labelstudio.write,
}
READERS = {  # read(path) -> rows, and a line for each one that cannot be read
    "imagefolder": imagefolder.read,
    "folder": folders.read,
    "csv": table.read,
    "coco": coco.read,
    "labelstudio": labelstudio_reading.read,
}
SIGNS = {  # in the order in which they count
    "metadata.jsonl": "imagefolder",
    "annotations.json": "coco",
    labelstudio.TASKS: "labelstudio",
    "labels.csv": "csv",
}


@dataclass(frozen=True)
class Exported:
    """The result of an export. labels: number of images by consensus.

    left_out: numbers by reason: disputed images, labels that the format cannot hold, damaged masks.
    """

    folder: Path
    labels: dict[str, int]
    left_out: dict[str, int]


def export_labels(
    journal: Journal, folder: Path, format: str, progress: Progress = lambda done: None
) -> Exported:
    """Write the consensus of every labeled image, all or nothing, as of one moment.

    format: one of WRITERS. Files are named by the sha256 of the image, never by text of users.
    Raises ExchangeError if the folder exists and is not empty, or cannot be written.
    """
    write = _chosen(WRITERS, format)
    labels, left_out = Counter(), Counter()

    def entries() -> Iterator[Entry]:
        for done, entry in enumerate(entries_of(journal, left_out), 1):
            if entry.consensus.label == DISPUTED:
                left_out[DISPUTED] += 1
            else:
                labels[entry.consensus.label] += 1
                yield entry
            progress(done)

    folder = folder.expanduser().resolve()
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ExchangeError(f"{folder} exists and is not empty. Choose a new folder.")
        part.mkdir(parents=True)
        left_out.update(write(part, entries()))
        if not labels:
            raise ExchangeError(
                f"{journal.path} has no image with a consensus, so there is nothing to export."
            )
        if folder.exists():
            folder.rmdir()  # empty; Windows renames onto no folder
        part.rename(folder)
    except OSError as error:
        raise ExchangeError(
            f"{folder} could not be written ({error}). Free some space, or choose another folder."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Exported(folder, dict(labels), dict(left_out))


def import_labels(
    journal: Journal,
    path: Path,
    annotator: str,
    format: str = "",
    progress: Progress = lambda done: None,
    normal: Collection[str] = (),
    abnormal: Collection[str] = (),
) -> Imported:
    """Add labeled images to the journal, as labels of this annotator. See keep_rows. Again, it adds nothing.

    path: a folder that export_labels wrote as imagefolder, CSV, COCO or Label Studio, or one as
    labeled_folders reads it; a CSV with columns image and label; a JSON of COCO or of Label Studio. format:
    one of READERS; guessed where it is "". normal, abnormal: names of further class folders, for the format
    folder. Raises ExchangeError if nothing can be read there, LabelError for an invalid name of an annotator;
    labels added before that stay.
    """
    Label("0" * 64, UNSURE, annotator)  # raises LabelError before anything is read
    path = path.expanduser()
    format = format or _guess(path)
    read = _chosen(READERS, format)
    if normal or abnormal:
        if format != "folder":
            raise ExchangeError(
                f"--normal and --abnormal apply to class folders; {path} is read as {format}. Leave them out."
            )
        read = partial(read, normal=normal, abnormal=abnormal)
    return keep_rows(journal, read(path), annotator, progress)


def _chosen(functions: dict[str, Callable], format: str) -> Callable:
    if format not in functions:
        raise ExchangeError(
            f"The format {format[:40]!r} is not supported here. Choose {', '.join(functions)}."
        )
    return functions[format]


def _guess(path: Path) -> str:
    if path.is_dir():
        return next((format for file, format in SIGNS.items() if (path / file).is_file()), "folder")
    formats = {".csv": "csv", ".json": "coco", ".jsonl": "imagefolder"}
    if not path.is_file() or path.suffix.lower() not in formats:
        raise ExchangeError(
            f"{path} is not a folder, a CSV, or a JSON of COCO or Label Studio. Check the path."
        )
    format = formats[path.suffix.lower()]
    return "labelstudio" if format == "coco" and labelstudio_reading.is_list(path) else format
