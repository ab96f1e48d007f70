"""One step of one domain through every gate: each gate in turn, each refusal, each record."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.fixtures import TRIAL_S
from tests.harness.pki import CALLERS, uri
from tests.harness.stage3 import step

if TYPE_CHECKING:
    from tests.fakes.manual_clock import ManualClock
    from tests.harness.fixtures import Trial
    from tests.harness.stage3 import Stage3UnderTest

SCOPE = {"text": ("upper", "ghost"), "trial": ("echo", "effect"), "phantom": ("anything",)}
UPPER = step("text", "upper", text="straße")
EFFECT = step("trial", "effect")


class TestTheWayThrough:
    """A single step passes the gates in order, has its effect once and is recorded."""

    def test_its_output_comes_back(self, stage3: Stage3UnderTest) -> None:
        """The domain's answer is the answer."""
        assert stage3.run(stage3.issue(scope=SCOPE).token_hash, UPPER).outputs == [
            {"text": "STRASSE"}
        ]

    def test_its_six_events_stand_in_order(self, stage3: Stage3UnderTest) -> None:
        """1 + 5n for n = 1."""
        stage3.run(stage3.issue(scope=SCOPE).token_hash, UPPER)
        assert [event_type for event_type, _, _ in stage3.trail("plan-1")] == [
            "TOKEN_VALIDATION",
            "AUTHORIZATION_SCOPE_CHECK",
            "RESOURCE_LIMIT_CHECK",
            "DATA_BOUNDARY_CHECK",
            "EXECUTION_STARTED",
            "EXECUTION_COMPLETED",
        ]

    def test_its_start_is_durable_before_its_effect(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """When the domain is called, the committed log already holds EXECUTION_STARTED."""
        sizes: list[int] = []
        ledger = stage3.service._ledger
        original = trial.domain.effects
        token = stage3.issue(scope=SCOPE)

        class Watching(list[str]):
            def append(self, key: str) -> None:
                sizes.append(ledger.head.size)
                super().append(key)

        trial.domain.effects = Watching(original)
        stage3.run(token.token_hash, EFFECT)
        started = stage3.events(plan_id="plan-1", event_type="EXECUTION_STARTED")[0]
        assert sizes == [started["seq"] + 1]

    def test_a_domain_is_handed_four_things(self, stage3: Stage3UnderTest, trial: Trial) -> None:
        """Method, parameters, deadline, idempotency key: no token, no user, no plan."""
        token = stage3.issue(scope=SCOPE)
        stage3.run(token.token_hash, step("trial", "echo", a=1))
        invocation = trial.domain.received[0]
        assert {field.name for field in fields(invocation)} == {
            "method",
            "parameters_json",
            "deadline_s",
            "idempotency_key",
        }
        assert (invocation.method, invocation.idempotency_key) == ("echo", "plan-1/0")
        assert json.loads(invocation.parameters_json) == {"a": 1}
        assert 0 < invocation.deadline_s <= TRIAL_S

    @pytest.mark.parametrize("trigger", [
        "manual", "direct_command", "async_request", "acknowledgment", "scheduled",
    ])  # fmt: skip
    def test_every_trigger_type_of_the_closed_list_can_be_allowed(
        self, stage3: Stage3UnderTest, trigger: str
    ) -> None:
        """A token that names the trigger accepts it."""
        token = stage3.issue(scope=SCOPE, allowed_trigger_types=[trigger])
        assert stage3.run(token.token_hash, UPPER, trigger_type=trigger).kind == "completed"


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None, str, str]] = {
    # case: (token fields, plan fields, step, public reason, gate's precise reason)
    "user": ({}, {"user_id": "eve"}, UPPER, "TOKEN_NOT_ACCEPTED", "user_mismatch"),
    "caller": ({}, {"caller": uri("other")}, UPPER, "TOKEN_NOT_ACCEPTED", "caller_mismatch"),
    "trigger": (
        {},
        {"trigger_type": "scheduled"},
        UPPER,
        "TRIGGER_NOT_ALLOWED",
        "trigger_not_allowed",
    ),
    "unknown-trigger": (
        {},
        {"trigger_type": "cron"},
        UPPER,
        "TRIGGER_NOT_ALLOWED",
        "trigger_not_allowed",
    ),
    "plan": ({"plan_digest": b"\x01" * 32}, {}, UPPER, "PLAN_NOT_BOUND", "plan_not_bound"),
    "domain": (
        {},
        {},
        step("notebook", "append_note", title="t", text=""),
        "DOMAIN_NOT_IN_SCOPE",
        "domain_not_in_scope",
    ),
    "method": (
        {},
        {},
        step("text", "lower", text="a"),
        "METHOD_NOT_IN_SCOPE",
        "method_not_in_scope",
    ),
    "undeclared-domain": (
        {},
        {},
        step("phantom", "anything"),
        "DOMAIN_UNKNOWN",
        "domain_unknown",
    ),
    "undeclared-method": ({}, {}, step("text", "ghost"), "METHOD_UNDECLARED", "method_undeclared"),
    "invocations": (
        {"limits": {"max_invocations": 1}},
        {},
        None,  # two steps with an effect
        "LIMIT_EXCEEDED",
        "invocations_exhausted",
    ),
    "bytes": (
        {"limits": {"max_response_bytes": 10, "max_total_response_bytes": 9}},
        {},
        UPPER,
        "LIMIT_EXCEEDED",
        "response_bytes_exhausted",
    ),
}


