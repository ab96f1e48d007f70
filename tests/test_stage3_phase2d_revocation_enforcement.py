"""Revocation: asked first, immediate, permanent, idempotent, and effective between two steps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import grpc
import pytest

from servicekit.serving.client_errors import decode_rpc_error
from tests.harness.stage3 import TIMEOUT_S, running_stage3, step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.manual_clock import ManualClock
    from tests.harness.fixtures import Trial
    from tests.harness.stage3 import Stage3UnderTest

SCOPE = {"text": ("upper",), "trial": ("echo", "effect", "slow", "hang")}
ECHO = step("trial", "echo", a=1)


def denial(stage3: Stage3UnderTest, plan_id: str) -> str:
    """Return the precise reason of a plan's denied token check."""
    reasons = [
        event["reason"]
        for event in stage3.events(plan_id=plan_id, event_type="TOKEN_VALIDATION")
        if event["status"] == "denied"
    ]
    return str(reasons[0])


class TestRevocationIsAskedFirst:
    """A revoked token is revoked before it is anything else."""

    @pytest.mark.parametrize(
        "wrong",
        [
            {"user_id": "eve"},
            {"caller": "spiffe://stagegate.test/client/other"},
            {"trigger_type": "scheduled"},
        ],
        ids=["user", "caller", "trigger"],
    )
    def test_the_log_says_revoked_whatever_else_is_wrong(
        self, stage3: Stage3UnderTest, wrong: dict[str, str]
    ) -> None:
        """Another failing question does not hide the first."""
        token = stage3.issue(scope=SCOPE)
        stage3.revoke(token.token.token_id)
        answer = stage3.run(token.token_hash, ECHO, **wrong)
        assert answer.reason == "TOKEN_NOT_ACCEPTED"
        assert denial(stage3, "plan-1") == "token_revoked"

    def test_an_expired_token_that_was_revoked_is_revoked(
        self, stage3: Stage3UnderTest, clock: ManualClock
    ) -> None:
        """The tombstone outlives the token's life; the caller is not told that it expired."""
        token = stage3.issue(scope=SCOPE, lifetime_seconds=60)
        stage3.revoke(token.token.token_id)
        clock.advance(61)
        assert stage3.run(token.token_hash, ECHO).reason == "TOKEN_NOT_ACCEPTED"
        assert denial(stage3, "plan-1") == "token_revoked"

    def test_a_caller_cannot_tell_revoked_from_unknown(self, stage3: Stage3UnderTest) -> None:
        """Reason, sentence and details are the same."""
        token = stage3.issue(scope=SCOPE)
        stage3.revoke(token.token.token_id)
        revoked = stage3.run(token.token_hash, ECHO)
        unknown = stage3.run("token_" + "A" * 43, ECHO)
        assert revoked.error == unknown.error


