"""The promised catalogue: how Stage-4 executes a plan, against a real Stage-3 over gRPC.

Where a failure must be forced, the fake stands in that passes the port's contract suite.
"""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from stage4_service import Stage4ExecutionPlan, Stage4Orchestrator
from stage4_service.stage3_port import Stage3Failure
from tests.fakes.stage3_service import TOKEN, FakeStage3, completed, refuse, serving
from tests.harness.fixtures import Trial
from tests.harness.stage3 import Stage3UnderTest
from tests.harness.stage4 import GrpcPort, Stage4UnderTest, running_stage4

TRAIL_OF_SUCCESS = ["plan_received", "execution_started", "execution_completed"]
TRAIL_OF_FAILURE = ["plan_received", "execution_started", "execution_failed"]


@pytest.fixture
def token(stage3: Stage3UnderTest) -> str:
    """Issue a token for the trial domain and the builtin ones."""
    scope = {"trial": ("echo", "effect", "fail", "slow"), "text": ("upper", "concat")}
    return stage3.issue(scope=scope).token_hash


@pytest.fixture
def stage3_port(stage3: Stage3UnderTest) -> Iterator[GrpcPort]:
    """Give the port to the real Stage-3."""
    port = GrpcPort(stage3.service.plans.address)
    yield port
    port.close()


@pytest.fixture
def fake() -> FakeStage3:
    """Give a Stage-3 that does as it is told."""
    return FakeStage3()


@pytest.fixture
def fake_port(fake: FakeStage3) -> Iterator[GrpcPort]:
    """Give the port to the fake."""
    with serving(fake) as address:
        port = GrpcPort(address)
        yield port
        port.close()


@pytest.fixture
def stage4(tmp_path: Path, stage3: Stage3UnderTest) -> Iterator[Stage4UnderTest]:
    """Run the whole pair."""
    with running_stage4(tmp_path, stage3.service.plans.address) as running:
        yield running


def _step(method: str, domain: str = "trial", **parameters: Any) -> dict[str, Any]:
    return {"domain": domain, "method": method, "parameters": parameters}


def _plan(token: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "user_id": "ada",
        "token_hash": token,
        "trigger_type": "manual",
        "steps": list(steps),
        **more,
    }


def _types(orchestrator: Stage4Orchestrator) -> list[str]:
    return [event.event_type for event in orchestrator.get_audit_log()]


class TestStage3AsBlackBox:
    """Stage-4 knows one method of Stage-3, and nothing of what is behind it."""

    def test_a_plan_becomes_exactly_one_call(self, stage3_port: GrpcPort, token: str) -> None:
        """Expect one submission of the whole plan, whatever the number of its steps."""
        steps = [_step("echo", n=n) for n in range(3)]
        Stage4Orchestrator(stage3_port).execute_plan(_plan(token, *steps))
        assert len(stage3_port.calls) == 1
        assert stage3_port.calls[0]["steps"] == steps

    def test_any_object_with_the_one_method_will_do(self) -> None:
        """Expect the five members of the plan by keyword, and the object's answer untouched."""

        class BlackBox:
            def execute_multi_domain_plan(self, **plan: Any) -> object:
                self.plan = plan
                return answer

        answer, box = object(), BlackBox()
        plan = _plan(TOKEN, _step("echo"))
        assert Stage4Orchestrator(box).execute_plan(plan) is answer
        assert box.plan == {**plan, "data_bindings": None}

    def test_the_log_says_nothing_of_what_stage3_did_inside(
        self, stage4: Stage4UnderTest, token: str
    ) -> None:
        """Expect three events of Stage-4's own, while Stage-3 keeps its 1 + 5n to itself."""
        executed = stage4.execute(_plan(token, _step("echo", secret="value"), _step("effect")))
        events = stage4.events(plan_id=executed.completed.plan_id)
        assert [event["event_type"] for event in events] == TRAIL_OF_SUCCESS
        assert "value" not in json.dumps(events)
        assert token not in json.dumps(events)