class TestEachGateInTurn:
    """Whatever is wrong, the first gate that sees it refuses, precisely in the log."""

    @pytest.mark.parametrize("case", REFUSALS)
    def test_it_is_refused_without_effect(
        self, stage3: Stage3UnderTest, trial: Trial, case: str
    ) -> None:
        """The caller gets the public reason, the log the precise one, the domain nothing."""
        token_fields, plan_fields, one_step, public, precise = REFUSALS[case]
        token = stage3.issue(scope=SCOPE, **token_fields)
        steps = [EFFECT, EFFECT] if one_step is None else [one_step]
        answer = stage3.run(token.token_hash, *steps, **plan_fields)
        assert (answer.kind, answer.reason) == ("refused", public)
        denied = [e for e in stage3.events(plan_id="plan-1") if e["status"] == "denied"]
        assert denied[0]["reason"] == precise
        assert denied[-1]["event_type"] == "EXECUTION_DENIED"
        assert denied[-1]["additional_data"]["terminal"] is True
        assert trial.domain.received == []

    def test_parameters_that_the_schema_refuses_are_denied(self, stage3: Stage3UnderTest) -> None:
        """Gate 4 is asked in the step: admitted, denied, request consumed."""
        token = stage3.issue(scope=SCOPE)
        answer = stage3.run(token.token_hash, step("text", "upper", txet="a"))
        assert (answer.kind, answer.reason) == ("denied", "PARAMETERS_INVALID")
        assert stage3.trail("plan-1") == [
            ("TOKEN_VALIDATION", "success", None),
            ("AUTHORIZATION_SCOPE_CHECK", "success", 0),
            ("RESOURCE_LIMIT_CHECK", "success", 0),
            ("DATA_BOUNDARY_CHECK", "denied", 0),
            ("EXECUTION_DENIED", "denied", 0),
        ]

    def test_an_expired_token_is_refused_at_its_last_instant(
        self, stage3: Stage3UnderTest, clock: ManualClock
    ) -> None:
        """At `expires_at` itself it is expired; a moment before it is not."""
        token = stage3.issue(scope=SCOPE, lifetime_seconds=100)
        clock.advance(99.999_999)
        assert stage3.run(token.token_hash, UPPER).kind == "completed"
        clock.advance(0.000_001)
        assert stage3.run(token.token_hash, UPPER).reason == "TOKEN_EXPIRED"

    def test_a_bearer_token_serves_any_client(self, stage3: Stage3UnderTest) -> None:
        """Issued with the explicit flag, and recorded as such."""
        token = stage3.issue(scope=SCOPE, client_identities=[], bearer=True)
        assert stage3.run(token.token_hash, UPPER, caller=uri("other")).kind == "completed"
        assert stage3.events(event_type="TOKEN_ISSUED")[0]["additional_data"]["bearer"] is True

    def test_a_plan_bound_token_executes_its_plan(self, stage3: Stage3UnderTest) -> None:
        """The digest in the token is the plan's own."""
        digest = stage3.request("token_x", [UPPER]).plan_digest
        token = stage3.issue(scope=SCOPE, plan_digest=digest)
        assert stage3.run(token.token_hash, UPPER).kind == "completed"
        other = step("text", "upper", text="strasse")
        assert stage3.run(token.token_hash, other).reason == "PLAN_NOT_BOUND"


