"""The order of a gate's questions: of two that fail, the answer is the earlier one's.

Every pair is tried, with both failing and all else in order, and each alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from stage3_service.authorization.limit_gate import (
    AdmissionFacts,
    LimitFacts,
    decide_admission_limits,
    decide_step_limits,
)
from stage3_service.authorization.scope_gate import decide_scope
from stage3_service.authorization.token_gate import TokenFacts, decide_token
from stage3_service.tokens.usage import TokenUsage
from tests.unit.stage3 import grants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stage3_service.authorization.declared import DeclaredMethod
    from stage3_service.domains.declaration import Catalogue

BOUND = grants.token(plan_digest=grants.DIGEST)
LIMITED = grants.token(
    max_invocations=3, max_frequency="2 per 60 seconds", max_total_response_bytes=100
).resource_limits

TOKEN_QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("token_revoked", {"revoked": True}),
    ("token_unknown", {"presented_key": bytes(32)}),
    ("user_mismatch", {"user_id": "bob"}),
    ("caller_mismatch", {"caller": grants.OTHER_CLIENT}),
    ("token_expired", {"now": grants.NOW + timedelta(seconds=600)}),
    ("trigger_not_allowed", {"trigger_type": "scheduled"}),
    ("plan_not_bound", {"plan_digest": grants.OTHER_DIGEST}),
]
STEP_QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("invocations_exhausted", {"invocations": 3}),
    ("frequency_exhausted", {"plan_starts_in_window": 2}),
    ("response_bytes_exhausted", {"charged": 91}),
    ("plan_bytes_exhausted", {"plan_response_bytes": 991}),
    ("no_time_left", {"time_left_s": 0.0}),
]
ADMISSION_QUESTIONS = [name for name in STEP_QUESTIONS if name[0] != "plan_bytes_exhausted"]


@dataclass(frozen=True, slots=True)
class Withheld:
    """A catalogue of which nobody has accepted any domain."""

    catalogue: Catalogue

    @property
    def domains(self) -> Mapping[str, object]:
        """Return what is declared."""
        return self.catalogue.domains

    def method(self, domain: str, method: str) -> DeclaredMethod | None:
        """Return what is declared."""
        return self.catalogue.method(domain, method)

    def withholds(self, _domain: str) -> bool:
        """Say so of each."""
        return True


def ask_token(failing: dict[str, Any]) -> Any:
    """Ask gate 1 with these facts in place of those under which it passes."""
    passing: TokenFacts = grants.facts(BOUND)
    return decide_token(replace(passing, **failing), step=4)


def ask_step(failing: dict[str, Any]) -> Any:
    """Ask gate 3 about a step whose every limit is just kept, but for these."""
    facts: dict[str, Any] = {
        "limits": LIMITED,
        "plan_starts_in_window": 1,
        "is_first_start": True,
        "reserve_bytes": 10,
        "plan_response_bytes": 990,
        "time_left_s": 0.001,
        "max_plan_response_bytes": 1_000,
    }
    usage = TokenUsage(
        invocations_charged=failing.get("invocations", 2),
        response_bytes_charged=failing.get("charged", 90),
    )
    others = {name: value for name, value in failing.items() if name in facts}
    return decide_step_limits(LimitFacts(**(facts | others), usage=usage), step=4)


def ask_admission(failing: dict[str, Any]) -> Any:
    """Ask gate 3 about a plan of one step whose every limit is just kept, but for these."""
    facts: dict[str, Any] = {"limits": LIMITED, "plan_starts_in_window": 1, "time_left_s": 0.001}
    usage = TokenUsage(
        invocations_charged=failing.get("invocations", 2),
        response_bytes_charged=failing.get("charged", 90),
    )
    others = {name: value for name, value in failing.items() if name in facts}
    return decide_admission_limits(
        AdmissionFacts(**(facts | others), usage=usage, reserve_bytes=(10,))
    )


@pytest.mark.parametrize(
    ("ask", "questions", "step"),
    [
        pytest.param(ask_token, TOKEN_QUESTIONS, 4, id="token"),
        pytest.param(ask_step, STEP_QUESTIONS, 4, id="limits of a step"),
        pytest.param(ask_admission, ADMISSION_QUESTIONS, 0, id="limits at admission"),
    ],
)
def test_of_two_failing_questions_the_earlier_answers(
    ask: Callable[[dict[str, Any]], Any], questions: list[tuple[str, dict[str, Any]]], step: int
) -> None:
    """None fails: no denial. One fails: its reason. Two fail: the first one's, at this step."""
    assert ask({}) is None
    for reason, failing in questions:
        denial = ask(failing)
        assert (denial.reason.value, denial.step) == (reason, step)
    for (earlier, first), (_later, second) in combinations(questions, 2):
        assert ask(first | second).reason.value == earlier


