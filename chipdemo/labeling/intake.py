"""Photographs on their way into the journal: from folders, zips, uploads, or anywhere else.

They are decoded side by side and in passing; a few are in memory at a time. What a photograph is
called is kept for people and never used as a path.
"""

import os
import stat
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PureWindowsPath
from typing import TypeVar

from chipdemo.errors import ExchangeError, ImageError
from chipdemo.images import MAX_MEGAPIXELS, read_photograph
from chipdemo.labeling.store import Journal, NewPhotograph

WORKERS = min(os.cpu_count() or 1, 8)
BATCH, BATCH_BYTES = 64, 32_000_000  # photographs, and bytes of them, that one transaction adds
SMALL_BYTES = 10_000_000  # what a file of a zip may unpack to whatever its ratio: a black BMP packs well
ZIP = b"PK\x03\x04"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError)

Progress = Callable[[int], None]  # is told how many photographs were looked at so far; may raise to stop
In, Out = TypeVar("In"), TypeVar("Out")


@dataclass(frozen=True)
class Limits:
    """What is taken in. file_bytes: of one photograph; the next two: of one zip, unpacked, or data set.

    ratio: unpacked to packed bytes of one file. megapixels: millions of pixels of one photograph.
    """

    file_bytes: int = 400_000_000
    files: int = 200_000
    total_bytes: int = 50_000_000_000
    ratio: int = 100
    megapixels: float = MAX_MEGAPIXELS


@dataclass(frozen=True)
class Intake:
    """What became of photographs. refused: those not taken, a line each with name and reason."""

    added: int
    known: int
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """A file that may be a photograph. keep: its content, not just where it lies."""

    name: str
    source: Path | bytes
    keep: bool = True


DEFAULT_LIMITS = Limits()


def add_paths(
    journal: Journal,
    paths: Iterable[Path],
    progress: Progress = lambda done: None,
    limits: Limits = DEFAULT_LIMITS,
) -> Intake:
    """Folders (all that is below them), photographs and zips that stay where they are.

    Photographs are kept by path until they are first labelled, those in a zip by content. Links are
    not followed, hidden files are passed over. Raises ExchangeError, before anything is added, where
    one of paths leads nowhere.
    """
    found = [_at(path, limits) for path in paths]  # so that a mistyped path is told before anything is added
    return _add(journal, chain.from_iterable(found), progress, limits)


def add_uploads(
    journal: Journal,
    uploads: Iterable[tuple[str, Path]],
    progress: Progress = lambda done: None,
    limits: Limits = DEFAULT_LIMITS,
) -> Intake:
    """Uploaded files, as (name, path): photographs, of which the content is kept, and zips of them."""
    found = (_in_zip(path, name, limits) if _is_zip(path) else [Found(name, path)] for name, path in uploads)
    return _add(journal, chain.from_iterable(found), progress, limits)


def add_contents(
    journal: Journal,
    photographs: Iterable[tuple[str, bytes] | str],
    progress: Progress = lambda done: None,
    limits: Limits = DEFAULT_LIMITS,
) -> Intake:
    """Photographs from anywhere, as (name, content of the file), and lines about what was not taken.

    They are asked for one after the other.
    """
    found = (one if isinstance(one, str) else Found(*one) for one in photographs)
    return _add(journal, found, progress, limits)


def add_one(journal: Journal, source: Path | bytes, name: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """One photograph, of which the content is kept; gives its sha256. Raises ImageError."""
    photograph = read_file(Found(name, source), limits)
    journal.add_photographs(photograph)
    return photograph.sha256


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


def is_full(batch: Sequence[NewPhotograph]) -> bool:
    """Whether these should be kept before there are more."""
    return len(batch) >= BATCH or sum(len(photograph.content) for photograph in batch) > BATCH_BYTES


def shown(name: str) -> str:
    """A name fit for one line of a message: the end of it, without characters that cannot be seen."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name[-80:])


def _add(journal: Journal, found: Iterable[Found | str], progress: Progress, limits: Limits) -> Intake:
    """found: files, and lines about what was not taken."""

    def read(one: Found | str) -> NewPhotograph | str:
        try:
            return one if isinstance(one, str) else read_file(one, limits)
        except ImageError as error:
            return f"{shown(one.name)}: {error}"

    added, known, refused, batch = 0, 0, [], []

    def keep() -> None:
        nonlocal added, known
        new = journal.add_photographs(*batch)
        added, known = added + sum(new), known + len(new) - sum(new)
        batch.clear()

    try:
        with closing(in_parallel(read, found)) as results:
            for done, result in enumerate(results, 1):
                (refused if isinstance(result, str) else batch).append(result)
                if is_full(batch):
                    keep()
                progress(done)
    finally:
        keep()  # also when it is stopped
    return Intake(added, known, tuple(refused))


def read_file(found: Found, limits: Limits = DEFAULT_LIMITS) -> NewPhotograph:
    """The photograph in a file. Raises ImageError."""
    source, path = found.source, None
    if isinstance(source, Path):
        path = source.absolute()
        keep = found.keep or not _is_text(str(path))  # a path that is no text could not be found again
        source = _content(path, limits) if keep else path
    if isinstance(source, bytes) and len(source) > limits.file_bytes:
        raise ImageError(too_large(len(source), limits))
    photograph = read_photograph(source, limits.megapixels)
    content = source if isinstance(source, bytes) else b""
    name = found.name.encode(errors="backslashreplace").decode()
    return NewPhotograph(photograph.sha256, photograph.image.size, name, content, path)


def _content(path: Path, limits: Limits) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ImageError("Expected a file; found a folder, a pipe or a device. Check the path.")
        if found.st_size > limits.file_bytes:
            raise ImageError(too_large(found.st_size, limits))
        return path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"Expected a photograph that can be read; found {error.strerror}. Check that it is still there."
        ) from error


def too_large(size: int, limits: Limits) -> str:
    return (
        f"Expected a file of at most {limits.file_bytes / 1e6:,.0f} MB; found {size / 1e6:,.0f} MB. "
        "Save the photograph smaller."
    )


def _is_text(text: str) -> bool:
    """Whether UTF-8 can carry it. A file name need not be text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(ZIP)) == ZIP
    except OSError:
        return False  # reading it as a photograph says why


def _at(path: Path, limits: Limits) -> Iterable[Found | str]:
    if path.is_dir():
        return _in_folder(path.resolve())
    if not path.exists():
        raise ExchangeError(
            f"Expected a folder, a zip or a photograph at {shown(str(path))}; found nothing. Check the path."
        )
    return _in_zip(path, path.name, limits) if _is_zip(path) else [Found(path.name, path, keep=False)]


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
                yield Found(path.relative_to(root).as_posix(), path, keep=False)
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


def _in_zip(path: Path, name: str, limits: Limits) -> Iterator[Found | str]:
    """Every file of a zip, unpacked in memory one after the other."""
    name = shown(name)
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        yield f"{name}: a zip that is damaged or cannot be read ({shown(str(error))}). Pack it again."
        return
    with archive:
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
                yield _unpacked(archive, info)
        if hidden:
            yield f"{name}: {hidden:,} hidden files were passed over."


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


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Found | str:
    try:
        return Found(info.filename, archive.read(info))  # never more than its header said
    except ZIP_ERRORS as error:
        return f"{shown(info.filename)}: damaged ({shown(str(error))}). Pack it again."
