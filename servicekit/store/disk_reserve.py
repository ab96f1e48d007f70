"""Guard that a full disk stops the next step, and not the record of the last one.

The service holds some of the disk in a file of its own. When little else is left it lets go of
that: from then on nothing new may start, and what has started is recorded in the room that was
held. It takes the room back once there is plenty. Deliberately absent: deleting anything else, and
room for more than the reserve: what does not fit poisons the store like any failed write.
"""

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["DiskReserve"]

_LOW_PART = 4
"""A quarter of the reserve left beside it is little: no batch of ordinary works needs as much."""


class DiskReserve:
    """Hold `reserve_bytes` of the disk that a store is on. The writer alone calls `look`."""

    def __init__(self, store: Path, reserve_bytes: int) -> None:
        """Take the room, or find that there is none. 0 bytes watch nothing."""
        self._folder = store.parent
        self._reserve_bytes = reserve_bytes
        self._low_bytes = reserve_bytes // _LOW_PART
        self._held = False
        self._descriptor: int | None = None
        if reserve_bytes:
            self._descriptor = os.open(
                store.with_name(store.name + ".reserve"),
                os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
            )
            # What an earlier process left of it is taken over: on a disk that filled up meanwhile
            # it is the room to start in.
            self._held = os.fstat(self._descriptor).st_size >= reserve_bytes
            self.look()

    @property
    def problem(self) -> str | None:
        """Return why nothing new may start, as of now, or None. Any thread; changes nothing."""
        if self._descriptor is None:
            return None
        free_bytes = self._free_bytes()
        if self._held and free_bytes >= self._low_bytes:
            return None
        return (
            f"{self._folder} has {free_bytes >> 10} KiB left; "
            f"{(self._reserve_bytes + 2 * self._low_bytes) >> 10} KiB are needed to go on"
        )

    def look(self) -> str | None:
        """Let go of the room, or take it back, as the disk is now; return the `problem`."""
        if self._descriptor is None:
            return None
        free_bytes = self._free_bytes()
        if self._held:
            if free_bytes >= self._low_bytes:
                return None
            self._held = False
            os.ftruncate(self._descriptor, 0)
            # Some file systems give room back only once that itself is on the disk.
            os.fsync(self._descriptor)
        elif free_bytes >= self._reserve_bytes + 2 * self._low_bytes:
            self._take()
        return self.problem

    def close(self) -> None:
        """Leave the room taken, for the next start. Repeat at will."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _take(self) -> None:
        descriptor = self._descriptor
        if descriptor is None:
            return
        try:
            os.posix_fallocate(descriptor, 0, self._reserve_bytes)
        except OSError:
            # Somebody was faster. It is tried again when there is as much again.
            os.ftruncate(descriptor, 0)
        else:
            self._held = True

    def _free_bytes(self) -> int:
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize


DiskProblem = Callable[[], str | None]
"""Asked before each batch why nothing new may start; returns None where all is well."""
