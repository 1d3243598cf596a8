"""Photographs of a data set of the Hugging Face Hub, on their way into the journal."""

from collections.abc import Iterator

from chipdemo.errors import ImageError
from chipdemo.files import DEFAULT_LIMITS, Limits, in_parallel, shown, too_large
from chipdemo.hub import told
from chipdemo.labeling.hub_data import HubData, no_photographs, open_data, row_name
from chipdemo.labeling.intake import Intake, Progress, add_contents
from chipdemo.labeling.store import Journal

Photograph = tuple[str, bytes]  # its name, and the content of its file


def add_dataset(
    journal: Journal, name: str, progress: Progress = lambda done: None, limits: Limits = DEFAULT_LIMITS
) -> Intake:
    """The photographs of a data set, with their content. See photographs_of."""
    return add_contents(journal, photographs_of(name, limits), progress, limits)


def photographs_of(
    name: str, limits: Limits = DEFAULT_LIMITS, anonymous: bool = False
) -> Iterator[Photograph | str]:
    """The photographs of a data set, owner/name, one after the other, and lines about what is not taken.

    They are the rows of its Parquet files, in the column `image`, or where it has no Parquet the
    photographs that lie in it; at most limits.files and limits.total_bytes. anonymous: without the token
    of this machine. Raises ExchangeError where the data set cannot be read at all; where reading breaks
    off, the last line says so.
    """
    data = open_data(name, anonymous)
    found = _in_tables(data) if data.tables else _in_files(data, limits)
    count = total = 0
    try:
        for one in found:
            if not isinstance(one, str):
                count, total = count + 1, total + len(one[1])
            if count > limits.files or total > limits.total_bytes:
                yield (
                    f"{name}: more than {limits.files:,} photographs or {limits.total_bytes / 1e9:g} GB, of "
                    f"which the rest was not taken. Add all by: python -m chipdemo labels add hf:{name}"
                )
                return
            yield one
    except Exception as error:  # noqa: BLE001 - network, storage, Hub and Parquet raise errors of many types
        yield f"{name}: not read to its end: {told(error)} Add it again to go on; nothing comes twice."
    if not count and not data.tables:
        yield f"{name}: expected Parquet files with a column image, or photographs; found neither."


def _in_tables(data: HubData) -> Iterator[Photograph | str]:
    for path in data.tables:
        table = data.files.table(path)
        if not table.has_photographs:
            yield no_photographs(path)
            continue
        for row in range(len(table)):
            try:
                name, content, _ = table.photograph(row)
                yield name, content
            except ImageError as error:
                yield f"{shown(row_name(path, row))}: {error}"


def _in_files(data: HubData, limits: Limits) -> Iterator[Photograph | str]:
    def read(path: str) -> Photograph | str:
        if data.sizes[path] > limits.file_bytes:
            return f"{shown(path)}: {too_large(data.sizes[path], limits)}"
        return path, data.files.photograph(path)

    return in_parallel(read, data.photographs)
