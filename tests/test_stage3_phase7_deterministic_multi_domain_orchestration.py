"""Plans of several steps over several domains: fixed order, 1 + 5n events, closed failures."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from grpc_health.v1 import (  # type: ignore[import-untyped]  # ships no types
    health_pb2,
    health_pb2_grpc,
)

from stage3_service.errors import Refusal
from stage3_service.wire.codec import decode_submission
from tests.harness.stage3 import TIMEOUT_S, running_stage3, step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fakes.manual_clock import ManualClock
    from tests.harness.fixtures import Trial
    from tests.harness.stage3 import Stage3UnderTest

SCOPE = {
    "text": ("upper", "lower", "sha256"),
    "notebook": ("append_note", "list_notes"),
    "trial": (
        "echo",
        "effect",
        "fail",
        "raise_error",
        "no_answer",
        "silent",
        "unreachable",
        "hang",
        "stall",
        "garbage",
        "oversized",
    ),
}
ECHO = step("trial", "echo", a=1)
STEP_EVENTS = [
    ("AUTHORIZATION_SCOPE_CHECK", "success"),
    ("RESOURCE_LIMIT_CHECK", "success"),
    ("DATA_BOUNDARY_CHECK", "success"),
    ("EXECUTION_STARTED", "started"),
    ("EXECUTION_COMPLETED", "success"),
]


def successful_trail(steps: int) -> list[tuple[str, str, int | None]]:
    """Return the events of a plan of so many steps that succeeds."""
    trail: list[tuple[str, str, int | None]] = [("TOKEN_VALIDATION", "success", None)]
    for index in range(steps):
        trail += [(event_type, status, index) for event_type, status in STEP_EVENTS]
    return trail


def terminals(events: list[dict[str, Any]]) -> list[str]:
    """Return the types of the events that say they are the last."""
    return [
        event["event_type"] for event in events if event["additional_data"].get("terminal") is True
    ]


class TestEventsOfASuccess:
    """A plan of n steps leaves exactly 1 + 5n events, in one order."""

    @pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 64])
    def test_n_steps_leave_one_and_five_n_events(self, stage3: Stage3UnderTest, steps: int) -> None:
        """Each event is there once and in its place."""
        token = stage3.issue(scope=SCOPE)
        assert stage3.run(token.token_hash, *[ECHO] * steps).kind == "completed"
        trail = stage3.trail("plan-1")
        assert trail == successful_trail(steps)
        assert len(trail) == 1 + 5 * steps

    @pytest.mark.parametrize("steps", [1, 3])
    def test_exactly_the_last_event_is_terminal(self, stage3: Stage3UnderTest, steps: int) -> None:
        """One terminal event, and nothing of the plan after it."""
        token = stage3.issue(scope=SCOPE)
        stage3.run(token.token_hash, *[ECHO] * steps)
        events = stage3.events(plan_id="plan-1")
        assert terminals(events) == ["EXECUTION_COMPLETED"]
        assert events[-1]["additional_data"]["terminal"] is True

    def test_three_steps_over_three_domains_leave_sixteen(self, stage3: Stage3UnderTest) -> None:
        """The kind of domain makes no difference to the trail."""
        token = stage3.issue(scope=SCOPE)
        answer = stage3.run(
            token.token_hash,
            step("text", "upper", text="a"),
            step("notebook", "append_note", title="t", text="b"),
            ECHO,
        )
        assert answer.kind == "completed"
        assert stage3.trail("plan-1") == successful_trail(3)

    def test_the_same_plan_twice_leaves_the_same_events(self, stage3: Stage3UnderTest) -> None:
        """Beside positions, times, identifiers and salted commitments, nothing differs."""
        token = stage3.issue(scope=SCOPE)
        for _ in range(2):
            stage3.run(token.token_hash, step("text", "upper", text="a"), ECHO)

        def shape(plan_id: str) -> list[Any]:
            return [
                (e["event_type"], e["status"], e["step"], e["domain"], e["method"], e["reason"])
                for e in stage3.events(plan_id=plan_id)
            ]

        assert shape("plan-1") == shape("plan-2")

    def test_the_token_is_validated_once_per_plan(self, stage3: Stage3UnderTest) -> None:
        """A re-check that passes says nothing."""
        token = stage3.issue(scope=SCOPE)
        stage3.run(token.token_hash, *[ECHO] * 4)
        assert len(stage3.events(plan_id="plan-1", event_type="TOKEN_VALIDATION")) == 1

    def test_n_steps_cost_n_plus_one_commits(self, stage3: Stage3UnderTest) -> None:
        """Barriers are joined: each step's record shares a commit with the next step's start."""
        token = stage3.issue(scope=SCOPE)
        ledger = stage3.service._ledger
        before = ledger.commits
        stage3.run(token.token_hash, *[ECHO] * 3)
        assert ledger.commits - before == 4


class TestOrder:
    """Steps run in the order of the plan, one at a time."""

    @pytest.mark.parametrize("steps", [2, 5, 10])
    def test_a_domain_sees_the_steps_in_order(
        self, stage3: Stage3UnderTest, trial: Trial, steps: int
    ) -> None:
        """The idempotency keys count up."""
        token = stage3.issue(scope=SCOPE)
        stage3.run(token.token_hash, *[step("trial", "echo", n=n) for n in range(steps)])
        keys = [invocation.idempotency_key for invocation in trial.domain.received]
        assert keys == [f"plan-1/{index}" for index in range(steps)]

    def test_results_are_in_the_order_of_the_steps(self, stage3: Stage3UnderTest) -> None:
        """Each output stands at its step's place."""
        token = stage3.issue(scope=SCOPE)
        answer = stage3.run(
            token.token_hash, *[step("trial", "echo", n=number) for number in (3, 1, 2)]
        )
        assert answer.outputs == [{"n": 3}, {"n": 1}, {"n": 2}]

    def test_a_step_starts_only_when_the_one_before_is_recorded(
        self, stage3: Stage3UnderTest
    ) -> None:
        """In the log, COMPLETED of a step comes before STARTED of the next."""
        token = stage3.issue(scope=SCOPE)
        stage3.run(token.token_hash, *[ECHO] * 6)
        marks = [
            (event["event_type"], event["step"])
            for event in stage3.events(plan_id="plan-1")
            if event["event_type"].startswith("EXECUTION_")
        ]
        assert marks == [
            (event_type, index)
            for index in range(6)
            for event_type in ("EXECUTION_STARTED", "EXECUTION_COMPLETED")
        ]

    def test_outputs_are_verbatim(self, stage3: Stage3UnderTest) -> None:
        """What a domain wrote is passed on byte for byte, spelling of numbers included."""
        token = stage3.issue(scope=SCOPE)
        spelled = b'{"b" : 1.50,\t"a":[1e2,"\\u0041"]}'
        answer = stage3.run(
            token.token_hash,
            {"domain": "trial", "method": "echo", "parameters_json": spelled},
        )
        assert answer.ended.result_json == (
            b'{"status":"completed","results":[{"step":0,"output":' + spelled + b"}]}"
        )

    def test_parameters_are_verbatim(self, stage3: Stage3UnderTest, trial: Trial) -> None:
        """Without a binding a domain gets the client's own bytes."""
        token = stage3.issue(scope=SCOPE)
        spelled = b'{ "z":1.0 , "a":"\\u00e9" }'
        stage3.run(
            token.token_hash, {"domain": "trial", "method": "echo", "parameters_json": spelled}
        )
        assert trial.domain.received[0].parameters_json == spelled


