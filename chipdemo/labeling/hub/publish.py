"""Labels from the journal into a Hugging Face dataset that many append to, each exactly once.

Which events go together into which file is written into the journal before anything is sent, and
a commit is made only upon the commit that was looked at (parent_commit) and only if that file is
not there yet. So it does not matter how often or by how many processes a batch is tried, whether
an answer was lost, or where anybody crashed.
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
COMPACTED = ".compacted"  # names of the shards whose events now are in others; hidden from load_dataset
SHARD = re.compile(r"data/labels-\d{8}T\d{6}Z-[0-9a-f]{12}\.parquet")
SHARD_LABELS, SHARD_BYTES = 1_000, 100_000_000  # at most, in one commit
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2, 600  # before another try after a failure
CONFLICTS = 20  # times that others may have been faster, in one try
LOOK_S = 0.5  # between looks whether there is something to publish


@dataclass(frozen=True)
class Head:
    """The dataset at one commit. sizes: of its files, bytes by path. card: its README.md or ""."""

    oid: str
    sizes: Mapping[str, int]
    card: str
    compacted: frozenset[str]

    @property
    def shards(self) -> list[str]:
        return [path for path in self.sizes if SHARD.fullmatch(path)]

    def holds(self, shard: str) -> bool:
        """Whether the events of this shard are in the dataset, under this name or another."""
        return shard in self.sizes or shard in self.compacted


@dataclass(frozen=True)
class Change:
    """What a commit does. files: content by path. without: paths that go."""

    message: str
    files: Mapping[str, bytes]
    without: Sequence[str] = ()


class Repository:
    """A dataset repository of the Hub. name: owner/name. public: if it is made; None never makes it."""

    def __init__(self, name: str, public: bool | None = False):
        self.name, self.public = name, public
        self.api, self.files = HfApi(), HfFileSystem(skip_instance_cache=True)

    def head(self) -> Head:
        """What it holds now. Makes it, private unless told otherwise, where there is none."""
        if get_token() is None:
            raise HubError(f"Expected to be signed in to the Hub; found no token. {SIGN_IN}.")
        try:
            info = self.api.dataset_info(self.name, files_metadata=True)
        except RepositoryNotFoundError:
            if self.public is None:
                raise
            self.api.create_repo(self.name, repo_type="dataset", private=not self.public, exist_ok=True)
            info = self.api.dataset_info(self.name, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        # Whatever bytes a person wrote must come back as they were
        text = {
            path: self.files.read_bytes(self._path(info.sha, path)).decode("utf-8", "surrogateescape")
            for path in (CARD, COMPACTED)
            if path in sizes
        }
        return Head(info.sha, sizes, text.get(CARD, ""), frozenset(text.get(COMPACTED, "").split()))

    def table(self, head: Head, shard: str, columns: Sequence[str] | None = None) -> "pa.Table":
        """The rows of a shard; of some columns only these are fetched."""
        import pyarrow.parquet as pq

        return pq.read_table(self._path(head.oid, shard), columns=columns, filesystem=self.files)

    def census(self, head: Head) -> card.Census:
        """All events counted: reads the small columns of every shard."""
        from chipdemo.labeling.hub.shards import SAID  # here, since importing datasets takes a second or two

        return card.census(
            [row for shard in head.shards for row in self.table(head, shard, SAID).to_pylist()]
        )

    def amend(self, change: Callable[[Head], Change | None]) -> bool:
        """Commit what `change` makes of the head; where others were faster, of the new head, and so on.

        False where `change` has nothing to do. What fails otherwise raises what the client raises.
        """
        conflicts = 0
        while wanted := change(head := self.head()):
            try:
                self._commit(wanted, head)
                return True
            except HfHubHTTPError as error:
                conflicts += 1
                if error.response.status_code not in (409, 412) or conflicts == CONFLICTS:
                    raise
                time.sleep(random.uniform(0, 0.05 * 2 ** min(conflicts, 6)))
        return False

    def _commit(self, wanted: Change, head: Head) -> None:
        try:
            self._create_commit(wanted, head)
        except ValueError:  # the Hub does not take the card, as a person left it: labels go without it
            files = {path: content for path, content in wanted.files.items() if path != CARD}
            self._create_commit(replace(wanted, files=files), head)

    def _create_commit(self, wanted: Change, head: Head) -> None:
        operations = [CommitOperationAdd(path, content) for path, content in wanted.files.items()]
        operations += [CommitOperationDelete(path) for path in wanted.without]
        self.api.create_commit(
            self.name,
            operations,
            commit_message=wanted.message,
            repo_type="dataset",
            parent_commit=head.oid,
        )

    def _path(self, oid: str, path: str) -> str:
        return f"datasets/{self.name}@{oid}/{path}"


@dataclass(frozen=True)
class Status:
    """Where publishing stands, for the screen.

    pending: events not yet published. published_at: the last commit of this process, UTC. error: why
    the last try failed, "" if it did not; next_try_at: UTC, then.
    """

    pending: int
    published_at: datetime | None = None
    error: str = ""
    next_try_at: datetime | None = None


class Publisher:
    """Publishes what the journal has to a dataset, in the background once started.

    dataset: owner/name; made when first needed, private unless public. A flush comes as soon as
    flush_labels wait, or flush_every_s seconds after the first of them came, and at the stop. After
    failures it comes after growing pauses, or as the Hub's Retry-After says; the labels stay in the
    journal meanwhile. shard_labels: most of one commit.
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
        self._waiting_since: float | None = None  # time.monotonic() when labels were first seen to wait
        self._not_before = 0.0
        self._flushing = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def status(self) -> Status:
        return replace(self._last, pending=self.journal.counts().pending)

    def start(self) -> None:
        """Publish from now on, in a thread of its own that does not keep the process alive."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._publish_on, name="label publisher", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 30) -> None:
        """Publish what is there, once more, and end. What does not succeed in time stays in the journal."""
        self._stopping.set()
        if self._thread:
            self._thread.join(timeout_s)

    def flush(self) -> int:
        """Publish all that waits, now; how many events it was. Raises HubError, JournalError.

        A long backlog goes in several commits, and what was published before a failure counts.
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
        """One commit with one new file, unless it is there already; then, and only then, say so."""
        from chipdemo.labeling.hub.shards import parquet_of, table_of

        content = parquet_of(table_of(labels, self.journal.content))
        repository = Repository(self.dataset, self.public)

        def change(head: Head) -> Change | None:
            if head.holds(shard):
                return None
            if card.can_add(head.card):
                text = card.added(head.card, card.kinds(labels))
            else:
                text = card.rewritten(head.card, self.dataset, repository.census(head), card.kinds(labels))
            files = {shard: content, CARD: text.encode("utf-8", "surrogateescape")}
            return Change(f"{len(labels)} labels", files)

        repository.amend(change)
        self.journal.mark_published([label.event_id for label in labels], shard)

    def _failed(self, error: Exception) -> ChipDemoError:
        """Note the failure, with a warning in the log, and when to try again; what to raise."""
        pause_s = min(self.longest_pause_s, self.first_pause_s * 2 ** min(self._failures, 20))
        pause_s = max(pause_s * random.uniform(0.5, 1), retry_after_s(error))
        self._failures += 1
        self._not_before = time.monotonic() + pause_s
        said = (
            str(error)
            if isinstance(error, ChipDemoError)
            else f"Expected to publish; found {describe_error(error)}"
        )
        self._last = replace(
            self._last, error=said, next_try_at=datetime.now(timezone.utc) + timedelta(seconds=pause_s)
        )
        log.warning("labels not published, next try in %.0f s: %s", pause_s, said)
        if isinstance(error, ChipDemoError):
            return error
        return HubError(f"{said} The labels are safe in {self.journal.path} and are tried again.")

    def _publish_on(self) -> None:
        while not self._stopping.wait(min(LOOK_S, self.flush_every_s / 4)):
            if self._is_due():
                self._try_to_flush()
        self._try_to_flush()

    def _try_to_flush(self) -> None:
        with suppress(ChipDemoError):  # noted and logged; the thread goes on
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
    """A name that nobody else has: the time, for people, and chance."""
    return f"data/labels-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:12]}.parquet"


def retry_after_s(error: Exception) -> float:
    """What the Hub asked to wait, seconds; 0 where it did not. An hour at most."""
    cause = cause_of(error)
    text = cause.response.headers.get("Retry-After", "") if isinstance(cause, HfHubHTTPError) else ""
    return min(3_600, int(text)) if text.isdecimal() else 0
