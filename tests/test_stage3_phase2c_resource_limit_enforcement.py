"""Gate 3: four limits, inclusive, cumulative for a token's life, charged where a step starts.

Every test speaks to a real Stage-3 over mTLS, with its store on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from stagegate.stage3.v1.token_service_pb2 import ListTokensRequest

from tests.fakes.domains import trial_domain
from tests.harness.stage3 import running_stage3, step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.manual_clock import ManualClock
    from tests.harness.fixtures import Trial
    from tests.harness.stage3 import Stage3UnderTest

SCOPE = {"text": ("upper", "sha256"), "trial": ("echo", "fail", "unreachable", "silent", "effect")}
ECHO = step("trial", "echo", a=1)
ECHO_BYTES = len(b'{"a": 1}')


def charged(stage3: Stage3UnderTest, token_id: str) -> tuple[int, int]:
    """Return the invocations and response bytes charged to a token."""
    page = stage3.tokens().ListTokens(ListTokensRequest(page_size=500), timeout=10)
    for token in page.tokens:
        if token.token_id == token_id:
            return token.invocations_charged, token.response_bytes_charged
    raise LookupError(token_id)


def last_gate(stage3: Stage3UnderTest, plan_id: str = "plan-1") -> str:
    """Return the precise reason of the plan's denied limit check."""
    reasons = [
        event["reason"]
        for event in stage3.events(plan_id=plan_id, event_type="RESOURCE_LIMIT_CHECK")
        if event["status"] == "denied"
    ]
    return str(reasons[0])


class TestInvocations:
    """`max_invocations` counts steps that started, over all plans of the token."""

    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_the_last_permitted_step_is_permitted(
        self, stage3: Stage3UnderTest, limit: int
    ) -> None:
        """A plan of exactly as many steps as are left runs: the limit is inclusive."""
        token = stage3.issue(scope=SCOPE, limits={"max_invocations": limit})
        assert stage3.run(token.token_hash, *[ECHO] * limit).kind == "completed"
        assert charged(stage3, token.token.token_id)[0] == limit

    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_a_plan_with_one_step_too_many_has_no_effect_at_all(
        self, stage3: Stage3UnderTest, trial: Trial, limit: int
    ) -> None:
        """Admission asks for all steps at once, so no step of such a plan runs."""
        token = stage3.issue(scope=SCOPE, limits={"max_invocations": limit})
        answer = stage3.run(token.token_hash, *[ECHO] * (limit + 1))
        assert (answer.kind, answer.reason) == ("refused", "LIMIT_EXCEEDED")
        assert trial.domain.received == []
        assert last_gate(stage3) == "invocations_exhausted"
        assert charged(stage3, token.token.token_id) == (0, 0)

    def test_plans_add_up_for_life(self, stage3: Stage3UnderTest) -> None:
        """Two plans of two steps leave one of five; a plan of two is refused, of one is not."""
        token = stage3.issue(scope=SCOPE, limits={"max_invocations": 5})
        for _ in range(2):
            assert stage3.run(token.token_hash, ECHO, ECHO).kind == "completed"
        assert stage3.run(token.token_hash, ECHO, ECHO).reason == "LIMIT_EXCEEDED"
        assert stage3.run(token.token_hash, ECHO).kind == "completed"
        assert stage3.run(token.token_hash, ECHO).reason == "LIMIT_EXCEEDED"

    @pytest.mark.parametrize("method", ["fail", "unreachable", "silent"])
    def test_a_step_that_did_not_succeed_is_not_refunded(
        self, stage3: Stage3UnderTest, method: str
    ) -> None:
        """What was charged at the start stays charged, however the step ended."""
        token = stage3.issue(scope=SCOPE, limits={"max_invocations": 1})
        assert stage3.run(token.token_hash, step("trial", method)).kind in {"failed", "in_doubt"}
        assert charged(stage3, token.token.token_id)[0] == 1
        assert stage3.run(token.token_hash, ECHO).reason == "LIMIT_EXCEEDED"

    def test_one_tokens_use_is_not_anothers(self, stage3: Stage3UnderTest) -> None:
        """Limits are per token: an exhausted one leaves its twin untouched."""
        first = stage3.issue(scope=SCOPE, limits={"max_invocations": 1})
        second = stage3.issue(scope=SCOPE, limits={"max_invocations": 1})
        assert stage3.run(first.token_hash, ECHO).kind == "completed"
        assert stage3.run(first.token_hash, ECHO).reason == "LIMIT_EXCEEDED"
        assert stage3.run(second.token_hash, ECHO).kind == "completed"


