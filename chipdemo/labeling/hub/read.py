"""Datasets of the Hugging Face Hub: the images in their Parquet files, or their image files.

They are read as files of the repository, not with `datasets`: what that library opens is up to the
dataset's card, in which a stranger may name files and addresses of this machine. For the same reason the
path that a row gives for its image is shown as a name and never opened.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import httpx2
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from huggingface_hub import HfApi, HfFileSystem, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from chipdemo.errors import ExchangeError, ImageError
from chipdemo.files import in_parallel, shown
from chipdemo.hub import cause_of, describe_error
from chipdemo.images import SUFFIXES
from chipdemo.labeling.folders import class_of

NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
IMAGES = {*SUFFIXES.values(), ".jpeg", ".tiff"}
IMAGE, LABEL = "image", "label"  # columns
PART_BYTES = 1_000_000  # of a table, read at a time
OUT_OF_REACH = (HfHubHTTPError, httpx2.TransportError, ConnectionError)  # nothing is wrong with the file
CARD = "README.md"


@dataclass(frozen=True)
class HubData:
    """A dataset at the commit at which it was opened, or in a folder. sizes: of its files, bytes by path."""

    name: str
    files: "Files"
    sizes: Mapping[str, int]

    @property
    def tables(self) -> list[str]:
        return sorted(path for path in self.sizes if path.endswith(".parquet"))

    @property
    def images(self) -> list[str]:
        """The image files; they are used if there are no tables."""
        return sorted(path for path in self.sizes if PurePosixPath(path).suffix.lower() in IMAGES)

    def counted_tables(self) -> Iterator[tuple[str, int] | str]:
        """Each table and its number of rows, or a line on why it has no images.

        Raises ExchangeError if the Hub does not answer.
        """

        def counted(path: str) -> tuple[str, int] | str:
            try:
                table = self.files.table(path)
            except OUT_OF_REACH as error:
                raise ExchangeError(f"{self.name} cannot be read now: {describe_error(error)}") from error
            except (pa.ArrowException, OSError) as error:
                return f"{shown(path)}: a table that cannot be read ({shown(str(error))})."
            return (path, len(table)) if table.has_images else no_images(path)

        return in_parallel(counted, self.tables)


def open_data(name: str, anonymous: bool = False) -> HubData:
    """A dataset on the Hub, owner/name, whose files are read over the network as they are needed.

    anonymous: without the token of this machine. Raises ExchangeError if it cannot be read.
    """
    _check_name(name)
    token = False if anonymous else None
    try:
        info = HfApi(token=token).dataset_info(name, files_metadata=True)
    except Exception as error:  # noqa: BLE001 - network, storage and Hub raise errors of many types
        cause = cause_of(error)
        hidden = isinstance(cause, HfHubHTTPError) and cause.response.status_code in (401, 403, 404)
        if anonymous and hidden:
            raise ExchangeError(
                f"There is no public dataset {name}. Check owner/name. Whoever runs this app can add a "
                f"private one: python -m chipdemo labels add hf:{name}"
            ) from error
        raise ExchangeError(f"The dataset {name} cannot be read: {describe_error(error)}") from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    return HubData(name, Files(f"datasets/{name}@{info.sha}", token), sizes)


def download(name: str, config: str = "", revision: str | None = None) -> Path:
    """The folder of a dataset's files, with its card, in the cache of huggingface_hub on this machine.

    Its Parquet files, or if it has none its images. name: owner/name. config: the folder in the repository
    to read, "" for all of them; `push_to_hub` names it after the configuration. Without network, the folder
    of the last download. Raises ExchangeError.
    """
    _check_name(name)
    within = f"{config}/" if config else ""
    images = [f"{within}*{case}" for suffix in IMAGES for case in (suffix, suffix.upper())]
    try:
        for patterns in ([f"{within}*.parquet"], images):
            root = snapshot_download(
                name, repo_type="dataset", revision=revision, allow_patterns=[CARD, *patterns]
            )
            if any(path.name != CARD for path in Path(root, config).rglob("*") if path.is_file()):
                break
    except Exception as error:  # noqa: BLE001 - network, storage and Hub raise errors of many types
        raise ExchangeError(
            f"The dataset {name} cannot be read: {describe_error(error)} For a private one, sign in with "
            "`hf auth login` or set HF_TOKEN."
        ) from error
    return Path(root)


def open_folder(folder: Path, name: str = "") -> HubData:
    """A dataset in a folder of this machine. name: for messages, that of the folder if not given."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    return HubData(name or folder.resolve().name, Files(folder.as_posix(), local=True), sizes)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ExchangeError(f"{shown(name)!r} is not the name of a dataset on the Hub. Write owner/name.")


