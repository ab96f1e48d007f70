"""Phase 2a: gate 1 asks its questions in one order, and the first that fails is the answer.

Revoked? Exists? User and caller match? Expired? Trigger allowed? Plan bound?
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest

from stage3_service.authorization.gate import Denial, DenialReason, GateName
from stage3_service.authorization.token_gate import TokenFacts, decide_token
from stage3_service.errors import Reason
from stage3_service.tokens.credential import credential_key
from tests.fakes.manual_clock import ManualClock
from tests.harness.pki import uri
from tests.harness.stage3 import Stage3UnderTest
from tests.harness.stage3 import step as plan_step
from tests.unit.stage3.grants import (
    CLIENT,
    DIGEST,
    NOW,
    OTHER_CLIENT,
    OTHER_DIGEST,
    facts,
    token,
)

# In the contract's order: what fails a question, and the precise reason.
FAILURES: list[tuple[DenialReason, dict[str, Any]]] = [
    (DenialReason.TOKEN_REVOKED, {"revoked": True}),
    (DenialReason.TOKEN_UNKNOWN, {"presented_key": bytes(32)}),
    (DenialReason.USER_MISMATCH, {"user_id": "mallory"}),
    (DenialReason.CALLER_MISMATCH, {"caller": OTHER_CLIENT}),
    (DenialReason.TOKEN_EXPIRED, {"now": NOW + timedelta(days=1)}),
    (DenialReason.TRIGGER_NOT_ALLOWED, {"trigger_type": "scheduled"}),
    (DenialReason.PLAN_NOT_BOUND, {"plan_digest": OTHER_DIGEST}),
]
SUBSETS = [subset for size in range(len(FAILURES) + 1) for subset in combinations(FAILURES, size)]


def bound_facts(**changes: Any) -> TokenFacts:
    """Return facts of a plan-bound token that passes every question, with changes."""
    return facts(token(plan_digest=DIGEST), **changes)


def reason_of(denial: Denial | None) -> object:
    """Return the precise reason, or None."""
    return denial and denial.reason


@pytest.mark.parametrize(
    "subset", SUBSETS, ids=lambda subset: "+".join(reason for reason, _ in subset) or "none"
)
class TestEveryFailingSubset:
    """Whatever else is wrong, the first failing question is the answer."""

    def test_the_first_failing_question_is_the_answer(
        self, subset: tuple[tuple[DenialReason, dict[str, Any]], ...]
    ) -> None:
        """All 128 subsets of seven failures; the empty one passes."""
        changes = {name: value for _, failure in subset for name, value in failure.items()}
        expected = subset[0][0] if subset else None
        assert reason_of(decide_token(bound_facts(**changes))) == expected

    def test_an_absent_record_is_unknown_unless_a_tombstone_is_left(
        self, subset: tuple[tuple[DenialReason, dict[str, Any]], ...]
    ) -> None:
        """Without a record only the tombstone can be asked first."""
        changes = {name: value for _, failure in subset for name, value in failure.items()}
        denial = decide_token(replace(bound_facts(**changes), token=None))
        revoked = bool(changes.get("revoked"))
        expected = DenialReason.TOKEN_REVOKED if revoked else DenialReason.TOKEN_UNKNOWN
        assert reason_of(denial) == expected


class TestWhatACallerLearns:
    """Outside, four reasons are one; the rest are told."""

    @pytest.mark.parametrize(("reason", "failure"), FAILURES[:4])
    def test_four_reasons_are_one_answer(
        self, reason: DenialReason, failure: dict[str, Any]
    ) -> None:
        """Revoked, unknown, wrong user and wrong caller cannot be told apart."""
        denial = decide_token(bound_facts(**failure))
        assert denial is not None
        assert denial.reason is reason
        assert denial.public is Reason.TOKEN_NOT_ACCEPTED
        assert denial.message == "the token is not accepted"

    @pytest.mark.parametrize(
        ("failure", "public"),
        [
            (FAILURES[4][1], Reason.TOKEN_EXPIRED),
            (FAILURES[5][1], Reason.TRIGGER_NOT_ALLOWED),
            (FAILURES[6][1], Reason.PLAN_NOT_BOUND),
        ],
    )
    def test_whoever_may_use_the_token_is_told_why_not(
        self, failure: dict[str, Any], public: Reason
    ) -> None:
        """Expiry, trigger and binding are told to the token's own user and caller."""
        denial = decide_token(bound_facts(**failure))
        assert denial is not None
        assert denial.public is public

    @pytest.mark.parametrize(("reason", "failure"), FAILURES)
    def test_a_denial_says_nothing_about_the_token(
        self, reason: DenialReason, failure: dict[str, Any]
    ) -> None:
        """No identifier, user, caller, instant or digest is in the sentence."""
        granted = token(plan_digest=DIGEST)
        denial = decide_token(facts(granted, **failure))
        assert denial is not None
        for secret in (granted.token_id, "alice", CLIENT, str(granted.expires_at), DIGEST.hex()):
            assert secret not in denial.message

    def test_facts_do_not_print_the_presented_key(self) -> None:
        """What was presented is in no log by accident."""
        assert "presented_key" not in repr(facts())

    @pytest.mark.parametrize("step", [None, 0, 3])
    def test_a_denial_names_the_step_before_which_it_was_asked(self, step: int | None) -> None:
        """None at admission, the step's index at a re-check."""
        denial = decide_token(facts(revoked=True), step=step)
        assert denial == Denial(DenialReason.TOKEN_REVOKED, step)
        assert denial.gate is GateName.TOKEN


