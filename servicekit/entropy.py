"""Unpredictable bytes for many small askers, drawn from their source in larger draws.

Each draw from the system is a call during which a Python thread lets the interpreter's lock go, and
under load waits for all the others until it has it again. Deliberately absent: a generator of our
own. Every byte comes from the source, and none is handed out twice.
"""

from collections.abc import Callable
from threading import Lock
from typing import Final

__all__ = ["DrawnEntropy"]

DRAW_BYTES: Final = 4096


class DrawnEntropy:
    """Hand out bytes of `source`, which draws as many as it is asked for. Any thread may ask.

    Not to be carried over a fork: both processes would hand out the same bytes.
    """

    __slots__ = ("_drawn", "_lock", "_position", "_source")

    def __init__(self, source: Callable[[int], bytes]) -> None:
        """Draw nothing yet."""
        self._source = source
        self._lock = Lock()
        self._drawn = b""
        self._position = 0

    def __call__(self, count: int) -> bytes:
        """Return `count` bytes that were never returned before."""
        if count > DRAW_BYTES:
            return self._source(count)
        with self._lock:
            if self._position + count > len(self._drawn):
                self._drawn = self._source(DRAW_BYTES)
                self._position = 0
            start = self._position
            self._position = end = start + count
            return self._drawn[start:end]
