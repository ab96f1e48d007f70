"""What a restart says about a plan that was submitted and has no recorded outcome.

It says what is known: the answer was lost. Deliberately absent: asking Stage-3, resubmitting, and
guessing. Only the client's own resubmission learns more.
"""

from __future__ import annotations

from stage4_service.audit import (
    EventType,
    NewEvent,
    PlanEnded,
    PlanState,
    SecurityRecord,
    SecurityRecordType,
)
from stage4_service.errors import Effects, Reason
from stage4_service.stage3_port import Ending


def close_as_unknown(plan_id: str, user_id: str) -> tuple[NewEvent, PlanEnded]:
    """Return the event and the outcome of a plan whose service stopped before the answer."""
    event = NewEvent(
        EventType.EXECUTION_FAILED,
        user_id,
        plan_id,
        {
            "reason": Reason.OUTCOME_UNKNOWN.value,
            "outcome": Ending.UNKNOWN.value,
            "effects": Effects.UNKNOWN.value,
            "recovered": True,
        },
    )
    ended = PlanEnded(
        plan_id,
        PlanState.UNKNOWN,
        reason=Reason.OUTCOME_UNKNOWN,
        message="Stage-4 stopped before the answer arrived; resubmit with the same request_id",
        effects=Effects.UNKNOWN,
    )
    return event, ended


def describe_restored(
    cause: str, checkpoint_size: int | None, checkpoint_root: str | None, *, reason: str
) -> SecurityRecord:
    """Return the record that an operator serves from a store that no checkpoint vouches for.

    `reason` holds the operator's words; size and root are of the checkpoint that was lost, where
    they are known.
    """
    return SecurityRecord(
        SecurityRecordType.STORE_RESTORED,
        "",
        {
            "cause": cause,
            "checkpoint_root": checkpoint_root,
            "checkpoint_size": checkpoint_size,
            "reason": reason,
        },
    )


def describe_rotation(key_id: str, previous_key_id: str) -> SecurityRecord:
    """Return the record that another key encrypts stored results from here on."""
    return SecurityRecord(
        SecurityRecordType.KEY_ROTATED,
        "",
        {"key_id": key_id, "previous_key_id": previous_key_id},
    )


def describe_recovery(closed: int) -> SecurityRecord:
    """Return the record that a start closed `closed` plans."""
    return SecurityRecord(SecurityRecordType.RECOVERY_COMPLETED, "", {"closed": closed})
