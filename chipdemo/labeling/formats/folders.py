"""Folders of images that say by their names what is in them."""

from collections.abc import Iterator
from pathlib import Path

from chipdemo.errors import ExchangeError
from chipdemo.labeling.folders import labeled_files
from chipdemo.labeling.formats.reading import Row, inside, rows_of


def read(root: Path) -> Iterator[Row | str]:
    """root: as labeled_files takes it."""

    def row_of(file: tuple[Path, str, str]) -> Row:
        path, label, defect_type = file
        return Row(path.relative_to(root).as_posix(), inside(root, path), label, defect_type)

    try:
        files = list(labeled_files(root))
    except OSError as error:
        raise ExchangeError(f"Expected a folder that can be read; found: {error}. Check --format.") from error
    if not files:
        raise ExchangeError(
            f"Expected images in normal/ and abnormal/ (or good/, defect/, ...) of {root}; found none. "
            "Put each class in a folder of its name."
        )
    return rows_of(root.name, ((str(file[0].relative_to(root)), file) for file in files), row_of)
