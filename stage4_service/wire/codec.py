"""Messages to values and back. No message leaves this package, and no thought happens in it."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from stagegate.error.v1 import plan_outcome_pb2
from stagegate.plan.v1 import plan_pb2
from stagegate.stage4.v1 import plan_service_pb2

from stage4_service.audit import PlanState
from stage4_service.errors import Effects
from stage4_service.plan_record import LogEntry, PlanRecord

_EFFECTS: Final = {
    Effects.NONE: plan_outcome_pb2.EFFECTS_NONE,
    Effects.SOME: plan_outcome_pb2.EFFECTS_SOME,
    Effects.UNKNOWN: plan_outcome_pb2.EFFECTS_UNKNOWN,
}
_EFFECTS_READ: Final = {number: effects for effects, number in _EFFECTS.items()}
_STATES: Final = {
    PlanState.REFUSED: plan_service_pb2.PLAN_STATE_REFUSED,
    PlanState.RUNNING: plan_service_pb2.PLAN_STATE_RUNNING,
    PlanState.COMPLETED: plan_service_pb2.PLAN_STATE_COMPLETED,
    PlanState.FAILED: plan_service_pb2.PLAN_STATE_FAILED,
    PlanState.UNKNOWN: plan_service_pb2.PLAN_STATE_UNKNOWN,
}


def encode_steps(steps: list[Any], parameters_json: tuple[bytes, ...]) -> list[plan_pb2.Step]:
    """Return the steps of a valid plan with their parameters in the client's own bytes."""
    return [
        plan_pb2.Step(domain=step["domain"], method=step["method"], parameters_json=span)
        for step, span in zip(steps, parameters_json, strict=True)
    ]


def encode_bindings(bindings: list[Any] | None) -> list[plan_pb2.DataBinding]:
    """Return the declared bindings of a valid plan, in their order."""
    return [
        plan_pb2.DataBinding(
            source_step=binding["source_step"],
            source_path=binding["source_path"],
            target_step=binding["target_step"],
            target_path=binding["target_path"],
            expected_type=binding.get("expected_type"),
        )
        for binding in bindings or ()
    ]


def decode_effects(number: plan_outcome_pb2.Effects.ValueType) -> Effects:
    """Return what an outcome says of its effects; an unknown word means nobody knows."""
    return _EFFECTS_READ.get(number, Effects.UNKNOWN)


def encode_plan_outcome(
    *,
    plan_id: str,
    request_id: str,
    step: int | None,
    effects: Effects,
    original_plan_id: str = "",
) -> plan_outcome_pb2.PlanOutcome:
    """Return the detail that goes with every failed submission."""
    return plan_outcome_pb2.PlanOutcome(
        plan_id=plan_id,
        request_id=request_id,
        step=step,
        effects=_EFFECTS[effects],
        original_plan_id=original_plan_id,
    )


def encode_plan(record: PlanRecord) -> plan_service_pb2.Plan:
    """Return a submission and what became of it."""
    original = record.executed_plan_id if record.executed_plan_id != record.plan_id else ""
    return plan_service_pb2.Plan(
        plan_id=record.plan_id,
        request_id=record.request_id,
        caller=record.caller,
        user_id=record.user_id,
        plan_digest=record.plan_digest,
        state=_STATES[record.state],
        create_time=_timestamp(record.created_us),
        end_time=None if record.ended_us is None else _timestamp(record.ended_us),
        reason=record.reason,
        message=record.message,
        step=record.step,
        effects=plan_outcome_pb2.EFFECTS_UNSPECIFIED
        if record.effects is None
        else _EFFECTS[record.effects],
        result_json=record.result_json,
        receipt=record.receipt,
        steps=record.steps,
        original_plan_id=original,
        result_erased=record.result_erased,
    )


def encode_entry(entry: LogEntry) -> plan_service_pb2.AuditEvent:
    """Return an entry of the log with the bytes that were hashed."""
    return plan_service_pb2.AuditEvent(
        seq=entry.seq,
        event_json=entry.leaf,
        event_type=entry.event_type,
        create_time=_timestamp(entry.time_us),
    )


def _timestamp(time_us: int) -> Timestamp:
    return Timestamp(seconds=time_us // 1_000_000, nanos=time_us % 1_000_000 * 1000)
