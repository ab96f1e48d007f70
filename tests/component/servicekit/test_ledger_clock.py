"""What the ledger does when the wall clock cannot be believed."""

from pathlib import Path

import pytest

from servicekit.store.errors import ClockStepped
from servicekit.store.ledger import Urgency
from tests.component.servicekit.ledger_world import append, create_ledger, open_ledger
from tests.fakes.manual_clock import ManualClock


@pytest.mark.parametrize("seconds", [-2.5, -86_400, 301, 86_400])
def test_a_step_stops_plans_and_not_operators(tmp_path: Path, seconds: float) -> None:
    """PLAN work is refused until somebody acknowledges; OPERATOR work goes on at the mark."""
    clock = ManualClock()
    ledger = open_ledger(create_ledger(tmp_path), clock=clock)
    try:
        mark = ledger.commit(lambda turn: (append(b"a")(turn), turn.now_us)[1])
        clock.step(seconds)
        with pytest.raises(ClockStepped):
            ledger.commit(append(b"refused"))
        clock.advance(1)
        assert ledger.commit(lambda turn: turn.now_us, urgency=Urgency.OPERATOR) == mark
        assert ledger.commit(lambda turn: turn.clock_problem, sees_clock=True) is not None
        with pytest.raises(ClockStepped):
            ledger.commit(append(b"still refused"))
        assert ledger.clock_problem is not None
        ledger.acknowledge_clock()
        assert ledger.clock_problem is None
        assert ledger.commit(append(b"b")) == [1]
    finally:
        ledger.close()


@pytest.mark.parametrize("seconds", [-1.9, 0, 299])
def test_a_small_correction_is_normal(tmp_path: Path, seconds: float) -> None:
    """Within the limits nothing stops, and time does not go back."""
    clock = ManualClock()
    ledger = open_ledger(create_ledger(tmp_path), clock=clock)
    try:
        before = ledger.commit(lambda turn: turn.now_us)
        clock.step(seconds)
        assert ledger.commit(lambda turn: turn.now_us) == max(before, clock.wall_us)
    finally:
        ledger.close()


def test_a_long_silence_is_no_step(tmp_path: Path) -> None:
    """Both clocks advanced alike: a day without work is a day."""
    clock = ManualClock()
    ledger = open_ledger(create_ledger(tmp_path), clock=clock)
    try:
        ledger.commit(append(b"a"))
        clock.advance(86_400)
        assert ledger.commit(lambda turn: turn.now_us) == clock.wall_us
    finally:
        ledger.close()


def test_time_goes_on_after_an_acknowledged_step_back(tmp_path: Path) -> None:
    """Nothing lives longer because the wall was set back: the log's time keeps the wall's pace."""
    clock = ManualClock()
    ledger = open_ledger(create_ledger(tmp_path), clock=clock)
    try:
        mark = ledger.commit(lambda turn: turn.now_us)
        clock.step(-3_600)
        ledger.acknowledge_clock()
        clock.advance(5)
        assert ledger.commit(lambda turn: turn.now_us) == mark + 5_000_000
        clock.step(-60)
        with pytest.raises(ClockStepped):
            ledger.commit(append(b"a second step"))
    finally:
        ledger.close()


def test_a_restart_with_a_clock_that_is_behind_is_noticed(tmp_path: Path) -> None:
    """The mark is stored: the first PLAN work after the restart is refused."""
    path = create_ledger(tmp_path)
    clock = ManualClock()
    ledger = open_ledger(path, clock=clock)
    clock.advance(100)
    ledger.commit(append(b"a"))
    ledger.close()
    clock.step(-50)
    ledger = open_ledger(path, clock=clock)
    try:
        with pytest.raises(ClockStepped):
            ledger.commit(append(b"b"))
    finally:
        ledger.close()
