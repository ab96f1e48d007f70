"""An end to calls whose caller sends headers and then nothing.

gRPC waits for a request without a limit, holding a thread and a place in the server. A caller with
a valid certificate and no deadline could so take every place for good.

Deliberately absent: any limit on a handler's own work, which is the deadline's business.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Final

import grpc

READ_MAX_S: Final = 10.0
"""Longest wait for a request whose call has been admitted, in seconds."""

_LOOKS_PER_LIMIT: Final = 4


@dataclass(slots=True)
class Waiting:
    """One call that waits for its request, since when, and whether it was ended for that."""

    since_s: float
    overdue: bool = False


class ReadWatch:
    """Cancels calls that have been waiting for their request for too long.

    It looks four times per limit instead of keeping a timer per call, so a call ends between one
    and one and a quarter limits after it began to wait.
    """

    def __init__(self, monotonic_s: Callable[[], float], limit_s: float = READ_MAX_S) -> None:
        self._monotonic_s = monotonic_s
        self._limit_s = limit_s
        self._lock = Lock()
        self._waiting: dict[grpc.ServicerContext, Waiting] = {}
        self._stopped = Event()
        self._thread = Thread(target=self._watch, name="read-watch", daemon=True)

    @contextmanager
    def reading(self, context: grpc.ServicerContext) -> Iterator[Waiting]:
        """Bound the time the caller may take to send what is read inside."""
        waiting = Waiting(self._monotonic_s())
        with self._lock:
            self._waiting[context] = waiting
        try:
            yield waiting
        finally:
            with self._lock:
                del self._waiting[context]

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; safe to call twice, and before `start`."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(self._limit_s / _LOOKS_PER_LIMIT):
            self.cancel_overdue()

    def cancel_overdue(self) -> int:
        """Cancel every call that has waited longer than the limit; return how many."""
        oldest_s = self._monotonic_s() - self._limit_s
        with self._lock:
            overdue = [
                (context, waiting)
                for context, waiting in self._waiting.items()
                if waiting.since_s < oldest_s
            ]
        for context, waiting in overdue:
            waiting.overdue = True
            context.cancel()
        return len(overdue)
