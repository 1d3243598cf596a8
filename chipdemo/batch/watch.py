"""A watched folder: every image that arrives is judged once, as `inspect` does it, until somebody stops it.

A line of JSON for each image is the truth. What is flagged is kept before its line is written, and the CSV
and the webhook follow the lines, so a process that is killed at any moment loses and doubles no result.
"""

import logging
import re
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from chipdemo.batch.arrivals import Arrival, Arrivals, check_folder, events_of, key_of
from chipdemo.batch.followers import Table, Webhook, is_flagged
from chipdemo.batch.report import UNREADABLE, images_text
from chipdemo.batch.run import Inspected, Results, Task, inspect_stream, result_of, results_in
from chipdemo.batch.sources import BatchImage
from chipdemo.errors import BatchError
from chipdemo.files import Found, as_text, write_whole
from chipdemo.inspection import OUTCOMES, outcome_text
from chipdemo.locks import held

log = logging.getLogger(__name__)

FLAGGED, LOCK = "flagged", ".lock"
FORBIDDEN = re.compile(r'[\x00-\x1f/\\<>:"|?*]')  # in names on Windows and its network shares
LONGEST_NAME = 150  # bytes of the file's own name in FLAGGED
AGAIN_S = 5  # before results that could not be written are written again
BEHIND_S = 10  # that a file may wait before the log says so
STATUS_S = 60  # between lines on how it goes


class Pace:
    """How many images are judged, and how fast; it says when that is too slow. Times are in seconds."""

    def __init__(self, now: float):
        self.outcomes = Counter(dict.fromkeys((*OUTCOMES, UNREADABLE), 0))
        self.per_second = 0.0
        self._behind, self._status_at = False, now
        self._judged, self._busy_s = 0, 0.0  # since the last status

    def add(self, outcomes: Sequence[str], busy_s: float) -> None:
        self.outcomes.update(outcomes)
        self._judged += len(outcomes)
        self._busy_s += busy_s
        if self._busy_s:
            self.per_second = self._judged / self._busy_s

    def say(self, waiting: int, oldest_s: float, now: float) -> None:
        """Log what has changed. waiting: whole files; oldest_s: how long the first of them has been whole."""
        speed = f"it judges {self.per_second:.1f} images a second"
        if not self._behind and oldest_s > BEHIND_S:
            self._behind = True
            log.warning("falls behind: %s files wait, %.0f s; %s", f"{waiting:,}", oldest_s, speed)
        elif self._behind and not waiting:
            self._behind = False
            log.warning("has caught up; %s", speed)
        if now - self._status_at >= STATUS_S and (self._judged or waiting):
            log.info("%s; %s wait; %s", self.text, f"{waiting:,}", speed)
            self._status_at, self._judged, self._busy_s = now, 0, 0.0

    @property
    def text(self) -> str:
        counts = ", ".join(f"{count:,} {outcome_text(name)}" for name, count in self.outcomes.items())
        return f"{images_text(self.outcomes.total())}: {counts}"


