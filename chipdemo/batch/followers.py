"""What follows the JSON lines of a watched folder: the CSV table, and a webhook.

Both read the lines that are written, so that neither can lose or double a result that the lines hold.
"""

import csv
import json
import logging
import threading
from collections.abc import Iterable, Mapping
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from chipdemo.batch.report import COLUMNS, CSV, ROWS, row_of, write_csv_rows
from chipdemo.batch.run import RESULTS
from chipdemo.errors import BatchError
from chipdemo.files import append_whole, write_whole
from chipdemo.inspection import NORMAL

log = logging.getLogger(__name__)

POSITION = "webhook.json"  # how many lines the webhook has had
TIMEOUT_S = 10
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1, 300  # before another try; each is twice as long as the one before
BOM = "\ufeff"  # by which Excel knows UTF-8


def is_flagged(result: Mapping[str, Any]) -> bool:
    """What somebody has to look at: abnormal, out of distribution, or unreadable."""
    return result.get("outcome") != NORMAL


class Lines:
    """The lines of a file that grows, from where one left off. done: how many lines."""

    def __init__(self, path: Path, done: int = 0):
        self.path, self.done, self._position = path, 0, 0
        with path.open("rb") as file:
            self.take(islice(file, done))

    def next(self, most: int) -> list[bytes]:
        """Whole lines after those that were taken."""
        with self.path.open("rb") as file:
            file.seek(self._position)
            return [line for line in islice(file, most) if line.endswith(b"\n")]

    def take(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self.done += 1
            self._position += len(line)


class Table:
    """The CSV of the results, as `inspect` writes it, with a row for each line."""

    def __init__(self, folder: Path):
        """What a killed process left of the CSV is cut back to whole rows; complete() adds those it lacks."""
        self._path, lines = folder / CSV, folder / RESULTS
        rows, size = whole_rows(self._path) if self._path.exists() else (0, 0)
        self._lines = Lines(lines, rows)
        if not size or self._lines.done < rows:  # none, or of lines that a power cut took
            self._lines = Lines(lines)
            write_whole(self._path, f"{BOM}{_csv([COLUMNS])}".encode())
        else:
            with self._path.open("r+b") as file:
                file.truncate(size)

    def complete(self) -> None:
        """Add a row for each line that has none. Raises OSError; a later call adds them then."""
        while lines := self._lines.next(ROWS):
            text = StringIO()
            write_csv_rows(text, (row_of(json.loads(line)) for line in lines))
            append_whole(self._path, text.getvalue().encode())
            self._lines.take(lines)


def _csv(rows: Iterable[Iterable[str]]) -> str:
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def whole_rows(path: Path) -> tuple[int, int]:
    """How many rows of a CSV below its header are whole, and the bytes that they take with it, 0 for none."""
    rows, size, read, line = -1, 0, 0, b""

    def texts() -> Iterable[str]:
        nonlocal read, line
        for line in file:
            read += len(line)
            yield line.decode("utf-8-sig", errors="replace")

    with path.open("rb") as file:
        try:
            for _ in csv.reader(texts(), strict=True):
                if line.endswith(b"\r\n"):
                    rows, size = rows + 1, read
        except csv.Error:
            pass  # it ends within a quoted cell
    return max(rows, 0), size


class Webhook:
    """Posts results to an address, one after the other, each at least once; it goes on where it left off.

    A result counts as delivered when the answer is a 2xx; anything else is tried again.
    """

    def __init__(self, folder: Path, url: str, everything: bool = False):
        """everything: normal results too. The first use of a folder begins with new results."""
        self._position, self._url, self._everything = folder / POSITION, url, everything
        self._pause_s, self._written = 0.0, 0
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._client = httpx.Client(timeout=TIMEOUT_S)
        path = folder / RESULTS
        if self._position.exists():
            self._lines = Lines(path, self._delivered())
        else:
            with path.open("rb") as file:
                self._lines = Lines(path, sum(1 for _ in file))
            self._save()

    def notify(self, written: int) -> None:
        """So many lines are written, and stay."""
        self._written = written
        self._wake.set()

    def start(self) -> None:
        """Deliver in a thread, which never holds up the judge."""
        self._thread.start()

    def close(self) -> None:
        """End after the request that is on its way. The rest is delivered after the next start."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._client.close()
        if self._pause_s:
            log.warning("The webhook has not taken all results. The next start goes on with them.")

    def deliver(self) -> float:
        """Post what is written; the seconds to wait before another try, or 0 when all is delivered."""
        while lines := self._lines.next(max(0, min(ROWS, self._written - self._lines.done))):
            for line in lines:
                result = json.loads(line)
                if (self._everything or is_flagged(result)) and not self._posted(line, result["id"]):
                    self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) or FIRST_PAUSE_S
                    return self._pause_s
                self._lines.take([line])
                if self._stop.is_set():
                    return 0
        return 0

    def _posted(self, line: bytes, key: str) -> bool:
        """Whether it was taken, and this is noted."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        try:
            answer = self._client.post(self._url, content=line.rstrip(), headers=headers)
            problem = "" if answer.is_success else f"HTTP status {answer.status_code}"
            if not problem:
                self._save(1)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            problem = f"{type(error).__name__} ({error})"
        if problem and not self._pause_s:
            log.warning("The webhook does not take results: %s. They wait and are tried again.", problem)
        elif self._pause_s and not problem:
            log.warning("The webhook takes results again.")
        if not problem:
            self._pause_s = 0.0
        return not problem

    def _delivered(self) -> int:
        try:
            return int(json.loads(self._position.read_bytes())["delivered"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BatchError(
                f"{self._position} cannot be read: {error}. Delete it; only new results are sent then."
            ) from error

    def _save(self, more: int = 0) -> None:
        write_whole(self._position, json.dumps({"delivered": self._lines.done + more}).encode())

    def _run(self) -> None:
        while not self._stop.is_set():
            if pause_s := self.deliver():
                self._stop.wait(pause_s)
            else:
                self._wake.wait()
                self._wake.clear()