@pytest.mark.parametrize(
    ("domain", "method", "declared", "reason"),
    [
        ("text", "upper", {"text": ("upper",)}, None),
        ("mail", "upper", {"text": ("upper",)}, "domain_not_in_scope"),
        ("mail", "send", {"mail": ("send",)}, "domain_not_in_scope"),
        ("text", "reverse", {"text": ("reverse",)}, "method_not_in_scope"),
        ("text", "reverse", {"mail": ("send",)}, "method_not_in_scope"),
        ("text", "upper", {"mail": ("upper",)}, "domain_unknown"),
        ("text", "upper", {"text": ("lower",)}, "method_undeclared"),
        ("text", "append_note", {"text": ("append_note",)}, "method_not_in_scope"),
    ],
)
def test_scope_asks_the_token_before_the_catalogue_and_the_domain_before_the_method(
    domain: str, method: str, declared: dict[str, tuple[str, ...]], reason: str | None
) -> None:
    """Whoever may not call a domain does not learn whether it, or its method, is declared."""
    step = grants.step(domain, method, index=2)
    denial = decide_scope(grants.token(), step, grants.catalogue(**declared))
    assert (None if denial is None else (denial.reason.value, denial.step)) == (
        None if reason is None else (reason, 2)
    )


@pytest.mark.parametrize(
    ("domain", "method", "declared", "reason"),
    [
        ("text", "upper", {"text": ("upper",)}, "domain_not_accepted"),
        ("text", "upper", {"text": ("lower",)}, "method_undeclared"),
        ("text", "upper", {"mail": ("upper",)}, "domain_unknown"),
        ("text", "reverse", {"text": ("reverse",)}, "method_not_in_scope"),
        ("mail", "send", {"mail": ("send",)}, "domain_not_in_scope"),
    ],
)
def test_scope_asks_last_whether_an_operator_has_accepted_the_domain(
    domain: str, method: str, declared: dict[str, tuple[str, ...]], reason: str
) -> None:
    """What is declared never changes; what is withheld may be accepted in a moment."""
    withheld = Withheld(grants.catalogue(**declared))

    denial = decide_scope(grants.token(), grants.step(domain, method, index=2), withheld)

    assert denial is not None
    assert (denial.reason.value, denial.step) == (reason, 2)


def test_every_step_of_a_plan_is_asked_for_its_limits() -> None:
    """The step that is refused is named, and the frequency is asked of the plan, not of each."""
    usage = TokenUsage(invocations_charged=1, response_bytes_charged=0)
    facts = AdmissionFacts(
        limits=LIMITED,
        usage=usage,
        plan_starts_in_window=1,
        reserve_bytes=(1, 1, 1),
        time_left_s=1.0,
    )
    denial: Any = decide_admission_limits(facts)
    assert (denial.reason.value, denial.step) == ("invocations_exhausted", 2)
    two = replace(facts, reserve_bytes=(100, 101))
    denial = decide_admission_limits(two)
    assert (denial.reason.value, denial.step) == ("response_bytes_exhausted", 1)
    assert decide_admission_limits(replace(facts, reserve_bytes=(100, 100))) is None


def test_only_the_first_start_of_a_plan_counts_against_the_frequency() -> None:
    """A later step starts though the window is full."""
    facts = LimitFacts(
        limits=LIMITED,
        usage=TokenUsage(invocations_charged=0, response_bytes_charged=0),
        plan_starts_in_window=2,
        is_first_start=False,
        reserve_bytes=1,
        plan_response_bytes=0,
        time_left_s=1.0,
    )
    assert decide_step_limits(facts, step=1) is None


@pytest.mark.parametrize(
    ("digest", "steps", "lifetime_s", "reason"),
    [
        (grants.DIGEST, 2, 86_400, None),
        (grants.DIGEST, 3, 86_400, "plan_not_bound"),
        (grants.OTHER_DIGEST, 2, 86_400, "plan_not_bound"),
        (grants.DIGEST, 3, 1_800, None),
    ],
)
def test_a_long_life_is_for_exactly_the_plan_and_its_steps(
    digest: bytes, steps: int, lifetime_s: int, reason: str | None
) -> None:
    """Held to its plan and to two steps, a token may live for a day; a short life needs neither."""
    bound = grants.token(plan_digest=grants.DIGEST, max_invocations=2, lifetime_s=lifetime_s)
    denial = decide_token(grants.facts(bound, plan_digest=digest, steps=steps))
    assert (None if denial is None else denial.reason.value) == reason


def test_a_long_life_without_a_plan_is_not_bound_whatever_its_invocations() -> None:
    """As many invocations as the plan has steps are no binding to the plan."""
    unbound = grants.token(max_invocations=2)
    denial = decide_token(grants.facts(unbound, steps=2, ordinary_lifetime_s=300))
    assert denial is not None
    assert denial.reason.value == "plan_not_bound"
    assert decide_token(grants.facts(unbound, steps=2, ordinary_lifetime_s=600)) is None


def test_facts_that_are_printed_show_no_key() -> None:
    """What is presented is worth as much as the credential to whoever can look it up."""
    facts = grants.facts(presented_key=b"presented key")
    assert "presented key" not in repr(facts)
