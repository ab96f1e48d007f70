"""Guard the rule of one process per store with an flock beside the file.

The kernel releases the lock when the process ends, however it ends, so the lock file itself is
never removed: removing it would let two processes lock two files of one name.
"""

import fcntl
import os
from pathlib import Path

from servicekit.store.errors import StoreLocked

__all__ = ["StoreLock"]

_PID_BYTES = 32


class StoreLock:
    """Hold the exclusive right to write one store, from `acquire` to `release`."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        """Wrap a descriptor that already holds the lock."""
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, path: Path) -> "StoreLock":
        """Take the lock of the store at `path` and leave this process's id in the lock file.

        Raises:
            StoreLocked: another holder has it. The advice names its process id.
        """
        lock_path = path.with_name(path.name + ".lock")
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, _PID_BYTES, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            description = f"{path} is open in another process"
            advice = (
                f"Process {holder or 'unknown'} holds {lock_path}. Stop it: one store, one writer. "
                "The lock goes with its process, so there is nothing to delete."
            )
            raise StoreLocked(description, advice=advice) from None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Let the next process in. Harmless when repeated."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
