"""Imports labels into the journal, whatever format they were read from."""

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from chipdemo.errors import ChipDemoError, ExchangeError, LabelError
from chipdemo.files import Found, in_parallel, shown
from chipdemo.labeling.folders import label_of
from chipdemo.labeling.formats.shapes import Points, Size, box_in, mask_in, polygon_in
from chipdemo.labeling.intake import Progress, is_full, read_file
from chipdemo.labeling.journal import Journal, NewImage
from chipdemo.labeling.label import Box, Label, Polygon
from chipdemo.tables import local_path, whole_number

EVENTS = uuid.UUID("6f0b7c9e-3f0e-5d3c-9d0a-0c1e8a5b7d42")  # the namespace of imported events' ids
MALFORMED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Row:
    """One labeled image as it was read. source: its file, or the content. name: shown to the annotators.

    label: any synonym of normal and abnormal, or unsure. boxes: x, y, width, height (pixels) and defect type.
    polygons: points (x, y; pixels) and defect type. mask: the path or the content of a picture that is black
    where there is no defect. A defect type is "" where it is that of the label. size: width and height
    of the image to which shapes and mask belong, if known. left_out: what an import cannot take, in words.
    """

    name: str
    source: Path | bytes
    label: str
    defect_type: str = ""
    boxes: tuple[tuple[float, float, float, float, str], ...] = ()
    mask: Path | bytes = b""
    note: str = ""
    polygons: tuple[tuple[Points, str], ...] = ()
    mask_type: str = ""
    size: Size | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    """The result of an import. known: labels that were there already, or that say no more than one that is.

    replaced: of the added ones, how many took the place of a standing label of the same annotator.
    refused: a line with name and reason for each label that was not taken. left_out: a line for each part of
    a label that was not taken, such as a kind of region that labels do not have.
    """

    added: int
    known: int
    replaced: int
    refused: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def keep_rows(
    journal: Journal, rows: Iterable[Row | str], annotator: str, progress: Progress = lambda done: None
) -> Imported:
    """Add labeled images to the journal. rows: these, and lines about what could not be read.

    An imported label is an event like any other: it becomes the annotator's latest label of that image. So
    it replaces the standing one, unless that says the same and more (boxes, polygons, a mask, a note).
    """

    def read(row: Row | str) -> tuple[Row, NewImage, Label] | str:
        try:
            return row if isinstance(row, str) else (row, *_event(row, annotator))
        except (ChipDemoError, *MALFORMED) as error:
            return f"{shown(row.name)}: {_reason(error)}"

    counts, refused, left_out = Counter(), [], []
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
                    left_out += [f"{shown(row.name)}: {shown(part)}" for part in row.left_out]
                else:
                    refused.append(
                        f"{shown(row.name)}: {label.label}, but the same image as {shown(name)} is {first}. "
                        "Keep one of them."
                    )
            if is_full(images):
                keep()
            progress(done)
    keep()
    return Imported(counts["added"], counts["known"], counts["replaced"], tuple(refused), tuple(left_out))


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
    image = read_file(Found(row.name, row.source))
    if row.size and row.size != image.size:
        raise LabelError(
            f"The labels belong to an image of {row.size[0]} x {row.size[1]} pixels, but this one has "
            f"{image.size[0]} x {image.size[1]}. Put the image that was labeled in its place."
        )
    boxes = [box_in(*box, size=image.size) for box in row.boxes]
    shapes = [polygon_in(points, defect_type, image.size) for points, defect_type in row.polygons]
    boxes += [shape for shape in shapes if isinstance(shape, Box)]
    polygons = tuple(shape for shape in shapes if isinstance(shape, Polygon))
    mask, mask_sha256 = mask_in(row.mask, image.size) if row.mask else (b"", "")
    event = Label(
        image_sha256=image.sha256,
        label=label,
        annotator=annotator,
        defect_type=row.defect_type,
        boxes=tuple(boxes),
        polygons=polygons,
        mask=mask,
        mask_type=row.mask_type,
        note=row.note,
    )
    return image, replace(event, event_id=_event_id(event, mask_sha256))


def _event_id(event: Label, mask_sha256: str) -> str:
    """The same for the same label, so that importing it again adds nothing.

    What labels did not have in older versions counts where there is any: labels they imported keep their ids.
    """
    boxes = [astuple(box) if box.defect_type else astuple(box)[:4] for box in event.boxes]
    fields = [
        event.annotator,
        event.image_sha256,
        event.label,
        event.defect_type,
        boxes,
        mask_sha256,
        event.note,
    ]
    if event.polygons or event.mask_type:
        fields += [[astuple(polygon) for polygon in event.polygons], event.mask_type]
    return str(uuid.uuid5(EVENTS, json.dumps(fields)))


def _includes(vote: Label, label: Label) -> bool:
    """Whether a standing label says all that another one does."""
    return vote.label == label.label and all(
        getattr(label, field) in (getattr(vote, field), type(getattr(vote, field))())
        for field in ("defect_type", "boxes", "polygons", "mask", "mask_type", "note")
    )
