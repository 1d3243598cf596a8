"""Adds images to the journal: from folders, zips, uploads, or anywhere else.

Images are decoded in parallel with a few in memory at a time. The name of an image is only shown, never used
as a path.
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
    as_text,
    content_of,
    found_at,
    in_parallel,
    in_zip,
    is_zip,
    shown,
)
from chipdemo.images import read_image
from chipdemo.labeling.journal import Journal, NewImage

BATCH, BATCH_BYTES = 64, 32_000_000  # images, and their bytes, of one transaction

Progress = Callable[[int], None]  # gets the number of images processed so far; may raise to stop


@dataclass(frozen=True)
class Intake:
    """The result. known: in the journal before. refused: a line with name and reason for each other one."""

    added: int
    known: int
    refused: tuple[str, ...]


def add_paths(
    journal: Journal,
    paths: Iterable[Path],
    progress: Progress = lambda done: None,
    limits: Limits = DEFAULT_LIMITS,
) -> Intake:
    """Add folders with everything below them, images and zips.

    The journal keeps the path of an image until it is first labeled, and the content of one in a zip. Links
    and hidden files are passed over. Raises ExchangeError, before anything is added, if a path does not
    exist.
    """
    found = [found_at(path, limits) for path in paths]  # a list: a wrong path raises before anything is added
    return _add(journal, chain.from_iterable(found), progress, limits, keep=False)


def add_uploads(
    journal: Journal,
    uploads: Iterable[tuple[str, Path]],
    progress: Progress = lambda done: None,
    limits: Limits = DEFAULT_LIMITS,
) -> Intake:
    """Add uploaded files, as (name, path), with their content: images and zips of images."""
    found = (in_zip(path, name, limits) if is_zip(path) else [Found(name, path)] for name, path in uploads)
    return _add(journal, chain.from_iterable(found), progress, limits)


def add_contents(
    journal: Journal,
    images: Iterable[tuple[str, bytes] | str],
    progress: Progress = lambda done: None,
    limits: Limits = DEFAULT_LIMITS,
) -> Intake:
    """Add images as (name, content of the file). images: these, and lines about those refused before."""
    found = (one if isinstance(one, str) else Found(*one) for one in images)
    return _add(journal, found, progress, limits)


def is_full(batch: Sequence[NewImage]) -> bool:
    """Whether a transaction should have no more images than these."""
    return len(batch) >= BATCH or sum(len(image.content) for image in batch) > BATCH_BYTES


def _add(
    journal: Journal, found: Iterable[Found | str], progress: Progress, limits: Limits, keep: bool = True
) -> Intake:
    """found: files, and lines about refused ones. keep: as in read_file."""

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
        add()  # also when progress raises
    return Intake(added, known, tuple(refused))


def read_file(found: Found, limits: Limits = DEFAULT_LIMITS, keep: bool = True) -> NewImage:
    """The image in a file. keep: with its content, not only its path. Raises ImageError."""
    path = found.source.absolute() if isinstance(found.source, Path) else None
    # A path that is not valid UTF-8 cannot be stored
    source = path if path and not keep and _is_utf8(str(path)) else content_of(found, limits)
    decoded = read_image(source, limits.megapixels)
    content = source if isinstance(source, bytes) else b""
    return NewImage(decoded.sha256, decoded.image.size, as_text(found.name), content, path)


def _is_utf8(text: str) -> bool:
    """Whether UTF-8 can encode it: a file name on Linux may be any bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
