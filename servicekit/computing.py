"""Few threads of a service compute at a time, however many calls it has under way.

The interpreter runs one thread at a time. Were all of forty calls to ask for it whenever they have
something to do, each step of anything else, a refusal or a revocation, would wait behind forty. So
a call computes in its turn, and has none while it waits: for the log, for a domain, for another
service. Whoever may not wait behind calls takes no part.

A turn is a courtesy and decides nothing: a thread that gets none in time goes on without it.
Deliberately absent: any say in which call goes first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local
from typing import Final

from servicekit.turns import Turns

__all__ = ["AT_ONCE", "Pause", "computing", "elsewhere"]

AT_ONCE: Final = 2
"""Threads with a turn, in one service. One computes while the other is inside a library that lets
the interpreter go; more of them were slower by measurement."""

PATIENCE_S: Final = 0.25
"""Longest wait for a turn: what turns are for is over in milliseconds."""


class _Here(local):
    """What the current thread takes part in, and whether it has its turn."""

    turns: Turns | None = None
    is_mine = False


_here = _Here()


@contextmanager
def computing(turns: Turns | None) -> Iterator[None]:
    """Take part with what runs inside, on this thread; None takes no part."""
    if turns is None:
        yield
        return
    _here.turns, _here.is_mine = turns, turns.enter(PATIENCE_S)
    try:
        yield
    finally:
        is_mine = _here.is_mine
        _here.turns, _here.is_mine = None, False
        if is_mine:
            turns.leave()


@contextmanager
def elsewhere() -> Iterator[None]:
    """Leave the turn to others while this thread waits inside, and ask for one afterwards."""
    turns = _here.turns
    if turns is None:
        yield
        return
    _leave(turns)
    try:
        yield
    finally:
        _here.is_mine = turns.enter(PATIENCE_S)


class Pause:
    """One wait of the thread that makes it, ended by another thread that hands over a turn as well.

    The thread wakes once, when it has both: what it waited for, and its turn.
    """

    __slots__ = ("_ended", "_given_up", "_guard", "_turns", "_wake")

    def __init__(self) -> None:
        """Begin, on the thread that is going to wait."""
        self._turns = _here.turns
        self._guard = Lock()
        self._ended = False
        self._given_up = False
        self._wake = Lock()
        self._wake.acquire()

    def wait(self, timeout_s: float) -> bool:
        """Wait, without a turn, and say whether `end` was called in time."""
        turns = self._turns
        if turns is not None:
            _leave(turns)
        if self._wake.acquire(timeout=timeout_s):
            _here.is_mine = turns is not None
            return True
        with self._guard:
            self._given_up = not self._ended
        if turns is not None and self._ended:
            # It stands in line for a turn, or was given one in the moment in which the wait ended.
            _here.is_mine = not turns.withdraw(self._wake)
        return self._ended

    def end(self) -> None:
        """Let the thread go on, with a turn if it takes part; once, from any thread."""
        with self._guard:
            if self._given_up:
                return
            self._ended = True
        if self._turns is None:
            self._wake.release()
        else:
            self._turns.hand_to(self._wake)


def _leave(turns: Turns) -> None:
    if _here.is_mine:
        _here.is_mine = False
        turns.leave()
