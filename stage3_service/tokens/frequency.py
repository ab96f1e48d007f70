"""How often a token may start plans.

One spelling only, `N per M seconds`, because a limit that two readers understand differently is
none. Deliberately absent: other units, bursts, and averages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from stage3_service.tokens.refusal import IssueRefused

_FIELD: Final = "resource_limits.max_frequency"
_SPELLING: Final = re.compile(r"([1-9][0-9]{0,8}) per ([1-9][0-9]{0,8}) seconds", re.ASCII)
_MAX_PLANS: Final = 1_000_000
# The longest life of a token is a day; a longer window could not be told from one of its life.
_MAX_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class Frequency:
    """Allow `plans` plans to start in any sliding window of `per_seconds` seconds.

    Raises:
        IssueRefused: `plans` is not between 1 and 1,000,000 or `per_seconds` not between 1 and
            86,400.
    """

    plans: int
    per_seconds: int

    def __post_init__(self) -> None:
        """Refuse what `parse_frequency` could not have returned."""
        _check("plans", self.plans, _MAX_PLANS)
        _check("seconds", self.per_seconds, _MAX_SECONDS)

    def __str__(self) -> str:
        return f"{self.plans} per {self.per_seconds} seconds"


def parse_frequency(text: str) -> Frequency:
    """Parse `N per M seconds`: ASCII digits, no leading zero, single spaces, nothing around it.

    Raises:
        IssueRefused: any other spelling, or a number out of range.
    """
    match = _SPELLING.fullmatch(text)
    if match is None:
        raise IssueRefused(_FIELD, "must be spelled like `5 per 60 seconds`, with numbers from 1")
    return Frequency(int(match[1]), int(match[2]))


def _check(unit: str, number: int, most: int) -> None:
    # `True` is an int to Python and to nobody else.
    if type(number) is not int or not 1 <= number <= most:
        raise IssueRefused(_FIELD, f"the number of {unit} must be an integer from 1 to {most}")
