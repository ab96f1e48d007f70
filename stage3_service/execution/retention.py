"""How long an outcome is told, and who erases it: each admission, a little.

Deliberately absent: a timer. An outcome whose time is over is erased when its request comes again,
and else in the commit of some later plan. Whether it may still be told is a question of the log's
time alone, not of when it was erased.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from stage3_service.audit.changes import OutcomeErased
from stage3_service.audit.records import EndedPlan

if TYPE_CHECKING:
    from datetime import datetime

    from stage3_service.audit.journal import Snapshot
    from stage3_service.audit.records import PlanRecord
    from stage3_service.execution.house import House

ERASED_AT_ONCE: Final = 2
"""Outcomes that one admission erases: it makes one, so that what is overdue becomes less."""


def is_over(plan: PlanRecord, now: datetime, house: House) -> bool:
    """Return whether the time is over in which this plan's outcome is told."""
    return plan.ended_at is not None and plan.ended_at < _due(now, house)


def erase(plan: PlanRecord) -> OutcomeErased:
    """Return the erasure of one outcome."""
    return OutcomeErased(EndedPlan(plan.plan_id, plan.scope))


def erase_some(snapshot: Snapshot, house: House) -> list[OutcomeErased]:
    """Return the erasure of the oldest outcomes whose time is over, a few at most."""
    ended = snapshot.ended_before(_due(snapshot.now, house), ERASED_AT_ONCE)
    return [OutcomeErased(plan) for plan in ended]


def _due(now: datetime, house: House) -> datetime:
    return now - timedelta(seconds=house.outcome_retention_s)
