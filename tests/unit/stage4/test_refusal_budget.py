"""Refusals are recorded while the budget lasts, and counted afterwards."""

from __future__ import annotations

from stage4_service.errors import Reason
from stage4_service.refusal_budget import OF_THE_CALLER, RefusalBudget
from tests.fakes.manual_clock import ManualClock


def _budget(clock: ManualClock, **changes: float) -> RefusalBudget:
    options = {"burst": 2, "per_second": 0.5} | changes
    return RefusalBudget(
        burst=int(options["burst"]),
        per_second=options["per_second"],
        monotonic_s=clock.monotonic_s,
    )


def test_a_caller_has_its_burst_and_then_what_time_gives_back() -> None:
    """Expect two at once, none more, one after two seconds, and never more than the burst."""
    clock = ManualClock()
    budget = _budget(clock)
    for _ in range(2):
        assert budget.has_left("a")
        budget.spend("a")
    assert not budget.has_left("a")
    clock.advance(1.9)
    assert not budget.has_left("a")
    clock.advance(0.1)
    assert budget.has_left("a")
    clock.advance(1000)
    for _ in range(2):
        budget.spend("a")
    assert not budget.has_left("a")


def test_callers_do_not_share() -> None:
    """Expect one caller's refusals to cost another nothing."""
    budget = _budget(ManualClock())
    for _ in range(5):
        budget.spend("a")
    assert not budget.has_left("a")
    assert budget.has_left("b")


def test_what_leaves_no_record_is_counted_until_it_is_asked_for() -> None:
    """Expect each count once, and the callers in a fixed order."""
    budget = _budget(ManualClock(), burst=1)
    for caller in ("b", "a"):
        budget.spend(caller)
        budget.suppress(caller)
    budget.suppress("a")
    assert budget.callers_with_suppressed() == ["a", "b"]
    assert [budget.take_suppressed(caller) for caller in ("a", "a", "b", "c")] == [2, 0, 1, 0]
    assert budget.callers_with_suppressed() == []


def test_callers_who_owe_nothing_are_forgotten() -> None:
    """Expect memory to be bounded by the callers that still matter."""
    clock = ManualClock()
    budget = _budget(clock, burst=1)
    for number in range(1024):
        budget.spend(f"caller-{number}")
    budget.suppress("caller-7")
    clock.advance(10)
    budget.spend("late")
    assert set(budget._accounts) == {"caller-7", "late"}


def test_only_what_the_caller_brought_about_is_charged() -> None:
    """Expect Stage-4's own trouble and a client's haste to be free."""
    assert Reason.PLAN_INVALID in OF_THE_CALLER
    assert Reason.TOKEN_NOT_ACCEPTED in OF_THE_CALLER
    assert Reason.STAGE3_UNREACHABLE not in OF_THE_CALLER
    assert Reason.DEADLINE_EXCEEDED not in OF_THE_CALLER
