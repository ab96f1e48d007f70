"""Phase 1b: tokens are independent. Scopes never merge, nothing shadows, budgets are per token."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from stage3_service.authorization import limit_gate, scope_gate, token_gate
from stage3_service.authorization.gate import Denial, DenialReason
from stage3_service.authorization.limit_gate import AdmissionFacts, decide_admission_limits
from stage3_service.authorization.scope_gate import decide_scope
from stage3_service.authorization.token_gate import TokenFacts, decide_token
from stage3_service.tokens.token import CapabilityToken
from stage3_service.tokens.usage import TokenUsage, reservation, settle
from tests.harness.stage3 import Stage3UnderTest
from tests.harness.stage3 import step as plan_step
from tests.unit.stage3.grants import (
    NOW,
    OTHER_CLIENT,
    catalogue,
    charged,
    facts,
    issue,
    step,
    token,
)

TEXT_ONLY: dict[str, Any] = {
    "domain_scope": ("text",),
    "method_scope": (("text", ("upper",)),),
}
NOTEBOOK_ONLY: dict[str, Any] = {
    "domain_scope": ("notebook",),
    "method_scope": (("notebook", ("append_note",)),),
}
OPERATIONS = [("text", "upper"), ("text", "lower"), ("notebook", "append_note")]


def permitted(granted: CapabilityToken) -> set[tuple[str, str]]:
    """Return the operations that a token's own scope permits."""
    declared = catalogue()
    return {
        (domain, method)
        for domain, method in OPERATIONS
        if decide_scope(granted, step(domain, method), declared) is None
    }


class TestScopesNeverMerge:
    """Two tokens of one user permit what each says, and no more together."""

    def test_each_token_permits_its_own_scope_only(self) -> None:
        """The other token of the same user changes nothing."""
        assert permitted(token(seed=1, **TEXT_ONLY)) == {("text", "upper")}
        assert permitted(token(seed=2, **NOTEBOOK_ONLY)) == {("notebook", "append_note")}

    def test_a_plan_across_two_scopes_passes_under_neither_token(self) -> None:
        """There is no union of tokens: one plan has one token."""
        plan = [step("text", "upper", index=0), step("notebook", "append_note", index=1)]
        for granted, refused_step in ((token(**TEXT_ONLY), 1), (token(**NOTEBOOK_ONLY), 0)):
            denials = [decide_scope(granted, each, catalogue()) for each in plan]
            assert [denial.step for denial in denials if denial] == [refused_step]

    def test_methods_of_one_token_do_not_widen_another_with_the_same_domain(self) -> None:
        """The same domain in both does not join their methods."""
        lower: dict[str, Any] = {
            "domain_scope": ("text",),
            "method_scope": (("text", ("lower",)),),
        }
        assert permitted(token(seed=1, **TEXT_ONLY)) == {("text", "upper")}
        assert permitted(token(seed=2, **lower)) == {("text", "lower")}

    def test_methods_of_one_domain_do_not_leak_into_another_of_the_same_token(self) -> None:
        """`upper` of text is no method of notebook, whoever declares it."""
        declared = catalogue(text=("upper",), notebook=("upper", "append_note"))
        denial = decide_scope(token(), step("notebook", "upper"), declared)
        assert denial == Denial(DenialReason.METHOD_NOT_IN_SCOPE, 0)

    @pytest.mark.parametrize("gate", [token_gate, scope_gate, limit_gate])
    def test_no_gate_is_handed_more_than_one_token(self, gate: Any) -> None:
        """What a gate does not see, it cannot merge: no function takes a collection of tokens."""
        for _, function in inspect.getmembers(gate, inspect.isfunction):
            if function.__module__ == gate.__name__:
                text = str(inspect.signature(function))
                assert text.count("CapabilityToken") <= 1
                assert not any(
                    f"{collection}[CapabilityToken" in text
                    for collection in ("list", "tuple", "Sequence", "Iterable", "set", "frozenset")
                )

    def test_the_token_gate_knows_one_token(self) -> None:
        """The facts have room for exactly one."""
        types = [str(field.type) for field in fields(TokenFacts)]
        assert sum("CapabilityToken" in each for each in types) == 1


