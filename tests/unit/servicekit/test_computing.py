"""Few threads compute at a time, and nobody holds a turn while it waits for something else."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from servicekit import computing as module
from servicekit.computing import Pause, computing, elsewhere
from servicekit.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

CROWD = 12
LONG_S = 20.0
SHORT_S = 0.05


class Watched:
    """Count how many are inside at once, and the most there ever were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._now -= 1


def free_turns(turns: Turns, at_once: int) -> int:
    """Return how many turns are free, by taking all of them and giving them back."""
    taken = 0
    while taken <= at_once and turns.enter(0):
        taken += 1
    for _ in range(taken):
        turns.leave()
    return taken


def crowd(
    turns: Turns | None,
    wait: Callable[[Callable[[], bool]], object],
    work: Callable[[], object],
) -> int:
    """Let twelve threads compute, wait and compute; return how many computed at once."""
    watched = Watched()
    waiting = threading.Barrier(CROWD)

    def everybody_waits() -> bool:
        waiting.wait(LONG_S)
        return True

    def compute() -> None:
        with watched:
            work()

    def call(_: int) -> None:
        with computing(turns):
            compute()
            wait(everybody_waits)
            compute()

    with ThreadPoolExecutor(CROWD) as pool:
        list(pool.map(call, range(CROWD)))
    return watched.most


class RunsOut:
    """A lock that is never released, and whose wait ends when a test says that its time is up."""

    def __init__(self) -> None:
        self.is_reached = threading.Event()

    def acquire(self, timeout: float) -> bool:
        """Wait for that, and say that the lock did not come."""
        self.is_reached.wait(timeout)
        return False


def waiting_elsewhere(wait: Callable[[], bool]) -> object:
    """Wait as a call does for a domain."""
    with elsewhere():
        return wait()


def test_no_more_compute_than_there_are_turns_and_all_wait_at_once() -> None:
    """Twelve threads and two turns: two compute, twelve wait for each other, none is stuck."""
    turns = Turns(2)
    assert crowd(turns, waiting_elsewhere, lambda: time.sleep(0.002)) <= 2
    assert free_turns(turns, 2) == 2


def test_control_without_turns_all_compute_at_once() -> None:
    """The same crowd without turns, each as long inside as it takes for all to be there."""
    together = threading.Barrier(CROWD)
    assert crowd(None, waiting_elsewhere, lambda: together.wait(LONG_S)) == CROWD


def test_a_thread_that_takes_no_part_waits_as_ever() -> None:
    """Neither `elsewhere` nor a pause asks anything of it."""
    pause = Pause()
    threading.Timer(SHORT_S, pause.end).start()
    with elsewhere():
        assert pause.wait(LONG_S)


class TestPause:
    """A wait that another thread ends."""

    def test_who_waits_has_no_turn_and_has_one_again_afterwards(self) -> None:
        """One turn: while the first waits, a second computes and ends the wait."""
        turns = Turns(1)
        pauses: list[Pause] = []
        told: list[bool] = []
        begun = threading.Event()

        def first() -> None:
            with computing(turns):
                pauses.append(Pause())
                begun.set()
                told.append(pauses[0].wait(LONG_S))
                assert not turns.enter(0)

        thread = threading.Thread(target=first)
        thread.start()
        assert begun.wait(LONG_S)
        with computing(turns):
            pauses[0].end()
            thread.join(SHORT_S)
            assert thread.is_alive(), "it went on without its turn"
        thread.join(LONG_S)
        assert told == [True]
        assert free_turns(turns, 1) == 1

    def test_an_end_that_comes_too_late_gives_no_turn_away(self) -> None:
        """The wait ran out; whoever ends it afterwards hands its turn to nobody."""
        turns = Turns(1)
        with computing(turns):
            pause = Pause()
            assert not pause.wait(SHORT_S)
        pause.end()
        assert free_turns(turns, 1) == 1

    def test_what_ended_is_told_though_no_turn_came_in_time(self) -> None:
        """It ended in time, and the turn did not come: that is no reason to say that it did not."""
        turns = Turns(1)
        outcome: list[bool] = []
        pauses: list[Pause] = []
        begun = threading.Event()

        limit: Any = RunsOut()

        def first() -> None:
            with computing(turns):
                pauses.append(Pause())
                pauses[0]._wake = limit
                begun.set()
                outcome.append(pauses[0].wait(LONG_S))

        thread = threading.Thread(target=first)
        thread.start()
        assert begun.wait(LONG_S)
        assert turns.enter(LONG_S)
        pauses[0].end()
        limit.is_reached.set()
        thread.join(LONG_S)
        assert outcome == [True]
        turns.leave()
        assert free_turns(turns, 1) == 1

    def test_no_turn_is_lost_or_made_when_waits_end_at_their_limit(self) -> None:
        """A thousand pauses whose end and whose limit fall together: as many turns as before."""
        turns = Turns(2)

        def call(number: int) -> None:
            with computing(turns):
                pause = Pause()
                timer = threading.Timer(0.001 * (number % 3), pause.end)
                timer.start()
                pause.wait(0.001)
            timer.join()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(call, range(1_000)))
        assert free_turns(turns, 2) == 2


def test_a_call_that_gets_no_turn_in_time_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns order who computes; a thread that never gives its turn back stops nobody."""
    monkeypatch.setattr(module, "PATIENCE_S", SHORT_S)
    turns = Turns(1)
    assert turns.enter(0)
    with computing(turns), elsewhere():
        pass
    turns.leave()
    assert free_turns(turns, 1) == 1


def test_an_error_inside_gives_the_turn_back() -> None:
    """Whatever a call raises, while computing or elsewhere."""
    turns = Turns(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), computing(turns), elsewhere():
            _ = 1 // 0
    assert free_turns(turns, 1) == 1
