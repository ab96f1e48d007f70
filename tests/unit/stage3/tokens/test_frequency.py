"""A frequency has one spelling, and what it says is bounded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage3_service.tokens.frequency import Frequency, parse_frequency
from stage3_service.tokens.refusal import IssueRefused


@given(st.integers(1, 1_000_000), st.integers(1, 86_400))
def test_spelling_and_parsing_are_inverse(plans: int, per_seconds: int) -> None:
    """What is printed parses to the same frequency."""
    frequency = Frequency(plans, per_seconds)
    assert parse_frequency(str(frequency)) == frequency


@given(st.text("0159 perscond+-_.", max_size=20) | st.text(max_size=20))
def test_only_one_spelling_is_accepted(text: str) -> None:
    """Any accepted text is the spelling of the frequency it parses to."""
    try:
        frequency = parse_frequency(text)
    except IssueRefused:
        return
    assert str(frequency) == text


@pytest.mark.parametrize(
    ("plans", "per_seconds", "unit"),
    [
        (0, 1, "plans"),
        (-1, 1, "plans"),
        (1_000_001, 1, "plans"),
        (True, 1, "plans"),
        (1.0, 1, "plans"),
        (1, 0, "seconds"),
        (1, -1, "seconds"),
        (1, 86_401, "seconds"),
        (1, True, "seconds"),
        (1, "60", "seconds"),
    ],
)
def test_a_frequency_out_of_range_cannot_be_made(plans: Any, per_seconds: Any, unit: str) -> None:
    """Not by parsing and not by hand."""
    with pytest.raises(IssueRefused, match=f"the number of {unit}"):
        Frequency(plans, per_seconds)


def test_numbers_beyond_the_range_are_refused_by_range_not_by_spelling() -> None:
    """The operator is told what is wrong with them."""
    with pytest.raises(IssueRefused, match="1 to 86400"):
        parse_frequency("1 per 86401 seconds")
    with pytest.raises(IssueRefused, match="1 to 1000000"):
        parse_frequency("1000001 per 1 seconds")
