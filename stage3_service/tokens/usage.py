"""What a token has consumed: arithmetic that only ever charges.

A step charges one invocation when it starts, and reserves the most its response may be; when it
completes, the reservation is replaced by the actual size; in doubt, it stays. Deliberately absent:
refunds of invocations, resets, and sharing between tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from stage3_service.tokens.resource_limits import ResourceLimits


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Hold what a token has been charged since it was issued. Reservations count as charged."""

    invocations_charged: int = 0
    response_bytes_charged: int = 0
    first_used_at: datetime | None = None


def reservation(limits: ResourceLimits, method_max_response_bytes: int) -> int:
    """Return the bytes to reserve for a response, which are also the most it may have."""
    if limits.max_response_bytes is None:
        return method_max_response_bytes
    return min(limits.max_response_bytes, method_max_response_bytes)


def settlement(reserved_bytes: int, response_bytes: int) -> int:
    """Return what to add to the bytes charged once a response's size is known; never positive.

    A response larger than its reservation was refused unread beyond it, and costs the reservation.
    """
    return min(response_bytes, reserved_bytes) - reserved_bytes


def settle(usage: TokenUsage, reserved_bytes: int, response_bytes: int) -> TokenUsage:
    """Return the usage after a step has completed: the reservation gives way to the actual size."""
    change = settlement(reserved_bytes, response_bytes)
    return replace(usage, response_bytes_charged=usage.response_bytes_charged + change)
