"""Labels of others on their way into the journal, in whatever format they came."""

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

EVENTS = uuid.UUID("6f0b7c9e-3f0e-5d3c-9d0a-0c1e8a5b7d42")  # the namespace of imported events' ids
MALFORMED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Row:
    """One labeled image as it came. path: its file; name: what to call it.

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
    """What became of labels. known: were there from an earlier import.

    refused: those not taken, a line each with name and reason.
    """

    added: int
    known: int
    refused: tuple[str, ...]


def keep_rows(
    journal: Journal, rows: Iterable[Row | str], annotator: str, progress: Progress = lambda done: None
) -> Imported:
    """rows: labeled images, and lines about what could not be taken."""
    Label("0" * 64, "unsure", annotator)  # raises LabelError before anything is read

    def read(row: Row | str) -> tuple[Row, NewImage, Label] | str:
        try:
            return row if isinstance(row, str) else (row, *_event(row, annotator))
        except (ChipDemoError, *MALFORMED) as error:
            return f"{shown(row.name)}: {_reason(error)}"

    counts, refused = Counter(), []
    images, labels = [], []  # that the next transaction keeps
    seen: dict[str, tuple[str, str]] = {}  # label and name by sha256

    def keep() -> None:
        journal.add_images(*images)
        counts.update(journal.append(*labels))
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
                        f"{shown(row.name)}: {label.label}; as {shown(name)} it is {first}. Keep one."
                    )
            if is_full(images):
                keep()
            progress(done)
    keep()
    return Imported(counts[True], counts[False], tuple(refused))


def inside(root: Path, name: Any) -> Path:
    """The file that is called name in a folder. Raises ExchangeError if that is not inside it."""
    path = Path(root, str(name)).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ExchangeError("Expected a file in the folder of the labels; the path leads out of it.")
    return path


def rows_of(
    where: str, entries: Iterable[tuple[str, Any]], row_of: Callable[[Any], Row]
) -> Iterator[Row | str]:
    """A row, or a line about what was wrong, of each of entries: (its name for that line, itself)."""
    for name, entry in entries:
        try:
            yield row_of(entry)
        except (ChipDemoError, *MALFORMED) as error:
            yield f"{shown(where)}, {shown(name)}: {_reason(error)}"


def _reason(error: Exception) -> str:
    if isinstance(error, ChipDemoError):
        return str(error)
    return f"Expected what an export writes; found {shown(repr(error))}. Correct it."


def _event(row: Row, annotator: str) -> tuple[NewImage, Label]:
    label = label_of(row.label)
    if label is None:
        raise LabelError(f"Expected normal, abnormal or unsure; found {shown(row.label)!r}. Correct it.")
    image = read_file(Found(row.name, row.path))
    boxes = tuple(_clipped(box, image.size) for box in row.boxes)
    mask, mask_sha256 = _mask(row.mask, image.size) if row.mask else (b"", "")
    event = Label(image.sha256, label, annotator, row.defect_type, boxes, mask, row.note)
    said = [annotator, image.sha256, label, row.defect_type, [astuple(box) for box in boxes]]
    event_id = str(uuid.uuid5(EVENTS, json.dumps([*said, mask_sha256, row.note])))
    return image, replace(event, event_id=event_id)


def _clipped(box: tuple[float, float, float, float], size: tuple[int, int]) -> Box:
    """In whole pixels of the image. Raises LabelError if nothing of it is inside."""
    x, y, width, height = box
    left, top = max(round(x), 0), max(round(y), 0)
    right, bottom = min(round(x + width), size[0]), min(round(y + height), size[1])
    if left >= right or top >= bottom:
        raise LabelError(f"Expected boxes inside the image of {size}; found {box}. Correct it.")
    return Box(left, top, right - left, bottom - top)


def _mask(source: Path | bytes, size: tuple[int, int]) -> tuple[bytes, str]:
    """As a label has it, and the hash of its pixels. Raises LabelError, ImageError."""
    mask = read_image(source).image.convert("L").point(lambda value: 255 * (value > 0))
    if mask.size != size:
        raise LabelError(f"Expected a mask as large as the image, {size}; found {mask.size}. Correct it.")
    return png_of(mask), content_sha256(mask.convert("RGB"))


def png_of(mask: Image.Image) -> bytes:
    file = BytesIO()
    mask.save(file, "PNG")
    return file.getvalue()
