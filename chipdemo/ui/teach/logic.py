"""What the Teach tab does; teach_tab.py wires it."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from threading import Event
from time import perf_counter
from typing import TypeVar
from weakref import WeakSet

from chipdemo.batch.sources import uploaded_images
from chipdemo.errors import DataError
from chipdemo.files import Found, Limits, shown
from chipdemo.inspection import ABNORMAL
from chipdemo.labeling.folders import class_of
from chipdemo.teaching import FEWEST, Draft, Progress, Taught, Teacher

MOST = 500  # images at a time in the app; the command line takes any number
MOST_KEPT = 20  # drafts and taught chips of all visitors together, in memory at a time
QUEUE = "teach"  # its events share one limit: one chip is taught at a time
NAMED = 60  # letters of a chip's name

Uploads = Sequence[tuple[str, Path]]  # the names that people know them by, with their paths
Result = TypeVar("Result")


@dataclass(frozen=True)
class Told:
    """How far it is, 0-1, with what, since so many seconds."""

    done: float
    what: str
    seconds: float


class Stopped(Exception):
    """Nobody waits for the work any more."""


@dataclass(frozen=True)
class Classroom:
    """Where visitors teach, one for the app.

    teacher: gives it when it is needed. kept: what they have in memory; it keeps none of it alive.
    """

    teacher: Callable[[], Teacher]
    limits: Limits
    kept: WeakSet = field(default_factory=WeakSet)


def look(room: Classroom, goods: Uploads, defects: Uploads) -> Iterator[Told | Draft]:
    """Look at uploaded images and zips; tells how far it is, and ends in a draft. Raises DataError."""
    if len(room.kept) >= MOST_KEPT:
        raise DataError(
            f"Expected fewer than {MOST_KEPT} taught chips in use at a time; found {len(room.kept)}. "
            "Try again in an hour, or teach on your own machine: python -m chipdemo teach."
        )
    good, refused = _files(goods, room.limits)
    known, refused_defects = _files(defects, room.limits)
    if bad := next(filter(None, map(_folder_of_defects, good)), None):
        raise DataError(
            f"Expected good images alone; found the folder {bad} among them. Put what is in it with the "
            "known defects."
        )
    if len(good) < FEWEST:
        raise DataError(
            f"Expected at least {FEWEST} good images; found {len(good)}. Add more of them."
            + "".join(f" {line}" for line in refused[:3])
        )
    if len(good) + len(known) > MOST:
        raise DataError(
            f"Expected at most {MOST:,} images; found {len(good) + len(known):,}. Choose fewer, or use "
            "python -m chipdemo teach, which takes any number."
        )
    for one in as_it_goes(lambda progress: room.teacher().look(good, known, room.limits, progress)):
        if isinstance(one, Draft):
            room.kept.add(one)
        yield one


def finish(
    room: Classroom, draft: Draft, without: Collection[int], false_alarms: float, name: str
) -> Iterator[Told | Taught]:
    """Learn a draft but for some rows, in the same way."""
    known = {one.row for one in draft.standouts}
    without = sorted(known.intersection(without))
    name = file_name(name)
    for one in as_it_goes(
        lambda progress: room.teacher().finish(draft, without, false_alarms, name, progress)
    ):
        if isinstance(one, Taught):
            room.kept.add(one.model)
        yield one


def _files(uploads: Uploads, limits: Limits) -> tuple[list[Found], list[str]]:
    images, refused = uploaded_images(uploads, limits)
    return [Found(shown(one.path), one.file.source) for one in images], refused


def _folder_of_defects(image: Found) -> str:
    """The folder of a zip that says of its images that they are defective, if any."""
    folders = PurePosixPath(image.name.rpartition("!")[2]).parts[:-1]
    return next((folder for folder in folders if class_of(folder) == ABNORMAL), "")


def file_name(name: str) -> str:
    """The name of a chip, fit for a folder everywhere: "Board 7/b" -> "Board-7-b"."""
    return re.sub(r"[^\w.]+", "-", name.strip())[:NAMED].strip("-.") or "my-chip"


def as_it_goes(work: Callable[[Progress], Result]) -> Iterator[Told | Result]:
    """Run work in a thread: what it tells, the latest alone if it tells much, and then what it gives.

    Closing the iterator ends the work when it tells something next. Raises what the work raises.
    """
    said: SimpleQueue[Told | Future] = SimpleQueue()
    stopped, started = Event(), perf_counter()

    def progress(done: float, what: str) -> None:
        if stopped.is_set():
            raise Stopped
        said.put(Told(done, what, perf_counter() - started))

    pool = ThreadPoolExecutor(1)
    try:
        context = copy_context()  # what Gradio knows of who asks
        pool.submit(context.run, work, progress).add_done_callback(said.put)
        while True:
            one = said.get()
            while not said.empty():
                one = said.get()
            if isinstance(one, Future):
                yield one.result()
                return
            yield one
    finally:
        stopped.set()
        pool.shutdown(wait=False)
