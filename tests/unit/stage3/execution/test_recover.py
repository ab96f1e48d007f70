"""What a start does with plans that it finds running."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

from stage3_service.audit.journal import Journal, Writes
from stage3_service.audit.records import PlanRecord, RequestScope
from stage3_service.execution.recover import recover
from tests.unit.stage3 import grants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class _Found:
    """A snapshot of a store that holds these plans."""

    now = grants.NOW

    def __init__(self, plans: Sequence[PlanRecord]) -> None:
        self._plans = plans

    def running_plans(self) -> Sequence[PlanRecord]:
        return self._plans


class _Store:
    """Keep what the last decision wrote."""

    def __init__(self, *plans: PlanRecord) -> None:
        self._plans = plans
        self.writes: Writes[object] = Writes(None)

    def commit(self, work: Callable[..., Writes[T]], *, urgent: bool) -> Writes[T]:
        assert urgent
        writes = work(_Found(self._plans))
        self.writes = writes
        return writes


def plan(running_step: int | None, plan_id: str = "plan-1") -> PlanRecord:
    """Return a plan that has no outcome."""
    scope = RequestScope(grants.CLIENT, "alice", "request-1")
    return PlanRecord(
        plan_id, scope, grants.DIGEST, bytes(32), "tok_1", 3, running_step, outcome=None
    )


def test_every_running_plan_is_closed_in_one_commit() -> None:
    """Each at its own step, in doubt."""
    store = _Store(plan(0), plan(2, "plan-2"))

    assert recover(Journal(store)) == 2

    assert [(event.plan_id, event.step, event.reason) for event in store.writes.events] == [
        ("plan-1", 0, "STEP_IN_DOUBT"),
        ("plan-2", 2, "STEP_IN_DOUBT"),
    ]
    assert len(store.writes.changes) == 2


def test_nothing_running_is_nothing_to_write() -> None:
    """A clean start leaves no trace."""
    store = _Store()

    assert recover(Journal(store)) == 0
    assert store.writes == Writes(0)


def test_a_plan_that_this_service_cannot_have_left_stops_the_start() -> None:
    """A plan is admitted with its first start or its end: any other state is not ours to close."""
    with pytest.raises(AssertionError, match="plan-1 was admitted without starting a step"):
        recover(Journal(_Store(plan(None))))
