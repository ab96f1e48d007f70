"""A token's usage only ever grows by what was started, less what was reserved and not needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage3_service.tokens.resource_limits import ResourceLimits
from stage3_service.tokens.usage import (
    TokenUsage,
    reservation,
    settle,
    settlement,
)
from tests.unit.stage3.grants import NOW, charged


@pytest.mark.parametrize(
    ("own", "of_method", "reserved"),
    [(None, 100, 100), (10, 100, 10), (100, 10, 10), (100, 100, 100), (1, 1_048_576, 1)],
)
def test_the_smaller_limit_is_reserved(own: int | None, of_method: int, reserved: int) -> None:
    """The token's or the method's."""
    assert reservation(ResourceLimits(max_response_bytes=own), of_method) == reserved


@pytest.mark.parametrize(
    ("reserved", "actual", "change"),
    [(100, 0, -100), (100, 40, -60), (100, 100, 0), (100, 101, 0), (100, 10**9, 0)],
)
def test_settling_replaces_the_reservation_by_the_actual_size(
    reserved: int, actual: int, change: int
) -> None:
    """A response beyond its reservation was refused, and costs the reservation."""
    usage = TokenUsage(1, 500 + reserved, NOW)
    assert settlement(reserved, actual) == change
    assert settle(usage, reserved, actual) == TokenUsage(1, 500 + reserved + change, NOW)


@given(
    st.lists(
        st.tuples(st.integers(0, 100), st.none() | st.integers(0, 150)),
        max_size=20,
    )
)
def test_usage_is_the_sum_of_its_steps(steps: list[tuple[int, int | None]]) -> None:
    """Against a ledger kept apart: settled steps cost their size, steps in doubt what they hold.

    And no order of settling makes usage less than what has been charged for good.
    """
    usage = TokenUsage()
    for reserved, _ in steps:
        before = usage
        usage = charged(usage, reserved)
        assert usage.response_bytes_charged >= before.response_bytes_charged
    for reserved, actual in reversed(steps):
        if actual is not None:
            usage = settle(usage, reserved, actual)
    ledger = [reserved if actual is None else min(reserved, actual) for reserved, actual in steps]
    assert usage == TokenUsage(len(steps), sum(ledger), None)
