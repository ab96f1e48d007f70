"""Guard the one place where the machine's clocks are read.

Everything else receives a `Clock` or a time as an argument, so that a test decides what time it is.
Time zones and formats are deliberately absent: a wall time here is an integer of microseconds.
"""

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Tell two times: one that people agree on, and one that never steps."""

    def now_us(self) -> int:
        """Return the wall time in microseconds since 1970-01-01T00:00:00Z. It may step."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds since an arbitrary start. They never go back and never step."""
        ...


class SystemClock:
    """Read the clocks of this machine."""

    __slots__ = ()

    def now_us(self) -> int:
        """Return the wall time in microseconds since 1970-01-01T00:00:00Z."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """Return seconds of the monotonic clock."""
        return time.monotonic()
