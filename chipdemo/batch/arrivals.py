"""The image files that arrive in a folder, each given out once it is whole.

A file is whole when its size and its time of change stay the same for some seconds, or when it was renamed.
The folder is walked again and again, a few thousand names at a time. Events of the operating system only
make a file known sooner: where they are lost, or do not exist, the walk finds it.
"""

import hashlib
import logging
import os
import stat
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter

from chipdemo.errors import BatchError, ImageError
from chipdemo.files import Limits, as_text, too_large
from chipdemo.images import SUFFIXES

log = logging.getLogger(__name__)

OTHER_ENDINGS = ".jpeg", ".jpe", ".jfif", ".tiff", ".dib", ".ppm", ".pgm", ".pbm", ".j2k"
ENDINGS = (*SUFFIXES.values(), *OTHER_ENDINGS)  # of images, in lower case
AT_A_TIME = 4000  # names of a walk that are looked at before the judge goes on
PAUSE = 20  # times as long as a walk took, before the next one begins
UNCHANGED = float("-inf")  # since when a renamed file is as it is

Version = tuple[int, int]  # size in bytes, time of change in ns


@dataclass(eq=False)
class Arrival:
    """A whole file.

    name: its path below the folder, as text with /. path: where it lies. whole_at: by the caller's clock.
    content: as it was read. missed: why it could not be read this time, or "".
    """

    name: str
    path: Path
    version: Version
    whole_at: float
    content: bytes | None = field(default=None, repr=False)
    missed: str = ""

    @property
    def id(self) -> str:
        """32 hexadecimal digits of this version of the file."""
        text = "\n".join((as_text(str(self.path)), *map(str, self.version)))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def read(self, limits: Limits) -> bytes:
        """The content of this version. Raises ImageError; missed says where another try may succeed."""
        if self.version[0] > limits.file_bytes:
            raise ImageError(too_large(self.version[0], limits))
        try:
            with self.path.open("rb") as file:
                self.content = file.read()
                if version_of(os.fstat(file.fileno())) != self.version:
                    self.missed = "it is changing"
        except OSError as error:
            self.missed = error.strerror or type(error).__name__
        if self.missed:
            raise ImageError(self.missed)
        return self.content


@dataclass
class Counts:
    """Files of the first walk. judged: before. skipped: no images by their names, or hidden."""

    images: int = 0
    judged: int = 0
    skipped: int = 0


