"""What a crash leaves of a store: the files as a kill finds them, or as a power loss does.

A kill loses what is in memory, a power loss also what was not synced. The process that "died" goes
on in memory until its world throws it away; its successor opens the files of the moment.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from stage3_service.audit.journal import JournalStore, Snapshot, Writes
from tests.fakes.faulty_disk import FaultyDisk, Operation

T = TypeVar("T")
Files = dict[str, bytes]


class Crashed(BaseException):
    """End everything that the process was doing; nobody is told anything."""


class Moment(StrEnum):
    """Say when, in a commit, a process dies."""

    BEFORE = "before"
    IN_SYNC = "in_sync"
    AFTER = "after"


class Loss(StrEnum):
    """Say what is lost with the process: nothing that was written, or what was not synced."""

    KILL = "kill"
    POWER = "power"


class CrashDisk(FaultyDisk):
    """A disk that knows what of its files is durable."""

    def __init__(self) -> None:
        super().__init__()
        self._start: Files = {}

    def begin(self, directory: Path, store: str) -> None:
        """Take the files as they are now for durable: their process has just opened them."""
        self._start = files_of(directory, store)
        self.operations.clear()

    def close(self) -> None:
        """Forget everything; no file of this disk is open any more."""
        self.operations.clear()
        self._start.clear()
        self.unregister()

    def durable(self, *, in_sync: bool) -> Files:
        """Return the files after a power loss that keeps nothing unsynced.

        `in_sync`: a sync was asked for and has not happened.
        """
        operations = self.operations[:-1] if in_sync else self.operations
        return {
            name: _synced(content, [each for each in operations if Path(each.file).name == name])
            for name, content in self._start.items()
        }


def files_of(directory: Path, store: str) -> Files:
    """Return a store's file and its write-ahead log as somebody who opens them would read them."""
    return {
        path.name: path.read_bytes()
        for path in (directory / store, directory / f"{store}-wal")
        if path.exists()
    }


def _synced(content: bytes, operations: list[Operation]) -> bytes:
    durable, waiting = bytearray(content), list[Operation]()
    for operation in operations:
        if operation.kind != "sync":
            waiting.append(operation)
            continue
        for write in waiting:
            if write.kind == "truncate":
                del durable[write.offset :]
                continue
            end = write.offset + len(write.data)
            durable.extend(bytes(max(0, end - len(durable))))
            durable[write.offset : end] = write.data
        waiting.clear()
    return bytes(durable)


class CrashingStore:
    """A `JournalStore` whose process dies at an announced commit. `left` is what it leaves."""

    def __init__(self, store: JournalStore, disk: CrashDisk, directory: Path, name: str) -> None:
        self._store = store
        self._disk = disk
        self._directory = directory
        self._name = name
        self._countdown: int | None = None
        self._moment = Moment.BEFORE
        self._loss = Loss.KILL
        self.left: Files | None = None

    def announce(self, commits: int, moment: Moment, loss: Loss) -> None:
        """Die at the commit after so many more."""
        self._countdown, self._moment, self._loss = commits, moment, loss

    def forget(self) -> None:
        """Do not die after all."""
        self._countdown = None

    def die(self, loss: Loss, *, in_sync: bool = False) -> None:
        """Leave the files as they are. The process must do nothing more."""
        if self.left is None:
            power = loss is Loss.POWER
            self.left = (
                self._disk.durable(in_sync=in_sync)
                if power
                else files_of(self._directory, self._name)
            )

    def commit(self, work: Callable[[Snapshot], Writes[T]], *, urgent: bool) -> Writes[T]:
        """Commit, or die on the way."""
        if self.left is not None:
            raise Crashed
        if self._countdown is None:
            return self._store.commit(work, urgent=urgent)
        self._countdown -= 1
        if self._countdown >= 0:
            return self._store.commit(work, urgent=urgent)
        if self._moment is Moment.BEFORE:
            self.die(self._loss)
            raise Crashed
        if self._moment is Moment.IN_SYNC:
            self._disk.before_sync = lambda: self.die(self._loss, in_sync=True)
        try:
            self._store.commit(work, urgent=urgent)
        finally:
            self._disk.before_sync = lambda: None
        self.die(self._loss)
        raise Crashed
