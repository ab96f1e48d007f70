"""The guard's arithmetic under any sequence of readings."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from servicekit.clock import SystemClock
from servicekit.store.clock_guard import MAX_AHEAD_US, MAX_BEHIND_US, ClockGuard

_START_US = 1_767_225_600_000_000
_MOVES = st.lists(
    st.tuples(
        st.floats(min_value=0, max_value=100_000),
        st.integers(min_value=-(10**12), max_value=10**12),
        st.booleans(),
    ),
    max_size=30,
)


@given(_MOVES)
def test_time_never_decreases_whatever_the_clocks_do(
    moves: list[tuple[float, int, bool]],
) -> None:
    """For any mixture of passing time, steps and acknowledgements."""
    guard = ClockGuard(_START_US, _START_US, 0.0)
    wall_us, monotonic_s = _START_US, 0.0
    told = [_START_US]
    for seconds, step_us, acknowledged in moves:
        wall_us += round(seconds * 1e6) + step_us
        monotonic_s += seconds
        if acknowledged:
            guard.acknowledge(wall_us, monotonic_s)
        told.append(guard.read(wall_us, monotonic_s))
        if acknowledged:
            assert guard.problem is None
        if guard.problem is not None:
            assert told[-1] == told[-2]
    assert all(earlier <= later for earlier, later in itertools.pairwise(told))


def test_the_limits_are_inclusive() -> None:
    """Exactly at either limit is still believed; one microsecond more is not."""
    for step_us, believed in (
        (-MAX_BEHIND_US, True),
        (-MAX_BEHIND_US - 1, False),
        (MAX_AHEAD_US, True),
        (MAX_AHEAD_US + 1, False),
    ):
        guard = ClockGuard(_START_US, _START_US, 0.0)
        guard.read(_START_US + step_us, 0.0)
        assert (guard.problem is None) == believed


def test_a_wall_that_is_put_right_is_followed_again() -> None:
    """After an acknowledged lag, a wall that passes the mark counts as it is."""
    guard = ClockGuard(_START_US, _START_US - 100_000_000, 0.0)
    guard.acknowledge(_START_US - 100_000_000, 0.0)
    assert guard.read(_START_US - 99_000_000, 1.0) == _START_US + 1_000_000
    assert guard.read(_START_US + 2_000_000, 2.0) == _START_US + 2_000_000
    assert guard.read(_START_US + 3_000_000, 3.0) == _START_US + 3_000_000


def test_the_system_clock_tells_both_times() -> None:
    """Microseconds of this era, and seconds that do not go back."""
    clock = SystemClock()
    assert clock.now_us() > 1_700_000_000_000_000
    assert clock.monotonic_s() <= clock.monotonic_s()
