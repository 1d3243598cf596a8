"""One job at a time, in a process of its own, with its state and its log in a folder.

    python -m chipdemo.jobs FOLDER        what Jobs starts: it runs the steps of the job in FOLDER

That process stops its job when its standard input ends. So a job never outlives the app, however the app
ends, and on Windows too. While it runs it holds a lock, so that two apps with one journal run one job.
"""

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from chipdemo.errors import JobError
from chipdemo.locks import held

RUNNING, DONE, FAILED, STOPPED, INTERRUPTED = "running", "done", "failed", "stopped", "interrupted"
STATE, LOG, LOCK = "job.json", "log.txt", "lock"
STOP = b"stop\n"  # on the standard input; its end alone means that the app has ended
POLL_S = 0.2
GRACE_S = 10  # for a step to end by itself; it is killed then
LOCK_WAIT_S = 5  # longer than the process of a job lives after its end
TAIL_BYTES = 16_000
ROOT = Path(__file__).resolve().parent.parent
NICENESS = 5  # so that the app stays quick


@dataclass(frozen=True)
class Job:
    """folder: with its files. status: RUNNING, DONE, FAILED, STOPPED, or INTERRUPTED where the app ended.

    steps: the command lines, one after the other. step: the index of the one at work, or of the last one
    that was. more: arguments added to the step with which it was resumed. about: what the caller wants to
    remember. started_at, ended_at: ISO 8601, UTC; "" while it has not ended.
    """

    folder: Path
    status: str
    steps: tuple[tuple[str, ...], ...]
    about: dict[str, str]
    started_at: str
    step: int = 0
    more: tuple[str, ...] = ()
    ended_at: str = ""

    @property
    def can_resume(self) -> bool:
        return self.status in (FAILED, STOPPED, INTERRUPTED)

    def tail(self) -> str:
        """The last lines of the log, TAIL_BYTES at most; "" while there is none."""
        try:
            with (self.folder / LOG).open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(0, size - TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return text if size <= TAIL_BYTES else text.partition("\n")[2]


class Jobs:
    """The jobs of one kind. folder: gets a folder for each; made when first needed. Thread-safe."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._process: subprocess.Popen | None = None
        self._lock = threading.Lock()

    def last(self) -> Job | None:
        """The newest job, of whichever app; None where there was none."""
        at_work = self._is_at_work()  # asked before the state is read: it may end in between
        found = [path.parent for path in self.folder.glob(f"*/{STATE}")]
        if not found:
            return None
        job = read_job(max(found, key=lambda folder: folder.name))
        return replace(job, status=INTERRUPTED) if job.status == RUNNING and not at_work else job

    def start(
        self, steps_in: Callable[[Path], Sequence[Sequence[str]]], about: dict[str, str] | None = None
    ) -> Job:
        """Start a job. steps_in: its folder -> its command lines. A job before it that has not reached its
        end is removed. Raises JobError where one runs or the folder cannot be written.
        """
        with self._lock, _writing(self.folder):
            before = self._that_ended()
            if before and before.can_resume:
                shutil.rmtree(before.folder)
            folder = self.folder / f"{datetime.now():%Y%m%d-%H%M%S-%f}"
            folder.mkdir(parents=True)
            steps = tuple(tuple(map(str, step)) for step in steps_in(folder))
            job = Job(folder, RUNNING, steps, about or {}, _now())
            self._run(job)
            return job

    def resume(self, more: Sequence[str] = ()) -> Job:
        """Go on with the step that the last job did not end. more: arguments added to it.

        Raises JobError where there is none to resume, or one runs.
        """
        with self._lock, _writing(self.folder):
            job = self._that_ended()
            if job is None or not job.can_resume:
                raise JobError("There is no job to resume. Start a new one.")
            job = replace(job, status=RUNNING, more=tuple(more), started_at=_now(), ended_at="")
            self._run(job)
            return job

    def stop(self) -> None:
        """Stop the job, and wait for its end. Raises JobError where it belongs to another app."""
        if not self._end(STOP) and self._is_at_work():
            raise JobError("The job runs in another app that uses this journal. Stop it there.")

    def close(self) -> None:
        """The app ends: so does its job, which can be resumed later."""
        self._end(b"")

    def _run(self, job: Job) -> None:
        write_job(job)
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        of_its_own = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
            if sys.platform == "win32"
            else {"start_new_session": True}  # Ctrl-C in the terminal is for the app alone
        )
        with (job.folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "chipdemo.jobs", str(job.folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
                **of_its_own,
            )

    def _end(self, message: bytes) -> bool:
        """Whether there was a job of this app."""
        process = self._process
        if process is None or process.poll() is not None:
            return False
        try:
            process.communicate(message, timeout=2 * GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return True

    def _is_at_work(self) -> bool:
        return (self._process is not None and self._process.poll() is None) or _is_held(self.folder / LOCK)

    def _that_ended(self) -> Job | None:
        job = self.last()
        if job and job.status == RUNNING:
            raise JobError("A job is running. Stop it, or wait for its end.")
        return job


def read_job(folder: Path) -> Job:
    """Raises JobError."""
    try:
        stored = json.loads((folder / STATE).read_text(encoding="utf-8"))
        steps = tuple(map(tuple, stored.pop("steps")))
        return Job(folder=folder, steps=steps, more=tuple(stored.pop("more")), **stored)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError(f"{folder / STATE} cannot be read: {error}. Remove {folder}.") from error


def write_job(job: Job) -> None:
    """In one step: whoever reads it finds the old state or the new one. Raises OSError."""
    stored = asdict(job)
    del stored["folder"]
    part = job.folder / f"{STATE}.part"
    part.write_text(json.dumps(stored, indent=2), encoding="utf-8")
    part.replace(job.folder / STATE)


def run_steps(job: Job, ending: Callable[[], str]) -> None:
    """Run the steps from job.step on, and keep the state in the folder.

    ending: the status to end with as soon as it is not "".
    """
    with (job.folder / LOG).open("ab", buffering=0) as log:
        for index in range(job.step, len(job.steps)):
            command = [*job.steps[index], *(job.more if index == job.step else ())]
            write_job(replace(job, step=index))
            log.write(f"$ {shlex.join(command)}\n".encode())
            status = _run_step(command, log.fileno(), ending)
            if status != DONE:
                break
    write_job(replace(job, step=index, status=status, ended_at=_now()))


def _run_step(command: Sequence[str], log: int, ending: Callable[[], str]) -> str:
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    while True:
        try:
            return FAILED if child.wait(POLL_S) else DONE
        except subprocess.TimeoutExpired:
            if status := ending():
                break
    child.terminate()
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    return status


def main(folder: Path) -> None:
    """The process of a job, until its last step or the end of the standard input."""
    heard: list[str] = []

    def listen() -> None:
        heard.append(STOPPED if os.read(sys.stdin.fileno(), len(STOP)) == STOP else INTERRUPTED)

    if hasattr(os, "nice"):
        os.nice(NICENESS)
    job = read_job(folder)
    threading.Thread(target=listen, daemon=True).start()
    try:
        with held(folder.parent / LOCK, LOCK_WAIT_S):
            run_steps(job, lambda: heard[0] if heard else "")
    except (OSError, sqlite3.Error) as error:  # the disk is full, or another app was quicker
        print(f"error: {error}", flush=True)
        write_job(replace(job, status=FAILED, ended_at=_now()))


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    with closing(sqlite3.connect(lock, timeout=0)) as database:
        try:
            database.execute("SELECT 1 FROM sqlite_master").fetchall()
        except sqlite3.OperationalError:
            return True
    return False


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JobError(f"{folder} cannot be written: {error}.") from error


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