class Files:
    """The files of a dataset. Sent to another process, it opens them there, with the token of that machine.

    root: for HfFileSystem, with the commit; or a folder, if local.
    """

    def __init__(self, root: str, token: bool | None = None, local: bool = False):
        self.root, self.token, self.local = root, token, local
        self._system = LocalFileSystem() if local else HfFileSystem(token=token, skip_instance_cache=True)
        self._table: Table | None = None

    def __reduce__(self) -> tuple:
        return Files, (self.root, self.token, self.local)

    def table(self, path: str) -> "Table":
        return Table(path, self._system.open(f"{self.root}/{path}"))

    def image(self, path: str) -> bytes:
        """The content of a file."""
        return self._system.read_bytes(f"{self.root}/{path}")

    def row(self, path: str, row: int) -> tuple[str, bytes, str]:
        """Table.image of a table that stays open for the next row. Rows are read fastest in their order.

        Raises ImageError for a row that has none or cannot be read, and the errors of OUT_OF_REACH.
        """
        try:
            if not self._table or self._table.path != path:
                self._table = self.table(path)
            return self._table.image(row)
        except OUT_OF_REACH:
            raise
        except (pa.ArrowException, OSError, StopIteration) as error:
            self._table = None
            raise ImageError(f"The row cannot be read ({shown(str(error))}).") from error


class Table:
    """A Parquet file of a dataset, read fastest in the order of its rows: others take reading their group."""

    def __init__(self, path: str, file: BinaryIO):
        self.path, self._parquet = path, pq.ParquetFile(file, buffer_size=PART_BYTES)
        self.names = self._parquet.schema_arrow.names
        self.has_images = IMAGE in self.names
        self._columns = [name for name in (IMAGE, LABEL) if name in self.names]
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
        """Name, content and label ("normal", "abnormal" or ""). Raises ImageError if the row has no image."""
        values = self._read(row)
        value, label = values[IMAGE], values.get(LABEL)
        said = value if isinstance(value, Mapping) else {"bytes": value}
        content, name = said.get("bytes"), said.get("path")
        if not isinstance(content, bytes) or not content:
            raise ImageError("a row without the content of an image.")
        name = name if isinstance(name, str) and name else row_name(self.path, row)
        return name, content, class_of(str(self._class_name(label))) or ""

    def rows(self, columns: Sequence[str]) -> list[dict[str, Any]]:
        """The cells of these columns, as far as the table has them, row by row; a class by its name."""
        rows = self._parquet.read(columns=[name for name in columns if name in self.names]).to_pylist()
        for row in rows if LABEL in columns else ():
            row[LABEL] = self._class_name(row.get(LABEL))
        return rows

    def image_names(self) -> list[str]:
        """The name of each image, without reading any: what its row gives as its path, or the row itself."""
        field = self._parquet.schema_arrow.field(IMAGE).type
        given: list[Any] = [None] * len(self)
        if pa.types.is_struct(field) and field.get_field_index("path") >= 0:
            column = self._parquet.read(columns=[f"{IMAGE}.path"])[IMAGE]
            given = pc.struct_field(column, "path").to_pylist()
        return [str(name) if name else row_name(self.path, row) for row, name in enumerate(given)]

    def _class_name(self, label: Any) -> Any:
        """The name of a number of a ClassLabel, None for its -1 (not labeled); any other label as it is."""
        if not self.class_names or not isinstance(label, int):
            return label
        return self.class_names[label] if 0 <= label < len(self.class_names) else None

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
