"""Rows of `plans`, read and written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stage3_service.audit.outcome import Effects, OutcomeKind, PlanOutcome
from stage3_service.audit.records import PlanRecord, RequestScope

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAN_COLUMNS = (
    "plan_id, caller, user_id, request_id, plan_digest, token_key, token_id, steps, running_step, "
    "kind, effects, result_json, reason, step, message"
)


def decode_plan(row: Sequence[Any]) -> PlanRecord:
    """Return the plan in a row of PLAN_COLUMNS."""
    (
        plan_id, caller, user_id, request_id, digest, token_key, token_id, steps, running,
        kind, effects, result_json, reason, step, message,
    ) = row  # fmt: skip
    outcome = None
    if kind is not None:
        outcome = PlanOutcome(
            OutcomeKind(kind), Effects(effects), result_json, reason, step, message
        )
    return PlanRecord(
        plan_id=plan_id,
        scope=RequestScope(caller, user_id, request_id),
        plan_digest=digest,
        token_key=token_key,
        token_id=token_id,
        steps=steps,
        running_step=running,
        outcome=outcome,
    )