class TestFrequency:
    """`max_frequency` counts plans by their first start, in a sliding window."""

    def test_the_last_permitted_plan_of_a_window_is_permitted(
        self, stage3: Stage3UnderTest
    ) -> None:
        """Two plans per minute means two, not one."""
        token = stage3.issue(scope=SCOPE, limits={"max_frequency": "2 per 60 seconds"})
        kinds = [stage3.run(token.token_hash, ECHO).kind for _ in range(3)]
        assert kinds == ["completed", "completed", "refused"]
        assert last_gate(stage3, "plan-3") == "frequency_exhausted"

    def test_the_window_slides(self, stage3: Stage3UnderTest, clock: ManualClock) -> None:
        """A plan falls out of the window exactly as many seconds after its start as it is long."""
        token = stage3.issue(scope=SCOPE, limits={"max_frequency": "1 per 60 seconds"})
        assert stage3.run(token.token_hash, ECHO).kind == "completed"
        clock.advance(59.9)
        assert stage3.run(token.token_hash, ECHO).reason == "LIMIT_EXCEEDED"
        clock.advance(0.1)
        assert stage3.run(token.token_hash, ECHO).kind == "completed"

    def test_a_plan_counts_once_however_many_steps_it_has(self, stage3: Stage3UnderTest) -> None:
        """The frequency is charged at the first start of a plan only."""
        token = stage3.issue(scope=SCOPE, limits={"max_frequency": "1 per 60 seconds"})
        assert stage3.run(token.token_hash, ECHO, ECHO, ECHO).kind == "completed"

    def test_a_refused_plan_does_not_count(self, stage3: Stage3UnderTest) -> None:
        """Nothing started, nothing charged."""
        token = stage3.issue(scope=SCOPE, limits={"max_frequency": "1 per 60 seconds"})
        assert stage3.run(token.token_hash, step("text", "lower", text="a")).kind == "refused"
        assert stage3.run(token.token_hash, ECHO).kind == "completed"


class TestResponseBytes:
    """Bytes are reserved before the effect and settled to the actual size after it."""

    @pytest.mark.parametrize(
        ("limit", "kind"), [(ECHO_BYTES, "completed"), (ECHO_BYTES - 1, "failed")]
    )
    def test_one_response_is_bounded_inclusively(
        self, stage3: Stage3UnderTest, limit: int, kind: str
    ) -> None:
        """A response of exactly the limit passes; one byte more is an invalid answer."""
        token = stage3.issue(scope=SCOPE, limits={"max_response_bytes": limit})
        answer = stage3.run(token.token_hash, ECHO)
        assert answer.kind == kind
        assert answer.reason == ("" if kind == "completed" else "ANSWER_INVALID")

    def test_a_completed_step_costs_its_actual_size(self, stage3: Stage3UnderTest) -> None:
        """The reservation of 100 bytes gives way to the size of the response."""
        token = stage3.issue(
            scope=SCOPE, limits={"max_response_bytes": 100, "max_total_response_bytes": 1000}
        )
        assert stage3.run(token.token_hash, ECHO, ECHO).kind == "completed"
        assert charged(stage3, token.token.token_id) == (2, 2 * ECHO_BYTES)

    def test_a_step_in_doubt_keeps_its_reservation(self, stage3: Stage3UnderTest) -> None:
        """What the effect may have answered is not given back."""
        token = stage3.issue(scope=SCOPE, limits={"max_response_bytes": 100})
        assert stage3.run(token.token_hash, step("trial", "silent")).kind == "in_doubt"
        assert charged(stage3, token.token.token_id) == (1, 100)

    def test_the_total_is_asked_before_the_effect(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """A step whose reservation does not fit is refused, though its response might have."""
        token = stage3.issue(
            scope=SCOPE, limits={"max_response_bytes": 100, "max_total_response_bytes": 107}
        )
        assert stage3.run(token.token_hash, ECHO).kind == "completed"
        received = len(trial.domain.received)
        assert stage3.run(token.token_hash, ECHO).reason == "LIMIT_EXCEEDED"
        assert len(trial.domain.received) == received
        assert last_gate(stage3, "plan-2") == "response_bytes_exhausted"

    def test_the_total_is_inclusive(self, stage3: Stage3UnderTest) -> None:
        """A reservation that exactly fills the total is permitted."""
        token = stage3.issue(
            scope=SCOPE,
            limits={"max_response_bytes": 100, "max_total_response_bytes": 100 + ECHO_BYTES},
        )
        assert stage3.run(token.token_hash, ECHO, ECHO).kind == "completed"


class TestChargingIsPartOfStarting:
    """A charge is in the commit that holds EXECUTION_STARTED, and in no other."""

    def test_a_restart_finds_what_was_charged(self, tmp_path: Path) -> None:
        """The charges of a plan survive the service."""
        extra, _ = trial_domain()
        with running_stage3(tmp_path, extra_domains=[extra]) as first:
            token = first.issue(scope=SCOPE, limits={"max_invocations": 3})
            assert first.run(token.token_hash, ECHO, ECHO).kind == "completed"
        with running_stage3(tmp_path, extra_domains=[extra], create=False) as second:
            assert charged(second, token.token.token_id) == (2, 2 * ECHO_BYTES)
            again = second.request(token.token_hash, [ECHO, ECHO], plan_id="p", request_id="r")
            assert second.send(again).reason == "LIMIT_EXCEEDED"

    def test_a_gate_that_refuses_the_second_step_charges_only_the_first(
        self, stage3: Stage3UnderTest
    ) -> None:
        """The first step's response leaves no room for the second's reservation."""
        token = stage3.issue(
            scope=SCOPE, limits={"max_response_bytes": 100, "max_total_response_bytes": 105}
        )
        answer = stage3.run(token.token_hash, ECHO, ECHO)
        assert (answer.kind, answer.reason, answer.ended.step) == ("denied", "LIMIT_EXCEEDED", 1)
        assert charged(stage3, token.token.token_id) == (1, ECHO_BYTES)
