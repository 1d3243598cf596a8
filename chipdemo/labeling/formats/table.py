"""A CSV of labels, which training reads and which is safe to open in a spreadsheet."""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple
from pathlib import Path

from chipdemo.errors import DataError, ExchangeError
from chipdemo.labeling.formats.entry import Entry
from chipdemo.labeling.formats.imagefolder import polygons_of, write_file
from chipdemo.labeling.formats.reading import Row, inside, rows_of
from chipdemo.spreadsheet import escaped, unescaped
from chipdemo.tables import read_rows

LABELS_CSV = "labels.csv"
COLUMNS = ("image", "label", "defect_type", "probability", "normal", "abnormal", "unsure", "boxes", "mask")
COLUMNS += ("note", "name", "sha256", "width", "height", "polygons", "mask_type")


def write(folder: Path, entries: Iterable[Entry]) -> dict[str, int]:
    """labels.csv, images/ and masks/. Nothing is left out.

    Columns normal, abnormal, unsure: votes. boxes: JSON, [[x, y, width, height, defect type], ...]. polygons:
    JSON, [{"points": [[x, y], ...], "defect_type": ...}, ...].
    """
    with (folder / LABELS_CSV).open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for entry in entries:
            write_file(folder / "images" / entry.file_name, entry.content)
            if entry.mask:
                write_file(folder / "masks" / entry.mask_name, entry.mask)
            fields = entry.fields
            row = fields | fields.pop("votes")
            row["image"] = f"images/{entry.file_name}"
            row["boxes"] = json.dumps([astuple(box) for box in entry.boxes])
            row["polygons"] = json.dumps([asdict(polygon) for polygon in entry.polygons])
            row["mask"] = f"masks/{entry.mask_name}" if entry.mask else ""
            row["mask_type"] = entry.mask_type
            table.writerow({column: escaped(str(row[column])) for column in COLUMNS})
    return {}


def read(path: Path) -> Iterator[Row | str]:
    """path: a CSV with columns image (relative to it) and label, and any of COLUMNS; or its folder.

    See tables.read_rows for the kinds of CSV. Raises ExchangeError.
    """
    file = path / LABELS_CSV if path.is_dir() else path

    def row_of(cells: dict[str, str]) -> Row:
        fields = {column: unescaped(cells.get(column)) for column in COLUMNS}
        if not fields["image"]:
            raise ExchangeError("The column image is empty.")
        return Row(
            fields["name"] or fields["image"],
            inside(file.parent, fields["image"]),
            fields["label"],
            fields["defect_type"],
            tuple((*box[:4], *(box[4:] or [""])) for box in json.loads(fields["boxes"] or "[]")),
            inside(file.parent, fields["mask"]) if fields["mask"] else b"",
            fields["note"],
            polygons_of(json.loads(fields["polygons"] or "[]")),
            fields["mask_type"],
        )

    try:
        numbered = ((f"line {line}", cells) for line, cells in read_rows(file, ("image", "label")))
        yield from rows_of(file.name, numbered, row_of)
    except DataError as error:
        raise ExchangeError(str(error)) from error
