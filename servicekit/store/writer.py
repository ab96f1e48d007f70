"""Guard the order of writing: one thread writes, and nobody is told anything before it is durable.

The writer takes what has queued up, OPERATOR work before PLAN work, runs it as one batch, commits
once, and only then lets the answers go. Works that queue up behind a sync share the next one; that
is all there is to group commit. After the first failure nothing is written again: whether a failed
sync lost something can be learned only by reading the file anew. Deliberately absent: retries, and
a second attempt at a commit.
"""

import threading
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

import apsw

from servicekit.clock import Clock
from servicekit.store.clock_guard import ClockGuard
from servicekit.store.errors import (
    ClockStepped,
    CommitOverdue,
    StoreClosed,
    StoreError,
    StorePoisoned,
)
from servicekit.store.turn import Batch, Turn
from servicekit.store.verification import TreeHead
from servicekit.tlog.tree import Frontier

__all__ = ["Urgency", "Writer"]

T = TypeVar("T")

_CALM_WAL_PAGES = 1_000
"""A checkpoint is made from here on, when nobody waits (4 MiB at 4 KiB a page)."""

_FULL_WAL_PAGES = 8_000
"""A checkpoint is made from here on, whoever waits."""

_SAVE_HEAD = "UPDATE ledger_head SET size = ?, root = ?, frontier = ?, high_water_us = ?"
_AFTER_POISON = "Start the service again: it reads the log anew and says what was kept."


class Urgency(IntEnum):
    """Say whose work goes first: OPERATOR work never waits behind a queue of PLAN work."""

    OPERATOR = 0
    PLAN = 1


