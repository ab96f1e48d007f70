"""A caller's denials are recorded one by one until its budget is spent, then counted."""

from __future__ import annotations

from datetime import timedelta

from stage3_service.authorization.denial_budget import (
    OTHER_CALLERS,
    DenialAllowance,
    DenialBudget,
    Suppressed,
)
from tests.unit.stage3.grants import NOW

ALLOWANCE = DenialAllowance(burst=3, per_second=0.5, callers=2, all_callers_factor=4)


def test_a_burst_is_recorded_and_the_rest_is_counted() -> None:
    """Three of five."""
    budget = DenialBudget(ALLOWANCE)
    assert [budget.spend("a", NOW) for _ in range(5)] == [True, True, True, False, False]
    assert budget.take_suppressed("a") == (Suppressed("a", 2, NOW),)
    assert budget.take_suppressed("a") == ()


def test_budgets_are_regained_with_time_and_never_beyond_the_burst() -> None:
    """Half a denial per second, up to three."""
    budget = DenialBudget(ALLOWANCE)
    for _ in range(4):
        budget.spend("a", NOW)
    assert not budget.spend("a", NOW + timedelta(seconds=1))
    assert budget.spend("a", NOW + timedelta(seconds=2))
    much_later = NOW + timedelta(days=1)
    assert [budget.spend("a", much_later) for _ in range(4)] == [True, True, True, False]


def test_time_that_stands_still_or_goes_back_gives_nothing() -> None:
    """And takes nothing."""
    budget = DenialBudget(ALLOWANCE)
    for _ in range(3):
        budget.spend("a", NOW)
    assert not budget.spend("a", NOW - timedelta(seconds=60))


def test_one_callers_denials_do_not_spend_anothers_budget() -> None:
    """Each has its own."""
    budget = DenialBudget(ALLOWANCE)
    for _ in range(9):
        budget.spend("a", NOW)
    assert budget.spend("b", NOW)


def test_all_callers_together_have_a_budget_too() -> None:
    """Invented callers do not multiply it: four bursts for everybody."""
    budget = DenialBudget(ALLOWANCE)
    recorded = [budget.spend(f"caller {number}", NOW) for number in range(20)]
    assert recorded == [True] * 12 + [False] * 8


def test_counts_that_have_waited_are_due_to_anybodys_next_call() -> None:
    """Not before their time, then all of them at once, and never twice."""
    budget = DenialBudget(ALLOWANCE)
    for caller in ("a", "a", "a", "a", "a", "b", "b", "b", "b"):
        budget.spend(caller, NOW)
    almost = NOW + timedelta(seconds=ALLOWANCE.due_after_s) - timedelta(microseconds=1)
    assert budget.take_due(almost) == ()

    due = budget.take_due(almost + timedelta(microseconds=1))

    assert due == (Suppressed("a", 2, NOW), Suppressed("b", 1, NOW))
    assert budget.take_due(almost + timedelta(days=1)) == ()
    assert budget.take_suppressed() == ()


def test_a_flood_of_invented_callers_is_due_in_a_bounded_number_of_counts() -> None:
    """The largest are named, the rest is one sum from the first of them on."""
    allowance = DenialAllowance(burst=1, per_second=0, callers=100, all_callers_factor=1)
    budget = DenialBudget(allowance)
    for number in range(60):
        for _ in range(1 + number):
            budget.spend(f"caller {number}", NOW + timedelta(seconds=number))
    later = NOW + timedelta(hours=1)

    due = budget.take_due(later)

    assert len(due) == allowance.named_at_once + 1
    assert due[0] == Suppressed("caller 59", 60, NOW + timedelta(seconds=59))
    assert due[-1].caller == OTHER_CALLERS
    assert due[-1].since == NOW + timedelta(seconds=1)
    assert sum(each.count for each in due) == sum(range(1, 61)) - 1


def test_what_was_suppressed_is_told_from_the_first_on() -> None:
    """The count since it was last taken, and since when."""
    budget = DenialBudget(ALLOWANCE)
    for _ in range(3):
        budget.spend("a", NOW)
    since = NOW + timedelta(seconds=1)
    for seconds in (1.0, 1.2, 1.4):
        assert not budget.spend("a", NOW + timedelta(seconds=seconds))
    assert budget.take_suppressed() == (Suppressed("a", 3, since),)


