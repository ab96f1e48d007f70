"""Guard the order of writing: one thread writes, and nobody is told anything before it is durable.

The writer takes what has queued up, OPERATOR work before PLAN work, runs it as one batch, commits
once, and only then lets the answers go. Works that queue up behind a sync share the next one; that
is all there is to group commit. After the first failure nothing is written again: whether a failed
sync lost something can be learned only by reading the file anew. Deliberately absent: retries, and
a second attempt at a commit.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

import apsw

from servicekit.clock import Clock
from servicekit.store.clock_guard import ClockGuard
from servicekit.store.disk_reserve import DiskProblem
from servicekit.store.errors import ClockStepped, StoreError
from servicekit.store.pulse import Pulse
from servicekit.store.queue import Errand, Job, Urgency, WorkQueue
from servicekit.store.store_place import StorePlace
from servicekit.store.turn import Batch, Turn
from servicekit.store.verification import TreeHead
from servicekit.tlog.tree import Frontier

__all__ = ["Writer"]

T = TypeVar("T")

_CALM_WAL_PAGES = 1_000
"""A checkpoint is made from here on, when nobody waits (4 MiB at 4 KiB a page)."""

_FULL_WAL_PAGES = 8_000
"""A checkpoint is made from here on, whoever waits."""

_SAVE_HEAD = "UPDATE ledger_head SET size = ?, root = ?, frontier = ?, high_water_us = ?"


class Writer:
    """Own the writing connection and its thread."""

    def __init__(
        self,
        connection: apsw.Connection,
        frontier: Frontier,
        queue: WorkQueue,
        *,
        high_water_us: int,
        clock: Clock,
        max_batch: int,
        place: StorePlace,
        disk_problem: DiskProblem,
    ) -> None:
        """Start the thread on a verified store whose head is `frontier`."""
        self.head = TreeHead(frontier.size, frontier.root())
        self.commits = 0
        self.pulse = Pulse()
        self._connection = connection
        self._frontier = frontier
        self._queue = queue
        self._clock = clock
        self._guard = ClockGuard(high_water_us, clock.now_us(), clock.monotonic_s())
        self._max_batch = max_batch
        self._place = place
        self._disk_problem = disk_problem
        self._wal_pages = 0
        connection.set_wal_hook(self._note_wal_pages)
        # A daemon: a thread stuck in a dying disk's sync must not keep the process from ending.
        self._thread = threading.Thread(target=self._serve, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def clock_problem(self) -> str | None:
        """Return why PLAN work is refused for its time, or None."""
        return self._guard.problem

    def watch_disk(self, disk_problem: DiskProblem) -> None:
        """Ask `disk_problem` before each batch from now on."""
        self._disk_problem = disk_problem

    def commit(
        self,
        work: Callable[[Turn], T],
        urgency: Urgency,
        timeout_s: float,
        *,
        sees_clock: bool = False,
    ) -> T:
        """Return what the work returned, once its batch is durable.

        Raises:
            ClockStepped: the clock is not believed; PLAN work that does not see the clock.
            BaseException: as `WorkQueue.submit` does.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a work cannot wait for another commit: it is on the writer already")
        queued_s = self._clock.monotonic_s()
        try:
            return self._queue.submit(
                work, urgency, timeout_s, sees_clock=sees_clock, queued_s=queued_s
            )
        except StoreError as error:
            # A clock that is not believed stops the work and not the store.
            if not isinstance(error, ClockStepped):
                self.pulse.failed()
            raise

    def acknowledge_clock(self, timeout_s: float) -> None:
        """Believe the clocks as they are now, and take PLAN work again."""

        def work(_: Turn) -> None:
            self._guard.acknowledge(self._clock.now_us(), self._clock.monotonic_s())

        self.commit(work, Urgency.OPERATOR, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Finish what is queued, take no more, close; return whether the thread has ended."""
        self._queue.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        try:
            while True:
                errand = self._queue.await_errand(
                    self._wal_pages, calm_pages=_CALM_WAL_PAGES, full_pages=_FULL_WAL_PAGES
                )
                if errand is Errand.COMMIT:
                    self._commit_batch()
                elif errand is Errand.CHECKPOINT:
                    self._checkpoint()
                else:
                    return
        finally:
            self._shut()

    def _commit_batch(self) -> None:
        jobs: list[Job] = []
        try:
            self._write(jobs)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the file is in doubt
            self._queue.fail(error, jobs)
        else:
            self._queue.tell(jobs)

    def _write(self, jobs: list[Job]) -> None:
        # A crash anywhere in here before COMMIT returns: the batch is there whole or not at all,
        # and nobody has been told. A crash after it: the batch is there, and somebody may have been
        # told.
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        changes = connection.total_changes()
        batch = Batch(connection, self._frontier, self._disk_problem())
        # The queue is asked anew for each work: an operator overtakes even inside a batch.
        while len(jobs) < self._max_batch and (job := self._queue.take()) is not None:
            jobs.append(job)
            self._perform(batch, job)
        batch.insert_pending()
        batch.write_backlog()
        if self._queue.poison is not None:
            raise self._queue.poison
        if connection.total_changes() == changes:
            connection.execute("COMMIT")
            return
        frontier = batch.frontier
        head = TreeHead(frontier.size, frontier.root())
        connection.execute(
            _SAVE_HEAD, (head.size, head.root, frontier.encode(), self._guard.high_water_us)
        )
        before_s = self._clock.monotonic_s()
        connection.execute("COMMIT")
        self._place.confirm()
        self.pulse.synced(self._clock.monotonic_s() - before_s, works=len(jobs))
        self._frontier = frontier
        self.head = head
        self.commits += 1

    def _perform(self, batch: Batch, job: Job) -> None:
        monotonic_s = self._clock.monotonic_s()
        self.pulse.waited(monotonic_s - job.queued_s)
        now_us = self._guard.read(self._clock.now_us(), monotonic_s)
        problem = self._guard.problem
        if problem is not None and not job.sees_clock:
            job.error = ClockStepped(
                problem,
                advice="Look at the machine's clock, then acknowledge it and resume the service.",
            )
            return
        try:
            job.result = batch.perform(job.work, now_us, problem)
        except BaseException as error:  # noqa: BLE001 - it is raised where the work came from
            job.error = error
        if batch.failure is not None:
            raise batch.failure
        if not batch.connection.in_transaction:
            raise RuntimeError("a work ended the batch's transaction")

    def _checkpoint(self) -> None:
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.FullError:
            # Nothing is lost: all of it is still in the write-ahead log, which goes on growing. The
            # next commit asks again.
            pass
        except apsw.Error as error:
            self._queue.fail(error)
        self._wal_pages = 0

    def _note_wal_pages(self, _: apsw.Connection, __: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _shut(self) -> None:
        try:
            if self._queue.poison is not None:
                # The next start reads the write-ahead log as the failure left it.
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._connection.close()
        except apsw.Error as error:
            self._queue.fail(error)
