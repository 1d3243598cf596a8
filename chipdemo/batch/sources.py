"""The images that are to be judged: below folders, in zips, lists and datasets, on object storage.

They are found anew each time they are gone through, so that any number of them fits into memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from chipdemo.errors import BatchError, DataError, ExchangeError, ImageError
from chipdemo.files import DEFAULT_LIMITS, Found, Limits, found_at, shown, too_large
from chipdemo.inspection import NORMAL
from chipdemo.labeling.folders import class_of, labeled_folders

if TYPE_CHECKING:
    from chipdemo.labeling.hub.read import Files

HUB = "hf:"  # before the owner/name of a dataset
ROWS = 1000  # of a list, in memory at a time
GOES_ON = "Run it again: it goes on from here."


@dataclass(frozen=True)
class Listed:
    """An image to be judged. place: where it lies, once in a list. label: "normal", "abnormal", ""

    read: of one that has to be read after the one before it: gives its name, content and label.
    refusal: why it cannot be read, where that is known already.
    """

    found: Found
    place: str
    label: str = ""
    read: Callable[[], tuple[str, bytes, str]] | None = None
    refusal: str = ""

    def fetched(self) -> "Listed":
        """The same, read if it has to be read in order."""
        if self.read is None:
            return self
        try:
            name, content, label = self.read()
        except ImageError as error:
            return replace(self, read=None, refusal=str(error))
        return replace(self, read=None, found=Found(name, content), label=label)


@dataclass(frozen=True)
class Listing:
    """Images, each once. count: of them. passed_over: a line on everything that is none."""

    sources: Sequence[Callable[[], Iterable[Listed | str]]]
    count: int = 0
    passed_over: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Listed]:
        return (one for one in self.all() if isinstance(one, Listed))

    def __len__(self) -> int:
        return self.count

    def all(self) -> Iterator[Listed | str]:
        """With the lines between them."""
        places = set()
        for source in self.sources:
            for one in source():
                if isinstance(one, str):
                    yield one
                elif one.place not in places:
                    places.add(one.place)
                    yield one


def listed(paths: Sequence[str], limits: Limits = DEFAULT_LIMITS) -> Listing:
    """The images that paths name.

    paths: images, folders (all below them; normal/ and abnormal/ or their synonyms are labels),
    zips, patterns such as "lot*/*.png", CSV files with a column `image` (relative to the file) and
    optionally `label`, datasets of the Hugging Face Hub as hf:owner/name (their Parquet files have the
    same columns), and folders on object storage as s3://bucket/folder, which fsspec reads. Raises
    BatchError where there is nothing, and ExchangeError where a path leads nowhere.
    """
    listing = Listing([_source(path, limits) for path in _expanded(paths)])
    count, passed_over = 0, []
    for one in listing.all():
        if isinstance(one, str):
            passed_over.append(one)
        else:
            count += 1
    if not count:
        raise BatchError(
            f"Expected images in {', '.join(paths)[:200]}; found none. Name folders, zips, images, "
            "a CSV with a column image, or a dataset as hf:owner/name."
        )
    return Listing(listing.sources, count, passed_over)


def _expanded(paths: Iterable[str]) -> Iterator[str]:
    """Paths, and what patterns among them match: not every shell expands them."""
    for path in paths:
        pattern = not _is_address(path) and has_magic(path) and not Path(path).exists()
        matches = glob(path, recursive=True) if pattern else []  # noqa: PTH207  Path.glob takes no absolute one
        yield from sorted(matches) or [path]


def _is_address(path: str) -> bool:
    return path.startswith(HUB) or "://" in path


def _source(path: str, limits: Limits) -> Callable[[], Iterable[Listed | str]]:
    if "://" in path:
        return partial(_in_storage, path, limits)
    if path.startswith(HUB):
        return _in_dataset(path.removeprefix(HUB), limits)
    if Path(path).suffix.lower() == ".csv":
        return partial(_in_list, Path(path))
    return partial(_on_disk, Path(path), limits)


def _on_disk(path: Path, limits: Limits) -> Iterator[Listed | str]:
    labels = _labels_in(path.resolve()) if path.is_dir() else {}
    for found in found_at(path, limits):
        if isinstance(found, str):
            yield found
        elif isinstance(found.source, Path):
            label = next((labels[folder] for folder in found.source.parents if folder in labels), "")
            yield Listed(found, str(found.source), label)
        else:
            yield Listed(found, f"{path}!{found.name}")


def _labels_in(root: Path) -> dict[Path, str]:
    """The labels by folder; none where the names of the folders do not say normal and abnormal."""
    try:
        folders = labeled_folders(root)
    except DataError:
        return {}
    return _classes((folder, label) for folder, label, _ in folders)


def _classes(labels: Iterable[tuple[Any, str]]) -> dict[Any, str]:
    """What folders, with their names, say, where one of them says normal: others may be anything."""
    classes = {folder: class_of(name) or "" for folder, name in labels}
    return classes if NORMAL in classes.values() else {}


def _in_list(path: Path) -> Iterator[Listed]:
    try:
        with pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8-sig", chunksize=ROWS
        ) as tables:
            for table in tables:
                yield from _in_rows(path, table)
    except (OSError, ValueError) as error:
        raise BatchError(f"Expected a CSV in UTF-8; {path} cannot be read: {error}. Check it.") from error


def _in_rows(path: Path, table: pd.DataFrame) -> Iterator[Listed]:
    if "image" not in table:
        raise BatchError(
            f"Expected a column image in {path}; found {', '.join(table.columns)}. Add a header line."
        )
    labels = table["label"] if "label" in table else [""] * len(table)
    for name, label in zip(table["image"], labels):
        place = path.parent / name
        yield Listed(Found(name, place), str(place), class_of(label) or "")


def _in_dataset(name: str, limits: Limits) -> Callable[[], Iterator[Listed | str]]:
    """The rows of its tables, or where it has none the images that lie in it, as it is now."""
    from chipdemo.labeling.hub.read import open_data, row_name  # here, since importing it takes a while

    data = open_data(name)
    tables = list(data.counted_tables())

    def in_tables() -> Iterator[Listed | str]:
        for table in tables:
            if isinstance(table, str):
                yield table
                continue
            path, rows = table
            for row in range(rows):
                read = partial(_row, data.files, path, row)
                yield Listed(Found(row_name(path, row), b""), f"{HUB}{name}/{path}#{row}", read=read)

    def in_files() -> Iterator[Listed]:
        labels = _classes((path.split("/")[0],) * 2 for path in data.images if "/" in path)
        for path in data.images:
            content = partial(_file, data.files, path, data.sizes[path], limits)
            yield Listed(Found(path, content), f"{HUB}{name}/{path}", labels.get(path.split("/")[0], ""))

    return in_tables if data.tables else in_files


def _row(files: "Files", path: str, row: int) -> tuple[str, bytes, str]:
    return _reached(path, files.row, path, row)


def _file(files: "Files", path: str, size: int, limits: Limits) -> bytes:
    if size > limits.file_bytes:
        raise ImageError(too_large(size, limits))
    return _reached(path, files.image, path)


def _reached(path: str, read: Callable, *what: Any) -> Any:
    """Raises BatchError where the Hub is out of reach: that says nothing of the image."""
    from chipdemo.hub import describe_error
    from chipdemo.labeling.hub.read import OUT_OF_REACH

    try:
        return read(*what)
    except OUT_OF_REACH as error:
        raise BatchError(
            f"Expected to read {path} of the Hub; found {describe_error(error)} {GOES_ON}"
        ) from error


def _in_storage(address: str, limits: Limits) -> Iterator[Listed | str]:
    """Whatever lies below an address that fsspec knows; its packages have the credentials."""
    import fsspec

    try:
        system, root = fsspec.url_to_fs(address)
        paths = sorted(system.find(root))
    except Exception as error:  # noqa: BLE001 - every storage raises errors of its own
        raise ExchangeError(
            f"Expected images at {shown(address)}; found {type(error).__name__} ({error}). Check the "
            "address, the credentials, and that its package is installed, such as s3fs or gcsfs."
        ) from error
    names = {path: path.removeprefix(root).lstrip("/") or path.rpartition("/")[2] for path in paths}
    labels = _classes((name.split("/")[0],) * 2 for name in names.values() if "/" in name)
    for path, name in names.items():
        if not any(part.startswith(".") for part in name.split("/")):
            place = system.unstrip_protocol(path)
            content = partial(_stored, system, path, limits)
            yield Listed(Found(name, content), place, labels.get(name.split("/")[0], ""))


def _stored(system: Any, path: str, limits: Limits) -> bytes:
    try:
        size = system.size(path) or 0
        if size > limits.file_bytes:
            raise ImageError(too_large(size, limits))
        return system.cat_file(path)
    except (FileNotFoundError, PermissionError) as error:
        raise ImageError(
            f"Expected an image that can be read; found {error}. Check that it is still there."
        ) from error
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise BatchError(
            f"Expected to read {path}; found {type(error).__name__} ({error}). {GOES_ON}"
        ) from error