class TestSynchronousExecution:
    """When the call returns, it is over."""

    def test_the_call_runs_in_the_thread_that_asked(
        self, stage3_port: GrpcPort, token: str
    ) -> None:
        """Expect no thread of Stage-4's own between the caller and Stage-3."""
        Stage4Orchestrator(stage3_port).execute_plan(_plan(token, _step("echo")))
        assert stage3_port.threads == [threading.get_ident()]

    def test_effects_are_there_when_the_answer_is(
        self, stage4: Stage4UnderTest, token: str, trial: Trial
    ) -> None:
        """Expect every effect to have happened once, and the plan to be closed."""
        executed = stage4.execute(_plan(token, _step("effect"), _step("effect")))
        assert len(trial.domain.effects) == 2
        assert stage4.plan(executed.completed.plan_id).end_time.seconds > 0

    def test_nothing_is_a_coroutine_or_a_future(self, stage3_port: GrpcPort, token: str) -> None:
        """Expect a plain result of a plain function."""
        orchestrator = Stage4Orchestrator(stage3_port)
        result = orchestrator.execute_plan(_plan(token, _step("echo")))
        assert not inspect.iscoroutinefunction(orchestrator.execute_plan)
        assert not inspect.isawaitable(result)
        assert _types(orchestrator) == TRAIL_OF_SUCCESS


class TestVerbatimParameters:
    """What a domain is handed is what the client wrote."""

    @pytest.mark.parametrize(
        "written",
        [
            b"{}",
            b'{ "b" : 1,\n\t"a":[ 1.50e1 , {"x":null} ] }',
            b'{"t":"\\u00e9\\ud83d\\ude00","u":"\xc3\xa9"}',
            b'{"n":[0.1,1E2,-3,9007199254740991]}',
        ],
    )
    def test_a_domain_gets_the_clients_own_bytes(
        self, stage4: Stage4UnderTest, token: str, trial: Trial, written: bytes
    ) -> None:
        """Expect white space, order, escapes and the spelling of numbers to arrive unchanged."""
        head = json.dumps(_plan(token))[: -len("[]}")].encode()
        step = b'{"parameters" : ' + written + b' ,"domain":"trial","method":"echo"}'
        stage4.execute(head + b"[" + step + b"]}")
        assert trial.domain.received[0].parameters_json == written

    def test_the_port_is_handed_equal_but_separate_data(self, token: str) -> None:
        """Expect plain lists and dicts that a port may spoil without spoiling the plan."""

        class Spoiler:
            def execute_multi_domain_plan(self, **plan: Any) -> object:
                assert plan["steps"] == expected
                plan["steps"][0]["parameters"].clear()
                plan["steps"].clear()
                return None

        plan = Stage4ExecutionPlan(**_plan(token, _step("echo", a={"b": [1]})))
        expected = plan.steps.copy()
        Stage4Orchestrator(Spoiler()).execute_plan(plan)
        assert plan.steps == expected

    def test_bindings_travel_as_they_were_declared(self, stage3_port: GrpcPort, token: str) -> None:
        """Expect order and members unchanged, and Stage-3 to have applied them."""
        bindings = [
            {"source_step": 0, "source_path": "a", "target_step": 1, "target_path": "x"},
            {
                "source_step": 0,
                "source_path": "`b.c`.1",
                "target_step": 1,
                "target_path": "y.z",
                "expected_type": "integer",
            },
        ]
        steps = [{**_step("echo"), "parameters": {"a": "one", "b.c": [1, 2]}}, _step("echo")]
        result = Stage4Orchestrator(stage3_port).execute_plan(
            _plan(token, *steps, data_bindings=bindings)
        )
        assert stage3_port.calls[0]["data_bindings"] == bindings
        output = json.loads(result.result_json)["results"][1]["output"]  # type: ignore[attr-defined]
        assert output == {"x": "one", "y": {"z": 2}}


