"""What a token may consume in its life.

Limits are inclusive, per token and cumulative; nothing is refunded. Deliberately absent: what has
been consumed (`usage.py`), and the system's own limits, which no token raises.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from stage3_service.tokens.frequency import Frequency
from stage3_service.tokens.refusal import IssueRefused

# Beyond it two JSON readers of the same event may disagree about the number.
MAX_LIMIT: Final = 2**53 - 1


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Bound a token's use. None leaves the bound to the system's own limits.

    `max_invocations` counts steps started, `max_frequency` plans started, `max_response_bytes`
    bounds one response and `max_total_response_bytes` all of them together.

    Raises:
        IssueRefused: a number is not an integer from 1 to 2^53-1.
    """

    max_invocations: int | None = None
    max_frequency: Frequency | None = None
    max_response_bytes: int | None = None
    max_total_response_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is not a positive integer; `True` is an int to Python and to nobody else."""
        for field in fields(self):
            value: object = getattr(self, field.name)
            where = f"resource_limits.{field.name}"
            if value is None:
                continue
            if field.name == "max_frequency":
                if not isinstance(value, Frequency):
                    raise IssueRefused(where, "must be a parsed frequency")
            elif type(value) is not int or not 1 <= value <= MAX_LIMIT:
                raise IssueRefused(where, f"must be an integer from 1 to {MAX_LIMIT}")
