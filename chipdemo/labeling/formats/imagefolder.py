"""An imagefolder: a folder a label, and metadata.jsonl. load_dataset("imagefolder") and training read it."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import Any

from chipdemo.errors import ExchangeError
from chipdemo.inspection import ABNORMAL
from chipdemo.labeling.formats.entry import Entry
from chipdemo.labeling.formats.reading import Row, inside, rows_of
from chipdemo.labeling.formats.shapes import Points

METADATA = "metadata.jsonl"
PLAIN = re.compile(r"[a-zA-Z0-9][\w -]{0,49}(?<! )", re.ASCII)  # a defect type that may name a folder


def write(folder: Path, entries: Iterable[Entry]) -> dict[str, int]:
    """normal/, abnormal/ with a folder a plain defect type, unsure/ and masks/. Nothing is left out."""
    shown = set()  # kinds of marks that a row has had
    with (folder / METADATA).open("wb") as metadata, TemporaryFile() as later:
        for entry in entries:
            name = f"{_folder_of(entry)}/{entry.file_name}"
            write_file(folder / name, entry.content)
            if entry.mask:
                write_file(folder / "masks" / entry.mask_name, entry.mask)
            row = {
                "file_name": name,
                **entry.fields,
                "boxes": [asdict(box) for box in entry.boxes],
                "polygons": [asdict(polygon) for polygon in entry.polygons],
                "mask": f"masks/{entry.mask_name}" if entry.mask else "",
                "mask_type": entry.mask_type,
            }
            # Readers infer what a box and a polygon are from the first megabytes: one with each comes first.
            new = {kind for kind in ("boxes", "polygons") if row[kind]} - shown
            shown |= new
            (metadata if new else later).write(json.dumps(row).encode() + b"\n")
        later.seek(0)
        copyfileobj(later, metadata)
    return {}


def write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def read(path: Path) -> Iterator[Row | str]:
    """path: metadata.jsonl or its folder."""
    file = path / METADATA if path.is_dir() else path
    root = file.parent

    def row_of(line: str) -> Row:
        fields = json.loads(line)
        return Row(
            str(fields.get("name") or fields["file_name"]),
            inside(root, fields["file_name"]),
            str(fields["label"]),
            fields.get("defect_type") or "",
            tuple(
                (box["x"], box["y"], box["width"], box["height"], box.get("defect_type") or "")
                for box in fields.get("boxes") or ()
            ),
            inside(root, fields["mask"]) if fields.get("mask") else b"",
            fields.get("note") or "",
            polygons_of(fields.get("polygons") or ()),
            fields.get("mask_type") or "",
        )

    try:
        with file.open(encoding="utf-8") as lines:
            numbered = ((f"line {number}", line) for number, line in enumerate(lines, 1))
            yield from rows_of(file.name, numbered, row_of)
    except (OSError, UnicodeError) as error:
        raise ExchangeError(f"{file} cannot be read as {METADATA} ({error}).") from error


def polygons_of(written: Iterable[dict[str, Any]]) -> tuple[tuple[Points, str], ...]:
    """As Row has them. written: {"points": [[x, y], ...], "defect_type": ...}."""
    return tuple((polygon["points"], polygon.get("defect_type") or "") for polygon in written)


def _folder_of(entry: Entry) -> str:
    label, defect_type = entry.consensus.label, entry.consensus.defect_type
    return f"{label}/{defect_type}" if label == ABNORMAL and PLAIN.fullmatch(defect_type) else label