FAILURES = {
    "fail": ("failed", "DOMAIN_FAILED", "EXECUTION_COMPLETED", "failed"),
    "raise_error": ("failed", "DOMAIN_FAILED", "EXECUTION_COMPLETED", "failed"),
    "garbage": ("failed", "ANSWER_INVALID", "EXECUTION_COMPLETED", "failed"),
    "oversized": ("failed", "ANSWER_INVALID", "EXECUTION_COMPLETED", "failed"),
    "unreachable": ("failed", "DOMAIN_UNREACHABLE", "EXECUTION_COMPLETED", "failed"),
    "silent": ("in_doubt", "STEP_IN_DOUBT", "OPERATION_ABORTED", "aborted"),
    "stall": ("in_doubt", "STEP_IN_DOUBT", "OPERATION_ABORTED", "aborted"),
}


class TestFailClosed:
    """A step that does not succeed is the last one, and the answer says what may have happened."""

    @pytest.mark.parametrize("method", FAILURES)
    @pytest.mark.parametrize("position", [0, 1])
    def test_nothing_runs_after_a_failure(
        self, stage3: Stage3UnderTest, trial: Trial, method: str, position: int
    ) -> None:
        """The plan ends there: recorded once, terminal, with the steps before it kept."""
        kind, reason, event_type, status = FAILURES[method]
        token = stage3.issue(scope=SCOPE)
        steps = [step("trial", "effect"), ECHO]
        steps.insert(position, step("trial", method))
        answer = stage3.run(token.token_hash, *steps)
        assert (answer.kind, answer.reason, answer.ended.step) == (kind, reason, position)
        events = stage3.events(plan_id="plan-1")
        assert (events[-1]["event_type"], events[-1]["status"]) == (event_type, status)
        assert (events[-1]["step"], events[-1]["reason"]) == (position, reason)
        assert terminals(events) == [event_type]
        assert len(trial.domain.received) == position + 1

    @pytest.mark.parametrize(
        ("steps", "effects"),
        [
            ([step("trial", "unreachable")], "EFFECTS_NONE"),
            ([step("trial", "fail")], "EFFECTS_UNKNOWN"),
            ([step("trial", "silent")], "EFFECTS_UNKNOWN"),
            ([step("trial", "effect"), step("trial", "unreachable")], "EFFECTS_SOME"),
            ([step("trial", "effect"), step("trial", "silent")], "EFFECTS_UNKNOWN"),
        ],
        ids=["none", "failed", "silent", "some", "some-and-silent"],
    )
    def test_the_answer_says_what_may_have_happened(
        self, stage3: Stage3UnderTest, steps: list[dict[str, Any]], effects: str
    ) -> None:
        """None only where nothing was started or nothing was reached; unknown where in doubt."""
        token = stage3.issue(scope=SCOPE)
        ended = stage3.run(token.token_hash, *steps).ended
        assert (
            ended.DESCRIPTOR.fields_by_name["effects"]
            .enum_type.values_by_number[ended.effects]
            .name
            == effects
        )

    @pytest.mark.parametrize("forbidden", [0, 1, 2])
    def test_one_forbidden_step_forbids_the_plan(
        self, stage3: Stage3UnderTest, trial: Trial, forbidden: int
    ) -> None:
        """Admission asks about every step before any effect; the log names the step."""
        token = stage3.issue(scope={"trial": ("effect",)})
        steps = [step("trial", "effect")] * 3
        steps[forbidden] = ECHO
        answer = stage3.run(token.token_hash, *steps)
        assert answer.reason == "METHOD_NOT_IN_SCOPE"
        assert trial.domain.effects == []
        assert stage3.trail("plan-1") == [
            ("TOKEN_VALIDATION", "success", None),
            ("AUTHORIZATION_SCOPE_CHECK", "denied", forbidden),
            ("EXECUTION_DENIED", "denied", forbidden),
        ]

    def test_a_failed_plan_returns_no_earlier_output(self, stage3: Stage3UnderTest) -> None:
        """Earlier effects stay and are in the log; their outputs are not in the answer."""
        token = stage3.issue(scope=SCOPE)
        answer = stage3.run(
            token.token_hash, step("trial", "echo", secret="QUARTZ"), step("trial", "fail")
        )
        assert b"QUARTZ" not in answer.response.SerializeToString()  # type: ignore[union-attr]

    def test_an_exceptions_text_crosses_no_wire(self, stage3: Stage3UnderTest) -> None:
        """What a method raised quotes its parameters; neither answer nor log repeat it."""
        token = stage3.issue(scope=SCOPE)
        answer = stage3.run(token.token_hash, step("trial", "raise_error", secret="QUARTZ"))
        assert "QUARTZ" not in str(answer.response)
        assert "QUARTZ" not in json.dumps(stage3.events())