class TestEachQuestion:
    """Each question alone, at its edges."""

    def test_expiry_is_exclusive_to_the_microsecond(self) -> None:
        """At `expires_at` a token is expired; one microsecond before it is not."""
        granted = token(lifetime_s=60)
        last = granted.expires_at - timedelta(microseconds=1)
        assert decide_token(facts(granted, now=last)) is None
        assert reason_of(decide_token(facts(granted, now=granted.expires_at))) == (
            DenialReason.TOKEN_EXPIRED
        )

    @pytest.mark.parametrize("user_id", ["Alice", "alice ", "alicе", "alic", "alice2", "", "*"])
    def test_a_user_is_matched_exactly(self, user_id: str) -> None:
        """No case folding, padding, look-alike, prefix or pattern."""
        assert reason_of(decide_token(facts(user_id=user_id))) == DenialReason.USER_MISMATCH

    @pytest.mark.parametrize(
        "caller",
        [
            *("", "front", "*", CLIENT + "x", CLIENT[:-1], CLIENT.upper(), CLIENT + "/"),
            CLIENT.replace("/client/", "/operator/"),
            CLIENT.replace("stagegate.test", "stagegate.test.evil"),
        ],
    )
    def test_a_caller_is_matched_exactly(self, caller: str) -> None:
        """The whole identity or nothing."""
        assert reason_of(decide_token(facts(caller=caller))) == DenialReason.CALLER_MISMATCH

    def test_every_listed_caller_is_accepted(self) -> None:
        """Any one of the list."""
        granted = token(client_identities=(CLIENT, OTHER_CLIENT))
        for caller in (CLIENT, OTHER_CLIENT):
            assert decide_token(facts(granted, caller=caller)) is None

    def test_a_bearer_token_accepts_any_caller_and_only_its_user(self) -> None:
        """The flag opens the caller's question and no other."""
        granted = token(client_identities=(), bearer=True)
        assert decide_token(facts(granted, caller=OTHER_CLIENT)) is None
        denial = decide_token(facts(granted, caller=OTHER_CLIENT, user_id="mallory"))
        assert reason_of(denial) == DenialReason.USER_MISMATCH

    def test_an_unbound_token_accepts_any_plan(self) -> None:
        """Without a digest there is nothing to match."""
        assert decide_token(facts(token(), plan_digest=OTHER_DIGEST)) is None

    @pytest.mark.parametrize("position", [0, 15, 31])
    def test_a_bound_token_refuses_a_digest_that_differs_in_one_bit(self, position: int) -> None:
        """One changed value of a plan changes its digest."""
        changed = bytearray(DIGEST)
        changed[position] ^= 1
        denial = decide_token(bound_facts(plan_digest=bytes(changed)))
        assert reason_of(denial) == DenialReason.PLAN_NOT_BOUND

    @pytest.mark.parametrize(("steps", "passes"), [(1, False), (2, True), (3, False)])
    def test_a_long_lived_token_runs_a_plan_of_exactly_its_invocations(
        self, steps: int, passes: bool
    ) -> None:
        """A life beyond the ordinary is bought with a single use."""
        granted = token(lifetime_s=86_400, plan_digest=DIGEST, max_invocations=2)
        denial = decide_token(facts(granted, steps=steps))
        assert reason_of(denial) == (None if passes else DenialReason.PLAN_NOT_BOUND)

    def test_a_bound_token_of_ordinary_life_may_run_its_plan_more_than_once(self) -> None:
        """Within the ordinary life the number of steps is the limit gate's alone."""
        granted = token(lifetime_s=1_800, plan_digest=DIGEST, max_invocations=8)
        assert decide_token(facts(granted, steps=2)) is None

    def test_a_long_lived_token_without_a_plan_is_never_accepted(self) -> None:
        """Wherever it came from: a stricter setting holds for tokens issued before it."""
        granted = token(lifetime_s=1_800, max_invocations=2)
        denial = decide_token(facts(granted, steps=2, ordinary_lifetime_s=1_799))
        assert reason_of(denial) == DenialReason.PLAN_NOT_BOUND

    def test_a_tombstone_refuses_what_would_pass_every_other_question(self) -> None:
        """Revocation is asked first and alone suffices."""
        assert decide_token(facts()) is None
        assert reason_of(decide_token(facts(revoked=True))) == DenialReason.TOKEN_REVOKED


