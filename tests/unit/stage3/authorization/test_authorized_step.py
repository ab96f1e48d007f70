"""Gates 1 to 4 are asked about a step in order, and only passing all of them makes the proof."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from stage3_service.authorization.authorized_step import (
    AuthorizedStep,
    PreparedStep,
    authorize_step,
)
from stage3_service.authorization.gate import Denial, DenialReason
from stage3_service.authorization.limit_gate import LimitFacts
from stage3_service.tokens.resource_limits import ResourceLimits
from stage3_service.tokens.usage import TokenUsage
from tests.unit.stage3.grants import catalogue, facts, step

LIMITS = LimitFacts(
    limits=ResourceLimits(max_invocations=1),
    usage=TokenUsage(),
    plan_starts_in_window=0,
    is_first_start=True,
    reserve_bytes=77,
    plan_response_bytes=0,
    time_left_s=1.0,
)
UNRESOLVED = Denial(DenialReason.BINDING_UNRESOLVED, 2)
REASONS = [
    DenialReason.TOKEN_REVOKED,
    DenialReason.DOMAIN_NOT_IN_SCOPE,
    DenialReason.INVOCATIONS_EXHAUSTED,
    DenialReason.BINDING_UNRESOLVED,
]
SUBSETS = [s for size in range(len(REASONS) + 1) for s in combinations(REASONS, size)]


def authorize(*failing: DenialReason) -> AuthorizedStep | Denial:
    """Ask about a step that passes every gate but the failing ones."""
    limits: Any = LIMITS
    if DenialReason.INVOCATIONS_EXHAUSTED in failing:
        limits = replace(LIMITS, usage=TokenUsage(invocations_charged=1))
    domain = "ledger" if DenialReason.DOMAIN_NOT_IN_SCOPE in failing else "text"
    return authorize_step(
        plan_id="plan_1",
        prepared=PreparedStep(
            step=step(domain, "upper", index=2),
            parameters_json=b'{"filled":1}',
            data_denial=UNRESOLVED if DenialReason.BINDING_UNRESOLVED in failing else None,
        ),
        token_facts=facts(revoked=DenialReason.TOKEN_REVOKED in failing),
        limit_facts=limits,
        catalogue=catalogue(),
    )


@pytest.mark.parametrize("failing", SUBSETS, ids=lambda s: "+".join(s) or "none")
def test_the_first_failing_gate_is_the_answer(failing: tuple[DenialReason, ...]) -> None:
    """All sixteen subsets of four failing gates."""
    answer = authorize(*failing)
    if failing:
        assert answer == Denial(failing[0], 2)
    else:
        assert isinstance(answer, AuthorizedStep)


def test_the_proof_holds_what_may_be_invoked_and_what_was_reserved() -> None:
    """The resolved bytes, not the client's; the declaration's time; the reservation asked about."""
    assert authorize() == AuthorizedStep(
        plan_id="plan_1",
        index=2,
        domain="text",
        method="upper",
        parameters_json=b'{"filled":1}',
        max_duration_s=1.0,
        reserved_bytes=77,
    )
