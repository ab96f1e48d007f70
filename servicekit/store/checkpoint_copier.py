"""Guard that the checkpoint outside the store keeps up with the log, whatever else is going on.

A thread of its own copies the head every few seconds, so that no commit waits for a second disk,
and a last time before the store is let go. Deliberately absent: opinions about a copy that fails,
beyond saying so: the service starts nothing while it does.
"""

import threading
from collections.abc import Callable

from servicekit.clock import Clock
from servicekit.store.checkpoint_file import CheckpointFile
from servicekit.store.errors import CheckpointUnwritable
from servicekit.store.verification import TreeHead

__all__ = ["CheckpointCopier"]

MAX_COPY_S = 10.0
"""A copy that takes longer hangs: the disk is slower than any that works."""

_LAST_COPY_S = 2.0


class CheckpointCopier:
    """Copy a head to a file at most `interval_s` seconds after it became durable."""

    def __init__(self, file: CheckpointFile, *, interval_s: float, clock: Clock) -> None:
        """Name the file; `start` begins."""
        self._file = file
        self._interval_s = interval_s
        self._clock = clock
        self._head: Callable[[], TreeHead] | None = None
        self._copied: TreeHead | None = None
        self._failure: str | None = None
        self._began_s: float | None = None
        self._closing = threading.Event()
        # A daemon: a thread stuck in a dying disk must not keep the process from ending.
        self._thread = threading.Thread(
            target=self._copy_until_closed, name="checkpoint-copier", daemon=True
        )

    @property
    def problem(self) -> str | None:
        """Return why the checkpoint does not keep up with the log, or None."""
        if self._failure is not None:
            return self._failure
        began_s = self._began_s
        if began_s is not None and self._clock.monotonic_s() - began_s > MAX_COPY_S:
            return f"copying the checkpoint to {self._file.path} hangs"
        return None

    def start(self, head: Callable[[], TreeHead]) -> None:
        """Copy what `head` returns once at once, then whenever it has changed.

        Raises:
            CheckpointUnwritable: the first copy failed.
        """
        self._head = head
        self._copy()
        if self._failure is not None:
            raise CheckpointUnwritable(
                self._failure, advice="Look at that disk: free space, permissions, the mount."
            )
        self._thread.start()

    def close(self) -> None:
        """Copy a last time, or give up on a disk that hangs. Repeat at will."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_COPY_S)

    def _copy_until_closed(self) -> None:
        while not self._closing.wait(self._interval_s):
            self._copy()
        self._copy()

    def _copy(self) -> None:
        if self._head is None:
            return
        head = self._head()
        if head == self._copied and self._failure is None:
            return
        self._began_s = self._clock.monotonic_s()
        try:
            self._file.write(head)
        except OSError as error:
            self._failure = f"{self._file.path} cannot be written: {error.strerror}"
        else:
            self._copied, self._failure = head, None
        finally:
            self._began_s = None
