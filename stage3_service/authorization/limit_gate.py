"""Gate 3: does the token, the plan and the clock leave room for this step?

Limits are inclusive: the last permitted invocation, plan or byte is permitted. Deliberately
absent: charging, which is the arithmetic of `tokens/usage.py`, and refunds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stage3_service.authorization.gate import Denial, DenialReason

if TYPE_CHECKING:
    from stage3_service.tokens.resource_limits import ResourceLimits
    from stage3_service.tokens.usage import TokenUsage

# Stored results of one plan, which also travel in one message of at most 16 MiB.
MAX_PLAN_RESPONSE_BYTES: Final = 8 * 1_024 * 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionFacts:
    """Hold what gate 3 needs to know to admit a plan.

    `plan_starts_in_window` counts the plans that the token has started within its window of time,
    without this one; `reserve_bytes` is the reservation of every step, in order; `time_left_s` is
    what remains of the caller's deadline.
    """

    limits: ResourceLimits
    usage: TokenUsage
    plan_starts_in_window: int
    reserve_bytes: tuple[int, ...]
    time_left_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitFacts:
    """Hold what gate 3 needs to know to start one step, as of the instant it would start.

    `is_first_start` says that no step of this plan has started; only then does the frequency count.
    `plan_response_bytes` is the size of the plan's results so far.
    """

    limits: ResourceLimits
    usage: TokenUsage
    plan_starts_in_window: int
    is_first_start: bool
    reserve_bytes: int
    plan_response_bytes: int
    time_left_s: float
    max_plan_response_bytes: int = MAX_PLAN_RESPONSE_BYTES


def decide_admission_limits(facts: AdmissionFacts) -> Denial | None:
    """Ask gate 3 about every step of a plan, before any of them has an effect.

    Refuses what is certain to be refused later, and reserves nothing: invocations for all steps, a
    plan within the frequency, and for each step alone its reservation. How large the other steps'
    responses turn out to be is not known yet, so their sum is not asked here.
    """
    limits, usage = facts.limits, facts.usage
    for step, reserve_bytes in enumerate(facts.reserve_bytes):
        if _invocations_lack(limits, usage, step + 1):
            return Denial(DenialReason.INVOCATIONS_EXHAUSTED, step)
        if step == 0 and _frequency_is_spent(limits, facts.plan_starts_in_window):
            return Denial(DenialReason.FREQUENCY_EXHAUSTED, step)
        if _response_bytes_lack(limits, usage, reserve_bytes):
            return Denial(DenialReason.RESPONSE_BYTES_EXHAUSTED, step)
        if facts.time_left_s <= 0:
            return Denial(DenialReason.NO_TIME_LEFT, step)
    return None


def decide_step_limits(facts: LimitFacts, *, step: int) -> Denial | None:
    """Ask gate 3 about one step: invocations, frequency, bytes of token and plan, time left."""
    limits, usage = facts.limits, facts.usage
    if _invocations_lack(limits, usage, 1):
        return Denial(DenialReason.INVOCATIONS_EXHAUSTED, step)
    if facts.is_first_start and _frequency_is_spent(limits, facts.plan_starts_in_window):
        return Denial(DenialReason.FREQUENCY_EXHAUSTED, step)
    if _response_bytes_lack(limits, usage, facts.reserve_bytes):
        return Denial(DenialReason.RESPONSE_BYTES_EXHAUSTED, step)
    if facts.plan_response_bytes + facts.reserve_bytes > facts.max_plan_response_bytes:
        return Denial(DenialReason.PLAN_BYTES_EXHAUSTED, step)
    if facts.time_left_s <= 0:
        return Denial(DenialReason.NO_TIME_LEFT, step)
    return None


def _invocations_lack(limits: ResourceLimits, usage: TokenUsage, needed: int) -> bool:
    most = limits.max_invocations
    return most is not None and usage.invocations_charged + needed > most


def _frequency_is_spent(limits: ResourceLimits, plan_starts_in_window: int) -> bool:
    frequency = limits.max_frequency
    return frequency is not None and plan_starts_in_window >= frequency.plans


def _response_bytes_lack(limits: ResourceLimits, usage: TokenUsage, reserve_bytes: int) -> bool:
    most = limits.max_total_response_bytes
    return most is not None and usage.response_bytes_charged + reserve_bytes > most
