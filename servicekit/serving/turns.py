"""How many calls of one server run at a time; the others wait, first come, first served.

A turn that ends is handed to whoever has waited longest, never left for anybody to grab: under a
load that does not let up, a counter that all race for would make the unlucky wait without end.
Deliberately absent: a wait without a limit.
"""

from collections import deque
from threading import Lock


class Turns:
    """Let so many calls run side by side; safe to use from threads."""

    def __init__(self, running_max: int) -> None:
        self._free = running_max
        self._lock = Lock()
        self._waiting: deque[Lock] = deque()

    def enter(self, timeout_s: float) -> bool:
        """Wait for a turn for at most `timeout_s`, and say whether it came."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            mine = Lock()
            mine.acquire()
            self._waiting.append(mine)
        if mine.acquire(timeout=timeout_s):
            return True
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return False
        # It was handed over in the moment in which the wait ended.
        return True

    def leave(self) -> None:
        """Hand the turn to the call that has waited longest, or keep it for the next."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
