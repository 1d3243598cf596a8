"""Photographs of a data set of the Hugging Face Hub, on their way into the journal.

They are read as files of the repository, not by `datasets`: what that library reads is up to the data
set's own card, which a stranger may have written to name files and addresses of this machine. For the
same reason the path that a row gives its photograph is a name for people and is never opened.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import HfHubHTTPError

from chipdemo.errors import ExchangeError
from chipdemo.files import DEFAULT_LIMITS, Limits, in_parallel, shown, too_large
from chipdemo.hub import cause_of, told
from chipdemo.images import SUFFIXES
from chipdemo.labeling.intake import Intake, Progress, add_contents
from chipdemo.labeling.store import Journal

NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
PHOTOGRAPHS = {*SUFFIXES.values(), ".jpeg", ".tiff"}
COLUMN = "image"
PART_BYTES = 1_000_000  # of a table, fetched at a time

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
    if not NAME.fullmatch(name):
        raise ExchangeError(
            f"Expected a data set of the Hugging Face Hub as owner/name; found {shown(name)!r}. Correct it."
        )
    token = False if anonymous else None
    files, root, sizes = HfFileSystem(token=token, skip_instance_cache=True), *_held(name, token)
    tables = sorted(path for path in sizes if path.endswith(".parquet"))
    found = _in_tables(files, root, tables) if tables else _in_files(files, root, sizes, limits)
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
    if not count and not tables:
        yield f"{name}: expected Parquet files with a column image, or photographs; found neither."


def _held(name: str, token: bool | None) -> tuple[str, Mapping[str, int]]:
    """The root of the data set as it is now, for HfFileSystem, and its files' sizes, bytes by path."""
    try:
        info = HfApi(token=token).dataset_info(name, files_metadata=True)
    except Exception as error:  # noqa: BLE001 - as above
        cause = cause_of(error)
        hidden = isinstance(cause, HfHubHTTPError) and cause.response.status_code in (401, 403, 404)
        if token is False and hidden:
            raise ExchangeError(
                f"Expected a data set that is open to everyone at {name}; found none. Check owner/name. One "
                "that is private can be added by whoever runs this app: "
                f"python -m chipdemo labels add hf:{name}"
            ) from error
        raise ExchangeError(f"Expected a data set of the Hub at {name}; found {told(error)}") from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    return f"datasets/{name}@{info.sha}", sizes


def _in_tables(files: HfFileSystem, root: str, tables: list[str]) -> Iterator[Photograph | str]:
    import pyarrow.parquet as pq  # here, since it takes a while

    for path in tables:
        with files.open(f"{root}/{path}") as file:
            table = pq.ParquetFile(file, buffer_size=PART_BYTES)
            if COLUMN not in table.schema_arrow.names:
                yield f"{shown(path)}: a table without a column {COLUMN}."
                continue
            # One at a time: a small table can hold the same large photograph many times
            batches = table.iter_batches(1, columns=[COLUMN])
            for row, batch in enumerate(batches):
                yield _in_row(batch[COLUMN][0].as_py(), f"{path}, row {row}")


def _in_row(value: Any, where: str) -> Photograph | str:
    """value: as the library writes it, {bytes, path}, or the file's content alone."""
    said = value if isinstance(value, Mapping) else {"bytes": value}
    content, name = said.get("bytes"), said.get("path")
    if not isinstance(content, bytes) or not content:
        return f"{shown(where)}: a row without the content of a photograph."
    return name if isinstance(name, str) and name else where, content


def _in_files(
    files: HfFileSystem, root: str, sizes: Mapping[str, int], limits: Limits
) -> Iterator[Photograph | str]:
    def read(path: str) -> Photograph | str:
        if sizes[path] > limits.file_bytes:
            return f"{shown(path)}: {too_large(sizes[path], limits)}"
        return path, files.read_bytes(f"{root}/{path}")

    return in_parallel(read, sorted(p for p in sizes if PurePosixPath(p).suffix.lower() in PHOTOGRAPHS))
