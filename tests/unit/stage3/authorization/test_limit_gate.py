"""Gate 3 is inclusive at every limit, asks in one order, and agrees with simulated execution."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage3_service.authorization.gate import Denial, DenialReason, GateName
from stage3_service.authorization.limit_gate import (
    MAX_PLAN_RESPONSE_BYTES,
    AdmissionFacts,
    LimitFacts,
    decide_admission_limits,
    decide_step_limits,
)
from stage3_service.errors import Reason
from stage3_service.tokens.frequency import Frequency
from stage3_service.tokens.resource_limits import ResourceLimits
from stage3_service.tokens.usage import TokenUsage, settle
from tests.unit.stage3.grants import charged

TIGHT = ResourceLimits(10, Frequency(3, 60), 100, 1_000)


def admission(**changes: Any) -> Denial | None:
    """Ask about a plan of two steps that just fits, with changes."""
    facts: dict[str, Any] = {
        "limits": TIGHT,
        "usage": TokenUsage(8, 900),
        "plan_starts_in_window": 2,
        "reserve_bytes": (100, 100),
        "time_left_s": 0.001,
    }
    return decide_admission_limits(AdmissionFacts(**{**facts, **changes}))


def step_limits(step: int = 4, **changes: Any) -> Denial | None:
    """Ask about a step that just fits, with changes."""
    facts: dict[str, Any] = {
        "limits": TIGHT,
        "usage": TokenUsage(9, 900),
        "plan_starts_in_window": 2,
        "is_first_start": True,
        "reserve_bytes": 100,
        "plan_response_bytes": MAX_PLAN_RESPONSE_BYTES - 100,
        "time_left_s": 0.001,
    }
    return decide_step_limits(LimitFacts(**{**facts, **changes}), step=step)


class TestAdmission:
    """What is certain to be refused later is refused before any effect."""

    def test_a_plan_that_just_fits_is_admitted(self) -> None:
        """Every limit is inclusive."""
        assert admission() is None

    @pytest.mark.parametrize(
        ("changes", "reason", "step"),
        [
            ({"usage": TokenUsage(9, 0)}, DenialReason.INVOCATIONS_EXHAUSTED, 1),
            ({"usage": TokenUsage(10, 0)}, DenialReason.INVOCATIONS_EXHAUSTED, 0),
            ({"usage": TokenUsage(11, 0)}, DenialReason.INVOCATIONS_EXHAUSTED, 0),
            ({"plan_starts_in_window": 3}, DenialReason.FREQUENCY_EXHAUSTED, 0),
            ({"plan_starts_in_window": 4}, DenialReason.FREQUENCY_EXHAUSTED, 0),
            ({"usage": TokenUsage(0, 901)}, DenialReason.RESPONSE_BYTES_EXHAUSTED, 0),
            ({"reserve_bytes": (100, 101)}, DenialReason.RESPONSE_BYTES_EXHAUSTED, 1),
            ({"time_left_s": 0.0}, DenialReason.NO_TIME_LEFT, 0),
            ({"time_left_s": -1.0}, DenialReason.NO_TIME_LEFT, 0),
        ],
    )
    def test_one_more_is_refused_at_the_first_step_it_would_stop(
        self, changes: dict[str, Any], reason: DenialReason, step: int
    ) -> None:
        """The step that could not start is named."""
        denial = admission(**changes)
        assert denial == Denial(reason, step)
        assert denial.gate is GateName.LIMITS

    def test_invocations_frequency_bytes_time_is_the_order(self) -> None:
        """With everything exhausted, each in its turn."""
        changes: dict[str, Any] = {
            "usage": TokenUsage(10, 1_000),
            "plan_starts_in_window": 3,
            "time_left_s": 0.0,
        }
        order = []
        for name, better in (
            ("usage", TokenUsage(8, 1_000)),
            ("plan_starts_in_window", 0),
            ("usage", TokenUsage(8, 0)),
            ("time_left_s", 1.0),
        ):
            denial = admission(**changes)
            assert denial is not None
            order.append(denial.reason)
            changes[name] = better
        assert admission(**changes) is None
        assert order == [
            DenialReason.INVOCATIONS_EXHAUSTED,
            DenialReason.FREQUENCY_EXHAUSTED,
            DenialReason.RESPONSE_BYTES_EXHAUSTED,
            DenialReason.NO_TIME_LEFT,
        ]

    def test_the_sum_of_reservations_is_not_asked(self) -> None:
        """Small responses may leave room; the step gate decides when it knows."""
        assert admission(usage=TokenUsage(0, 800), reserve_bytes=(100,) * 8) is None

    def test_a_token_without_limits_admits_everything_but_the_past(self) -> None:
        """Only the deadline is left to ask."""
        unlimited: dict[str, Any] = {"limits": ResourceLimits(), "usage": TokenUsage(10**9, 10**12)}
        assert admission(plan_starts_in_window=10**6, **unlimited) is None
        assert admission(time_left_s=0.0, **unlimited) == Denial(DenialReason.NO_TIME_LEFT, 0)


class TestStep:
    """Every limit again, in the transaction that would start the step."""

    def test_a_step_that_just_fits_may_start(self) -> None:
        """Every limit is inclusive."""
        assert step_limits() is None

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"usage": TokenUsage(10, 0)}, DenialReason.INVOCATIONS_EXHAUSTED),
            ({"plan_starts_in_window": 3}, DenialReason.FREQUENCY_EXHAUSTED),
            ({"usage": TokenUsage(0, 901)}, DenialReason.RESPONSE_BYTES_EXHAUSTED),
            ({"reserve_bytes": 101, "usage": TokenUsage()}, DenialReason.PLAN_BYTES_EXHAUSTED),
            ({"max_plan_response_bytes": 99}, DenialReason.PLAN_BYTES_EXHAUSTED),
            ({"time_left_s": 0.0}, DenialReason.NO_TIME_LEFT),
        ],
    )
    def test_one_more_is_refused(self, changes: dict[str, Any], reason: DenialReason) -> None:
        """And the step that was asked about is named."""
        assert step_limits(**changes) == Denial(reason, 4)

    def test_the_order_of_questions_is_fixed(self) -> None:
        """Invocations, frequency, bytes of the token, bytes of the plan, time."""
        changes: dict[str, Any] = {
            "usage": TokenUsage(10, 1_000),
            "plan_starts_in_window": 3,
            "max_plan_response_bytes": 0,
            "time_left_s": 0.0,
        }
        order = []
        for name, better in (
            ("usage", TokenUsage(9, 1_000)),
            ("is_first_start", False),
            ("usage", TokenUsage(9, 0)),
            ("max_plan_response_bytes", MAX_PLAN_RESPONSE_BYTES),
            ("time_left_s", 1.0),
        ):
            denial = step_limits(**changes)
            assert denial is not None
            order.append(denial.reason)
            changes[name] = better
        assert step_limits(**changes) is None
        assert order == [
            DenialReason.INVOCATIONS_EXHAUSTED,
            DenialReason.FREQUENCY_EXHAUSTED,
            DenialReason.RESPONSE_BYTES_EXHAUSTED,
            DenialReason.PLAN_BYTES_EXHAUSTED,
            DenialReason.NO_TIME_LEFT,
        ]

    def test_the_plans_own_limit_is_eight_mebibytes(self) -> None:
        """Half of what a message may carry."""
        assert MAX_PLAN_RESPONSE_BYTES == 8_388_608
        assert step_limits(plan_response_bytes=8_388_508) is None
        denial = step_limits(plan_response_bytes=8_388_509)
        assert denial == Denial(DenialReason.PLAN_BYTES_EXHAUSTED, 4)

    def test_frequency_counts_on_the_plans_first_start_only(self) -> None:
        """Later steps of a plan that has started are not held back by other plans."""
        assert step_limits(plan_starts_in_window=3, is_first_start=False) is None

    def test_time_is_told_as_a_deadline_and_limits_as_limits(self) -> None:
        """Only the clock is not the token's limit."""
        late, spent = step_limits(time_left_s=0.0), step_limits(usage=TokenUsage(10, 0))
        assert late is not None
        assert late.public is Reason.DEADLINE_EXCEEDED
        assert spent is not None
        assert spent.public is Reason.LIMIT_EXCEEDED


