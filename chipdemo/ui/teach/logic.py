"""What the Teach tab does; tab.py wires it."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Event
from time import perf_counter
from typing import TypeVar
from weakref import WeakKeyDictionary, WeakSet

from chipdemo.batch.sources import uploaded_images
from chipdemo.errors import DataError
from chipdemo.files import Found, Limits, shown
from chipdemo.inspection import ABNORMAL
from chipdemo.labeling.folders import class_of
from chipdemo.teaching import MIN_IMAGES, Draft, Progress, Taught, Teacher

MAX_IMAGES = 500  # at a time in the app; the command line takes any number
MAX_IN_MEMORY = 20  # drafts and taught models of all visitors together
QUEUE = "teach"  # its events share one limit: one chip is taught at a time
NAME_LETTERS = 60  # of a chip's name
UPDATE_S = 0.3  # between two reports of progress to the page

Uploads = Sequence[tuple[str, Path]]  # each file's name for people, and its path
Result = TypeVar("Result")


@dataclass(frozen=True)
class Step:
    """What is being done. done: fraction of the whole work, 0-1. seconds: since it began."""

    done: float
    name: str
    seconds: float


class Stopped(Exception):
    """The page has stopped the work or was closed."""


@dataclass(frozen=True)
class TaughtSource:
    """A taught model that can go on learning. source: what loads it, as for --model, or a zip of it."""

    name: str
    source: str


@dataclass(frozen=True)
class Work:
    """What a draft came of: the teacher, and the images."""

    teacher: Teacher
    good: Sequence[Found]
    known: Sequence[Found]


@dataclass(frozen=True)
class TeachService:
    """Teaching for all visitors of the app.

    teacher: gives the Teacher when it is needed. continuing: gives that of a taught model, by its source.
    in_use: the app's model, if it is a taught one. in_memory: drafts and models that visitors hold; it keeps
    none of them alive. works: what each draft came of.
    """

    teacher: Callable[[], Teacher]
    limits: Limits
    continuing: Callable[[str], Teacher] | None = None
    in_use: Callable[[], TaughtSource | None] = lambda: None
    in_memory: WeakSet = field(default_factory=WeakSet)
    works: WeakKeyDictionary = field(default_factory=WeakKeyDictionary)

    def draft(
        self, goods: Uploads, defects: Uploads, model: TaughtSource | None = None
    ) -> Iterator[Step | Draft]:
        """Fit uploaded images and zips; reports steps and ends with the draft. Raises DataError.

        model: goes on learning from them; without it, a new one is taught.
        """
        if len(self.in_memory) >= MAX_IN_MEMORY:
            raise DataError(
                f"{len(self.in_memory)} taught models are in use, and there is memory for no more. Try again "
                "in an hour, or teach on your own machine: python -m chipdemo teach."
            )
        good, refused = self._listed(goods)
        known, _ = self._listed(defects)
        _check(good, known, refused)
        teacher = partial(self.continuing, model.source) if model else self.teacher
        yield from self._drafted(teacher, good, known)

    def draft_kind(self, draft: Draft, index: int) -> Iterator[Step | Draft]:
        """Fit the images of one of the draft's kinds, or all together for -1. Raises DataError."""
        work = self.works[draft]
        together = not 0 <= index < len(draft.kinds)
        names = set() if together else set(draft.kinds[index].names)
        good = [one for one in work.good if together or one.name in names]
        yield from self._drafted(lambda: work.teacher, good, work.known, True)

    def _drafted(
        self,
        teacher: Callable[[], Teacher],
        good: Sequence[Found],
        known: Sequence[Found],
        together: bool = False,
    ) -> Iterator[Step | Draft]:
        works = []

        def draft(progress: Progress) -> Draft:
            works.append(Work(teacher(), good, known))
            return works[0].teacher.draft(good, known, self.limits, progress, together)

        for one in in_background(draft):
            if isinstance(one, Draft):
                self.in_memory.add(one)
                self.works[one] = works[0]
            yield one

    def finish(
        self, draft: Draft, without: Collection[int], false_positive_rate: float, name: str
    ) -> Iterator[Step | Taught]:
        """Make a model of a draft without some of its outliers, in the same way."""
        without = sorted({one.row for one in draft.outliers}.intersection(without))
        name = file_name(name)
        for one in in_background(
            lambda progress: self.works[draft].teacher.finish(
                draft, without, false_positive_rate, name, progress
            )
        ):
            if isinstance(one, Taught):
                self.in_memory.add(one.model)
            yield one

    def _listed(self, uploads: Uploads) -> tuple[list[Found], list[str]]:
        images, refused = uploaded_images(uploads, self.limits)
        return [Found(shown(one.path), one.file.source) for one in images], refused


def _check(good: Sequence[Found], defects: Sequence[Found], refused: Sequence[str]) -> None:
    """Raises DataError before anything is computed."""
    if bad := next(filter(None, map(_abnormal_folder, good)), None):
        raise DataError(f"The good images include a folder named {bad}. Put its images into “Known defects”.")
    if len(good) < MIN_IMAGES:
        raise DataError(
            f"{len(good)} good images are too few. Add more, at least {MIN_IMAGES}."
            + "".join(f" {line}" for line in refused[:3])
        )
    if (count := len(good) + len(defects)) > MAX_IMAGES:
        raise DataError(
            f"{count:,} images are more than the {MAX_IMAGES:,} that fit here. Choose fewer, or use python "
            "-m chipdemo teach, which takes any number."
        )


def _abnormal_folder(image: Found) -> str:
    """The folder of a zip whose name says abnormal, "" where there is none."""
    folders = PurePosixPath(image.name.rpartition("!")[2]).parts[:-1]
    return next((folder for folder in folders if class_of(folder) == ABNORMAL), "")


def file_name(name: str) -> str:
    """The name of a chip, fit for a folder on any system: "Board 7/b" -> "Board-7-b"."""
    return re.sub(r"[^\w.]+", "-", name.strip())[:NAME_LETTERS].strip("-.") or "my-chip"


def in_background(work: Callable[[Progress], Result]) -> Iterator[Step | Result]:
    """Run work in a thread: its latest step every UPDATE_S, and at the end its result.

    Closing the iterator ends the work at its next step. Raises what the work raises.
    """
    started, stopped = perf_counter(), Event()
    latest = Step(0, "starting", 0)

    def progress(done: float, name: str) -> None:
        nonlocal latest
        if stopped.is_set():
            raise Stopped
        latest = Step(done, name, perf_counter() - started)

    pool = ThreadPoolExecutor(1)
    try:
        future = pool.submit(copy_context().run, work, progress)  # in the context of the visitor's request
        while not wait([future], UPDATE_S).done:
            yield latest
        yield future.result()
    finally:
        stopped.set()
        pool.shutdown(wait=False)