class TestTheDoor:
    """Only Stage-4 may call the one RPC, and what it sends is read again."""

    @pytest.mark.parametrize("caller", sorted(set(CALLERS) - {"stage4"}))
    def test_nobody_else_may_call(self, stage3: Stage3UnderTest, caller: str) -> None:
        """PERMISSION_DENIED METHOD_NOT_PERMITTED, and no plan in the log."""
        token = stage3.issue(scope=SCOPE)
        answer = stage3.send(stage3.request(token.token_hash, [UPPER]), caller=caller)
        assert answer.error is not None
        assert (answer.error.code, answer.reason) == (
            "PERMISSION_DENIED",
            "METHOD_NOT_PERMITTED",
        )
        assert stage3.events(plan_id="plan-1") == []

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"plan_id": ""}, "plan_id"),
            ({"plan_id": "a b"}, "plan_id"),
            ({"plan_id": "x" * 129}, "plan_id"),
            ({"request_id": ""}, "request_id"),
            ({"request_id": "a/b"}, "request_id"),
            ({"caller": ""}, "caller"),
            ({"caller": "spiffe://stagegate.test/stage4"}, "caller"),
            ({"caller": "spiffe://stagegate.test/client/cli\n"}, "caller"),
            ({"plan_digest": b"short"}, "plan_digest"),
            ({"user_id": ""}, "user_id"),
            ({"token_hash": ""}, "token_hash"),
            ({"trigger_type": ""}, "trigger_type"),
        ],
    )
    def test_a_malformed_submission_names_its_field(
        self, stage3: Stage3UnderTest, change: dict[str, Any], field: str
    ) -> None:
        """INVALID_ARGUMENT with one violation; recorded without what was malformed."""
        token = stage3.issue(scope=SCOPE)
        request = stage3.request(token.token_hash, [UPPER])
        for name, value in change.items():
            setattr(request, name, value)
        answer = stage3.send(request)
        assert answer.error is not None
        assert (answer.error.code, answer.reason) == ("INVALID_ARGUMENT", "PLAN_INVALID")
        assert [path for path, _ in answer.error.violations] == [field]
        denied = stage3.events(event_type="EXECUTION_DENIED")
        assert [event["reason"] for event in denied] == ["PLAN_INVALID"]

    def test_a_wrong_digest_is_refused_and_recorded(self, stage3: Stage3UnderTest) -> None:
        """Both services compute it; a difference means that one of them lies or errs."""
        token = stage3.issue(scope=SCOPE)
        answer = stage3.run(token.token_hash, UPPER, plan_digest=b"\x00" * 32)
        assert answer.reason == "DIGEST_MISMATCH"
        assert stage3.trail("plan-1") == [("EXECUTION_DENIED", "denied", None)]

    @pytest.mark.parametrize(
        "spelled",
        [b"", b"[]", b"null", b"{", b'{"a":1,"a":2}', b'{"a":NaN}', b"{} x", b"\xff"],
    )
    def test_parameters_are_parsed_strictly_again(
        self, stage3: Stage3UnderTest, spelled: bytes
    ) -> None:
        """What Stage-4 would never have passed on is refused here all the same."""
        token = stage3.issue(scope=SCOPE)
        request = stage3.request(token.token_hash, [UPPER])
        request.steps[0].parameters_json = spelled
        answer = stage3.send(request)
        assert answer.reason == "PLAN_INVALID"
        assert answer.error is not None
        assert answer.error.violations[0][0].startswith("steps[0].parameters")
