"""Publishes labels from the journal to a Hugging Face dataset with many writers, each label exactly once.

The journal stores which events go into which file before anything is sent. A commit is made only on top of
the commit that was read (parent_commit), and only if that file is not there yet. So a batch may be tried any
number of times by any number of processes, whether an answer was lost or a process crashed.
"""

import logging
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, HfFileSystem, get_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from chipdemo.errors import ChipDemoError, HubError, JournalError
from chipdemo.hub import SIGN_IN, cause_of, describe_error
from chipdemo.labeling.hub import card
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Label

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

CARD = "README.md"
COMPACTED = ".compacted"  # names of the shards that were merged into others; hidden from load_dataset
SHARD = re.compile(r"data/labels-\d{8}T\d{6}Z-[0-9a-f]{12}\.parquet")
# No events, and all columns: the first file in order, from which readers take the columns of the dataset.
# Shards of older versions lack some, which are null where this file is read first.
COLUMNS = "data/columns.parquet"
SHARD_LABELS, SHARD_BYTES = 1_000, 100_000_000  # most of one commit
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2, 600  # before the next try after a failure
CONFLICTS = 20  # commits of others in between, at most, in one try
LOOK_S = 0.5  # between checks for labels to publish


@dataclass(frozen=True)
class Head:
    """The dataset at one commit. sizes: bytes of its files by path. card: README.md, or "" for none."""

    oid: str
    sizes: Mapping[str, int]
    card: str
    compacted: frozenset[str]

    @property
    def shards(self) -> list[str]:
        return [path for path in self.sizes if SHARD.fullmatch(path)]

    def holds(self, shard: str) -> bool:
        """Whether the events of this shard are in the dataset, in this file or merged into another."""
        return shard in self.sizes or shard in self.compacted


@dataclass(frozen=True)
class Change:
    """A commit to be made. files: content by path. deleted: paths."""

    message: str
    files: Mapping[str, bytes]
    deleted: Sequence[str] = ()


