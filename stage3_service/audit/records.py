"""What the journal knows when a decision is taken, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from stage3_service.audit.outcome import PlanOutcome
    from stage3_service.domains.definition import Definition
    from stage3_service.tokens.token import CapabilityToken
    from stage3_service.tokens.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class RequestScope:
    """Identify a request (AIP-155): the verified client, whom it acts for, its own identifier."""

    caller: str
    user_id: str
    request_id: str


class StoredOutcome(Protocol):
    """Hold an outcome as it is stored. A turn hands it out; opening it is for after the turn."""

    def open(self) -> PlanOutcome:
        """Return the outcome; costs some milliseconds a megabyte, so it holds nobody else up.

        Raises:
            OutcomeDamaged: what is stored is not the outcome of this very plan.
        """


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """Hold an admitted plan. `running_step` is None while no step runs.

    `outcome` and `ended_at` are None while the plan runs.
    """

    plan_id: str
    scope: RequestScope
    plan_digest: bytes
    token_key: bytes = field(repr=False)
    token_id: str
    steps: int
    running_step: int | None
    outcome: StoredOutcome | None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EndedPlan:
    """Name a plan that has ended, and its request."""

    plan_id: str
    scope: RequestScope


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """Hold a token and what has become of it since it was issued."""

    token: CapabilityToken
    usage: TokenUsage
    revoked_at: datetime | None
    expiry_recorded: bool


class HaltReason(StrEnum):
    """Say why no step may start. Each is explained in docs/operations.md."""

    OPERATOR = "operator"
    CLOCK = "clock"
    DISK = "disk"
    SEAL = "seal"


@dataclass(frozen=True, slots=True)
class AcceptedDefinition:
    """Hold what an operator accepted of a domain elsewhere, who, and when."""

    domain: str
    definition: Definition
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class HaltState:
    """Say why and since when no step may start."""

    reason: HaltReason
    since: datetime
