"""A few SQLite connections, shared by any number of threads."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

READERS = 8  # connections that are read from at the same time; further threads wait
WRITERS = 1  # SQLite has one writer at a time


@dataclass
class _Loan:
    """A connection while one thread has it. blocks: how many `with` blocks of that thread use it."""

    connection: sqlite3.Connection
    blocks: int = 1
    is_reader: bool = False
    close_after: bool = False


class Connections:
    """At most READERS + WRITERS open connections to one database, opened when they are first needed.

    A thread has one connection for as long as it is in a `read` or `write` block, and the same one in
    blocks inside that block. A block may end in another thread than it began in, as that of a
    generator may.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]):
        self._connect = connect
        self._idle: list[sqlite3.Connection] = []  # the last one used is the next: its cache is warm
        self._loans: dict[int, _Loan] = {}  # by thread
        self._changed = threading.Condition()  # guards all of the above
        self._readers = threading.BoundedSemaphore(READERS)
        self._writer = threading.Lock()  # a queue is faster than SQLite's own waiting, which polls

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        thread = threading.get_ident()
        loan = self._join(thread)
        if loan is None:
            self._readers.acquire()
            try:
                loan = self._lend(thread, is_reader=True)
            except BaseException:
                self._readers.release()
                raise
        try:
            yield loan.connection
        finally:
            self._give_back(thread, loan)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """As read, for one thread at a time. It never waits for readers, so a reader may wait for it."""
        thread = threading.get_ident()
        with self._writer:
            loan = self._join(thread) or self._lend(thread)
            try:
                yield loan.connection
            finally:
                self._give_back(thread, loan)

    def close(self) -> None:
        """Close all connections; a later block opens new ones.

        Waits for the blocks of other threads: SQLite would crash under them. A connection that the calling
        thread itself is using is closed when its block ends.
        """
        with self._changed:
            for connection in self._idle:
                connection.close()
            self._idle.clear()
            for loan in self._loans.values():
                loan.close_after = True
            own = self._loans.get(threading.get_ident())
            others = [loan for loan in self._loans.values() if loan is not own]
            self._changed.wait_for(lambda: not any(loan.blocks for loan in others))

    def _join(self, thread: int) -> _Loan | None:
        """The connection that the thread has already; None where it has none."""
        with self._changed:
            loan = self._loans.get(thread)
            if loan:
                loan.blocks += 1
            return loan

    def _lend(self, thread: int, is_reader: bool = False) -> _Loan:
        with self._changed:
            connection = self._idle.pop() if self._idle else None
        loan = _Loan(connection or self._connect(), is_reader=is_reader)
        with self._changed:
            self._loans[thread] = loan
        return loan

    def _give_back(self, thread: int, loan: _Loan) -> None:
        with self._changed:
            loan.blocks -= 1
            if loan.blocks:
                return
            del self._loans[thread]
            if loan.close_after:
                loan.connection.close()
            else:
                self._idle.append(loan.connection)
            self._changed.notify_all()
        if loan.is_reader:
            self._readers.release()