class Watch:
    """Judges what arrives. `run` is for one thread, `stop` for any. clock: gives seconds."""

    def __init__(
        self,
        task: Task,
        results: Results,
        arrivals: Arrivals,
        webhook: Webhook | None = None,
        lines: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        """lines: that the results have."""
        self.task, self.results, self.arrivals, self.webhook, self.clock = (
            task,
            results,
            arrivals,
            webhook,
            clock,
        )
        self.stopping = threading.Event()
        self._looked_at = clock()
        self.pace = Pace(self._looked_at)
        self._lines, self._said_start = lines, False
        if webhook:
            webhook.notify(lines)
        self._waiting: deque[Arrival] = deque()
        self._taken: dict[str, Arrival] = {}
        self._table, self._table_waits = Table(results.folder), False
        self._complete_table()

    def stop(self) -> None:
        """End after the images that are being judged."""
        self.stopping.set()
        self.arrivals.wake.set()

    def run(self, once: bool = False) -> None:
        """Until stopped, or once: until what was there, and whole, is judged. Raises BatchError."""
        if self.webhook and not once:
            self.webhook.start()
        while not self.stopping.is_set():
            if self.step():
                continue
            if once and self._has_seen_all():
                break
            self.arrivals.wake.wait(self.arrivals.due_in(self.clock()))
            self.arrivals.wake.clear()
        if self.webhook and once:
            self.webhook.deliver()
        log.info("%s", self.pace.text)

    def step(self) -> bool:
        """Look once, and judge what is whole; whether anything was."""
        self._look()
        if not self._waiting:
            return False
        before = self.clock()
        with closing(inspect_stream(self.task, self._images())) as batches:
            for batch in batches:
                outcomes = self._record(batch)
                now = self.clock()
                self.pace.add(outcomes, now - before)
                before = now
                self._look()
        return True

    def _look(self) -> None:
        now = self._looked_at = self.clock()
        self._waiting += self.arrivals.look(now)
        oldest_s = now - self._waiting[0].whole_at if self._waiting else 0.0
        self.pace.say(len(self._waiting), oldest_s, now)
        if self.arrivals.walked_at is not None and not self._said_start:
            self._said_start, counts = True, self.arrivals.counts
            log.info(
                "%s holds %s, %s of them judged before. Other files, which are skipped: %s.",
                *(
                    self.arrivals.folder,
                    images_text(counts.images),
                    f"{counts.judged:,}",
                    f"{counts.skipped:,}",
                ),
            )

    def _has_seen_all(self) -> bool:
        """Whether each file that was there had the time to prove whole."""
        walked_at = self.arrivals.walked_at
        return walked_at is not None and self._looked_at - walked_at >= self.arrivals.poll_s

    def _images(self) -> Iterator[BatchImage]:
        """What waits, also what comes meanwhile; a thread reads them ahead."""
        while self._waiting and not self.stopping.is_set():
            arrival = self._waiting.popleft()
            path = as_text(str(arrival.path))
            self._taken[path] = arrival
            yield BatchImage(Found(arrival.name, lambda one=arrival: one.read(self.task.limits)), path)

    def _record(self, batch: Sequence[Inspected]) -> list[str]:
        """Keep what is flagged, then write the lines; the outcomes."""
        arrivals = [self._taken.pop(one.image.path) for one in batch]
        judged = [(one, arrival) for one, arrival in zip(batch, arrivals) if not arrival.missed]
        results = [_result(one, arrival) for one, arrival in judged]
        self._write([arrival for _, arrival in judged], results)
        for arrival in arrivals:
            self.arrivals.release(arrival, judged=not arrival.missed)
        return [result.get("outcome", UNREADABLE) for result in results]

    def _write(self, arrivals: Sequence[Arrival], results: Sequence[dict[str, Any]]) -> None:
        """All of it, as soon as there is room. Raises BatchError where it ends before."""
        complained = False
        while True:
            try:
                self._keep_flagged(arrivals, results)
                self.results.append(results)
                break
            except (OSError, BatchError) as error:
                if not complained:
                    log.warning("Results cannot be written: %s. Tried again every %d s.", error, AGAIN_S)
                complained = True
                if self.stopping.wait(AGAIN_S):
                    raise BatchError(f"The last results are not written: {error}") from error
        self._lines += len(results)
        self._complete_table()
        if self.webhook:
            self.webhook.notify(self._lines)

    def _keep_flagged(self, arrivals: Sequence[Arrival], results: Sequence[dict[str, Any]]) -> None:
        """The files as they were read: a camera may write the next image over them."""
        for arrival, result in zip(arrivals, results):
            if result["flagged"]:
                path = self.results.folder / result["flagged"]
                path.parent.mkdir(exist_ok=True)
                write_whole(path, arrival.content)

    def _complete_table(self) -> None:
        """The CSV may lag behind the lines, as while a spreadsheet has it open."""
        try:
            self._table.complete()
            self._table_waits = False
        except OSError as error:
            if not self._table_waits:
                log.warning("The CSV cannot be written: %s. It is completed later.", error)
            self._table_waits = True


def _result(inspected: Inspected, arrival: Arrival) -> dict[str, Any]:
    """As `inspect` has it, with what is known of the file. flagged: its copy below DIR; "" for none."""
    result = result_of(inspected)
    kept = is_flagged(result) and arrival.content is not None
    return result | {
        "id": arrival.id,
        "size": arrival.version[0],
        "mtime_ns": arrival.version[1],
        "judged_at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "flagged": f"{FLAGGED}/{name_of(arrival)}" if kept else "",
    }


def name_of(arrival: Arrival) -> str:
    """Of a flagged image: its own, with its folders, and a part that no other file or version has."""
    path = Path(FORBIDDEN.sub("_", arrival.name))
    stem = path.stem.encode()[:LONGEST_NAME].decode(errors="ignore")
    return f"{stem}-{arrival.id[:16]}{path.suffix}"


@contextmanager
def watching(
    task: Task,
    folder: Path,
    out: Path,
    poll_s: float,
    webhook: str | None = None,
    everything: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Watch]:
    """A watch that writes to out, which it alone does while the block lasts. Raises BatchError.

    poll_s, webhook, everything: as Arrivals and Webhook have them.
    """
    folder = check_folder(folder, out)
    with _alone(out):
        results = results_in(out, task.run() | {"folder": as_text(str(folder))})
        judged, lines = set(), 0
        for result in results:
            judged.add(key_of(result["file"], (result["size"], result["mtime_ns"])))
            lines += 1
        arrivals = Arrivals(folder, judged, poll_s, threading.Event())
        hook = Webhook(out, webhook, everything) if webhook else None
        watch = Watch(task, results, arrivals, hook, lines, clock)
        try:
            with events_of(arrivals) as told:
                how = "by events and by looking" if told else "by looking"
                log.info("Watching %s %s every %g s. Results: %s", folder, how, poll_s, out)
                yield watch
        finally:
            if hook:
                hook.close()


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Raises BatchError where another process watches for the same folder of results."""
    with ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(out / LOCK))
        except sqlite3.OperationalError as error:
            raise BatchError(
                f"{out} is in use by another watch ({error}). Stop that one, or choose another --out."
            ) from error
        except OSError as error:
            raise BatchError(f"{out} cannot hold results: {error}. Choose another --out.") from error
        yield
