"""Imports labels into the journal, whatever format they were read from."""

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from chipdemo.errors import ChipDemoError, ExchangeError, LabelError
from chipdemo.files import Found, in_parallel, shown
from chipdemo.images import content_sha256, read_image
from chipdemo.labeling.folders import label_of
from chipdemo.labeling.intake import Progress, is_full, read_file
from chipdemo.labeling.journal import Journal, NewImage
from chipdemo.labeling.label import Box, Label
from chipdemo.tables import local_path, whole_number

EVENTS = uuid.UUID("6f0b7c9e-3f0e-5d3c-9d0a-0c1e8a5b7d42")  # the namespace of imported events' ids
MALFORMED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Row:
    """One labeled image as it was read. path: its file. name: shown to the annotators.

    label: any synonym of normal and abnormal, or unsure. boxes: (x, y, width, height) in pixels.
    mask: the path or the content of a picture that is black where there is no defect.
    """

    name: str
    path: Path
    label: str
    defect_type: str = ""
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    mask: Path | bytes = b""
    note: str = ""


@dataclass(frozen=True)
class Imported:
    """The result of an import. known: labels that were there already, or that say no more than one that is.

    replaced: of the added ones, how many took the place of a standing label of the same annotator.
    refused: a line with name and reason for each label that was not taken.
    """

    added: int
    known: int
    replaced: int
    refused: tuple[str, ...]


def keep_rows(
    journal: Journal, rows: Iterable[Row | str], annotator: str, progress: Progress = lambda done: None
) -> Imported:
    """Add labeled images to the journal. rows: these, and lines about what could not be read.

    An imported label is an event like any other: it becomes the annotator's latest label of that image. So
    it replaces the standing one, unless that says the same and more (boxes, a mask, a note).
    """

    def read(row: Row | str) -> tuple[Row, NewImage, Label] | str:
        try:
            return row if isinstance(row, str) else (row, *_event(row, annotator))
        except (ChipDemoError, *MALFORMED) as error:
            return f"{shown(row.name)}: {_reason(error)}"

    counts, refused = Counter(), []
    images, labels = [], []  # for the next transaction
    seen: dict[str, tuple[str, str]] = {}  # label and name by sha256

    def keep() -> None:
        journal.add_images(*images)
        standing = ((label, journal.vote(label.image_sha256, annotator)) for label in labels)
        wanted = [(label, vote) for label, vote in standing if not (vote and _includes(vote, label))]
        added = journal.append(*(label for label, _ in wanted))
        counts["added"] += sum(added)
        counts["known"] += len(labels) - sum(added)
        counts["replaced"] += sum(new for new, (_, vote) in zip(added, wanted) if vote)
        images.clear()
        labels.clear()

    with closing(in_parallel(read, rows)) as results:
        for done, result in enumerate(results, 1):
            if isinstance(result, str):
                refused.append(result)
            else:
                row, image, label = result
                first, name = seen.setdefault(label.image_sha256, (label.label, row.name))
                if first == label.label:
                    images.append(image)
                    labels.append(label)
                else:
                    refused.append(
                        f"{shown(row.name)}: {label.label}, but the same image as {shown(name)} is {first}. "
                        "Keep one of them."
                    )
            if is_full(images):
                keep()
            progress(done)
    keep()
    return Imported(counts["added"], counts["known"], counts["replaced"], tuple(refused))


def inside(root: Path, name: Any) -> Path:
    """The file in a folder by its path or by the name that a file of labels gives it.

    Raises ExchangeError for a file outside the folder.
    """
    path = (name if isinstance(name, Path) else local_path(root, str(name))).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ExchangeError(f"{shown(str(name))} is outside the folder of the labels.")
    return path


def rows_of(
    where: str, entries: Iterable[tuple[str, Any]], row_of: Callable[[Any], Row]
) -> Iterator[Row | str]:
    """The row of each entry, or a line about its error. entries: (name for that line, entry)."""
    for name, entry in entries:
        try:
            yield row_of(entry)
        except (ChipDemoError, *MALFORMED) as error:
            yield f"{shown(where)}, {shown(name)}: {_reason(error)}"


def _reason(error: Exception) -> str:
    if isinstance(error, ChipDemoError):
        return str(error)
    reason = "a value is not of the expected kind"
    if isinstance(error, KeyError):
        reason = f"{shown(repr(error.args[0]))} is missing"
    elif isinstance(error, ValueError):
        reason = shown(str(error)).rstrip(".")
    return f"This entry is malformed: {reason}. Correct it."


def _event(row: Row, annotator: str) -> tuple[NewImage, Label]:
    label = label_of(whole_number(row.label))
    if label is None:
        raise LabelError(f"The label {shown(row.label)!r} is not normal, abnormal or unsure.")
    image = read_file(Found(row.name, row.path))
    boxes = tuple(_clipped(box, image.size) for box in row.boxes)
    mask, mask_sha256 = _mask(row.mask, image.size) if row.mask else (b"", "")
    event = Label(image.sha256, label, annotator, row.defect_type, boxes, mask, row.note)
    fields = [annotator, image.sha256, label, row.defect_type, [astuple(box) for box in boxes]]
    event_id = str(uuid.uuid5(EVENTS, json.dumps([*fields, mask_sha256, row.note])))
    return image, replace(event, event_id=event_id)


def _includes(vote: Label, label: Label) -> bool:
    """Whether a standing label says all that another one does."""
    return vote.label == label.label and all(
        getattr(label, field) in (getattr(vote, field), type(getattr(vote, field))())
        for field in ("defect_type", "boxes", "mask", "note")
    )


def _clipped(box: tuple[float, float, float, float], size: tuple[int, int]) -> Box:
    """The box in whole pixels inside the image. Raises LabelError if it is all outside."""
    x, y, width, height = box
    left, top = max(round(x), 0), max(round(y), 0)
    right, bottom = min(round(x + width), size[0]), min(round(y + height), size[1])
    if left >= right or top >= bottom:
        raise LabelError(f"The box {box} is outside the image, which has {size[0]} x {size[1]} pixels.")
    return Box(left, top, right - left, bottom - top)


def _mask(source: Path | bytes, size: tuple[int, int]) -> tuple[bytes, str]:
    """The mask as PNG of 0 and 255, and the hash of its pixels. Raises LabelError, ImageError."""
    mask = read_image(source).image.convert("L").point(lambda value: 255 * (value > 0))
    if mask.size != size:
        raise LabelError(f"The mask has another size than the image: {mask.size} and {size} pixels.")
    return png_of(mask), content_sha256(mask.convert("RGB"))


def png_of(mask: Image.Image) -> bytes:
    file = BytesIO()
    mask.save(file, "PNG")
    return file.getvalue()