class CallThatEnds:
    """A client's call with so many seconds left."""

    def __init__(self, left_s: float) -> None:
        self._left_s = left_s

    def time_left_s(self) -> float:
        """Return the seconds left."""
        return self._left_s

    def cancelled(self) -> bool:
        """Return that nobody cancelled it."""
        return False


class TestTheClientsDeadline:
    """A client that stops waiting stops the next step, never the running one."""

    @pytest.mark.parametrize("left_s", [0.0, -5.0])
    def test_a_passed_deadline_admits_nothing(self, stage3: Stage3UnderTest, left_s: float) -> None:
        """Nothing starts for a client that is no longer there."""
        token = stage3.issue(scope=SCOPE)
        submission = decode_submission(stage3.request(token.token_hash, [ECHO]))
        # Asked of the story itself: over the wire, whether a call arrives in time is a race.
        with pytest.raises(Refusal) as refused:
            stage3.service._executor.execute(submission, CallThatEnds(left_s))
        assert refused.value.reason == "DEADLINE_EXCEEDED"
        assert stage3.trail("plan-1") == [
            ("TOKEN_VALIDATION", "success", None),
            ("RESOURCE_LIMIT_CHECK", "denied", 0),
            ("EXECUTION_DENIED", "denied", 0),
        ]

    def test_the_running_step_is_recorded_and_the_next_does_not_start(
        self, stage3: Stage3UnderTest, trial: Trial, clock: ManualClock
    ) -> None:
        """OPERATION_ABORTED stands in the commit of the step that was running."""
        token = stage3.issue(scope=SCOPE)
        with ThreadPoolExecutor(1) as pool:
            plan = pool.submit(stage3.run, token.token_hash, step("trial", "hang"), ECHO)
            assert trial.domain.entered.acquire(timeout=5)
            # Whatever the client's deadline is, by Stage-3's clock it has passed.
            clock.advance(TIMEOUT_S)
            trial.domain.release.set()
            answer = plan.result(timeout=TIMEOUT_S)
        assert (answer.kind, answer.reason, answer.ended.step) == ("aborted", "DEADLINE", 1)
        assert stage3.trail("plan-1")[-2:] == [
            ("EXECUTION_COMPLETED", "success", 0),
            ("OPERATION_ABORTED", "aborted", 1),
        ]
        assert stage3.events(plan_id="plan-1")[-1]["reason"] == "DEADLINE"

    def test_a_cancelled_client_stops_the_next_step(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """Cancelling is not undoing: the effect stays and is told in the log."""
        token = stage3.issue(scope=SCOPE)
        request = stage3.request(token.token_hash, [step("trial", "hang"), ECHO])
        call = stage3.plans().ExecuteMultiDomainPlan.future(request, timeout=10)
        assert trial.domain.entered.acquire(timeout=5)
        call.cancel()
        # What follows on the same connection is answered after the cancellation was read.
        health_pb2_grpc.HealthStub(stage3.channel("stage4", "plans")).Check(
            health_pb2.HealthCheckRequest(), timeout=5
        )
        trial.domain.release.set()
        assert wait_for_terminal(stage3, "plan-1")[-1] == ("OPERATION_ABORTED", "aborted", 1)
        assert stage3.events(plan_id="plan-1")[-1]["reason"] == "CLIENT_CANCELLED"


def wait_for_terminal(stage3: Stage3UnderTest, plan_id: str) -> list[tuple[str, str, int | None]]:
    """Return a plan's trail once it has ended, however often that takes to ask."""
    for _ in range(2000):
        if terminals(stage3.events(plan_id=plan_id)):
            return stage3.trail(plan_id)
    raise AssertionError(stage3.trail(plan_id))


class TestIsolation:
    """Plans share a service and nothing else."""

    def test_plans_at_once_keep_their_own_trails(self, stage3: Stage3UnderTest) -> None:
        """Thirty plans from eight callers: each trail is whole, in order and its own."""
        token = stage3.issue(scope=SCOPE)
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(
                    lambda number: stage3.run(
                        token.token_hash, *[step("trial", "echo", n=number)] * 3
                    ),
                    range(30),
                )
            )
        for number, answer in enumerate(answers):
            assert answer.outputs == [{"n": number}] * 3
            assert stage3.trail(answer.response.plan_id) == successful_trail(3)  # type: ignore[union-attr]

    def test_the_log_has_no_gap(self, stage3: Stage3UnderTest) -> None:
        """Positions count up from 0, whoever wrote."""
        token = stage3.issue(scope=SCOPE)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: stage3.run(token.token_hash, ECHO), range(20)))
        assert [event["seq"] for event in stage3.events()] == list(range(2 + 20 * 6))

    def test_one_plans_failure_is_not_anothers(self, stage3: Stage3UnderTest) -> None:
        """A plan that fails beside one that succeeds changes nothing for it."""
        token = stage3.issue(scope=SCOPE)
        with ThreadPoolExecutor(2) as pool:
            failing = pool.submit(stage3.run, token.token_hash, step("trial", "fail"))
            succeeding = pool.submit(stage3.run, token.token_hash, ECHO)
            assert failing.result(timeout=10).kind == "failed"
            assert succeeding.result(timeout=10).kind == "completed"


