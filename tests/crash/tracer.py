"""Kill a process at the entry of its n-th system call, counted over all its threads.

Guards the order: a call is counted before it is made, and the one that the count reaches is never
made. Deliberately absent: strace, whose injections number each thread's calls apart, so that none
of them means "the n-th call of the plan".
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.crash import ptrace

if TYPE_CHECKING:
    from tests.crash.points import KillPoint

PLAN_ARRIVES = "recvmsg"
"""What gRPC reads a connection with: an idle service makes none until something arrives."""


@dataclass(slots=True)
class Tracer:
    """Trace one process. `trail` names the calls of the window, in the order they were entered.

    The window opens at the entry of `opens_at`, or where that is None as soon as every thread is
    counted.
    """

    pid: int
    point: KillPoint | None = None
    opens_at: str | None = None
    trail: list[str] = field(default_factory=list)
    killed_at: int | None = None
    _threads: set[int] = field(default_factory=set)
    _unarmed: set[int] = field(default_factory=set)
    _armed: bool = False
    _open: bool = False

    def __post_init__(self) -> None:
        """Begin to trace.

        Raises:
            CannotTrace: as `ptrace.seize` does.
        """
        ptrace.seize(self.pid)
        self._threads.add(self.pid)

    @property
    def is_armed(self) -> bool:
        """Return whether no thread is left that runs uncounted."""
        return self._armed and not self._unarmed

    def arm(self, point: KillPoint | None, *, opens_at: str | None) -> None:
        """Stop every thread at its system calls from now on, and kill at this one."""
        self.point, self.opens_at = point, opens_at
        self._armed, self._open = True, opens_at is None
        self._unarmed = set(self._threads)
        for thread in tuple(self._threads):
            try:
                ptrace.interrupt(thread)
            except ProcessLookupError:
                self._forget(thread)

    def take(self, thread: int, status: int) -> bool:
        """Deal with what happened to a thread; return whether the process has ended."""
        if not os.WIFSTOPPED(status):
            self._forget(thread)
            return thread == self.pid
        self._threads.add(thread)
        try:
            stop = ptrace.read_stop(thread, status)
            if self.is_armed and stop.entered is not None:
                self._count(stop.entered)
            ptrace.resume(thread, stop, to_system_calls=self._armed)
        except ProcessLookupError:
            # Killed while it was stopped; its end is reported next.
            return False
        if self._armed:
            self._unarmed.discard(thread)
        return False

    def kill(self) -> None:
        """End the process as a power cut would, without a word to it."""
        os.kill(self.pid, signal.SIGKILL)

    def _count(self, entered: str) -> None:
        self._open = self._open or entered == self.opens_at
        if not self._open or self.killed_at is not None:
            return
        self.trail.append(entered)
        if self.point is not None and self.point.is_reached(self.trail):
            self.killed_at = len(self.trail)
            self.kill()

    def _forget(self, thread: int) -> None:
        self._threads.discard(thread)
        self._unarmed.discard(thread)
