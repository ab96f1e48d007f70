"""The closed list of changes a decision may make to Stage-3's state.

A decision never writes: it returns changes, and the store applies them in the commit that holds
their events. Deliberately absent: a change that deletes anything but an outcome, whose request
stays spent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from stage3_service.audit.outcome import PlanOutcome
    from stage3_service.audit.records import AcceptedDefinition, EndedPlan, RequestScope
    from stage3_service.tokens.token import CapabilityToken


@dataclass(frozen=True, slots=True)
class TokenIssued:
    """Add a token."""

    token: CapabilityToken


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """Leave a tombstone that outlives the token."""

    token_id: str
    token_key: bytes = field(repr=False)
    at: datetime


@dataclass(frozen=True, slots=True)
class TokenFirstUsed:
    """Note when the token's first plan was admitted."""

    token_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class TokenExpiryObserved:
    """Note that TOKEN_EXPIRED has been recorded, so that it is recorded once."""

    token_id: str


@dataclass(frozen=True, slots=True)
class TokenCharged:
    """Add to a token's usage; `response_bytes` is negative where a reservation is settled."""

    token_id: str
    invocations: int
    response_bytes: int


@dataclass(frozen=True, slots=True)
class PlanFirstStarted:
    """Charge the token's frequency: the first start of a plan, and no other, counts."""

    token_id: str
    plan_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class PlanAdmitted:
    """Consume the request identifier and note the plan as running."""

    plan_id: str
    scope: RequestScope
    plan_digest: bytes
    token_key: bytes = field(repr=False)
    token_id: str
    steps: int
    at: datetime


@dataclass(frozen=True, slots=True)
class PlanRefused:
    """Spend the plan identifier of a plan that was not admitted; its request stays unspent."""

    plan_id: str


@dataclass(frozen=True, slots=True)
class StepStarted:
    """Note the step whose effect may now happen."""

    plan_id: str
    step: int


@dataclass(frozen=True, slots=True)
class PlanEnded:
    """Store the outcome, bound to its request; no step runs any more."""

    plan_id: str
    scope: RequestScope
    plan_digest: bytes
    token_key: bytes = field(repr=False)
    outcome: PlanOutcome
    at: datetime


@dataclass(frozen=True, slots=True)
class OutcomeErased:
    """Erase what a plan was answered. Its request and its identifier stay spent for good."""

    plan: EndedPlan


@dataclass(frozen=True, slots=True)
class OutcomeKeyAdopted:
    """Note the key that outcomes are sealed with from here on."""

    key_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DefinitionAccepted:
    """Keep what a domain may show from here on, in place of what was accepted before."""

    accepted: AcceptedDefinition


@dataclass(frozen=True, slots=True)
class ServiceHalted:
    """Let no step start from here on."""

    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ServiceResumed:
    """Let steps start again."""


Change = (
    TokenIssued
    | TokenRevoked
    | TokenFirstUsed
    | TokenExpiryObserved
    | TokenCharged
    | PlanFirstStarted
    | PlanAdmitted
    | PlanRefused
    | StepStarted
    | PlanEnded
    | OutcomeErased
    | OutcomeKeyAdopted
    | DefinitionAccepted
    | ServiceHalted
    | ServiceResumed
)
