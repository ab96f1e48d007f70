"""Record what somebody attempted outside a plan and was refused."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.journal import Writes
from stage3_service.execution.admit import (
    all_suppressed_events,
    due_suppressed_events,
    suppressed_events,
)

if TYPE_CHECKING:
    from stage3_service.audit.journal import Journal, Snapshot
    from stage3_service.authorization.denial_budget import DenialBudget
    from stage3_service.authorization.violation import ViolationType


def record_violation(
    journal: Journal,
    budget: DenialBudget,
    *,
    caller: str,
    violation: ViolationType,
    attempted: str,
) -> None:
    """Append BOUNDARY_VIOLATION for a domain identity that called a door it has no key to.

    Raises:
        JournalUnavailable: the record could not be made durable.
    """
    journal.record(
        partial(_violation, budget=budget, caller=caller, violation=violation, attempted=attempted)
    )


def record_suppressed(journal: Journal, budget: DenialBudget) -> None:
    """Append what the denial budgets kept back, as before a shutdown.

    Raises:
        JournalUnavailable: the record could not be made durable.
    """
    journal.record(lambda _snapshot: Writes(None, tuple(all_suppressed_events(budget))))


def _violation(
    snapshot: Snapshot,
    budget: DenialBudget,
    caller: str,
    violation: ViolationType,
    attempted: str,
) -> Writes[None]:
    if not budget.spend(caller, snapshot.now):
        return Writes(None, tuple(due_suppressed_events(budget, snapshot.now)))
    event = NewEvent(
        EventType.BOUNDARY_VIOLATION,
        Status.DENIED,
        reason=violation.value,
        additional_data={"attempted": attempted, "caller": caller},
    )
    return Writes(None, (*suppressed_events(budget, snapshot.now, caller), event))