@given(
    max_invocations=st.none() | st.integers(1, 6),
    max_total=st.none() | st.integers(1, 60),
    plans=st.lists(
        st.lists(st.tuples(st.integers(0, 20), st.integers(0, 25)), min_size=1, max_size=3),
        max_size=4,
    ),
)
def test_no_sequence_of_plans_exceeds_a_limit(
    max_invocations: int | None,
    max_total: int | None,
    plans: list[list[tuple[int, int]]],
) -> None:
    """Execute plans on a model, charging as the contract says: totals never exceed the limits.

    And a plan is refused at admission exactly when it could not even start some step alone.
    """
    limits = ResourceLimits(max_invocations=max_invocations, max_total_response_bytes=max_total)
    usage = TokenUsage()
    invocations, spent = 0, 0
    most_steps = max_invocations if max_invocations is not None else 10**6
    most_bytes = max_total if max_total is not None else 10**6
    for plan in plans:
        denial = decide_admission_limits(
            AdmissionFacts(
                limits=limits,
                usage=usage,
                plan_starts_in_window=0,
                reserve_bytes=tuple(reserved for reserved, _ in plan),
                time_left_s=1.0,
            )
        )
        hopeless = invocations + len(plan) > most_steps or any(
            spent + reserved > most_bytes for reserved, _ in plan
        )
        assert (denial is not None) == hopeless
        if denial is not None:
            continue
        for index, (reserved, actual) in enumerate(plan):
            stopped = decide_step_limits(
                LimitFacts(
                    limits=limits,
                    usage=usage,
                    plan_starts_in_window=0,
                    is_first_start=index == 0,
                    reserve_bytes=reserved,
                    plan_response_bytes=0,
                    time_left_s=1.0,
                ),
                step=index,
            )
            assert (stopped is not None) == (spent + reserved > most_bytes)
            if stopped is not None:
                assert stopped == Denial(DenialReason.RESPONSE_BYTES_EXHAUSTED, index)
                break
            usage = charged(usage, reserved)
            assert usage.response_bytes_charged <= most_bytes
            assert usage.invocations_charged <= most_steps
            usage = settle(usage, reserved, actual)
            invocations, spent = invocations + 1, spent + min(reserved, actual)
            assert (usage.invocations_charged, usage.response_bytes_charged) == (
                invocations,
                spent,
            )