class TestNothingShadows:
    """No token takes precedence over another, whatever is older, wider or later."""

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_decisions_do_not_depend_on_the_order_of_asking(self, order: tuple[int, ...]) -> None:
        """Asking about other tokens first changes no answer."""
        tokens = [token(seed=0), token(seed=1, **TEXT_ONLY), token(seed=2, **NOTEBOOK_ONLY)]
        expected = [permitted(each) for each in tokens]
        answers = {index: permitted(tokens[index]) for index in order}
        assert [answers[index] for index in range(3)] == expected

    def test_a_wider_token_does_not_lift_a_narrower_one(self) -> None:
        """The narrow token still refuses what the wide one permits."""
        wide, narrow = token(seed=1), token(seed=2, **TEXT_ONLY)
        assert permitted(wide) > permitted(narrow) == {("text", "upper")}

    def test_a_newer_token_does_not_prolong_an_older_one(self) -> None:
        """Each expires at its own instant."""
        old = token(seed=1, lifetime_s=60)
        new = token(seed=2, lifetime_s=60, now=NOW + timedelta(seconds=59))
        later = NOW + timedelta(seconds=60)
        assert decide_token(facts(old, now=later)) == Denial(DenialReason.TOKEN_EXPIRED, None)
        assert decide_token(facts(new, now=later)) is None

    def test_a_tombstone_of_one_token_does_not_touch_another(self) -> None:
        """Revoking one leaves the others, of the same user, client and scope."""
        first, second = token(seed=1), token(seed=2)
        assert decide_token(facts(first, revoked=True)) == Denial(DenialReason.TOKEN_REVOKED, None)
        assert decide_token(facts(second, revoked=False)) is None

    def test_presenting_one_credential_never_uses_another_tokens_record(self) -> None:
        """A store that answers with the wrong record has found nothing."""
        first, second = token(seed=1), token(seed=2)
        denial = decide_token(facts(second, presented_key=first.token_key))
        assert denial == Denial(DenialReason.TOKEN_UNKNOWN, None)

    def test_callers_of_one_token_may_not_use_another(self) -> None:
        """The list of clients is the token's own."""
        first, second = token(seed=1), token(seed=2, client_identities=(OTHER_CLIENT,))
        assert decide_token(facts(first)) is None
        assert decide_token(facts(second)) == Denial(DenialReason.CALLER_MISMATCH, None)

    def test_tokens_issued_alike_differ_in_key_and_reference(self) -> None:
        """The same request twice is two tokens."""
        first, second = issue(seed=1), issue(seed=2)
        assert first.token.token_key != second.token.token_key
        assert first.token.token_id != second.token.token_id
        assert replace(
            second.token, token_key=first.token.token_key, token_id=first.token.token_id
        ) == (first.token)


class TestBudgetsArePerToken:
    """What one token consumes, no other pays."""

    def test_charging_one_usage_leaves_every_other_as_it_was(self) -> None:
        """Usage is a value: charging returns a new one."""
        first, second = TokenUsage(), TokenUsage()
        assert charged(first, 100) != first
        assert first == second == TokenUsage()

    def test_an_exhausted_token_does_not_exhaust_another(self) -> None:
        """The same limits, each against its own usage."""
        limits = token(max_invocations=1).resource_limits

        def decide(usage: TokenUsage) -> Denial | None:
            return decide_admission_limits(
                AdmissionFacts(
                    limits=limits,
                    usage=usage,
                    plan_starts_in_window=0,
                    reserve_bytes=(10,),
                    time_left_s=1.0,
                )
            )

        assert decide(TokenUsage(invocations_charged=1)) == Denial(
            DenialReason.INVOCATIONS_EXHAUSTED, 0
        )
        assert decide(TokenUsage()) is None

    def test_bytes_are_settled_to_the_token_that_reserved_them(self) -> None:
        """Settling one leaves the other's reservation."""
        first = charged(TokenUsage(), 100)
        second = charged(TokenUsage(), 100)
        assert settle(first, 100, 7).response_bytes_charged == 7
        assert second.response_bytes_charged == 100

    def test_reservations_follow_the_tokens_own_limit(self) -> None:
        """A stricter token reserves less for the same method."""
        strict = token(max_response_bytes=10).resource_limits
        assert reservation(strict, 1_000) == 10
        assert reservation(token().resource_limits, 1_000) == 1_000