class TestRequestIdentifiers:
    """A request identifier is consumed by an admission and never executes twice."""

    def test_a_resubmission_gets_the_stored_outcome(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """The same bytes, marked as a replay, with the first plan's identifier and no effect."""
        token = stage3.issue(scope=SCOPE)
        first = stage3.run(token.token_hash, step("trial", "effect"), request_id="r")
        second = stage3.run(token.token_hash, step("trial", "effect"), request_id="r")
        assert len(trial.domain.effects) == 1
        assert first.response is not None
        assert second.response is not None
        assert (first.response.replay, second.response.replay) == (False, True)
        second.response.replay = False
        assert first.response == second.response
        assert stage3.trail("plan-2") == []

    @pytest.mark.parametrize("method", ["fail", "silent"])
    def test_a_failure_is_replayed_too(
        self, stage3: Stage3UnderTest, trial: Trial, method: str
    ) -> None:
        """What did not succeed does not run again either."""
        token = stage3.issue(scope=SCOPE)
        kinds = [
            stage3.run(token.token_hash, step("trial", method), request_id="r").kind
            for _ in range(2)
        ]
        assert kinds[0] == kinds[1]
        assert len(trial.domain.received) == 1

    def test_another_plan_under_the_same_identifier_is_refused(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """One identifier, one plan."""
        token = stage3.issue(scope=SCOPE)
        stage3.run(token.token_hash, step("trial", "effect", n=1), request_id="r")
        answer = stage3.run(token.token_hash, step("trial", "effect", n=2), request_id="r")
        assert answer.reason == "REQUEST_ID_REUSED"
        assert len(trial.domain.effects) == 1

    def test_another_token_learns_nothing(self, stage3: Stage3UnderTest) -> None:
        """An outcome is told only to whoever holds the token of the first submission."""
        token, other = stage3.issue(scope=SCOPE), stage3.issue(scope=SCOPE)
        stage3.run(token.token_hash, ECHO, request_id="r")
        assert stage3.run(other.token_hash, ECHO, request_id="r").reason == "TOKEN_NOT_ACCEPTED"

    @pytest.mark.parametrize("since", ["revoked", "expired"])
    def test_the_first_token_learns_it_also_when_it_is_no_longer_accepted(
        self, stage3: Stage3UnderTest, clock: ManualClock, since: str
    ) -> None:
        """Reading what happened needs no authority to act."""
        token = stage3.issue(scope=SCOPE, lifetime_seconds=60)
        stage3.run(token.token_hash, ECHO, request_id="r")
        if since == "revoked":
            stage3.revoke(token.token.token_id)
        else:
            clock.advance(61)
        assert stage3.run(token.token_hash, ECHO, request_id="r").kind == "completed"
        assert stage3.run(token.token_hash, ECHO).kind == "refused"

    def test_a_refusal_does_not_consume_it(self, stage3: Stage3UnderTest) -> None:
        """A plan refused for its token runs under the same identifier with a good one."""
        token = stage3.issue(scope=SCOPE)
        assert stage3.run("token_" + "B" * 43, ECHO, request_id="r").kind == "refused"
        assert stage3.run(token.token_hash, ECHO, request_id="r").kind == "completed"

    def test_a_running_request_says_so(self, stage3: Stage3UnderTest, trial: Trial) -> None:
        """A duplicate that arrives meanwhile neither waits nor runs."""
        token = stage3.issue(scope=SCOPE)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(stage3.run, token.token_hash, step("trial", "hang"), request_id="r")
            assert trial.domain.entered.acquire(timeout=5)
            again = stage3.run(token.token_hash, step("trial", "hang"), request_id="r")
            trial.domain.release.set()
            assert first.result(timeout=5).kind == "completed"
        assert again.reason == "REQUEST_IN_PROGRESS"
        assert len(trial.domain.received) == 1

    def test_many_at_once_have_one_effect(self, stage3: Stage3UnderTest, trial: Trial) -> None:
        """Forty submissions of one request: one effect, and nobody is told otherwise."""
        token = stage3.issue(scope=SCOPE)
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(
                    lambda _: stage3.run(token.token_hash, step("trial", "effect"), request_id="r"),
                    range(40),
                )
            )
        assert len(trial.domain.effects) == 1
        assert {answer.reason for answer in answers} <= {"", "REQUEST_IN_PROGRESS"}
        assert "completed" in {answer.kind for answer in answers}

    @pytest.mark.parametrize(
        "change",
        [{"caller": "spiffe://stagegate.test/client/other"}, {"user_id": "bob"}],
        ids=["caller", "user"],
    )
    def test_its_scope_is_caller_and_user(
        self, stage3: Stage3UnderTest, change: dict[str, str]
    ) -> None:
        """Another caller's or user's identifier of the same spelling is another identifier."""
        token = stage3.issue(scope=SCOPE)
        other = stage3.issue(
            scope=SCOPE,
            user_id=change.get("user_id", "ada"),
            client_identities=[change.get("caller", "spiffe://stagegate.test/client/cli")],
        )
        first = stage3.run(token.token_hash, ECHO, request_id="r")
        second = stage3.run(other.token_hash, ECHO, request_id="r", **change)
        assert (first.kind, second.kind) == ("completed", "completed")
        assert second.response is not None
        assert second.response.replay is False

    def test_a_plan_identifier_is_used_once(self, stage3: Stage3UnderTest) -> None:
        """A second plan under a known plan_id is refused, so that a plan has one terminal event."""
        token = stage3.issue(scope=SCOPE)
        stage3.run(token.token_hash, ECHO, plan_id="p")
        assert stage3.run(token.token_hash, ECHO, plan_id="p").reason == "PLAN_INVALID"
        assert terminals(stage3.events(plan_id="p")) == ["EXECUTION_COMPLETED"]


class TestHalt:
    """Halt lets no step start; what runs is recorded."""

    @pytest.fixture
    def halt(self, stage3: Stage3UnderTest) -> Callable[[], None]:
        """Return a function that halts the service."""
        from stagegate.stage3.v1.operator_service_pb2 import HaltRequest

        def halt_it() -> None:
            stage3.operator().Halt(HaltRequest(reason="drill"), timeout=5)

        return halt_it

    def test_a_halted_service_admits_nothing(
        self, stage3: Stage3UnderTest, trial: Trial, halt: Callable[[], None]
    ) -> None:
        """UNAVAILABLE SERVICE_HALTED: nothing happened, and the request is not consumed."""
        token = stage3.issue(scope=SCOPE)
        halt()
        answer = stage3.run(token.token_hash, ECHO)
        assert (answer.reason, answer.error.code) == (  # type: ignore[union-attr]
            "SERVICE_HALTED",
            "UNAVAILABLE",
        )
        assert trial.domain.received == []

    def test_it_stops_the_next_step_of_a_running_plan(
        self, stage3: Stage3UnderTest, trial: Trial, halt: Callable[[], None]
    ) -> None:
        """The running step completes; the next is aborted in the same commit."""
        token = stage3.issue(scope=SCOPE)
        with ThreadPoolExecutor(1) as pool:
            plan = pool.submit(stage3.run, token.token_hash, step("trial", "hang"), ECHO)
            assert trial.domain.entered.acquire(timeout=5)
            halt()
            trial.domain.release.set()
            answer = plan.result(timeout=5)
        assert (answer.kind, answer.reason, answer.ended.step) == ("aborted", "PLAN_HALTED", 1)

    def test_it_outlives_a_restart(self, tmp_path: Path) -> None:
        """A service that was halted starts halted."""
        from stagegate.stage3.v1.operator_service_pb2 import (
            HaltRequest,
            ResumeRequest,
        )

        with running_stage3(tmp_path) as first:
            token = first.issue()
            first.operator().Halt(HaltRequest(reason="drill"), timeout=5)
        with running_stage3(tmp_path, create=False) as second:
            upper = step("text", "upper", text="a")
            assert second.run(token.token_hash, upper).reason == "SERVICE_HALTED"
            second.operator().Resume(ResumeRequest(reason="over"), timeout=5)
            assert second.run(token.token_hash, upper).kind == "completed"
