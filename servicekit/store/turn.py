"""Guard one batch: works share a transaction, and none suffers from another's failure.

Events are kept aside and hashed and inserted together at the end: one statement for the batch, no
tree arithmetic for works that are rolled back. A service may keep rows aside in the same way, in a
`Backlog`. A savepoint is opened when a work first writes, so that a work which only reads, appends
and keeps back pays for none. Deliberately absent: threads and the commit itself.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, cast

import apsw

from servicekit.store.schema import SqlValue
from servicekit.tlog.tree import Frontier, leaf_hashes

__all__ = ["Backlog", "Batch", "Rows", "Turn"]

T = TypeVar("T")
BacklogT = TypeVar("BacklogT", bound="Backlog")

_INSERT_EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)"

# Errors that say the statement was wrong. SQLite has undone that statement and nothing else, so
# they are the work's own affair. Every other error says that the file or the machine is in doubt.
_OF_THE_WORK = (
    apsw.BindingsError,
    apsw.ConstraintError,
    apsw.MismatchError,
    apsw.RangeError,
    apsw.SQLError,
    apsw.TooBigError,
)


class Rows(Protocol):
    """Take rows for one statement."""

    def run_many(self, sql: str, rows: Sequence[Sequence[SqlValue]]) -> None:
        """Execute one statement for each row."""


class Backlog(Protocol):
    """Hold what the works of one batch changed and did not write yet.

    It is part of the state that later works of the batch see: whoever reads a row that may be in
    here asks here first, or has it written before.
    """

    def write(self, rows: Rows) -> None:
        """Write all of it. Called once, in the batch's transaction, before it commits.

        An error of it puts the whole batch in doubt: what is kept back was decided already.
        """


class Turn:
    """Give one piece of work its time on the writer. It is valid only until the work returns.

    `now_us` is the log's time, in microseconds since 1970-01-01T00:00:00Z: one value a turn, never
    less than in an earlier turn. `clock_problem` says why that time stands still, or is None.
    `disk_problem` says why nothing new may begin, though what has begun can be recorded, or is
    None.
    """

    __slots__ = ("_batch", "_kept", "_savepoint", "clock_problem", "disk_problem", "now_us")

    def __init__(self, batch: "Batch", now_us: int, clock_problem: str | None) -> None:
        """Open a turn at the log's time `now_us`."""
        self._batch: Batch | None = batch
        self._savepoint = False
        self._kept: list[Callable[[Batch], None]] = []
        self.now_us = now_us
        self.clock_problem = clock_problem
        self.disk_problem = batch.disk_problem

    @property
    def next_seq(self) -> int:
        """Return the sequence number that the next append gets."""
        batch = self._opened()
        return batch.base + len(batch.pending)

    def rows(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[tuple[SqlValue, ...]]:
        """Return all rows of a query, with everything this batch wrote so far in view.

        A query over the events names the table `events` in its text.
        """
        batch = self._opened()
        if not sql.startswith("SELECT"):
            self._protect(batch)
        if batch.inserted < len(batch.pending) and "events" in sql:
            self._protect(batch)
            batch.insert_pending()
        try:
            return batch.connection.execute(sql, parameters).fetchall()
        except apsw.Error as error:
            batch.judge(error)
            raise

    def run(self, sql: str, parameters: Sequence[SqlValue] = ()) -> None:
        """Execute one statement on the service's tables. Undone if the work raises."""
        batch = self._opened()
        self._protect(batch)
        try:
            for _ in batch.connection.execute(sql, parameters):
                pass
        except apsw.Error as error:
            batch.judge(error)
            raise

    def run_many(self, sql: str, rows: Sequence[Sequence[SqlValue]]) -> None:
        """Execute one statement for each row, as `run` does; one call costs less than several."""
        batch = self._opened()
        self._protect(batch)
        try:
            batch.connection.executemany(sql, rows)
        except apsw.Error as error:
            batch.judge(error)
            raise

    def backlog(self, make: Callable[[], BacklogT]) -> BacklogT:
        """Return what this batch keeps back, made by the first work that asks; only for reading.

        All works of a ledger ask for the same kind.
        """
        return self._opened().backlog_made_by(make)

    def keep_back(self, make: Callable[[], BacklogT], add: Callable[[BacklogT], None]) -> None:
        """Have `add` add to the batch's backlog once the work has succeeded, and only then."""
        self._opened()
        self._kept.append(lambda batch: add(batch.backlog_made_by(make)))

    def write_backlog(self) -> None:
        """Write what earlier works of this batch kept back, for a statement that has to see it.

        Raises:
            RuntimeError: this work has written already: its savepoint would take their rows along.
        """
        batch = self._opened()
        if self._savepoint and batch.backlog is not None:
            raise RuntimeError("what others kept back is written before a work writes itself")
        batch.write_backlog()

    def append(
        self, leaf: bytes, *, event_type: str, plan_id: str | None, token_id: str | None
    ) -> int:
        """Append one event at `now_us` and return its sequence number, counted from 0 without gaps.

        Raises:
            TypeError: the leaf is not bytes.
            UnicodeEncodeError: a name has no encoding in UTF-8.
        """
        batch = self._opened()
        # Checked here and not by the table: an insert that fails later would fail the whole batch.
        if type(leaf) is not bytes:
            raise TypeError("a leaf is bytes")
        for text in (event_type, plan_id or "", token_id or ""):
            if not text.isascii():
                text.encode()
        pending = batch.pending
        pending.append((leaf, event_type, plan_id, token_id, self.now_us))
        return batch.base + len(pending) - 1

    def _opened(self) -> "Batch":
        if self._batch is None:
            raise RuntimeError("a turn ends with its work")
        return self._batch

    def _protect(self, batch: "Batch") -> None:
        if not self._savepoint:
            batch.execute("SAVEPOINT work")
            self._savepoint = True

    def close(self) -> bool:
        """End the turn and return whether it opened a savepoint."""
        self._batch = None
        return self._savepoint

    def settle(self, batch: "Batch") -> None:
        """Add to the backlog what a work that succeeded keeps back."""
        for add in self._kept:
            add(batch)


class Batch:
    """Hold one transaction. `failure` is set once the file or the machine is in doubt."""

    __slots__ = (
        "backlog",
        "base",
        "connection",
        "disk_problem",
        "failure",
        "frontier",
        "inserted",
        "pending",
    )

    def __init__(
        self, connection: apsw.Connection, frontier: Frontier, disk_problem: str | None = None
    ) -> None:
        """Start on a connection that has begun a transaction, at the head `frontier`."""
        self.disk_problem = disk_problem
        self.connection = connection
        self.base = frontier.size
        self.frontier = frontier
        self.pending: list[tuple[bytes, str, str | None, str | None, int]] = []
        self.inserted = 0
        self.backlog: Backlog | None = None
        self.failure: BaseException | None = None

    def perform(self, work: Callable[[Turn], T], now_us: int, clock_problem: str | None) -> T:
        """Return what the work returns; if it raises, undo what it wrote and raise the same."""
        mark = len(self.pending), self.inserted, self.frontier
        turn = Turn(self, now_us, clock_problem)
        try:
            result = work(turn)
        except BaseException:
            if turn.close() and self.failure is None:
                self.execute("ROLLBACK TO work")
                self.execute("RELEASE work")
                # What the work read after it wrote is forgotten with what it wrote.
                self.write_backlog()
            # Events of earlier works that were inserted under this savepoint went with it; the mark
            # remembers them as not yet inserted.
            kept, self.inserted, self.frontier = mark
            del self.pending[kept:]
            raise
        if turn.close():
            self.execute("RELEASE work")
        try:
            turn.settle(self)
        except BaseException as error:
            self.failure = error
            raise
        return result

    def backlog_made_by(self, make: Callable[[], BacklogT]) -> BacklogT:
        """Return the backlog, made now if there is none."""
        if self.backlog is None:
            self.backlog = make()
        return cast("BacklogT", self.backlog)

    def write_backlog(self) -> None:
        """Write what works kept back; any error of it puts the batch in doubt."""
        backlog, self.backlog = self.backlog, None
        if backlog is None:
            return
        try:
            backlog.write(self)
        except BaseException as error:
            self.failure = error
            raise

    def run_many(self, sql: str, rows: Sequence[Sequence[SqlValue]]) -> None:
        """Execute one statement for each row of the backlog."""
        self.connection.executemany(sql, rows)

    def insert_pending(self) -> None:
        """Hash and insert every event that is not in the table yet."""
        fresh = self.pending[self.inserted :]
        if not fresh:
            return
        seq = self.frontier.size
        frontier, settled = self.frontier.extend(leaf_hashes([event[0] for event in fresh]))
        rows = [
            (number, event[0], hashes, event[1], event[2], event[3], event[4])
            for number, (event, hashes) in enumerate(zip(fresh, settled, strict=True), seq)
        ]
        try:
            self.connection.executemany(_INSERT_EVENT, rows)
        except apsw.Error as error:
            self.failure = error
            raise
        self.frontier = frontier
        self.inserted = len(self.pending)

    def execute(self, sql: str) -> None:
        """Execute one of the batch's own statements; an error puts the file in doubt."""
        try:
            self.connection.execute(sql)
        except apsw.Error as error:
            self.failure = error
            raise

    def judge(self, error: apsw.Error) -> None:
        """Note whether the error of a work's statement puts the file in doubt."""
        if not isinstance(error, _OF_THE_WORK) or not self.connection.in_transaction:
            self.failure = error
