"""How many of some kind go on at a time; the others wait, first come, first served.

A turn that ends is handed to whoever has waited longest, never left for anybody to grab: under a
load that does not let up, a counter that all race for would make the unlucky wait without end.
Deliberately absent: a wait without a limit.
"""

from collections import deque
from threading import Lock


class Turns:
    """Let so many go on side by side; safe to use from threads."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
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
        # Between the end of the wait and the question it may have been handed over.
        return mine.acquire(timeout=timeout_s) or not self.withdraw(mine)

    def hand_to(self, waiting: Lock) -> None:
        """Give the next free turn to the thread that waits for this lock, by releasing it."""
        with self._lock:
            if not self._free:
                self._waiting.append(waiting)
                return
            self._free -= 1
        waiting.release()

    def withdraw(self, waiting: Lock) -> bool:
        """Give no turn to who waited for this lock; False if it has been given one already."""
        with self._lock:
            if waiting not in self._waiting:
                return False
            self._waiting.remove(waiting)
            return True

    def leave(self) -> None:
        """Hand the turn to whoever has waited longest, or keep it for the next."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
