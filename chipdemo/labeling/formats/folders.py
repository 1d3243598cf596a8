"""Folders of images whose names are labels."""

from collections.abc import Collection, Iterator
from pathlib import Path

from chipdemo.errors import DataError, ExchangeError
from chipdemo.labeling.folders import labeled_files
from chipdemo.labeling.formats.reading import Row, inside, rows_of


def read(root: Path, normal: Collection[str] = (), abnormal: Collection[str] = ()) -> Iterator[Row | str]:
    """As labeled_files reads them. Raises ExchangeError for another layout, and where there is no image."""

    def row_of(file: tuple[Path, str, str]) -> Row:
        path, label, defect_type = file
        return Row(path.relative_to(root).as_posix(), inside(root, path), label, defect_type)

    try:
        files = list(labeled_files(root, normal, abnormal))
    except DataError as error:
        raise ExchangeError(f"{error} --normal and --abnormal name other class folders.") from error
    except OSError as error:
        raise ExchangeError(f"{root} cannot be read as a folder ({error}). Check --format.") from error
    if not files:
        raise ExchangeError(f"There are no files in the class folders of {root}. Check the path.")
    return rows_of(root.name, ((str(file[0].relative_to(root)), file) for file in files), row_of)
