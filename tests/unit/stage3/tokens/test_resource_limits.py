"""Limits hold numbers that every reader understands, and a frequency that was parsed."""

from __future__ import annotations

from typing import Any

import pytest

from stage3_service.tokens.frequency import Frequency
from stage3_service.tokens.refusal import IssueRefused
from stage3_service.tokens.resource_limits import MAX_LIMIT, ResourceLimits


def test_without_limits_everything_is_left_to_the_system() -> None:
    """None is no limit of the token's own."""
    limits = ResourceLimits()
    assert limits.max_invocations is None
    assert limits.max_frequency is None
    assert limits.max_response_bytes is None
    assert limits.max_total_response_bytes is None


@pytest.mark.parametrize("value", ["5 per 60 seconds", (5, 60), 5])
def test_a_frequency_that_was_not_parsed_is_refused(value: Any) -> None:
    """A text is not a frequency yet."""
    with pytest.raises(IssueRefused, match=r"resource_limits\.max_frequency: must be a parsed"):
        ResourceLimits(max_frequency=value)


def test_every_limit_is_kept() -> None:
    """Each in its own place."""
    limits = ResourceLimits(1, Frequency(2, 3), 4, MAX_LIMIT)
    assert limits.max_invocations == 1
    assert limits.max_frequency == Frequency(2, 3)
    assert limits.max_response_bytes == 4
    assert limits.max_total_response_bytes == MAX_LIMIT == 2**53 - 1