class Arrivals:
    """The new files of a folder. `look` is for one thread, `note` for any.

    judged: versions that have a result, as key_of makes them. poll_s: seconds that a file has to stay
    unchanged, and between the walks. wake: set where an event tells of something.
    """

    def __init__(self, folder: Path, judged: set[int], poll_s: float, wake: threading.Event):
        self.folder, self.poll_s, self.wake = folder, poll_s, wake
        self.counts = Counts()
        self.walked_at: float | None = None  # when the first walk ended
        self._judged = judged
        self._pending: dict[str, tuple[Version, float]] = {}  # with since when it is as it is
        self._taken: set[str] = set()
        self._complaints: dict[str, str] = {}  # by what it is about
        self._notes: deque[tuple[str, bool]] = deque()
        self._mounted = os.path.ismount(folder)
        self._walk: Iterator[tuple[str, Version | None]] | None = None
        self._walk_s = self._next_walk = 0.0

    def look(self, now: float) -> list[Arrival]:
        """The files that have become whole, the oldest first; each stays taken until it is released.

        now: seconds. There are none while the folder is out of reach.
        """
        if not self._is_within_reach():
            return []
        while self._notes:
            file, renamed = self._notes.popleft()
            self._see(file, self._version(file), UNCHANGED if renamed else now)
        for file, version in self._walked(now):
            if file not in self._pending:
                self._see(file, version, now)
        whole = []
        for file, (version, since) in list(self._pending.items()):
            if now - since >= self.poll_s:
                del self._pending[file]
                current = self._version(file)
                if current == version:
                    self._taken.add(file)
                    whole.append(Arrival(as_text(file), self.folder / file, version, now))
                else:
                    self._see(file, current, now)
        return sorted(whole, key=lambda arrival: arrival.version[1])

    def release(self, arrival: Arrival, judged: bool) -> None:
        """judged: it has a result; if not, it is given out again while it is there."""
        file = arrival.path.relative_to(self.folder).as_posix()
        self._taken.discard(file)
        if judged:
            self._judged.add(key_of(arrival.name, arrival.version))
            self._complaints.pop(file, None)
        elif self._version(file):
            self._complain(file, arrival.missed, f"{arrival.name} waits: {arrival.missed}.")
        else:
            log.warning("%s went away before it was judged.", arrival.name)

    def due_in(self, now: float) -> float:
        """Seconds until there may be something to see; 0 in the middle of a walk."""
        whole = (since + self.poll_s for _, since in self._pending.values())
        return max(0.0, min([0.0 if self._walk else self._next_walk, *whole]) - now)

    def note(self, path: str, renamed: bool = False) -> None:
        """An event tells of a file. renamed: to this path, so it is whole."""
        name = os.path.relpath(path, self.folder).replace(os.sep, "/")
        if is_image(name):
            self._notes.append((name, renamed))
            self.wake.set()

    def _see(self, file: str, version: Version | None, since: float) -> None:
        """A version that has no result yet waits until it is whole."""
        if version and file not in self._taken and key_of(as_text(file), version) not in self._judged:
            self._pending[file] = version, since

    def _version(self, file: str) -> Version | None:
        """Of a file that is there and is no link."""
        try:
            found = (self.folder / file).lstat()
        except OSError:
            return None
        return version_of(found) if stat.S_ISREG(found.st_mode) else None

    def _is_within_reach(self) -> bool:
        reason = ""
        try:
            os.scandir(self.folder).close()
            if self._mounted and not os.path.ismount(self.folder):
                reason = "Nothing is mounted there"
        except OSError as error:
            reason = error.strerror or type(error).__name__
        if reason:
            self._walk = None
            self._complain("", reason, f"{self.folder} is out of reach ({reason}). Waiting for it.")
        elif self._complaints.pop("", ""):
            log.warning("%s is back.", self.folder)
        return not reason

    def _walked(self, now: float) -> list[tuple[str, Version]]:
        """The next few files of a walk over the folder; a walk ends before the next one begins."""
        if self._walk is None:
            if now < self._next_walk:
                return []
            self._walk, self._walk_s = self._files(), 0.0
        started = perf_counter()
        some = list(islice(self._walk, AT_A_TIME))
        self._walk_s += perf_counter() - started
        if self.walked_at is None:
            self._count(some)
        if len(some) < AT_A_TIME:
            self._walk, self._next_walk = None, now + max(self.poll_s, PAUSE * self._walk_s)
            if self.walked_at is None:
                self.walked_at = now
        return [(file, version) for file, version in some if version]

    def _count(self, some: Iterable[tuple[str, Version | None]]) -> None:
        for file, version in some:
            self.counts.images += version is not None
            self.counts.skipped += version is None
            self.counts.judged += version is not None and key_of(as_text(file), version) in self._judged

    def _files(self) -> Iterator[tuple[str, Version | None]]:
        """Every file below the folder by its path there; None for one that is no image or is hidden."""
        folders = [""]
        while folders:
            below = folders.pop()
            try:
                with os.scandir(self.folder / below) as entries:
                    for entry in entries:
                        file = f"{below}{entry.name}"
                        if entry.is_dir(follow_symlinks=False):
                            if not is_hidden(entry.name):
                                folders.append(f"{file}/")
                        elif is_image(file) and entry.is_file(follow_symlinks=False):
                            yield file, _version_of_entry(entry)
                        else:
                            yield file, None
                self._complaints.pop(below, None)
            except FileNotFoundError:
                continue  # deleted meanwhile
            except OSError as error:
                self._complain(below, str(error.strerror), f"{below} cannot be read: {error.strerror}.")

    def _complain(self, about: str, reason: str, text: str) -> None:
        """Once, however often it happens."""
        if self._complaints.get(about) != reason:
            self._complaints[about] = reason
            log.warning("%s", text)


def key_of(name: str, version: Version) -> int:
    """Of a version of a file, within this process: 64 bits, so that millions of them fit into memory."""
    return hash((name, *version))


def version_of(found: os.stat_result) -> Version:
    return found.st_size, found.st_mtime_ns


def _version_of_entry(entry: os.DirEntry) -> Version | None:
    try:
        return version_of(entry.stat(follow_symlinks=False))
    except FileNotFoundError:
        return None


def is_hidden(name: str) -> bool:
    """Names that programs give to files they are writing, too; .part and .tmp are no images anyway."""
    return name.startswith((".", "~"))


def is_image(file: str) -> bool:
    """By its path below the folder."""
    return file.lower().endswith(ENDINGS) and not any(map(is_hidden, file.split("/")))


@contextmanager
def events_of(arrivals: Arrivals) -> Iterator[bool]:
    """Tell arrivals of new files as long as the block lasts; False where the system does not tell."""
    try:
        from watchdog.events import FileClosedEvent, FileCreatedEvent, FileMovedEvent, FileSystemEventHandler
        from watchdog.observers import Observer
    except ImportError:
        yield False
        return

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event) -> None:
            moved = isinstance(event, FileMovedEvent)
            arrivals.note(os.fsdecode(event.dest_path if moved else event.src_path), moved)

    observer, kinds = Observer(), [FileCreatedEvent, FileClosedEvent, FileMovedEvent]
    try:
        observer.schedule(Handler(), str(arrivals.folder), recursive=True, event_filter=kinds)
        observer.start()
    except OSError as error:
        log.warning("No events from %s: %s.", arrivals.folder, error)
        yield False
        return
    try:
        yield True
    finally:
        observer.stop()
        observer.join()


def check_folder(folder: Path, out: Path) -> Path:
    """The folder to watch, absolute. Raises BatchError where results in out would be watched too."""
    if not folder.is_dir():
        raise BatchError(f"{folder} is not a folder. Check the path.")
    folder, out = folder.resolve(), out.resolve()
    if out.is_relative_to(folder):
        raise BatchError(
            f"{out} lies in {folder}, so flagged images would be judged again. Choose an --out beside it."
        )
    return folder