class _Job:
    """One work on its way. `done` is held until `result` or `error` may be told."""

    __slots__ = ("done", "error", "result", "settled", "work")

    def __init__(self, work: Callable[[Turn], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.settled = False
        self.done = threading.Lock()
        self.done.acquire()


class Writer:
    """Own the writing connection, its thread and its queue."""

    def __init__(
        self,
        connection: apsw.Connection,
        frontier: Frontier,
        *,
        high_water_us: int,
        clock: Clock,
        max_batch: int,
        on_poison: Callable[[StoreError], None] | None,
    ) -> None:
        """Start the thread on a verified store whose head is `frontier`."""
        self.head = TreeHead(frontier.size, frontier.root())
        self.commits = 0
        self.poison: StoreError | None = None
        self._connection = connection
        self._frontier = frontier
        self._clock = clock
        self._guard = ClockGuard(high_water_us, clock.now_us(), clock.monotonic_s())
        self._max_batch = max_batch
        self._on_poison = on_poison
        self._operator: deque[_Job] = deque()
        self._plan: deque[_Job] = deque()
        self._condition = threading.Condition(threading.Lock())
        self._idle = False
        self._closing = False
        self._wal_pages = 0
        connection.set_wal_hook(self._note_wal_pages)
        # A daemon, because a thread stuck in a dying disk's sync must not keep the process from
        # ending.
        self._thread = threading.Thread(target=self._serve, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def queue_depth(self) -> int:
        """Return how many works wait, without the batch under way."""
        return len(self._operator) + len(self._plan)

    @property
    def clock_problem(self) -> str | None:
        """Return why PLAN work is refused for its time, or None."""
        return self._guard.problem

    def submit(self, work: Callable[[Turn], T], urgency: Urgency, timeout_s: float) -> T:
        """Return what the work returned, once its batch is durable.

        Raises:
            CommitOverdue: `timeout_s` passed. Nothing more is written.
            StorePoisoned: something failed to be written, now or earlier.
            StoreClosed: the store was closed.
            ClockStepped: PLAN work, and the clock is not believed.
            BaseException: whatever the work raised.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a work cannot wait for another commit: it is on the writer already")
        job = _Job(work)
        with self._condition:
            if self.poison is not None:
                raise self._poisoned()
            if self._closing:
                raise StoreClosed("the store is closed", advice="Start the service again.")
            (self._plan if urgency else self._operator).append(job)
            if self._idle:
                self._condition.notify()
        if not job.done.acquire(timeout=timeout_s):
            self._overdue(job, timeout_s)
        if job.error is None:
            result: T = job.result
            return result
        try:
            raise job.error
        finally:
            del job

    def acknowledge_clock(self, timeout_s: float) -> None:
        """Believe the clocks as they are now, and take PLAN work again."""

        def work(_: Turn) -> None:
            self._guard.acknowledge(self._clock.now_us(), self._clock.monotonic_s())

        self.submit(work, Urgency.OPERATOR, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Finish what is queued, take no more, close; return whether the thread has ended."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # The thread.

    def _serve(self) -> None:
        while self._await_work():
            self._commit_batch()
        try:
            if self.poison is not None:
                # The write-ahead log is evidence for the next start; closing must not move it into
                # the file.
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._connection.close()
        except apsw.Error as error:
            self._fail(error)
        self._refuse_queued()

    def _await_work(self) -> bool:
        """Return True when there is work, False when there will be none any more."""
        while True:
            with self._condition:
                while not self._operator and not self._plan:
                    if self._closing or self.poison is not None:
                        return False
                    if self._wal_pages >= _CALM_WAL_PAGES:
                        break
                    self._idle = True
                    self._condition.wait()
                    self._idle = False
                else:
                    if self.poison is not None:
                        return False
                    if self._wal_pages < _FULL_WAL_PAGES:
                        return True
            self._checkpoint()

    def _commit_batch(self) -> None:
        jobs: list[_Job] = []
        failure: BaseException | None = None
        try:
            self._write(jobs)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the file is in doubt
            failure = error
        if failure is not None:
            self._fail(failure)
        with self._condition:
            poisoned = self.poison is not None
            for job in jobs:
                job.settled = True
                if poisoned:
                    job.error = self._poisoned()
        for job in jobs:
            job.done.release()

    def _write(self, jobs: list[_Job]) -> None:
        # A crash anywhere in here before COMMIT returns: the batch is there whole or not at all,
        # and nobody has been told. A crash after it: the batch is there, and somebody may have been
        # told.
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        changes = connection.total_changes()
        batch = Batch(connection, self._frontier)
        while len(jobs) < self._max_batch:
            # Asked anew for each work: an operator overtakes even inside a batch.
            if self._operator:
                job = self._operator.popleft()
                urgency = Urgency.OPERATOR
            elif self._plan:
                job = self._plan.popleft()
                urgency = Urgency.PLAN
            else:
                break
            jobs.append(job)
            now_us = self._guard.read(self._clock.now_us(), self._clock.monotonic_s())
            if self._guard.problem is not None and urgency is Urgency.PLAN:
                job.error = _clock_stepped(self._guard.problem)
                continue
            try:
                job.result = batch.perform(job.work, now_us)
            except BaseException as error:  # noqa: BLE001 - it is raised where the work came from
                job.error = error
            if batch.failure is not None:
                raise batch.failure
            if not connection.in_transaction:
                raise RuntimeError("a work ended the batch's transaction")
        batch.insert_pending()
        frontier = batch.frontier
        wrote = connection.total_changes() != changes
        if not wrote:
            connection.execute("COMMIT")
            return
        head = TreeHead(frontier.size, frontier.root())
        connection.execute(
            _SAVE_HEAD, (head.size, head.root, frontier.encode(), self._guard.high_water_us)
        )
        connection.execute("COMMIT")
        self._frontier = frontier
        self.head = head
        self.commits += 1

    def _checkpoint(self) -> None:
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            self._fail(error)
        self._wal_pages = 0

    def _note_wal_pages(self, _: apsw.Connection, __: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    # Failing.

    def _overdue(self, job: _Job, timeout_s: float) -> None:
        error = CommitOverdue(
            f"a commit was not durable within {timeout_s:g} s", advice=_AFTER_POISON
        )
        with self._condition:
            if job.settled:
                return
            first = self._set_poison(error)
            job.error = error
        self._announce(first)

    def _fail(self, cause: BaseException) -> None:
        error = StorePoisoned(
            f"the store failed: {type(cause).__name__}: {cause}", advice=_AFTER_POISON
        )
        error.__cause__ = cause
        with self._condition:
            first = self._set_poison(error)
        self._announce(first)

    def _set_poison(self, error: StoreError) -> StoreError | None:
        if self.poison is not None:
            return None
        self.poison = error
        self._condition.notify()
        return error

    def _announce(self, error: StoreError | None) -> None:
        if error is not None and self._on_poison is not None:
            self._on_poison(error)

    def _poisoned(self) -> StorePoisoned:
        error = StorePoisoned(f"nothing is written any more: {self.poison}", advice=_AFTER_POISON)
        error.__cause__ = self.poison
        return error

    def _refuse_queued(self) -> None:
        with self._condition:
            jobs = [*self._operator, *self._plan]
            self._operator.clear()
            self._plan.clear()
            for job in jobs:
                job.settled = True
                job.error = self._poisoned()
        for job in jobs:
            job.done.release()


def _clock_stepped(problem: str) -> ClockStepped:
    return ClockStepped(
        problem, advice="Look at the machine's clock, then acknowledge it and resume the service."
    )
