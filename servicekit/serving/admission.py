"""How many calls one server holds at a time, and the small pool that says no to the rest.

A place is a thread, so that a call that is let in learns at once whether it is refused for another
reason. How many of those run side by side is asked later, see `turns`.

Deliberately absent: a queue, and a counter that a handler must remember to give back. What is
counted is the pool's own tasks, so a call leaves however it ends: answered, failed, or cancelled
before its handler ever ran.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition
from typing import Final, ParamSpec, TypeVar

from servicekit.serving.caller_shares import CallerShares
from servicekit.turns import Turns

P = ParamSpec("P")
T = TypeVar("T")

REFUSAL_THREADS: Final = 2
"""Threads that only say no: a refusal reads no request, so it never waits for a client. No call
waits for one of them: where both are busy, a call is refused in the thread that takes it."""

ASKED_BURST: Final = 20
ASKED_PER_SECOND: Final = 10.0
"""Refusals that those threads give, so that the access log says who is refused: so many at once,
and how fast that comes back. More would take from the plans, and from those that they refuse, the
time of the interpreter, and the log would say the same."""

UNREAD_PER_SHARE: Final = 2
"""Calls of one caller that gRPC may hold, for each that its share lets it have in a handler. A call
whose answer is written has left its place; its answer stays in memory until the caller has read it.
Above one, because gRPC learns of that a moment after the caller does."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The size of one server: calls that run, calls held at a time (running and waiting).

    `share` is how many of those one caller may hold, None for all of them. A share below
    `pool_size` leaves every other caller a call that runs at once. `computing` is how many of those
    that run compute at a time (see `servicekit.computing`), None where they take no part.
    """

    pool_size: int = 32
    max_in_flight: int = 64
    share: int | None = None
    computing: int | None = None

    def __post_init__(self) -> None:
        """Refuse bounds that admit nothing, or that nothing can ever reach."""
        if self.pool_size < 1 or self.max_in_flight < self.pool_size:
            message = "bounds need 1 <= pool_size <= max_in_flight"
            raise ValueError(message)
        if self.share is not None and not 1 <= self.share <= self.max_in_flight:
            message = "bounds need 1 <= share <= max_in_flight"
            raise ValueError(message)
        if self.computing is not None and self.computing < 1:
            message = "bounds need 1 <= computing"
            raise ValueError(message)


class CountingPool(ThreadPoolExecutor):
    """A thread pool that knows how much it was given and has not ended yet."""

    def __init__(self, name: str, threads: int) -> None:
        """Make the pool; a thread is started when there is something for it to do."""
        super().__init__(max_workers=threads, thread_name_prefix=name)
        self._in_flight = 0
        self._changed = Condition()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run `fn` in the pool and count it until it has ended."""
        with self._changed:
            self._in_flight += 1
        try:
            future = super().submit(fn, *args, **kwargs)
        except BaseException:
            self._leave(None)
            raise
        future.add_done_callback(self._leave)
        return future

    def _leave(self, _future: object) -> None:
        with self._changed:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._changed.notify_all()

    @property
    def in_flight(self) -> int:
        """Return how many run or wait for a thread."""
        return self._in_flight

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until none is left; say whether that came to pass within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._in_flight == 0, timeout_s)


class RefusalPool(CountingPool):
    """The threads that say no to one caller after another, and whether the next is for them."""

    def __init__(self, name: str) -> None:
        """Make the pool."""
        super().__init__(name, REFUSAL_THREADS)
        self._left = float(ASKED_BURST)
        self._counted_s: float | None = None

    def takes_one(self, now_s: float) -> bool:
        """Say whether a thread is free and the budget allows a refusal now, and charge it for one.

        Asked from one thread, with a clock that never goes back.
        """
        if self.in_flight >= REFUSAL_THREADS:
            return False
        if self._counted_s is not None:
            earned = (now_s - self._counted_s) * ASKED_PER_SECOND
            self._left = min(float(ASKED_BURST), self._left + earned)
        self._counted_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class InPlace(ThreadPoolExecutor):
    """Runs what it is given in the thread that gives it, which is gRPC's own: nothing that waits.

    It is a pool because gRPC takes a handler's threads from nothing else; it never has any.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run `fn` and return its future, which is over."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - gRPC's thread must outlive it, as a pool's does
            future.set_exception(error)
        return future


class CallPool(CountingPool):
    """A thread pool that knows how many calls it holds, and whose, and lets them run in turn."""

    def __init__(self, name: str, bounds: Bounds) -> None:
        """Make the pool and, beside it, the pool that refuses."""
        super().__init__(name, bounds.max_in_flight)
        self.refusals = RefusalPool(f"{name}-refusals")
        self.shares = None if bounds.share is None else CallerShares(bounds.share)
        self.unread = (
            None if bounds.share is None else CallerShares(UNREAD_PER_SHARE * bounds.share)
        )
        self.turns = Turns(bounds.pool_size)
        self.computing = None if bounds.computing is None else Turns(bounds.computing)
        self._max_in_flight = bounds.max_in_flight
        self.overloaded = 0

    @property
    def full(self) -> bool:
        """Say whether one more call would be one too many.

        gRPC asks its interceptors and submits to the pool from one thread, under one lock, so no
        call can slip in between this answer and its own submission.
        """
        return self._in_flight >= self._max_in_flight

    def note_overload(self) -> None:
        """Count a call that was refused because the pool is full; asked as `full` is."""
        self.overloaded += 1

    def close(self) -> None:
        """Take no more work, without waiting for a handler that does not end."""
        self.shutdown(wait=False, cancel_futures=True)
        self.refusals.shutdown(wait=False, cancel_futures=True)
