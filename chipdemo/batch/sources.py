"""The images of a batch: in folders, zips, CSV lists and datasets, on object storage, or uploaded.

They are listed anew each time they are iterated over, so any number of them fits into memory.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from glob import glob, has_magic
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from chipdemo.errors import BatchError, DataError, ExchangeError, ImageError
from chipdemo.files import DEFAULT_LIMITS, Found, Limits, as_text, found_at, in_zip, is_zip, shown, too_large
from chipdemo.labeling.folders import class_of
from chipdemo.tables import local_path, read_rows, whole_number

if TYPE_CHECKING:
    from chipdemo.labeling.hub.read import Files

HUB = "hf:"  # before the owner/name of a dataset
RESUME = "Run the same command again to continue."


@dataclass(frozen=True)
class BatchImage:
    """An image of a batch.

    file: its name and its content. path: where it lies; text, and unique in a batch.
    label: "normal", "abnormal" or "". error: why it cannot be read, where that is known already.
    read: for an image that can only be read after the one before it; gives its name, content and label.
    """

    file: Found
    path: str
    label: str = ""
    read: Callable[[], tuple[str, bytes, str]] | None = None
    error: str = ""

    def fetched(self) -> "BatchImage":
        """The same image, read if it has to be read in order."""
        if self.read is None:
            return self
        try:
            name, content, label = self.read()
        except ImageError as error:
            return replace(self, read=None, error=str(error))
        return replace(self, read=None, file=Found(name, content), label=label)


@dataclass(frozen=True)
class ImageList:
    """Images, each path once. count: of them. skipped: lines on hidden files and tables without images."""

    sources: Sequence[Callable[[], Iterable[BatchImage | str]]]
    count: int = 0
    skipped: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[BatchImage]:
        return (one for one in self.all() if isinstance(one, BatchImage))

    def __len__(self) -> int:
        return self.count

    def all(self) -> Iterator[BatchImage | str]:
        """The images, and the lines on what is skipped."""
        paths = set()
        for source in self.sources:
            for one in source():
                if isinstance(one, str):
                    yield one
                elif one.path not in paths:
                    paths.add(one.path)
                    yield one


def find_images(paths: Sequence[str], limits: Limits = DEFAULT_LIMITS) -> ImageList:
    """The images at these paths.

    paths: images; folders and zips, with all below them; patterns such as "lot*/*.png"; CSV files with a
    column `image` (relative to the file) and optionally `label`; datasets of the Hugging Face Hub as
    hf:owner/name (their Parquet files have the same columns); folders on object storage as
    s3://bucket/folder, which fsspec reads. Folders called normal and abnormal, or one of the synonyms, label
    the images below them. Raises BatchError where there is no image, and ExchangeError where a path leads
    nowhere.
    """
    images = ImageList([_source(path, limits) for path in _expanded(paths)])
    count, skipped = 0, []
    for one in images.all():
        if isinstance(one, str):
            skipped.append(one)
        else:
            count += 1
    if not count:
        raise BatchError(
            f"There are no images in {', '.join(paths)[:200]}. Name images, folders, zips, a CSV with a "
            "column image, or a dataset as hf:owner/name."
        )
    return ImageList(images.sources, count, skipped)


def uploaded_images(
    uploads: Iterable[tuple[str, Path]], limits: Limits = DEFAULT_LIMITS
) -> tuple[list[BatchImage], list[str]]:
    """The images of uploaded files, and a line on the hidden files of each zip.

    uploads: (name, path) of images and zips. The images' paths begin with the name: where an upload lies
    on this machine is not shown.
    """
    images, skipped, times = [], [], Counter()
    for name, path in uploads:
        for file in in_zip(path, name, limits) if is_zip(path) else [Found(name, path)]:
            if isinstance(file, str):
                skipped.append(file)
            else:
                where = name if file.name == name else f"{name}!{file.name}"
                images.append(BatchImage(file, _numbered(as_text(where), times)))
    return images, skipped


def label_by_folders(name: str) -> str:
    """The class that a folder in an image's path below its root names, the outermost first; or "".

    A number is not taken for a class: folders are numbered for many reasons.
    """
    folders = PureWindowsPath(name).parts[:-1]
    return next((label for one in folders if not one.isdecimal() and (label := class_of(one))), "")


def _expanded(paths: Iterable[str]) -> Iterator[str]:
    """Paths, and what patterns among them match: not every shell expands them."""
    for path in paths:
        pattern = not _is_address(path) and has_magic(path) and not Path(path).exists()
        matches = glob(path, recursive=True) if pattern else []  # noqa: PTH207  Path.glob takes no absolute one
        yield from sorted(matches) or [path]


def _is_address(path: str) -> bool:
    return path.startswith(HUB) or "://" in path


def _source(path: str, limits: Limits) -> Callable[[], Iterable[BatchImage | str]]:
    if "://" in path:
        return partial(_in_storage, path, limits)
    if path.startswith(HUB):
        return _in_dataset(path.removeprefix(HUB), limits)
    if Path(path).suffix.lower() == ".csv":
        return partial(_in_csv, Path(path))
    return partial(_on_disk, Path(path), limits)


def _on_disk(path: Path, limits: Limits) -> Iterator[BatchImage | str]:
    times, folder = Counter(), path.resolve() if path.is_dir() else None
    for file in found_at(path, limits):
        if isinstance(file, str):
            yield file
            continue
        inside = folder / file.name if folder else f"{path}!{file.name}"
        where = str(path if not folder and file.name == path.name else inside)
        yield BatchImage(file, _numbered(as_text(where), times), label_by_folders(file.name))


def _numbered(path: str, times: Counter) -> str:
    """The path, with a number where it has come before: a zip may hold a name twice."""
    times[path] += 1
    return f"{path} ({times[path]})" if times[path] > 1 else path


def _in_csv(path: Path) -> Iterator[BatchImage]:
    try:
        for _, row in read_rows(path, ["image"]):
            where = local_path(path.parent, row["image"])
            yield BatchImage(
                Found(row["image"], where),
                as_text(str(where)),
                class_of(whole_number(row.get("label", ""))) or "",
            )
    except DataError as error:
        raise BatchError(str(error)) from error


def _in_dataset(name: str, limits: Limits) -> Callable[[], Iterator[BatchImage | str]]:
    """The rows of its tables, or where it has none the images that lie in it, as it is now."""
    from chipdemo.labeling.hub.read import open_data, row_name  # here, since importing it takes a while

    data = open_data(name)
    tables = list(data.counted_tables())

    def in_tables() -> Iterator[BatchImage | str]:
        for table in tables:
            if isinstance(table, str):
                yield table
                continue
            path, rows = table
            for row in range(rows):
                read = partial(_row, data.files, path, row)
                yield BatchImage(Found(row_name(path, row), b""), f"{HUB}{name}/{path}#{row}", read=read)

    def in_files() -> Iterator[BatchImage]:
        for path in data.images:
            content = partial(_file, data.files, path, data.sizes[path], limits)
            yield BatchImage(Found(path, content), f"{HUB}{name}/{path}", label_by_folders(path))

    return in_tables if data.tables else in_files


def _row(files: "Files", path: str, row: int) -> tuple[str, bytes, str]:
    return _within_reach(path, files.row, path, row)


def _file(files: "Files", path: str, size: int, limits: Limits) -> bytes:
    if size > limits.file_bytes:
        raise ImageError(too_large(size, limits))
    return _within_reach(path, files.image, path)


def _within_reach(path: str, read: Callable, *arguments: Any) -> Any:
    """Raises BatchError where the Hub is out of reach: nothing is wrong with the image."""
    from chipdemo.hub import describe_error
    from chipdemo.labeling.hub.read import OUT_OF_REACH

    try:
        return read(*arguments)
    except OUT_OF_REACH as error:
        raise BatchError(f"The Hub did not give {path}: {describe_error(error)} {RESUME}") from error


def _in_storage(address: str, limits: Limits) -> Iterator[BatchImage | str]:
    """Everything below an address that fsspec knows; its packages find the credentials."""
    import fsspec

    try:
        system, root = fsspec.url_to_fs(address)
        paths = sorted(system.find(root))
    except Exception as error:  # noqa: BLE001 - every storage raises errors of its own
        raise ExchangeError(
            f"{shown(address)} cannot be listed: {type(error).__name__} ({error}). Check the address and the "
            "credentials, and that the package for it is installed, such as s3fs or gcsfs."
        ) from error
    for path in paths:
        name = path.removeprefix(root).lstrip("/") or path.rpartition("/")[2]
        if not any(part.startswith(".") for part in name.split("/")):
            content = partial(_stored, system, path, limits)
            yield BatchImage(
                Found(name, content), as_text(system.unstrip_protocol(path)), label_by_folders(name)
            )


def _stored(system: Any, path: str, limits: Limits) -> bytes:
    try:
        size = system.size(path) or 0
        if size > limits.file_bytes:
            raise ImageError(too_large(size, limits))
        return system.cat_file(path)
    except (FileNotFoundError, PermissionError) as error:
        raise ImageError(f"The file is gone or may not be read ({error}).") from error
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise BatchError(
            f"The storage did not give {path}: {type(error).__name__} ({error}). {RESUME}"
        ) from error
