"""How a plan ended, as it is stored and told again to whoever resubmits it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class OutcomeKind(StrEnum):
    """Name the end of an admitted plan."""

    COMPLETED = "completed"
    FAILED = "failed"
    DENIED = "denied"
    IN_DOUBT = "in_doubt"
    ABORTED = "aborted"


class Effects(StrEnum):
    """Say what a plan may have changed in the world.

    `NONE`: no step was started, or the only one provably never reached its domain.
    `SOME`: at least one step completed, and no later one is in doubt.
    `UNKNOWN`: a step was started and what it did is not known.
    """

    NONE = "none"
    SOME = "some"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PlanOutcome:
    """Hold everything the answer to the client is made of, so that a replay is the same bytes.

    `result_json` is set exactly for a completed plan; `reason`, `step` and `message` for any other.
    """

    kind: OutcomeKind
    effects: Effects
    result_json: bytes = field(default=b"", repr=False)
    reason: str = ""
    step: int = 0
    message: str = ""
