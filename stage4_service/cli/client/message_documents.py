"""Messages as the documents that `--json` prints.

Instants are RFC 3339 in UTC, bytes are lower-case hexadecimal, what is not set is null.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeAlias

from stagegate.error.v1 import plan_outcome_pb2
from stagegate.stage4.v1 import plan_service_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

Document: TypeAlias = dict[str, object]


def execution_document(answer: plan_service_pb2.ExecutePlanResponse) -> Document:
    """Return a plan that completed."""
    result: Document = json.loads(answer.result_json)
    return {
        "status": result["status"],
        "plan_id": answer.plan_id,
        "request_id": answer.request_id,
        "replay": answer.replay,
        "original_plan_id": answer.original_plan_id or None,
        "plan_digest": answer.plan_digest.hex(),
        "results": result["results"],
    }


def plan_document(plan: plan_service_pb2.Plan) -> Document:
    """Return a submission and what became of it."""
    state = plan_service_pb2.PlanState.Name(plan.state).removeprefix("PLAN_STATE_").lower()
    return {
        "plan_id": plan.plan_id,
        "state": state,
        "request_id": plan.request_id,
        "caller": plan.caller,
        "user_id": plan.user_id or None,
        "plan_digest": plan.plan_digest.hex() or None,
        "steps": plan.steps,
        "create_time": _instant_text(plan, "create_time"),
        "end_time": _instant_text(plan, "end_time"),
        "reason": plan.reason or None,
        "message": plan.message or None,
        "step": plan.step if plan.HasField("step") else None,
        "effects": effects_word(plan.effects),
        "original_plan_id": plan.original_plan_id or None,
        "results": json.loads(plan.result_json)["results"] if plan.result_json else None,
        "result_erased": plan.result_erased,
    }


def event_document(event: plan_service_pb2.AuditEvent) -> Document:
    """Return an entry of Stage-4's log: what its leaf says."""
    document: Document = json.loads(event.event_json)
    return document


def outcome_facts(outcome: plan_outcome_pb2.PlanOutcome) -> Document:
    """Return what an error says of its plan."""
    return {
        "plan_id": outcome.plan_id,
        "request_id": outcome.request_id,
        "step": outcome.step if outcome.HasField("step") else None,
        "effects": effects_word(outcome.effects),
        "original_plan_id": outcome.original_plan_id or None,
    }


def effects_word(number: plan_outcome_pb2.Effects.ValueType) -> str | None:
    """Return `none`, `some` or `unknown`; None where nothing was said."""
    if number == plan_outcome_pb2.EFFECTS_UNSPECIFIED:
        return None
    return plan_outcome_pb2.Effects.Name(number).removeprefix("EFFECTS_").lower()


def _instant_text(message: Message, field: str) -> str | None:
    if not message.HasField(field):
        return None
    text: str = getattr(message, field).ToJsonString()
    return text
