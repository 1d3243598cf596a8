"""A CSV of labels, safe to open in a spreadsheet, as training and spreadsheets read it."""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from pathlib import Path

from chipdemo.errors import ExchangeError
from chipdemo.labeling.formats.entry import Entry
from chipdemo.labeling.formats.imagefolder import write_file
from chipdemo.labeling.formats.reading import Row, inside, rows_of
from chipdemo.spreadsheet import escaped, unescaped

LABELS_CSV = "labels.csv"
COLUMNS = ("image", "label", "defect_type", "probability", "normal", "abnormal", "unsure", "boxes", "mask")
COLUMNS += ("note", "name", "sha256", "width", "height")


def write(folder: Path, entries: Iterable[Entry]) -> dict[str, int]:
    """labels.csv, images/, masks/. All can be held. normal, abnormal, unsure: votes."""
    with (folder / LABELS_CSV).open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for entry in entries:
            write_file(folder / "images" / entry.file_name, entry.content)
            if entry.mask:
                write_file(folder / "masks" / entry.mask_name, entry.mask)
            said = entry.said
            row = said | said.pop("votes")
            row["image"] = f"images/{entry.file_name}"
            row["boxes"] = json.dumps([astuple(box) for box in entry.boxes])
            row["mask"] = f"masks/{entry.mask_name}" if entry.mask else ""
            table.writerow({column: escaped(str(row[column])) for column in COLUMNS})
    return {}


def read(path: Path) -> Iterator[Row | str]:
    """path: a CSV with columns image (relative to it) and label, and any other of ours; or its folder."""
    file = path / LABELS_CSV if path.is_dir() else path

    def row_of(cells: dict[str, str | None]) -> Row:
        said = {column: unescaped(cells.get(column)) for column in COLUMNS}
        if not said["image"]:
            raise ExchangeError("Expected an image in the column image; found none. Name one.")
        return Row(
            said["name"] or said["image"],
            inside(file.parent, said["image"]),
            said["label"],
            said["defect_type"],
            tuple(tuple(box) for box in json.loads(said["boxes"] or "[]")),
            inside(file.parent, said["mask"]) if said["mask"] else b"",
            said["note"],
        )

    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines)
            if not {"image", "label"} <= set(table.fieldnames or ()):
                raise ExchangeError(
                    f"Expected columns image and label in {file}; found "
                    f"{', '.join(table.fieldnames or ['nothing'])}. Add a header line."
                )
            numbered = ((f"line {table.line_num}", cells) for cells in table)
            yield from rows_of(file.name, numbered, row_of)
    except (OSError, UnicodeError, csv.Error) as error:
        raise ExchangeError(f"Expected a CSV in UTF-8; {file} cannot be read: {error}.") from error
