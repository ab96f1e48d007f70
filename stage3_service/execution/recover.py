"""Close what a crash left open, before serving: nothing is called and nothing runs again.

Deliberately absent: resuming. A step whose start is durable and whose end is not may have had its
effect; only a person who looks at the domain can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stage3_service.audit.changes import Change, PlanEnded
from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.journal import Writes
from stage3_service.audit.outcome import Effects, OutcomeKind, PlanOutcome
from stage3_service.errors import Reason

if TYPE_CHECKING:
    from datetime import datetime

    from stage3_service.audit.journal import Journal, Snapshot
    from stage3_service.audit.records import PlanRecord


def recover(journal: Journal) -> int:
    """Record the end of every plan that a crash interrupted, in one commit; return how many."""
    return journal.record(_close_running_plans, urgent=True).answer


def _close_running_plans(snapshot: Snapshot) -> Writes[int]:
    events: list[NewEvent] = []
    changes: list[Change] = []
    plans = snapshot.running_plans()
    for plan in plans:
        event, change = _close(plan, snapshot.now)
        events.append(event)
        changes.append(change)
    return Writes(len(plans), tuple(events), tuple(changes))


def _close(plan: PlanRecord, now: datetime) -> tuple[NewEvent, PlanEnded]:
    if plan.running_step is None:
        message = f"{plan.plan_id} was admitted without starting a step: the store is not ours"
        raise AssertionError(message)
    event = NewEvent(
        EventType.OPERATION_ABORTED,
        Status.ABORTED,
        user_id=plan.scope.user_id,
        token_id=plan.token_id,
        plan_id=plan.plan_id,
        step=plan.running_step,
        reason=Reason.STEP_IN_DOUBT.value,
        additional_data={"in_doubt": True, "recovered": True, "terminal": True},
    )
    outcome = PlanOutcome(
        OutcomeKind.IN_DOUBT,
        Effects.UNKNOWN,
        reason=Reason.STEP_IN_DOUBT.value,
        step=plan.running_step,
        message="the service stopped while this step was running; look at its domain whether "
        f"{plan.plan_id}/{plan.running_step} had its effect",
    )
    return event, PlanEnded(
        plan_id=plan.plan_id,
        scope=plan.scope,
        plan_digest=plan.plan_digest,
        token_key=plan.token_key,
        outcome=outcome,
        at=now,
    )
