"""Files that may be images: one by one, below folders and in zips, found and read safely.

What a file is called is kept for people and never used as a path. Links are not followed, hidden
files are passed over, and a zip is unpacked in memory, within limits, one file after the other.
"""

import os
import stat
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import TypeVar

from chipdemo.errors import ExchangeError, ImageError
from chipdemo.images import MAX_MEGAPIXELS

WORKERS = min(os.cpu_count() or 1, 8)
SMALL_BYTES = 10_000_000  # what a file of a zip may unpack to whatever its ratio: a black BMP packs well
ZIP = b"PK\x03\x04"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError)

In, Out = TypeVar("In"), TypeVar("Out")


@dataclass(frozen=True)
class Limits:
    """What is taken in. file_bytes: of one image; the next two: of one zip, unpacked, or dataset.

    ratio: unpacked to packed bytes of one file. megapixels: millions of pixels of one image.
    """

    file_bytes: int = 400_000_000
    files: int = 200_000
    total_bytes: int = 50_000_000_000
    ratio: int = 100
    megapixels: float = MAX_MEGAPIXELS


@dataclass(frozen=True)
class Found:
    """A file that may be an image. name: for people. source: where it lies, its content, or
    what gives its content when it is wanted."""

    name: str
    source: Path | bytes | Callable[[], bytes]


DEFAULT_LIMITS = Limits()


def found_at(path: Path, limits: Limits = DEFAULT_LIMITS) -> Iterable[Found | str]:
    """What is at a path: a folder with all below it, a zip, or one file; and lines on what is passed over.

    Raises ExchangeError where it leads nowhere.
    """
    if path.is_dir():
        return _in_folder(path.resolve())
    if not path.exists():
        raise ExchangeError(
            f"Expected a folder, a zip or an image at {shown(str(path))}; found nothing. Check the path."
        )
    return in_zip(path, path.name, limits) if is_zip(path) else [Found(path.name, path)]


def _in_folder(root: Path) -> Iterator[Found | str]:
    """Every file below a folder, in the order of their names."""
    unreadable, hidden = [], 0
    for folder, folders, files in os.walk(root, onerror=unreadable.append):
        visible = sorted(name for name in folders if not name.startswith("."))
        hidden += len(folders) - len(visible)
        folders[:] = [name for name in visible if not _is_link(Path(folder, name))]
        yield from (_link(Path(folder, name), root) for name in visible if name not in folders)
        for name in sorted(files):
            path = Path(folder, name)
            if name.startswith("."):
                hidden += 1
            elif _is_link(path):
                yield _link(path, root)
            else:
                yield Found(path.relative_to(root).as_posix(), path)
    for error in unreadable:
        yield f"{shown(str(error.filename))}: a folder that cannot be read ({error.strerror})."
    if hidden:
        yield f"{shown(root.name)}: {hidden:,} hidden files and folders were passed over."


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:
        return False  # reading it says why


def _link(path: Path, root: Path) -> str:
    return f"{shown(path.relative_to(root).as_posix())}: a link, which is not followed. Add what it leads to."


def in_zip(path: Path, name: str, limits: Limits) -> Iterator[Found | str]:
    """Every file of a zip. name: what it is called."""
    name = shown(name)
    try:
        archive = _Zip(path)
    except ZIP_ERRORS as error:
        yield f"{name}: a zip that is damaged or cannot be read ({shown(str(error))}). Pack it again."
        return
    files = [info for info in archive.infolist() if not info.is_dir()]
    total = sum(info.file_size for info in files)
    if len(files) > limits.files or total > limits.total_bytes:
        yield (
            f"{name}: a zip of {len(files):,} files and {total / 1e9:,.1f} GB when unpacked; expected at "
            f"most {limits.files:,} and {limits.total_bytes / 1e9:g} GB. Pack several."
        )
        return
    hidden = 0
    for info in files:
        if _is_hidden(info):
            hidden += 1
        elif reason := _refusal(info, limits):
            yield f"{shown(info.filename)}: {reason}"
        else:
            yield Found(info.filename, partial(_unpacked, archive, info))  # which keeps the zip open
    if hidden:
        yield f"{name}: {hidden:,} hidden files were passed over."


class _Zip(zipfile.ZipFile):
    """Sent to another process, it is opened there again."""

    def __reduce__(self) -> tuple:
        return _Zip, (self.filename,)


def is_zip(path: Path) -> bool:
    """By its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(ZIP)) == ZIP
    except OSError:
        return False  # reading it as an image says why


def _parts(info: zipfile.ZipInfo) -> tuple[str, ...]:
    return PureWindowsPath(info.filename).parts  # it takes / and \ and drives alike


def _is_hidden(info: zipfile.ZipInfo) -> bool:
    return any(part == "__MACOSX" or part.startswith(".") and part != ".." for part in _parts(info))


def _refusal(info: zipfile.ZipInfo, limits: Limits) -> str:
    """Why a file of a zip is not unpacked; "" where it is."""
    if PureWindowsPath(info.filename).anchor or ".." in _parts(info):
        return "a path that leads out of the zip. Pack it again with plain names."
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a link, which is not followed. Pack what it leads to."
    if info.flag_bits & 1:
        return "encrypted. Pack it again without a password."
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "packed in a way that is not read. Pack it again with Deflate."
    if info.file_size > limits.file_bytes:
        return too_large(info.file_size, limits)
    if info.file_size > max(SMALL_BYTES, limits.ratio * info.compress_size):
        return f"unpacks to more than {limits.ratio} times its size, as zip bombs do. Add it unpacked."
    return ""


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)  # never more than its header said
    except ZIP_ERRORS as error:
        raise ImageError(f"damaged ({shown(str(error))}). Pack it again.") from error


def content_of(found: Found, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The content of a file, within the limits. Raises ImageError."""
    content = found.source
    if isinstance(content, Path):
        content = _read(content, limits)
    elif callable(content):
        content = content()
    if len(content) > limits.file_bytes:
        raise ImageError(too_large(len(content), limits))
    return content


def _read(path: Path, limits: Limits) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ImageError("Expected a file; found a folder, a pipe or a device. Check the path.")
        if found.st_size > limits.file_bytes:
            raise ImageError(too_large(found.st_size, limits))
        return path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"Expected an image that can be read; found {error.strerror}. Check that it is still there."
        ) from error


def too_large(size: int, limits: Limits) -> str:
    return (
        f"Expected a file of at most {limits.file_bytes / 1e6:,.0f} MB; found {size / 1e6:,.0f} MB. "
        "Save the image smaller."
    )


def in_parallel(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """function of every item, in their order; a few items are asked for ahead."""
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * WORKERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def prefetch(items: Iterable[In]) -> Iterator[In]:
    """The same items, a few of them asked for before they are wanted, in a thread of their own."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, iterator, end) for _ in range(2 * WORKERS))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(pool.submit(next, iterator, end))
                yield item
        finally:
            for future in waiting:
                future.cancel()


def shown(name: str) -> str:
    """A name fit for one line of a message: the end of it, without characters that cannot be seen."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name[-80:])
