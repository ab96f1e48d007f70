"""A disk that counts its writes and syncs, and fails at the one it is told to.

It is an SQLite VFS over the real one, so what the ledger meets is its own SQLite answering its own
errors. Only writes, truncations and syncs are counted, in one sequence.
"""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import apsw

__all__ = ["Fault", "FaultyDisk", "Operation"]

_NUMBERS = itertools.count()


class Fault(StrEnum):
    """Say how an operation fails."""

    EIO = "eio"
    ENOSPC = "enospc"
    SHORT = "short"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Operation:
    """Hold one thing that was done to a file, in order."""

    kind: str
    file: str
    offset: int = 0
    data: bytes = b""


class FaultyDisk(apsw.VFS):
    """Record every operation; fail number `fail_at` (from 0), and all later ones if told so."""

    def __init__(self) -> None:
        self.name = f"faulty-disk-{next(_NUMBERS)}"
        self.operations: list[Operation] = []
        self.armed = False
        self.fail_at: int | None = None
        self.fault = Fault.EIO
        self.forever = False
        self.only_file: str | None = None
        self.failed = False
        self.before_sync: Callable[[], object] = lambda: None
        # What hangs goes on once this is set, as a disk does that comes back after a minute.
        self.release = threading.Event()
        super().__init__(self.name, "unix")

    def arm(self, fail_at: int | None, fault: Fault, *, forever: bool = False) -> None:
        """Count from here, and fail at operation number `fail_at`."""
        self.operations.clear()
        self.armed = True
        self.fail_at = fail_at
        self.fault = fault
        self.forever = forever

    def xOpen(self, name: Any, flags: list[int]) -> "_FaultyFile":
        """Open a file through this disk."""
        return _FaultyFile(self, name, flags)

    def note(self, operation: Operation) -> Fault | None:
        """Record an operation and return how it is to fail, if it is."""
        number = len(self.operations)
        if self.only_file is None or operation.file.endswith(self.only_file):
            self.operations.append(operation)
        else:
            return None
        if not self.armed or self.fail_at is None or number < self.fail_at:
            return None
        if number > self.fail_at and not self.forever:
            return None
        self.failed = True
        if self.fault is Fault.HANG:
            self.release.wait(60)
            return None
        return self.fault

    def syncs(self) -> int:
        """Return how many syncs of any file there were."""
        return sum(operation.kind == "sync" for operation in self.operations)


class _FaultyFile(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._file = str(path or "")

    def xWrite(self, data: bytes, offset: int) -> None:
        fault = self._disk.note(Operation("write", self._file, offset, bytes(data)))
        if fault is None:
            super().xWrite(data, offset)
        elif fault is Fault.EIO:
            raise apsw.IOError("injected")
        elif fault is Fault.ENOSPC:
            raise apsw.FullError("injected")
        else:
            super().xWrite(bytes(data)[: len(data) // 2], offset)
            raise apsw.FullError("injected after half of it")

    def xSync(self, flags: int) -> None:
        if self._disk.note(Operation("sync", self._file)) is not None:
            raise apsw.IOError("injected")
        self._disk.before_sync()
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:
        if self._disk.note(Operation("truncate", self._file, newsize)) is not None:
            raise apsw.IOError("injected")
        super().xTruncate(newsize)