# What makes each question fail at a running service, in the contract's order.
AT_THE_DOOR = [
    "token_revoked",
    "user_mismatch",
    "caller_mismatch",
    "token_expired",
    "trigger_not_allowed",
    "plan_not_bound",
]


class TestAtTheDoor:
    """The order holds of a running service with its store."""

    @pytest.mark.parametrize("first", range(len(AT_THE_DOOR)), ids=AT_THE_DOOR)
    def test_with_everything_else_wrong_too_the_first_is_recorded(
        self, stage3: Stage3UnderTest, clock: ManualClock, first: int
    ) -> None:
        """All questions from the first on fail at once."""
        failing = AT_THE_DOOR[first:]
        issued = stage3.issue(plan_digest=OTHER_DIGEST, lifetime_seconds=60)
        if "token_revoked" in failing:
            stage3.revoke(issued.token.token_id)
        if "token_expired" in failing:
            clock.advance(60)
        changes = {
            name: value
            for reason, name, value in (
                ("user_mismatch", "user_id", "eve"),
                ("caller_mismatch", "caller", uri("other")),
                ("trigger_not_allowed", "trigger_type", "scheduled"),
            )
            if reason in failing
        }
        answer = stage3.run(issued.token_hash, plan_step("text", "upper", text="a"), **changes)
        assert answer.kind == "refused"
        (event,) = stage3.events(event_type="TOKEN_VALIDATION")
        assert (event["status"], event["reason"]) == ("denied", failing[0])
        assert stage3.events(event_type="EXECUTION_STARTED") == []

    def test_an_unknown_token_leaves_nothing_of_what_was_presented(
        self, stage3: Stage3UnderTest
    ) -> None:
        """The event has no token, and no hash of a guess."""
        guess = "token_" + "A" * 43
        answer = stage3.run(guess, plan_step("text", "upper", text="a"))
        assert answer.reason == "TOKEN_NOT_ACCEPTED"
        (event,) = stage3.events(event_type="TOKEN_VALIDATION")
        assert (event["reason"], event["token_id"]) == ("token_unknown", None)
        assert guess not in str(event)
        assert credential_key(guess).hex() not in str(event)
