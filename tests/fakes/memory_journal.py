"""A journal in memory that keeps the port's promises, and can be told to fail.

It passes the port's contract suite. Only durability is pretended, which is why it lives here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock

from stage4_service.audit import (
    MAY_HAVE_BEEN_ADMITTED,
    NewEvent,
    PlanEnded,
    PlanOpened,
    PlanState,
    Stage4AuditEvent,
    marked_as_replay,
)
from stage4_service.errors import JournalUnavailable


@dataclass
class MemoryPlan:
    """A submission and its outcome, if it has one."""

    opened: PlanOpened
    ended: PlanEnded | None = None

    @property
    def state(self) -> PlanState:
        """Return what became of it."""
        return PlanState.RUNNING if self.ended is None else self.ended.state

    @property
    def request(self) -> tuple[str, str, str]:
        """Return the scope of its request identifier."""
        return (self.opened.caller, self.opened.user_id, self.opened.request_id)


class MemoryJournal:
    """Keeps events and plans; `failures` holds what the next records raise, None for none."""

    def __init__(self) -> None:
        self.plans: dict[str, MemoryPlan] = {}
        self.records = 0
        self.failures: list[Exception | None] = []
        self._events: list[Stage4AuditEvent] = []
        self._now = datetime(2026, 1, 1, tzinfo=UTC)
        self._lock = Lock()

    def record(
        self,
        events: Sequence[NewEvent],
        *,
        opened: PlanOpened | None = None,
        ended: PlanEnded | None = None,
    ) -> tuple[Stage4AuditEvent, ...]:
        """Append and change, or raise what was planned."""
        with self._lock:
            self.records += 1
            failure = self.failures.pop(0) if self.failures else None
            if failure is not None:
                raise failure
            if opened is not None and self._open(opened):
                events = [marked_as_replay(event) for event in events]
            if ended is not None:
                self._end(ended)
            self._now += timedelta(milliseconds=1)
            recorded = tuple(
                Stage4AuditEvent(
                    self._now, event.user_id, event.event_type, event.plan_id, event.details
                )
                for event in events
            )
            self._events += recorded
            return recorded

    def events(self) -> list[Stage4AuditEvent]:
        """Return a copy."""
        return list(self._events)

    def _open(self, opened: PlanOpened) -> bool:
        if opened.plan_id in self.plans:
            raise JournalUnavailable("the plan exists")
        plan = MemoryPlan(opened)
        earlier = any(
            other.request == plan.request and other.state in MAY_HAVE_BEEN_ADMITTED
            for other in self.plans.values()
        )
        self.plans[opened.plan_id] = plan
        return earlier

    def _end(self, ended: PlanEnded) -> None:
        plan = self.plans[ended.plan_id]
        plan.ended = ended
        if ended.executed_plan_id and ended.state in {PlanState.COMPLETED, PlanState.FAILED}:
            for other in self.plans.values():
                same = other.request == plan.request
                same = same and other.opened.plan_digest == plan.opened.plan_digest
                if same and other.state is PlanState.UNKNOWN:
                    other.ended = ended