class TestBesideEachOtherInOneService:
    """The same, of tokens that live in one store and are used in turns."""

    UPPER = plan_step("text", "upper", text="a")
    NOTE = plan_step("notebook", "append_note", title="log", text="a")

    def test_scopes_of_one_user_do_not_add_up(self, stage3: Stage3UnderTest) -> None:
        """Each token runs its own plan; the plan across both runs under neither."""
        text = stage3.issue(scope={"text": ("upper",)}).token_hash
        notebook = stage3.issue(scope={"notebook": ("append_note",)}).token_hash
        assert stage3.run(text, self.UPPER).kind == "completed"
        assert stage3.run(notebook, self.NOTE).kind == "completed"
        assert stage3.run(text, self.UPPER, self.NOTE).reason == "DOMAIN_NOT_IN_SCOPE"
        assert stage3.run(notebook, self.UPPER, self.NOTE).reason == "DOMAIN_NOT_IN_SCOPE"

    def test_a_later_wider_token_does_not_widen_an_earlier_one(
        self, stage3: Stage3UnderTest
    ) -> None:
        """Nor does a later narrower one narrow it."""
        narrow = stage3.issue(scope={"text": ("lower",)}).token_hash
        wide = stage3.issue(scope={"text": ("lower", "upper")}).token_hash
        stage3.issue(scope={"text": ("sha256",)})
        assert stage3.run(narrow, self.UPPER).reason == "METHOD_NOT_IN_SCOPE"
        assert stage3.run(wide, self.UPPER).kind == "completed"

    def test_revoking_one_leaves_the_other(self, stage3: Stage3UnderTest) -> None:
        """Issued alike, revoked apart."""
        revoked, other = stage3.issue(), stage3.issue()
        stage3.revoke(revoked.token.token_id)
        assert stage3.run(revoked.token_hash, self.UPPER).reason == "TOKEN_NOT_ACCEPTED"
        assert stage3.run(other.token_hash, self.UPPER).kind == "completed"

    def test_each_token_has_its_own_invocations(self, stage3: Stage3UnderTest) -> None:
        """Spending one does not spend the other."""
        first = stage3.issue(limits={"max_invocations": 1}).token_hash
        second = stage3.issue(limits={"max_invocations": 1}).token_hash
        assert stage3.run(first, self.UPPER).kind == "completed"
        assert stage3.run(first, self.UPPER).reason == "LIMIT_EXCEEDED"
        assert stage3.run(second, self.UPPER).kind == "completed"
        assert stage3.run(second, self.UPPER).reason == "LIMIT_EXCEEDED"

    def test_each_token_has_its_own_frequency(self, stage3: Stage3UnderTest) -> None:
        """One token's plans do not fill the other's window."""
        often = {"max_frequency": "1 per 60 seconds"}
        first, second = stage3.issue(limits=often).token_hash, stage3.issue(limits=often).token_hash
        assert stage3.run(first, self.UPPER).kind == "completed"
        assert stage3.run(first, self.UPPER).reason == "LIMIT_EXCEEDED"
        assert stage3.run(second, self.UPPER).kind == "completed"