class Repository:
    """A dataset repository of the Hub. name: owner/name. public: of a new one; None never creates one."""

    def __init__(self, name: str, public: bool | None = False):
        self.name, self.public = name, public
        self.api, self.files = HfApi(), HfFileSystem(skip_instance_cache=True)

    def head(self) -> Head:
        """The latest commit. Creates the repository where there is none, unless public is None."""
        if get_token() is None:
            raise HubError(f"There is no Hub token on this machine. {SIGN_IN}.")
        try:
            info = self.api.dataset_info(self.name, files_metadata=True)
        except RepositoryNotFoundError:
            if self.public is None:
                raise
            self.api.create_repo(self.name, repo_type="dataset", private=not self.public, exist_ok=True)
            info = self.api.dataset_info(self.name, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        # Bytes that are not UTF-8 must be written back as they were
        text = {
            path: self.files.read_bytes(self._path(info.sha, path)).decode("utf-8", "surrogateescape")
            for path in (CARD, COMPACTED)
            if path in sizes
        }
        return Head(info.sha, sizes, text.get(CARD, ""), frozenset(text.get(COMPACTED, "").split()))

    def table(self, head: Head, shard: str, columns: Sequence[str] | None = None) -> "pa.Table":
        """The rows of a shard. columns: only these are fetched; None for all."""
        import pyarrow.parquet as pq

        return pq.read_table(self._path(head.oid, shard), columns=columns, filesystem=self.files)

    def census(self, head: Head) -> card.Census:
        """Counts all events, from the small columns of every shard."""
        from chipdemo.labeling.hub.shards import (
            SMALL_COLUMNS,  # here, since importing datasets takes a second or two
        )

        return card.census(
            [row for shard in head.shards for row in self.table(head, shard, SMALL_COLUMNS).to_pylist()]
        )

    def commit(self, change_of: Callable[[Head], Change | None]) -> bool:
        """Commit the change that change_of makes for the head; after a conflict, for the new head.

        False where change_of returns None. Other failures raise the errors of the client.
        """
        conflicts = 0
        while change := change_of(head := self.head()):
            try:
                self._commit_on(head, change)
                return True
            except HfHubHTTPError as error:
                conflicts += 1
                if error.response.status_code not in (409, 412) or conflicts == CONFLICTS:
                    raise
                time.sleep(random.uniform(0, 0.05 * 2 ** min(conflicts, 6)))
        return False

    def _commit_on(self, head: Head, change: Change) -> None:
        try:
            self._create_commit(head, change)
        except ValueError:  # the Hub refuses the card as its owner left it: publish the labels without it
            files = {path: content for path, content in change.files.items() if path != CARD}
            self._create_commit(head, replace(change, files=files))

    def _create_commit(self, head: Head, change: Change) -> None:
        operations = [CommitOperationAdd(path, content) for path, content in change.files.items()]
        operations += [CommitOperationDelete(path) for path in change.deleted]
        self.api.create_commit(
            self.name,
            operations,
            commit_message=change.message,
            repo_type="dataset",
            parent_commit=head.oid,
        )

    def _path(self, oid: str, path: str) -> str:
        return f"datasets/{self.name}@{oid}/{path}"


@dataclass(frozen=True)
class Status:
    """The state of publishing.

    pending: events not yet published. published_at: time of this process's last commit, UTC. error: of the
    last try, "" for none. next_try_at: UTC, after an error.
    """

    pending: int
    published_at: datetime | None = None
    error: str = ""
    next_try_at: datetime | None = None


class Publisher:
    """Publishes the labels of the journal to a dataset, in the background after start.

    dataset: owner/name; created when first needed, private unless public. Labels are published when
    flush_labels of them are pending, flush_every_s seconds after the first of them, and at the stop. After a
    failure they stay in the journal, and the next try follows after growing pauses or the Hub's Retry-After.
    shard_labels: most of one commit.
    """

    def __init__(
        self,
        journal: Journal,
        dataset: str,
        public: bool = False,
        flush_labels: int = 100,
        flush_every_s: float = 120,
        shard_labels: int = SHARD_LABELS,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ):
        self.journal, self.dataset, self.public = journal, dataset, public
        self.flush_labels, self.flush_every_s = flush_labels, flush_every_s
        self.shard_labels = shard_labels
        self.first_pause_s, self.longest_pause_s = first_pause_s, longest_pause_s
        self._last = Status(0)
        self._failures = 0
        self._waiting_since: float | None = None  # time.monotonic() when pending labels were first seen
        self._not_before = 0.0
        self._flushing = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def status(self) -> Status:
        return replace(self._last, pending=self.journal.counts().pending)

    def start(self) -> None:
        """Publish in a daemon thread from now on."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="label publisher", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 30) -> None:
        """Publish once more and end the thread. Labels not published in time stay in the journal."""
        self._stopping.set()
        if self._thread:
            self._thread.join(timeout_s)

    def flush(self) -> int:
        """Publish all pending events now; returns their number. Raises HubError, JournalError.

        Many events take several commits; those before a failure stay published.
        """
        with self._flushing:
            published = 0
            try:
                while batch := self._next_batch():
                    self._publish(*batch)
                    published += len(batch[1])
                    self._failures, self._last = 0, Status(0, published_at=datetime.now(timezone.utc))
            except Exception as error:  # noqa: BLE001 - network, proxy, storage and Hub raise errors of many types
                raise self._failed(error) from error
            self._failures, self._not_before, self._waiting_since = 0, 0.0, None
            self._last = replace(self._last, error="", next_try_at=None)
            return published

    def _next_batch(self) -> tuple[str, list[Label]] | None:
        shard, labels = self.journal.batch(new_shard(), self.shard_labels, SHARD_BYTES)
        return (shard, labels) if labels else None

    def _publish(self, shard: str, labels: Sequence[Label]) -> None:
        """Commit one new file, unless it is there already; only after that, mark its events as published."""
        from chipdemo.labeling.hub.shards import no_events, parquet_of, table_of

        content = parquet_of(table_of(labels, self.journal.content))
        repository = Repository(self.dataset, self.public)

        def change_of(head: Head) -> Change | None:
            if head.holds(shard):
                return None
            more = card.count_events(labels)
            if card.has_numbers(head.card):
                text = card.add_events(head.card, more)
            else:
                text = card.rewrite(head.card, self.dataset, repository.census(head), more)
            files = {shard: content, CARD: text.encode("utf-8", "surrogateescape")}
            if COLUMNS not in head.sizes:
                files[COLUMNS] = no_events()
            return Change(f"{len(labels)} labels", files)

        repository.commit(change_of)
        self.journal.mark_published([label.event_id for label in labels], shard)

    def _failed(self, error: Exception) -> ChipDemoError:
        """Log the failure and schedule the next try; returns the error to raise."""
        pause_s = min(self.longest_pause_s, self.first_pause_s * 2 ** min(self._failures, 20))
        pause_s = max(pause_s * random.uniform(0.5, 1), retry_after_s(error))
        self._failures += 1
        self._not_before = time.monotonic() + pause_s
        message = str(error) if isinstance(error, ChipDemoError) else describe_error(error)
        self._last = replace(
            self._last, error=message, next_try_at=datetime.now(timezone.utc) + timedelta(seconds=pause_s)
        )
        log.warning("labels not published, next try in %.0f s: %s", pause_s, message)
        if isinstance(error, ChipDemoError):
            return error
        return HubError(f"{message} The labels stay in {self.journal.path} and are published later.")

    def _run(self) -> None:
        while not self._stopping.wait(min(LOOK_S, self.flush_every_s / 4)):
            if self._is_due():
                self._try_to_flush()
        self._try_to_flush()

    def _try_to_flush(self) -> None:
        with suppress(ChipDemoError):  # logged; the thread continues
            self.flush()

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now < self._not_before:
            return False
        try:
            pending = self.journal.counts().pending
        except JournalError as error:
            self._failed(error)
            return False
        self._waiting_since = (self._waiting_since or now) if pending else None
        waited = now - (self._waiting_since or now)
        return pending >= self.flush_labels or waited >= self.flush_every_s


def new_shard() -> str:
    """A unique name: the time, then random digits."""
    return f"data/labels-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:12]}.parquet"


def retry_after_s(error: Exception) -> float:
    """Seconds of the Hub's Retry-After, an hour at most; 0 where there is none."""
    cause = cause_of(error)
    text = cause.response.headers.get("Retry-After", "") if isinstance(cause, HfHubHTTPError) else ""
    return min(3_600, int(text)) if text.isdecimal() else 0
