"""CSV files, as spreadsheets and other programs write them: one reader for labels and for training data."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from chipdemo.errors import DataError
from chipdemo.files import shown

DELIMITERS = (",", ";", "\t")
SHOWN = 8  # names of columns in a message


def read_rows(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV, each with the number of its line and its cells by column name.

    The header gives the delimiter (comma, semicolon or tab) and the column names, here in lower case
    and, as the cells, without spaces around them. UTF-8, with or without a byte order mark. A cell that is
    missing at the end of a row is "". columns: those that the header must have. Raises DataError, for a
    damaged row when the rows before it have been given.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(path, file, columns)
    except UnicodeError as error:
        raise DataError(f"{path} is not UTF-8 text. In the spreadsheet, save it as 'CSV UTF-8'.") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}).") from error


def local_path(folder: Path, name: str) -> Path:
    r"""The path that a file of labels in this folder names; Windows writes it as images\a.png."""
    return folder / name.replace("\\", "/")


def whole_number(label: str) -> str:
    """A label of a table: "1" and "0" for 1.0 and 0.0, as pandas writes a column that lacks a value."""
    return {"1.0": "1", "0.0": "0"}.get(label.strip(), label)


def _names(columns: Sequence[str]) -> str:
    """Names of columns for a message: a few, each shortened."""
    more = f" and {len(columns) - SHOWN:,} more" if len(columns) > SHOWN else ""
    return ", ".join(shown(name[:40]) for name in columns[:SHOWN]) + more


def _rows(path: Path, file: Iterator[str], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    first = next(file, "")
    delimiter = max(DELIMITERS, key=lambda one: len(next(csv.reader([first], delimiter=one), [])))
    header = [name.strip().lower() for name in next(csv.reader([first], delimiter=delimiter), [])]
    if not any(header):
        raise DataError(f"{path} has no header. Name the columns in its first line.")
    if twice := [name for name, count in Counter(filter(None, header)).items() if count > 1]:
        raise DataError(f"{path} has more than one column {_names(twice)}. Rename or remove one.")
    if missing := [name for name in columns if name not in header]:
        raise DataError(f"{path} has no column {' and no column '.join(missing)}: only {_names(header)}.")
    table = csv.reader(file, delimiter=delimiter)
    for row in table:
        cells = [cell.strip(" ") for cell in row]  # an escaped cell may hold a tab or a line break alone
        line = table.line_num + 1  # the header was read before
        if any(cells[len(header) :]):
            raise DataError(
                f"Line {line} of {path} has {len(cells)} cells under {len(header)} column names. "
                "Put quotes around a cell that contains the delimiter."
            )
        if any(cells):
            yield line, {name: cells[i] if i < len(cells) else "" for i, name in enumerate(header)}
