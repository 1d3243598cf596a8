"""Images on their way into the journal: from folders, zips, uploads, or anywhere else.

They are decoded side by side and in passing; a few are in memory at a time. What an image is
called is kept for people and never used as a path.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from chipdemo.errors import ImageError
from chipdemo.files import (
    DEFAULT_LIMITS,
    Found,
    Limits,
    content_of,
    found_at,
    in_parallel,
    in_zip,
    is_zip,
    shown,
)
from chipdemo.images import read_image
from chipdemo.labeling.journal import Journal, NewImage

BATCH, BATCH_BYTES = 64, 32_000_000  # images, and bytes of them, that one transaction adds

Progress = Callable[[int], None]  # is told how many images were looked at so far; may raise to stop


@dataclass(frozen=True)
class Intake:
    """What became of images. refused: those not taken, a line each with name and reason."""

    added: int
    known: int
    refused: tuple[str, ...]


def add_paths(
    journal: Journal,
    paths: Iterable[Path],
    progress: Progress = lambda done: None,
    limits: Limits = DEFAULT_LIMITS,
) -> Intake:
    """Folders (all that is below them), images and zips that stay where they are.

    Images are kept by path until they are first labeled, those in a zip by content. Links are
    not followed, hidden files are passed over. Raises ExchangeError, before anything is added, where
    one of paths leads nowhere.
    """
    found = [found_at(path, limits) for path in paths]  # so that a mistyped path is told before anything
    return _add(journal, chain.from_iterable(found), progress, limits, keep=False)


def add_uploads(
    journal: Journal,
    uploads: Iterable[tuple[str, Path]],
    progress: Progress = lambda done: None,
    limits: Limits = DEFAULT_LIMITS,
) -> Intake:
    """Uploaded files, as (name, path): images, of which the content is kept, and zips of them."""
    found = (in_zip(path, name, limits) if is_zip(path) else [Found(name, path)] for name, path in uploads)
    return _add(journal, chain.from_iterable(found), progress, limits)


def add_contents(
    journal: Journal,
    images: Iterable[tuple[str, bytes] | str],
    progress: Progress = lambda done: None,
    limits: Limits = DEFAULT_LIMITS,
) -> Intake:
    """Images from anywhere, as (name, content of the file), and lines about what was not taken.

    They are asked for one after the other.
    """
    found = (one if isinstance(one, str) else Found(*one) for one in images)
    return _add(journal, found, progress, limits)


def add_one(journal: Journal, source: Path | bytes, name: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """One image, of which the content is kept; gives its sha256. Raises ImageError."""
    image = read_file(Found(name, source), limits)
    journal.add_images(image)
    return image.sha256


def is_full(batch: Sequence[NewImage]) -> bool:
    """Whether these should be kept before there are more."""
    return len(batch) >= BATCH or sum(len(image.content) for image in batch) > BATCH_BYTES


def _add(
    journal: Journal, found: Iterable[Found | str], progress: Progress, limits: Limits, keep: bool = True
) -> Intake:
    """found: files, and lines about what was not taken. keep: as read_file has it."""

    def read(one: Found | str) -> NewImage | str:
        try:
            return one if isinstance(one, str) else read_file(one, limits, keep)
        except ImageError as error:
            return f"{shown(one.name)}: {error}"

    added, known, refused, batch = 0, 0, [], []

    def add() -> None:
        nonlocal added, known
        new = journal.add_images(*batch)
        added, known = added + sum(new), known + len(new) - sum(new)
        batch.clear()

    try:
        with closing(in_parallel(read, found)) as results:
            for done, result in enumerate(results, 1):
                (refused if isinstance(result, str) else batch).append(result)
                if is_full(batch):
                    add()
                progress(done)
    finally:
        add()  # also when it is stopped
    return Intake(added, known, tuple(refused))


def read_file(found: Found, limits: Limits = DEFAULT_LIMITS, keep: bool = True) -> NewImage:
    """The image in a file. keep: its content, not just where it lies. Raises ImageError."""
    path = found.source.absolute() if isinstance(found.source, Path) else None
    # A path that is no text could not be found again
    source = path if path and not keep and _is_text(str(path)) else content_of(found, limits)
    decoded = read_image(source, limits.megapixels)
    content = source if isinstance(source, bytes) else b""
    name = found.name.encode(errors="backslashreplace").decode()
    return NewImage(decoded.sha256, decoded.image.size, name, content, path)


def _is_text(text: str) -> bool:
    """Whether UTF-8 can carry it. A file name need not be text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