class TestRevocationIsImmediateAndPermanent:
    """Once RevokeToken has answered, no step of the token starts."""

    def test_the_next_plan_is_refused(self, stage3: Stage3UnderTest, trial: Trial) -> None:
        """A plan that ran a moment ago does not run again."""
        token = stage3.issue(scope=SCOPE)
        assert stage3.run(token.token_hash, ECHO).kind == "completed"
        stage3.revoke(token.token.token_id)
        assert stage3.run(token.token_hash, ECHO).kind == "refused"
        assert len(trial.domain.received) == 1

    def test_it_stops_the_second_step_of_a_running_plan(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """Between two steps the gates are asked again; the first effect stays and is recorded."""
        token = stage3.issue(scope=SCOPE)
        with ThreadPoolExecutor(1) as pool:
            plan = pool.submit(stage3.run, token.token_hash, step("trial", "hang"), ECHO)
            assert trial.domain.entered.acquire(timeout=10)
            revoked = stage3.revoke(token.token.token_id)
            trial.domain.release.set()
            answer = plan.result(timeout=10)
        assert [(flight.plan_id, flight.step) for flight in revoked.steps_in_flight] == [
            ("plan-1", 0)
        ]
        assert (answer.kind, answer.reason, answer.ended.step) == (
            "denied",
            "TOKEN_NOT_ACCEPTED",
            1,
        )
        assert stage3.trail("plan-1")[-3:] == [
            ("EXECUTION_COMPLETED", "success", 0),
            ("TOKEN_VALIDATION", "denied", 1),
            ("EXECUTION_DENIED", "denied", 1),
        ]

    def test_it_survives_a_restart(self, tmp_path: Path) -> None:
        """A revoked token is revoked for whoever opens the store next."""
        with running_stage3(tmp_path) as first:
            token = first.issue()
            first.revoke(token.token.token_id)
        with running_stage3(tmp_path, create=False) as second:
            answer = second.run(token.token_hash, step("text", "upper", text="a"))
            assert answer.reason == "TOKEN_NOT_ACCEPTED"

    def test_no_start_follows_a_revocation_under_load(self, stage3: Stage3UnderTest) -> None:
        """With eight callers hammering, the log holds no EXECUTION_STARTED after TOKEN_REVOKED.

        Each submits plans until one does not complete, and has begun before a token is revoked.
        """
        tokens = [stage3.issue(scope=SCOPE) for _ in range(4)]
        begun = Barrier(9)

        def hammer(number: int) -> str:
            token_hash = tokens[number % 4].token_hash
            last = stage3.run(token_hash, ECHO, ECHO)
            assert last.kind == "completed"
            begun.wait(TIMEOUT_S)
            while last.kind == "completed":
                last = stage3.run(token_hash, ECHO, ECHO)
            return last.reason

        stage3.plans()
        with ThreadPoolExecutor(8) as pool:
            callers = [pool.submit(hammer, number) for number in range(8)]
            begun.wait(TIMEOUT_S)
            for token in tokens:
                stage3.revoke(token.token.token_id)
            assert {caller.result(TIMEOUT_S) for caller in callers} == {"TOKEN_NOT_ACCEPTED"}
        revoked: set[str] = set()
        for event in stage3.events():
            if event["event_type"] == "TOKEN_REVOKED":
                revoked.add(event["token_id"])
            if event["event_type"] == "EXECUTION_STARTED":
                assert event["token_id"] not in revoked, event
        assert len(revoked) == len(tokens)


class TestRevocationIsIdempotent:
    """Revoking twice is one append and one truth."""

    def test_the_second_time_appends_nothing(self, stage3: Stage3UnderTest) -> None:
        """The answer says that it had been revoked, and the log holds one TOKEN_REVOKED."""
        token = stage3.issue(scope=SCOPE)
        first = stage3.revoke(token.token.token_id, "lost laptop")
        second = stage3.revoke(token.token.token_id, "to be sure")
        assert (first.already_revoked, second.already_revoked) == (False, True)
        assert first.token.revoke_time == second.token.revoke_time
        recorded = stage3.events(event_type="TOKEN_REVOKED")
        assert [event["reason"] for event in recorded] == ["lost laptop"]

    def test_revoking_one_token_leaves_the_others(self, stage3: Stage3UnderTest) -> None:
        """Tokens are independent, also those of one user with one scope."""
        gone, kept = stage3.issue(scope=SCOPE), stage3.issue(scope=SCOPE)
        stage3.revoke(gone.token.token_id)
        assert stage3.run(kept.token_hash, ECHO).kind == "completed"

    @pytest.mark.parametrize(
        ("token_id", "reason", "expected"),
        [
            ("tok_" + "0" * 32, "a reason", "TOKEN_NOT_FOUND"),
            ("", "a reason", "TOKEN_NOT_FOUND"),
            ("tok_" + "0" * 32, "", "REQUEST_INVALID"),
            ("tok_" + "0" * 32, "a\nb", "REQUEST_INVALID"),
        ],
        ids=["unknown", "empty", "no-reason", "forged-line"],
    )
    def test_a_revocation_that_names_nothing_is_refused(
        self, stage3: Stage3UnderTest, token_id: str, reason: str, expected: str
    ) -> None:
        """An operator is told that nothing was revoked, and the log holds nothing."""
        with pytest.raises(grpc.RpcError) as refused:
            stage3.revoke(token_id, reason)
        assert decode_rpc_error(refused.value).reason == expected
        assert stage3.events(event_type="TOKEN_REVOKED") == []
