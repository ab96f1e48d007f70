"""Guard a service's memory: one file, one writer, and a log whose every state has a root.

This is the door through which services use the store. What is told was durable before; what is
durable is in the log in order; what is in the log is never changed. Deliberately absent: a word
about what is stored. The format is specified in docs/spec/log.md.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import apsw

from servicekit.clock import Clock
from servicekit.store.connection import check_identity, check_shape, open_writer
from servicekit.store.creation import create_store
from servicekit.store.disk_reserve import DiskReserve
from servicekit.store.errors import StoreBehind, StoreCorrupt, StoreError, StoreMissing
from servicekit.store.lock import StoreLock
from servicekit.store.pulse import Pulse
from servicekit.store.queue import Urgency, WorkQueue
from servicekit.store.readers import Reader, ReaderPool
from servicekit.store.schema import Schema, SqlValue
from servicekit.store.store_place import StorePlace
from servicekit.store.turn import Backlog, Rows, Turn
from servicekit.store.verification import (
    Check,
    LogVerdict,
    StoredEvent,
    StoredHead,
    TreeHead,
    inspect,
    verify_log,
)
from servicekit.store.writer import Writer

if TYPE_CHECKING:  # a ledger without a checkpoint needs no cryptography
    from servicekit.store.checkpoint_copier import CheckpointCopier

__all__ = [
    "Backlog",
    "Check",
    "Ledger",
    "LogVerdict",
    "Reader",
    "Rows",
    "Schema",
    "SqlValue",
    "StoredEvent",
    "TreeHead",
    "Turn",
    "Urgency",
    "read_store",
    "verify_log",
]

T = TypeVar("T")

_WARM_WAL_BYTES = 4_194_304
_LOOK = "Look at the disk: free space, permissions, and what the kernel says about it."
_KEEP = "Keep the file as evidence, restore a backup, and compare both with the last checkpoint."


class Ledger:
    """Commit pieces of work to one store, and read it. Any number of threads may use it."""

    def __init__(
        self,
        writer: Writer,
        queue: WorkQueue,
        readers: ReaderPool,
        lock: StoreLock,
        reserve: DiskReserve,
        commit_timeout_s: float,
    ) -> None:
        """Assemble an open store; use `Ledger.open`."""
        self._reserve = reserve
        self._writer = writer
        self._queue = queue
        self._readers = readers
        self._lock = lock
        self._commit_timeout_s = commit_timeout_s
        self._copier: CheckpointCopier | None = None

    @staticmethod
    def create(path: Path, schema: Schema, *, now_us: int) -> None:
        """Create an empty store at `path`, mode 0600, durable on return.

        Raises:
            StoreExists: something is there already.
            StoreMissing: the folder does not exist.
            StoreLocked: another process is at it.
        """
        create_store(path.resolve(), schema, now_us=now_us)

    @staticmethod
    def open(
        path: Path,
        schema: Schema,
        *,
        clock: Clock,
        commit_timeout_s: float,
        max_batch: int = 64,
        reserve_bytes: int = 0,
        on_poison: Callable[[StoreError], None] | None = None,
        at_least: TreeHead | None = None,
        vfs: str | None = None,
    ) -> "Ledger":
        """Open a store for this process alone, having verified its whole log against its head.

        `reserve_bytes` are held on the disk for what must be recorded when it is full; 0 holds and
        watches nothing. `at_least` is the last head kept outside the store: a log that does not
        contain it is refused. `on_poison` is called once, from the thread that found the failure.
        `vfs` names an SQLite VFS.

        Raises:
            StoreMissing: there is no store.
            StoreLocked: another process has it.
            StoreMismatch, StoreTooNew, StoreTooOld: it is not this service's, or of another
            version.
            StoreBehind: the log ends before `at_least`.
            StoreCorrupt: it does not agree with itself, or with `at_least`; the first bad entry is
            named where it can be known.
            StoreError: SQLite refused a setting that durability needs.
        """
        path = path.resolve()  # the lock is beside the file itself, whatever name was used
        if not path.is_file():
            raise StoreMissing(f"there is no store at {path}", advice="Create it with `init`.")
        lock = StoreLock.acquire(path)
        connection: apsw.Connection | None = None
        reserve: DiskReserve | None = None
        try:
            # Before anything is written: on a full disk it is the room to start in.
            reserve = DiskReserve(path, reserve_bytes)
            connection = open_writer(path, vfs=vfs)
            head = _verified_head(connection, path, schema, at_least)
            _renew_wal(connection, path)
            queue = WorkQueue(on_poison=on_poison)
            writer = Writer(
                connection,
                head.frontier,
                queue,
                high_water_us=head.high_water_us,
                clock=clock,
                max_batch=max_batch,
                place=StorePlace(path),
                disk_problem=reserve.look,
            )
        except BaseException as error:
            if connection is not None:
                connection.close()
            if reserve is not None:
                reserve.close()
            lock.release()
            if isinstance(error, apsw.CorruptError | apsw.NotADBError):
                raise StoreCorrupt(f"SQLite cannot read {path}: {error}", advice=_KEEP) from error
            if isinstance(error, apsw.Error | OSError):
                raise StoreError(f"{path} cannot be opened: {error}", advice=_LOOK) from error
            raise
        return Ledger(writer, queue, ReaderPool(path, vfs=vfs), lock, reserve, commit_timeout_s)

    def commit(
        self,
        work: Callable[[Turn], T],
        *,
        urgency: Urgency = Urgency.PLAN,
        sees_clock: bool = False,
    ) -> T:
        """Run `work` on the writer and return its result once all it wrote or read is durable.

        Works share transactions, but not failures: an exception undoes its own work only and is
        raised here. A work touches nothing but its turn, and is quick: everybody waits for it. One
        that `sees_clock` also runs while the clock is not believed, and asks `Turn.clock_problem`.

        Raises:
            CommitOverdue: it was not durable in time. Whether it will be found there later is
            unknown.
            StorePoisoned: a write failed, now or earlier. Nothing may go on.
            ClockStepped: the clock is not believed; PLAN work that does not see the clock.
            StoreClosed: the store was closed.
            BaseException: whatever the work raised.
        """
        return self._writer.commit(work, urgency, self._commit_timeout_s, sees_clock=sees_clock)

    def read(self, query: Callable[[Reader], T]) -> T:
        """Return what `query` finds in one consistent snapshot of what is durable.

        Raises:
            StoreClosed: the store was closed.
            StoreError: SQLite could not answer; a cause is chained.
        """
        return self._readers.read(query)

    @property
    def head(self) -> TreeHead:
        """Return the head of the last durable commit."""
        return self._writer.head

    @property
    def poisoned(self) -> StoreError | None:
        """Return the failure after which nothing is written any more, or None."""
        return self._queue.poison

    @property
    def clock_problem(self) -> str | None:
        """Return why PLAN work is refused for its time, or None."""
        return self._writer.clock_problem

    @property
    def disk_problem(self) -> str | None:
        """Return why nothing new may begin for want of room, also for the checkpoint; or None."""
        copier = self._copier
        return self._reserve.problem or (None if copier is None else copier.problem)

    @property
    def queue_depth(self) -> int:
        """Return how many works wait for the writer."""
        return self._queue.depth

    @property
    def commits(self) -> int:
        """Return how many commits were synced since `open`."""
        return self._writer.commits

    @property
    def pulse(self) -> Pulse:
        """Return what the writer measures of itself."""
        return self._writer.pulse

    def acknowledge_clock(self) -> None:
        """Believe the clocks as they are now, after a person has looked at them.

        Raises:
            StorePoisoned, StoreClosed, CommitOverdue: as `commit` does.
        """
        self._writer.acknowledge_clock(self._commit_timeout_s)

    def keep_checkpoint(self, copier: "CheckpointCopier") -> None:
        """Copy the head outside the store from now on, and a last time when this is closed.

        Raises:
            CheckpointUnwritable: the first copy failed.
        """
        copier.start(lambda: self._writer.head)
        self._copier = copier
        self._writer.watch_disk(lambda: self._reserve.look() or copier.problem)

    def close(self) -> None:
        """Finish queued work, close every connection, let the next process in. Repeat at will."""
        self._readers.close()
        ended = self._writer.close(self._commit_timeout_s)
        # Before the lock goes: the next process must not find its own checkpoint overwritten.
        if self._copier is not None:
            self._copier.close()
        if ended:
            self._reserve.close()
            self._lock.release()


def read_store(path: Path, query: Callable[[Reader], T]) -> T:
    """Return what `query` finds in one snapshot of a store, read-only and without its service.

    Raises:
        StoreMissing: there is no file at `path`.
        StoreError: SQLite cannot read it.
    """
    if not path.is_file():
        raise StoreMissing(f"there is no store at {path}", advice="Check the path.")
    readers = ReaderPool(path, vfs=None)
    try:
        return readers.read(query)
    finally:
        readers.close()


def _verified_head(
    connection: apsw.Connection, path: Path, schema: Schema, at_least: TreeHead | None
) -> StoredHead:
    check_identity(connection, path, schema)
    check_shape(connection)
    verdict, head = inspect(connection, at_least=at_least)
    if at_least is not None and head is not None and head.frontier.size < at_least.size:
        raise StoreBehind(
            f"{path} ends at {head.frontier.size} entries, before the {at_least.size} of its "
            "checkpoint",
            advice=_KEEP,
            first_bad_seq=head.frontier.size,
        )
    if verdict.problem is not None or head is None:
        raise StoreCorrupt(
            f"{path}: {verdict.problem}", advice=_KEEP, first_bad_seq=verdict.first_bad_seq
        )
    return head


def _renew_wal(connection: apsw.Connection, path: Path) -> None:
    # After a failed sync the kernel may hold pages of the write-ahead log that it will never write.
    # Copying the log into the database writes their content again, so what a restart finds is
    # durable before anything is built on it.
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    # Overwriting allocated blocks needs no change of the file's metadata, which halves the time of
    # a sync, and leaves room for some commits when the disk is full. Zeros are no valid header to
    # SQLite.
    descriptor = os.open(path.with_name(path.name + "-wal"), os.O_WRONLY | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size == 0:
            zeros = bytes(_WARM_WAL_BYTES // 16)
            for _ in range(16):
                os.write(descriptor, zeros)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
