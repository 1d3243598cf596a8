"""CSV files, as spreadsheets and other programs write them: one reader for labels and for training data."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from chipdemo.errors import DataError

DELIMITERS = (",", ";", "\t")


def read_rows(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV, each with the number of its line and its cells by column name.

    The header gives the delimiter (comma, semicolon or tab) and the column names, here in lower case
    and without spaces around them. UTF-8, with or without a byte order mark. A cell that is missing at
    the end of a row is "". columns: those that the header must have. Raises DataError, for a damaged
    row when the rows before it have been given.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(path, file, columns)
    except UnicodeError as error:
        raise DataError(f"{path} is not in UTF-8. Save it as CSV UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}).") from error


def local_path(folder: Path, name: str) -> Path:
    r"""The path that a file of labels in this folder names; Windows writes it as images\a.png."""
    return folder / name.replace("\\", "/")


def _rows(path: Path, file: Iterator[str], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    first = next(file, "")
    delimiter = max(DELIMITERS, key=lambda one: len(next(csv.reader([first], delimiter=one), [])))
    header = [name.strip().lower() for name in next(csv.reader([first], delimiter=delimiter), [])]
    if not any(header):
        raise DataError(f"{path} has no header. Name the columns in its first line.")
    if missing := [name for name in columns if name not in header]:
        raise DataError(f"{path} has no column {' and no column '.join(missing)}: only {', '.join(header)}.")
    table = csv.reader(file, delimiter=delimiter)
    for cells in table:
        line = table.line_num + 1  # the header was read before
        if any(cells[len(header) :]):
            raise DataError(
                f"Line {line} of {path} has {len(cells)} cells under {len(header)} column names. "
                "Put quotes around a cell that contains the delimiter."
            )
        if any(cells):
            yield line, {name: cells[i] if i < len(cells) else "" for i, name in enumerate(header)}
