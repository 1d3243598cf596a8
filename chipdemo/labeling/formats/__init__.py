"""Labels out of the journal, for other programs, and labels of others into it."""

import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chipdemo.errors import ExchangeError
from chipdemo.labeling.agreement import DISPUTED
from chipdemo.labeling.formats import coco, folders, imagefolder, parquet, table, yolo
from chipdemo.labeling.formats.entry import Entry, entries_of
from chipdemo.labeling.formats.reading import Imported, keep_rows
from chipdemo.labeling.intake import Progress
from chipdemo.labeling.journal import Journal

WRITERS = {  # format: write(folder, entries), which gives how many it left out by reason
    "imagefolder": imagefolder.write,
    "parquet": parquet.write,
    "csv": table.write,
    "coco": coco.write,
    "yolo": yolo.write,
}
READERS = {  # format: read(path), which gives rows, and a line for each that cannot be one
    "imagefolder": imagefolder.read,
    "folder": folders.read,
    "csv": table.read,
    "coco": coco.read,
}
SIGNS = {"metadata.jsonl": "imagefolder", "annotations.json": "coco", "labels.csv": "csv"}


@dataclass(frozen=True)
class Exported:
    """What was written. labels: images by the label that people agree on.

    left_out: how many were left out, by reason: disagreements, those of labels that the format cannot
    hold, and damaged masks.
    """

    folder: Path
    labels: dict[str, int]
    left_out: dict[str, int]


def export_labels(
    journal: Journal, folder: Path, format: str, progress: Progress = lambda done: None
) -> Exported:
    """Write what holds now of every labeled image, all or nothing, as of one moment.

    format: one of WRITERS. Files are called by the sha256 of the image, and nothing by what
    people wrote. Raises ExchangeError if folder is there and not empty, or cannot be written.
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
            raise ExchangeError(f"Expected a new folder; {folder} is there and not empty. Choose another.")
        part.mkdir(parents=True)
        left_out.update(write(part, entries()))
        if not labels:
            raise ExchangeError(
                f"Expected labels that people agree on in {journal.path}; found none. Label more first."
            )
        if folder.exists():
            folder.rmdir()  # empty; Windows renames onto no folder
        part.rename(folder)
    except OSError as error:
        raise ExchangeError(
            f"Expected room and permission to write {folder}; found: {error}. Nothing was written. "
            "Make room or choose another folder."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Exported(folder, dict(labels), dict(left_out))


def import_labels(
    journal: Journal, path: Path, annotator: str, format: str = "", progress: Progress = lambda done: None
) -> Imported:
    """Take labeled images in, as labels of this annotator. Again, it adds nothing.

    path: a folder that export_labels wrote as imagefolder, CSV or COCO, or that has normal/ and
    abnormal/; a CSV with columns image and label; a COCO JSON. format: one of READERS, guessed
    where it is not given. Raises ExchangeError if nothing can be read there, LabelError for an
    annotator that cannot be one; what was added before stays.
    """
    path = path.expanduser()
    read = _chosen(READERS, format or _guess(path))
    return keep_rows(journal, read(path), annotator, progress)


def _chosen(functions: dict[str, Callable], format: str) -> Callable:
    if format not in functions:
        raise ExchangeError(
            f"Expected a format among {', '.join(functions)}; found {format[:40]!r}. Choose one."
        )
    return functions[format]


def _guess(path: Path) -> str:
    if path.is_dir():
        return next((format for file, format in SIGNS.items() if (path / file).is_file()), "folder")
    formats = {".csv": "csv", ".json": "coco", ".jsonl": "imagefolder"}
    if not path.is_file() or path.suffix.lower() not in formats:
        raise ExchangeError(
            f"Expected a folder, a CSV or a COCO JSON; {path} is none of these. Check the path."
        )
    return formats[path.suffix.lower()]