class TestFailClosed:
    """A plan that did not complete is told as a failure, recorded, and never tried again."""

    def test_a_failing_step_fails_the_plan_with_its_cause(
        self, stage3_port: GrpcPort, token: str
    ) -> None:
        """Expect the fixed words, the cause chained, no earlier output, and the record."""
        orchestrator = Stage4Orchestrator(stage3_port)
        with pytest.raises(RuntimeError) as failed:
            orchestrator.execute_plan(_plan(token, _step("echo", n=12345), _step("fail")))
        assert str(failed.value).startswith("Stage-4 execution failed (fail-closed): ")
        assert "12345" not in str(failed.value)
        assert isinstance(failed.value.__cause__, Stage3Failure)
        assert len(stage3_port.calls) == 1
        assert _types(orchestrator) == TRAIL_OF_FAILURE
        assert orchestrator.get_audit_log()[-1].details["reason"] == "DOMAIN_FAILED"

    def test_an_invalid_plan_never_reaches_stage3(self, stage3_port: GrpcPort, token: str) -> None:
        """Expect the record of what was refused, and no call."""
        orchestrator = Stage4Orchestrator(stage3_port)
        with pytest.raises(RuntimeError, match=r"fail-closed.*steps: must hold"):
            orchestrator.execute_plan(_plan(token))
        assert stage3_port.calls == []
        assert _types(orchestrator) == ["plan_received", "execution_failed"]

    def test_a_lost_answer_is_said_to_be_lost(self, fake: FakeStage3, fake_port: GrpcPort) -> None:
        """Expect OUTCOME_UNKNOWN, no second attempt, and unknown effects in the log."""

        def drop(request: Any, context: grpc.ServicerContext) -> Any:
            return context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")

        fake.script = drop
        orchestrator = Stage4Orchestrator(fake_port)
        with pytest.raises(RuntimeError) as failed:
            orchestrator.execute_plan(_plan(TOKEN, _step("echo")))
        assert failed.value.reason == "OUTCOME_UNKNOWN"  # type: ignore[attr-defined]
        assert len(fake.received) == 1
        details = orchestrator.get_audit_log()[-1].details
        assert (details["outcome"], details["effects"]) == ("unknown", "unknown")


class TestNoAutonomy:
    """Stage-4 adds nothing to a plan: no step, no attempt, no thought."""

    @pytest.mark.parametrize("reason", ["OVERLOADED", "REQUEST_IN_PROGRESS", "SERVICE_HALTED"])
    def test_a_refusal_that_invites_a_retry_is_not_retried(
        self, fake: FakeStage3, fake_port: GrpcPort, reason: str
    ) -> None:
        """Expect one call and the reason passed on."""
        fake.script = lambda _request, context: refuse(context, reason)
        with pytest.raises(RuntimeError) as failed:
            Stage4Orchestrator(fake_port).execute_plan(_plan(TOKEN, _step("echo")))
        assert failed.value.reason == reason  # type: ignore[attr-defined]
        assert len(fake.received) == 1

    def test_a_result_that_asks_for_more_is_only_returned(
        self, fake: FakeStage3, fake_port: GrpcPort
    ) -> None:
        """Expect no reaction to a result that looks like a plan, a link or an instruction."""
        wish = {"next_plan": _plan(TOKEN, _step("effect")), "retry": True, "continue": "now"}
        fake.script = lambda request, _context: completed(request, [wish])
        result = Stage4Orchestrator(fake_port).execute_plan(_plan(TOKEN, _step("echo")))
        assert json.loads(result.result_json)["results"][0]["output"] == wish  # type: ignore[attr-defined]
        assert len(fake.received) == 1

    def test_nothing_runs_after_the_answer(
        self, stage4: Stage4UnderTest, token: str, trial: Trial
    ) -> None:
        """Expect no further event and no further domain call once the client has its answer."""
        executed = stage4.execute(_plan(token, _step("effect")))
        before = stage4.events()
        commits = stage4.service.journal.commits
        stage4.plan(executed.completed.plan_id)
        assert stage4.events() == before
        assert stage4.service.journal.commits == commits
        assert len(trial.domain.received) == 1


