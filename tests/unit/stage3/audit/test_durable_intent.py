"""A durable intent is made by the journal, after the commit that holds its start, and by nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

from servicekit.invariant import InvariantBroken
from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.journal import DurableIntent, Journal, Writes
from stage3_service.authorization.authorized_step import AuthorizedStep

if TYPE_CHECKING:
    from collections.abc import Callable

    from stage3_service.audit.journal import Snapshot

T = TypeVar("T")
STEP = AuthorizedStep("plan-1", 0, "text", "upper", b"{}", 1.0, 10)


class _Store:
    """Commit whatever it is given; no decision here looks at a snapshot."""

    def commit(self, work: Callable[[Snapshot], Writes[T]], *, urgent: bool) -> Writes[T]:
        assert not urgent
        return work(None)  # type: ignore[arg-type]


def started(plan_id: str = "plan-1", step: int = 0) -> NewEvent:
    """Return the event that a start leaves."""
    return NewEvent(EventType.EXECUTION_STARTED, Status.STARTED, plan_id=plan_id, step=step)


def record(*events: NewEvent) -> DurableIntent | None:
    """Record a decision that starts `STEP` and leaves these events."""
    return Journal(_Store()).record(lambda _: Writes(None, events, start=STEP)).intent


def test_a_start_that_is_recorded_last_is_proven() -> None:
    """The intent names the step."""
    intent = record(started(step=7), started())

    assert intent is not None
    assert intent.step is STEP


@pytest.mark.parametrize(
    "events",
    [
        (),
        (started("plan-2"),),
        (started(step=1),),
        (started(), NewEvent(EventType.OPERATION_ABORTED, Status.ABORTED, plan_id="plan-1")),
        (NewEvent(EventType.EXECUTION_COMPLETED, Status.SUCCESS, plan_id="plan-1", step=0),),
    ],
    ids=["no event", "of another plan", "of another step", "not the last", "another event"],
)
def test_a_start_that_is_not_recorded_is_not_proven(events: tuple[NewEvent, ...]) -> None:
    """No domain is called for it."""
    with pytest.raises(InvariantBroken):
        record(*events)


def test_nobody_else_makes_one() -> None:
    """Whatever it is given in place of the journal's own mark."""
    with pytest.raises(TypeError):
        DurableIntent(STEP, _mint=object())
