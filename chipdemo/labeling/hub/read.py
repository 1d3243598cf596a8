"""Datasets of the Hugging Face Hub: the images in their tables, or those that lie in them.

They are read as files of the repository, not by `datasets`: what that library reads is up to the data
set's own card, which a stranger may have written to name files and addresses of this machine. For the
same reason the path that a row gives its image is a name for people and is never opened.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import HfHubHTTPError

from chipdemo.errors import ExchangeError, ImageError
from chipdemo.files import in_parallel, shown
from chipdemo.hub import cause_of, describe_error
from chipdemo.images import SUFFIXES
from chipdemo.labeling.folders import class_of

NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
IMAGES = {*SUFFIXES.values(), ".jpeg", ".tiff"}
IMAGE, LABEL = "image", "label"  # columns
PART_BYTES = 1_000_000  # of a table, fetched at a time
OUT_OF_REACH = (HfHubHTTPError, httpx2.TransportError, ConnectionError)  # nothing is wrong with the file


@dataclass(frozen=True)
class HubData:
    """A dataset as it was when it was opened. sizes: of its files, bytes by path."""

    name: str
    files: "Files"
    sizes: Mapping[str, int]

    @property
    def tables(self) -> list[str]:
        return sorted(path for path in self.sizes if path.endswith(".parquet"))

    @property
    def images(self) -> list[str]:
        """The files that may be some; they count where there are no tables."""
        return sorted(path for path in self.sizes if PurePosixPath(path).suffix.lower() in IMAGES)

    def counted_tables(self) -> Iterator[tuple[str, int] | str]:
        """Each table with the number of its rows, or a line on why it holds no images.

        Raises ExchangeError where one is out of reach.
        """

        def counted(path: str) -> tuple[str, int] | str:
            try:
                table = self.files.table(path)
            except OUT_OF_REACH as error:
                raise ExchangeError(f"Expected to read {self.name}; found {describe_error(error)}") from error
            except (pa.ArrowException, OSError) as error:
                return f"{shown(path)}: a table that cannot be read ({shown(str(error))})."
            return (path, len(table)) if table.has_images else no_images(path)

        return in_parallel(counted, self.tables)


def open_data(name: str, anonymous: bool = False) -> HubData:
    """A dataset, owner/name. anonymous: without the token of this machine.

    Raises ExchangeError where it cannot be read at all.
    """
    if not NAME.fullmatch(name):
        raise ExchangeError(
            f"Expected a dataset of the Hugging Face Hub as owner/name; found {shown(name)!r}. Correct it."
        )
    token = False if anonymous else None
    try:
        info = HfApi(token=token).dataset_info(name, files_metadata=True)
    except Exception as error:  # noqa: BLE001 - network, storage and Hub raise errors of many types
        cause = cause_of(error)
        hidden = isinstance(cause, HfHubHTTPError) and cause.response.status_code in (401, 403, 404)
        if anonymous and hidden:
            raise ExchangeError(
                f"Expected a dataset that is open to everyone at {name}; found none. Check owner/name. One "
                "that is private can be added by whoever runs this app: "
                f"python -m chipdemo labels add hf:{name}"
            ) from error
        raise ExchangeError(
            f"Expected a dataset of the Hub at {name}; found {describe_error(error)}"
        ) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    return HubData(name, Files(f"datasets/{name}@{info.sha}", token), sizes)


class Files:
    """The files of a dataset. Sent to another process, it opens them there, with the token of that machine.

    root: for HfFileSystem, with the commit.
    """

    def __init__(self, root: str, token: bool | None = None):
        self.root, self.token = root, token
        self._system = HfFileSystem(token=token, skip_instance_cache=True)
        self._table: Table | None = None

    def __reduce__(self) -> tuple:
        return Files, (self.root, self.token)

    def table(self, path: str) -> "Table":
        return Table(path, self._system.open(f"{self.root}/{path}"))

    def image(self, path: str) -> bytes:
        """The content of a file."""
        return self._system.read_bytes(f"{self.root}/{path}")

    def row(self, path: str, row: int) -> tuple[str, bytes, str]:
        """Table.image, of a table that stays open for the next row: ask for one after the other.

        Raises ImageError for a row that holds none or cannot be read, and what OUT_OF_REACH names.
        """
        try:
            if not self._table or self._table.path != path:
                self._table = self.table(path)
            return self._table.image(row)
        except OUT_OF_REACH:
            raise
        except (pa.ArrowException, OSError, StopIteration) as error:
            self._table = None
            raise ImageError(f"Expected a row that can be read; found {shown(str(error))}.") from error


class Table:
    """A Parquet file of a dataset, read row by row: the next one is at hand, others have to be found."""

    def __init__(self, path: str, file: BinaryIO):
        self.path, self._parquet = path, pq.ParquetFile(file, buffer_size=PART_BYTES)
        names = self._parquet.schema_arrow.names
        self.has_images = IMAGE in names
        self._columns = [name for name in (IMAGE, LABEL) if name in names]
        metadata = self._parquet.metadata
        sizes = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
        self._starts = [0, *accumulate(sizes)]  # the first row of each group, and the end
        self._next, self._rows = -1, iter(())

    def __len__(self) -> int:
        return self._starts[-1]

    @cached_property
    def class_names(self) -> list[str]:
        """What the numbers of a ClassLabel mean, as `datasets` writes it."""
        try:
            written = json.loads(self._parquet.schema_arrow.metadata[b"huggingface"])
            return list(map(str, written["info"]["features"][LABEL]["names"]))
        except (KeyError, TypeError, ValueError):
            return []

    def image(self, row: int) -> tuple[str, bytes, str]:
        """Name, content and label ("normal", "abnormal" or ""). Raises ImageError for a row without one."""
        values = self._read(row)
        value, label = values[IMAGE], values.get(LABEL)
        said = value if isinstance(value, Mapping) else {"bytes": value}
        content, name = said.get("bytes"), said.get("path")
        if not isinstance(content, bytes) or not content:
            raise ImageError("a row without the content of an image.")
        if isinstance(label, int) and 0 <= label < len(self.class_names):
            label = self.class_names[label]
        name = name if isinstance(name, str) and name else row_name(self.path, row)
        return name, content, class_of(str(label)) or ""

    def _read(self, row: int) -> dict[str, Any]:
        group = bisect_right(self._starts, row) - 1
        if not self._starts[group] <= self._next <= row:
            self._next, groups = self._starts[group], range(group, self._parquet.num_row_groups)
            # One at a time: a small table can hold the same large image many times
            self._rows = self._parquet.iter_batches(1, row_groups=list(groups), columns=self._columns)
        while True:
            batch, self._next = next(self._rows), self._next + 1
            if self._next > row:
                return batch.to_pylist()[0]


def row_name(path: str, row: int) -> str:
    return f"{path}, row {row}"


def no_images(path: str) -> str:
    return f"{shown(path)}: a table without a column {IMAGE}."