def test_forgotten_callers_are_counted_in_one_sum() -> None:
    """However many callers are invented, what is kept of them is one number."""
    budget = DenialBudget(ALLOWANCE)
    recorded = sum(budget.spend(f"caller-{number}", NOW) for number in range(50) for _ in range(4))
    first, last, others = budget.take_suppressed()
    assert (first.caller, last.caller) == ("caller-48", "caller-49")
    assert (others.caller, others.since) == (OTHER_CALLERS, NOW)
    assert first.count + last.count + others.count == 200 - recorded
    assert budget.take_suppressed() == ()


def test_nothing_suppressed_is_nothing_to_tell() -> None:
    """Neither for everybody nor for one, known or not."""
    budget = DenialBudget(ALLOWANCE)
    budget.spend("a", NOW)
    assert budget.take_suppressed() == ()
    assert budget.take_suppressed("a") == ()
    assert budget.take_suppressed("nobody") == ()


def test_only_so_many_callers_are_kept_and_the_oldest_is_forgotten() -> None:
    """Memory is bounded: the caller that was not heard of for longest starts anew."""
    budget = DenialBudget(ALLOWANCE)
    for caller in ("a", "b"):
        for _ in range(3):
            budget.spend(caller, NOW)
    assert not budget.spend("b", NOW)
    assert budget.spend("c", NOW)
    assert not budget.spend("b", NOW)
    assert budget.spend("a", NOW)


def test_everybodys_budget_is_regained_too() -> None:
    """Four times as fast as one caller's."""
    budget = DenialBudget(ALLOWANCE)
    for number in range(12):
        budget.spend(f"caller {number}", NOW)
    soon = NOW + timedelta(seconds=1)
    assert [budget.spend(f"new {number}", soon) for number in range(3)] == [True, True, False]


def test_a_count_is_told_once_and_then_starts_anew() -> None:
    """Of those kept and of those forgotten."""
    budget = DenialBudget(ALLOWANCE)
    for _ in range(4):
        budget.spend("a", NOW)
    budget.spend("b", NOW)
    budget.spend("c", NOW)
    assert budget.take_suppressed("c") == (Suppressed(OTHER_CALLERS, 1, NOW),)
    assert budget.take_suppressed("c") == ()
    for _ in range(3):
        budget.spend("c", NOW)
    assert budget.take_suppressed("c") == (Suppressed("c", 1, NOW),)
    assert not budget.spend("c", NOW)
    assert budget.take_suppressed("c") == (Suppressed("c", 1, NOW),)


def test_one_callers_count_is_told_without_the_others() -> None:
    """Of the callers that are kept."""
    budget = DenialBudget(ALLOWANCE)
    for caller in ("a", "b"):
        for _ in range(4):
            budget.spend(caller, NOW)
    assert budget.take_suppressed("b") == (Suppressed("b", 1, NOW),)
    assert budget.take_suppressed() == (Suppressed("a", 1, NOW),)


def test_the_usual_allowance_is_stated() -> None:
    """40 at once, one every two seconds, 4,096 callers, 16 bursts for everybody."""
    assert DenialAllowance() == DenialAllowance(40, 0.5, 4_096, 16)


def test_the_total_counts_every_denial_that_was_not_recorded_and_is_never_taken() -> None:
    """It is a counter of the service: what was recorded in sums stays in it."""
    budget = DenialBudget(ALLOWANCE)
    assert budget.suppressed_total == 0
    for _ in range(5):
        budget.spend("a", NOW)
    budget.take_suppressed()
    for _ in range(2):
        budget.spend("a", NOW)
    assert budget.suppressed_total == 4


def test_sixteen_callers_are_named_at_once_and_the_others_are_summed_up() -> None:
    """Unless it is asked for otherwise: a flood of callers is a bounded record."""
    budget = DenialBudget(DenialAllowance(burst=0))
    for number in range(18):
        budget.spend(f"caller {number}", NOW)
    due = budget.take_due(NOW + timedelta(seconds=60))
    assert [each.caller for each in due[16:]] == [OTHER_CALLERS]
    assert [each.count for each in due] == [1] * 16 + [2]
