"""Images that arrive one by one from many callers: read in threads, judged together, answered one by one.

What waits when the judge becomes free shares a forward pass; nothing waits for others to come.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import perf_counter

from chipdemo.errors import BusyError, StoppingError
from chipdemo.files import WORKERS
from chipdemo.inspection import Inspection, Model
from chipdemo.judge import Judge, Prepared

TOGETHER = 2  # images in one forward pass, at most; 1, 4 and 8 were measured too: docs/scale.md
AHEAD = 16  # images that are decoded before it is their turn: what takes memory
STOPPING = "The app is being stopped. Send the request again in some seconds."
WAIT = "wait"  # a step of timing_ms: for the judge


@dataclass(frozen=True)
class Order:
    """How an image is to be inspected, as Judge.inspect has it. models: called when it is read."""

    models: Callable[[], Sequence[Model]]
    threshold: float | None = None
    tiles: bool = True


@dataclass(frozen=True)
class Answer:
    """inspection: with WAIT among its steps. notes: on how the file was read."""

    inspection: Inspection
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Waiting:
    prepared: Prepared
    notes: tuple[str, ...]
    since: float
    answer: "Future[Answer]"

    def shares(self, other: "_Waiting") -> bool:
        """Whether they may be judged together."""
        models = [[one.model for one in each.prepared.candidates] for each in (self, other)]
        return models[0] == models[1] and self.prepared.methods == other.prepared.methods


class InspectionService:
    """Safe to call from several threads. To be started, and stopped at the end."""

    def __init__(
        self, judge: Judge, max_megapixels: float, most: int, workers: int, together: int = TOGETHER
    ):
        """most: images accepted at a time. workers: threads that judge. together: images in one forward."""
        self.judge, self.max_megapixels, self.most, self.together = judge, max_megapixels, most, together
        self._workers = [
            threading.Thread(target=self._run, name=f"judge {number}", daemon=True)
            for number in range(workers)
        ]
        self._readers = ThreadPoolExecutor(WORKERS, thread_name_prefix="reader")
        self._room = threading.Semaphore(AHEAD)
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._accepted = 0
        self._stopping = self._ended = False

    @property
    def accepted(self) -> int:
        """Images that were accepted and have no answer yet."""
        return self._accepted

    @property
    def waiting(self) -> int:
        """Images that are decoded and wait for a forward pass."""
        return len(self._waiting)

    @property
    def stopping(self) -> bool:
        return self._stopping

    def start(self) -> None:
        for worker in self._workers:
            worker.start()

    def stop(self, within_s: float = 30.0) -> None:
        """Accept nothing new, and answer what was accepted, within so many seconds."""
        with self._changed:
            self._stopping = True
            self._changed.wait_for(lambda: not self._accepted, within_s)
            self._ended = True
            self._changed.notify_all()
        self._readers.shutdown(wait=False, cancel_futures=True)

    def check(self) -> None:
        """Raises BusyError or StoppingError where nothing is accepted now."""
        if self._stopping:
            raise StoppingError(STOPPING)
        if self._accepted >= self.most:
            raise BusyError(f"{self._accepted:,} images wait already. Send the image again later.")

    def submit(self, content: bytes, order: Order) -> "Future[Answer]":
        """The answer to come for the bytes of a file. Its result raises ImageError, CheckpointError.

        Raises BusyError and StoppingError at once.
        """
        with self._changed:
            self.check()
            self._accepted += 1
        answer: Future[Answer] = Future()
        answer.add_done_callback(self._answered)
        self._readers.submit(self._read, content, order, answer)
        return answer

    def _answered(self, _: "Future[Answer]") -> None:
        with self._changed:
            self._accepted -= 1
            self._changed.notify_all()

    def _read(self, content: bytes, order: Order, answer: "Future[Answer]") -> None:
        if not answer.set_running_or_notify_cancel():
            return  # the caller has gone
        self._room.acquire()
        try:
            models = order.models()
            decoded = self.judge.read(content, self.max_megapixels, tiles=order.tiles, models=models)
            prepared = self.judge.prepare(
                decoded, threshold=order.threshold, tiles=order.tiles, models=models
            )
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the answer
            self._room.release()
            answer.set_exception(error)
            return
        with self._changed:
            self._waiting.append(_Waiting(prepared, decoded.notes, perf_counter(), answer))
            self._changed.notify_all()

    def _run(self) -> None:
        while batch := self._taken():
            self._judge(batch)

    def _taken(self) -> list[_Waiting]:
        """The first that waits, and what may share its forward pass; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            batch: list[_Waiting] = []
            while self._waiting and len(batch) < self.together:
                if batch and not self._waiting[0].shares(batch[0]):
                    break
                batch.append(self._waiting.popleft())
            return batch

    def _judge(self, batch: Sequence[_Waiting]) -> None:
        started = perf_counter()
        for one, inspection in zip(batch, self.judge.inspect_each([one.prepared for one in batch])):
            self._room.release()
            if isinstance(inspection, Exception):
                one.answer.set_exception(inspection)
                continue
            timing_ms = {WAIT: 1000 * (started - one.since)} | inspection.timing_ms
            one.answer.set_result(Answer(replace(inspection, timing_ms=timing_ms), one.notes))