class TestDeterministic:
    """The same plan asks the same thing."""

    def test_two_submissions_of_one_document_send_the_same_plan(
        self, stage3_port: GrpcPort, token: str
    ) -> None:
        """Expect equal calls, and events that differ in identifiers and time only."""
        orchestrator = Stage4Orchestrator(stage3_port)
        for _ in range(2):
            orchestrator.execute_plan(_plan(token, _step("upper", "text", text="abc")))
        assert stage3_port.calls[0] == stage3_port.calls[1]
        first, second = (orchestrator.get_audit_log()[i : i + 3] for i in (0, 3))
        for one, other in zip(first, second, strict=True):
            differing = {"request_id"}
            assert one.event_type == other.event_type
            assert {k: v for k, v in one.details.items() if k not in differing} == {
                k: v for k, v in other.details.items() if k not in differing
            }

    def test_steps_run_in_the_order_in_which_they_stand(
        self, stage4: Stage4UnderTest, token: str, trial: Trial
    ) -> None:
        """Expect the order of the document, whatever the names in it."""
        order = [5, 3, 9, 1]
        stage4.execute(_plan(token, *(_step("echo", n=n) for n in order)))
        assert [json.loads(i.parameters_json)["n"] for i in trial.domain.received] == order


class TestStage3Preservation:
    """Stage-4 neither replaces nor weakens what Stage-3 decides."""

    @pytest.mark.parametrize(
        ("change", "code", "reason"),
        [
            ({"token_hash": "token_" + "0" * 43}, "UNAUTHENTICATED", "TOKEN_NOT_ACCEPTED"),
            ({"user_id": "eve"}, "UNAUTHENTICATED", "TOKEN_NOT_ACCEPTED"),
            ({"trigger_type": "cron"}, "PERMISSION_DENIED", "TRIGGER_NOT_ALLOWED"),
            ({"steps": [_step("hang")]}, "PERMISSION_DENIED", "METHOD_NOT_IN_SCOPE"),
            ({"steps": [_step("x", "secret")]}, "PERMISSION_DENIED", "DOMAIN_NOT_IN_SCOPE"),
        ],
    )
    def test_a_denial_is_passed_on_unchanged(
        self, stage4: Stage4UnderTest, token: str, change: dict[str, Any], code: str, reason: str
    ) -> None:
        """Expect Stage-3's reason under its code, and no effect."""
        executed = stage4.execute({**_plan(token, _step("effect")), **change})
        assert (executed.code, executed.reason) == (code, reason)

    def test_a_result_is_passed_on_byte_for_byte(self, fake: FakeStage3, tmp_path: Path) -> None:
        """Expect the stored bytes of Stage-3, odd spelling included."""
        odd = b'{ "status":"completed" , "results":[{"step":0,"output":1.0E0}]}'

        def answer(request: Any, _context: object) -> Any:
            response = completed(request, [])
            response.completed.result_json = odd
            response.receipt = b"receipt"
            return response

        fake.script = answer
        with serving(fake) as address, running_stage4(tmp_path, address) as stage4:
            response = stage4.execute(_plan(TOKEN, _step("echo"))).completed
            stored = stage4.plan(response.plan_id)
        assert (response.result_json, response.receipt) == (odd, b"receipt")
        assert (stored.result_json, stored.receipt) == (odd, b"receipt")

    def test_both_services_name_the_plan_alike(
        self, stage4: Stage4UnderTest, stage3: Stage3UnderTest, token: str
    ) -> None:
        """Expect one digest and one plan_id in the answer, in Stage-3's log and in Stage-4's."""
        response = stage4.execute(_plan(token, _step("echo"))).completed
        theirs = stage3.events(plan_id=response.plan_id)
        ours = stage4.events(plan_id=response.plan_id)
        assert len(theirs) == 1 + 5
        assert response.plan_digest.hex() in json.dumps(theirs[0])
        assert ours[0]["details"]["plan_digest"] == response.plan_digest.hex()
