"""Files that may be images: single ones, below folders and in zips, found and read safely.

The name of a file is only shown, never used as a path. Links are not followed, hidden files are skipped,
and a zip is unpacked in memory, within limits, one file after the other.
"""

import os
import stat
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import TypeVar

from chipdemo.errors import ExchangeError, ImageError
from chipdemo.images import MAX_MEGAPIXELS

WORKERS = min(os.cpu_count() or 1, 8)
SMALL_BYTES = 10_000_000  # a file of a zip may unpack to this at any ratio: a black BMP packs well
ZIP = b"PK\x03\x04"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError)

In, Out = TypeVar("In"), TypeVar("Out")


@dataclass(frozen=True)
class Limits:
    """How large images and archives may be.

    file_bytes: of one image. files, total_bytes: of one dataset, or of one zip when unpacked.
    ratio: unpacked to packed bytes of one file in a zip. megapixels: millions of pixels of one image.
    """

    file_bytes: int = 400_000_000
    files: int = 200_000
    total_bytes: int = 50_000_000_000
    ratio: int = 100
    megapixels: float = MAX_MEGAPIXELS


@dataclass(frozen=True)
class Found:
    """A file that may be an image. name: to be shown. source: its path, its content, or a function that
    gives its content."""

    name: str
    source: Path | bytes | Callable[[], bytes]


DEFAULT_LIMITS = Limits()


def found_at(path: Path, limits: Limits = DEFAULT_LIMITS) -> Iterable[Found | str]:
    """The files at a path, which is a folder, a zip or one file; and a line on the hidden ones.

    A file that must not be read, such as a link, is among them: asking for its content raises ImageError.
    Raises ExchangeError where nothing is there.
    """
    if path.is_dir():
        return _in_folder(path.resolve(), limits)
    if not path.exists():
        raise ExchangeError(
            f"Nothing is at {shown(str(path))}. Give the path of a folder, a zip or an image."
        )
    return in_zip(path, path.name, limits) if is_zip(path) else [Found(path.name, path)]


def _in_folder(root: Path, limits: Limits) -> Iterator[Found | str]:
    """Every file below a folder, sorted by name, and those in zips there."""
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
            elif path.suffix.lower() == ".zip" and path.is_file() and is_zip(path):
                yield from _in_zip_below(path, path.relative_to(root).as_posix(), limits)
            else:
                yield Found(path.relative_to(root).as_posix(), path)
    for error in unreadable:
        name = Path(error.filename).relative_to(root).as_posix()
        yield _refused(name, f"The folder cannot be read: {error.strerror}.")
    if hidden:
        yield f"{shown(root.name)}: {hidden:,} hidden files and folders are skipped."


def _in_zip_below(path: Path, name: str, limits: Limits) -> Iterator[Found | str]:
    """Every file of a zip in a folder, as if the zip were a folder. name: of the zip there."""
    for found in in_zip(path, name, limits):
        below = isinstance(found, Found) and found.name != name
        yield replace(found, name=f"{name}/{found.name}") if below else found


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:
        return False  # reading it says why


def _link(path: Path, root: Path) -> Found:
    return _refused(path.relative_to(root).as_posix(), "Links are not followed. Add the file itself.")


def _refused(name: str, reason: str) -> Found:
    """A file that is not read: content_of raises ImageError with the reason."""
    return Found(name, partial(_refuse, reason))


def _refuse(reason: str) -> bytes:
    raise ImageError(reason)


def in_zip(path: Path, name: str, limits: Limits) -> Iterator[Found | str]:
    """Every file of a zip, as found_at gives them. name: of the zip, to be shown."""
    try:
        archive = _Zip(path)
    except ZIP_ERRORS as error:
        yield _refused(name, f"The zip is damaged ({shown(str(error))}). Pack it again.")
        return
    files = [info for info in archive.infolist() if not info.is_dir()]
    total = sum(info.file_size for info in files)
    if len(files) > limits.files or total > limits.total_bytes:
        yield _refused(
            name,
            f"The zip has {len(files):,} files of {total / 1e9:,.1f} GB; the limit is {limits.files:,} files "
            f"and {limits.total_bytes / 1e9:g} GB. Split it into several zips.",
        )
        return
    hidden = 0
    for info in files:
        if _is_hidden(info):
            hidden += 1
        elif reason := _refusal(info, limits):
            yield _refused(info.filename, reason)
        else:
            yield Found(info.filename, partial(_unpacked, archive, info))  # this keeps the zip open
    if hidden:
        yield f"{shown(name)}: {hidden:,} hidden files are skipped."


class _Zip(zipfile.ZipFile):
    """A zip that is opened again where it is sent to another process."""

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
        return "Its path leads out of the zip. Pack it under a plain name."
    if stat.S_ISLNK(info.external_attr >> 16):
        return "Links in a zip are not followed. Pack the file itself."
    if info.flag_bits & 1:
        return "It is encrypted. Pack it without a password."
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "Its compression is not supported. Pack it with Deflate."
    if info.file_size > limits.file_bytes:
        return too_large(info.file_size, limits)
    if info.file_size > max(SMALL_BYTES, limits.ratio * info.compress_size):
        return f"It unpacks to more than {limits.ratio} times its size, as a zip bomb does. Add it unpacked."
    return ""


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)  # never more than its header said
    except ZIP_ERRORS as error:
        raise ImageError(f"The zip is damaged here ({shown(str(error))}). Pack it again.") from error


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
            raise ImageError("This is a folder, a pipe or a device, not a file. Check the path.")
        if found.st_size > limits.file_bytes:
            raise ImageError(too_large(found.st_size, limits))
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"The file cannot be opened: {error.strerror}.") from error


def too_large(size: int, limits: Limits) -> str:
    """What to say of a file above the limit."""
    limit = limits.file_bytes / 1e6
    return f"The file has {size / 1e6:,.0f} MB; the limit is {limit:,.0f} MB. Save the image smaller."


def in_parallel(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """The function applied to each item in threads, in the order of the items; a few items run ahead."""
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
    """The same items, a few of them fetched early, in a thread."""
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


def append_whole(path: Path, content: bytes) -> None:
    """Append all of it; where that raises OSError, such as on a full disk, nothing."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            while content:
                content = content[file.write(content) :]
        except OSError:
            file.truncate(before)
            raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or replace it: at any moment it is there as a whole, or as it was. Raises OSError."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.replace(path)


def as_text(name: str) -> str:
    """A file name as text that UTF-8 can carry: a name may hold bytes that are no text."""
    return name.encode(errors="backslashreplace").decode()


def shown(name: str) -> str:
    """A name for one line of a message: its end, without characters that cannot be seen."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name[-80:])
