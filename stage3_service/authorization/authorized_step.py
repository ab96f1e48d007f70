"""The proof that one step passed every gate.

Made in this room by `authorize_step` and nowhere else; the journal turns it into a durable intent,
and only a durable intent invokes a domain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from servicekit.invariant import invariant
from stage3_service.authorization.limit_gate import decide_step_limits
from stage3_service.authorization.scope_gate import decide_scope
from stage3_service.authorization.token_gate import decide_token

if TYPE_CHECKING:
    from stage3_service.authorization.declared import DeclaredDomains
    from stage3_service.authorization.gate import Denial
    from stage3_service.authorization.limit_gate import LimitFacts
    from stage3_service.authorization.token_gate import TokenFacts
    from stage3_service.plan.plan import Step


@dataclass(frozen=True, slots=True)
class AuthorizedStep:
    """Hold what may be invoked, once, and what was reserved for it.

    `parameters_json` is exactly what the domain will be handed, `max_duration_s` how long it may
    take, `reserved_bytes` what its response was charged in advance and the most it may have.
    """

    plan_id: str
    index: int
    domain: str
    method: str
    parameters_json: bytes = field(repr=False)
    max_duration_s: float
    reserved_bytes: int


@dataclass(frozen=True, slots=True)
class PreparedStep:
    """Hold a step whose parameters were resolved before the transaction.

    `data_denial` is gate 4's verdict, taken beforehand because it depends on no state, and reported
    in its place.
    """

    step: Step
    parameters_json: bytes = field(repr=False)
    data_denial: Denial | None


def authorize_step(
    *,
    plan_id: str,
    prepared: PreparedStep,
    token_facts: TokenFacts,
    limit_facts: LimitFacts,
    catalogue: DeclaredDomains,
) -> AuthorizedStep | Denial:
    """Ask gates 1 to 4 about one step, in order, and return the first denial or the proof."""
    step = prepared.step
    if denial := decide_token(token_facts, step=step.index):
        return denial
    token = invariant(token_facts.token, "the token gate let an unknown token pass")
    if denial := decide_scope(token, step, catalogue):
        return denial
    if denial := decide_step_limits(limit_facts, step=step.index):
        return denial
    if prepared.data_denial is not None:
        return prepared.data_denial
    method = invariant(
        catalogue.method(step.domain, step.method), "the scope gate let an undeclared method pass"
    )
    return AuthorizedStep(
        plan_id=plan_id,
        index=step.index,
        domain=step.domain,
        method=step.method,
        max_duration_s=method.max_duration_s,
        parameters_json=prepared.parameters_json,
        reserved_bytes=limit_facts.reserve_bytes,
    )
