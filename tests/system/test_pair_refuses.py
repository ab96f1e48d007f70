"""Every reason that Stage-3 can be brought to give reaches the client unchanged."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from stagegate.error.v1 import plan_outcome_pb2
from stagegate.stage3.v1 import operator_service_pb2
from stagegate.stage4.v1 import plan_service_pb2 as pb

from stage3_service.execution.execute_plan import PlanExecutor
from stage3_service.settings import Denials
from stage4_service.settings import ClientBounds
from tests.harness.pair import SCOPE, as_bytes, plan_document, running_pair
from tests.harness.pki import uri
from tests.harness.stage3 import step
from tests.harness.stage4 import TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stage3_service.execution.submission import Call, Submission
    from tests.harness.pair import Pair

NONE = plan_outcome_pb2.EFFECTS_NONE
SOME = plan_outcome_pb2.EFFECTS_SOME
UNKNOWN = plan_outcome_pb2.EFFECTS_UNKNOWN

EFFECT = step("trial", "effect")
ECHO = partial(step, "trial", "echo")


def _binding(path: str, **changes: Any) -> dict[str, Any]:
    return {
        "source_step": 0,
        "source_path": path,
        "target_step": 1,
        "target_path": "filled",
        **changes,
    }


@dataclass(frozen=True)
class Case:
    """One way to be refused: the grant, the plan, and what the client is told."""

    reason: str
    code: str
    steps: tuple[dict[str, Any], ...] = (EFFECT,)
    grant: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    step: int | None = None
    effects: int = NONE
    # What has to happen between the token's issue and the submission.
    first: Callable[[Pair, str, str], object] = lambda _pair, _token_hash, _token_id: None


def _spend(pair: Pair, token_hash: str, _token_id: str) -> object:
    return pair.stage4.execute(plan_document(token_hash, EFFECT)).completed


CASES = {
    "an unknown token": Case(
        "TOKEN_NOT_ACCEPTED", "UNAUTHENTICATED", plan={"token_hash": "token_" + "A" * 43}
    ),
    "something that is no token": Case(
        "TOKEN_NOT_ACCEPTED", "UNAUTHENTICATED", plan={"token_hash": "x"}
    ),
    "a revoked token": Case(
        "TOKEN_NOT_ACCEPTED",
        "UNAUTHENTICATED",
        first=lambda pair, _token_hash, token_id: pair.stage3.revoke(token_id),
    ),
    "another user's token": Case(
        "TOKEN_NOT_ACCEPTED", "UNAUTHENTICATED", plan={"user_id": "grace"}
    ),
    "a token for another client": Case(
        "TOKEN_NOT_ACCEPTED", "UNAUTHENTICATED", grant={"client_identities": [uri("other")]}
    ),
    "an expired token": Case(
        "TOKEN_EXPIRED",
        "UNAUTHENTICATED",
        grant={"lifetime_seconds": 10},
        first=lambda pair, _token_hash, _token_id: pair.clock.advance(10),
    ),
    "another trigger": Case(
        "TRIGGER_NOT_ALLOWED", "PERMISSION_DENIED", plan={"trigger_type": "scheduled"}
    ),
    "a trigger that does not exist": Case(
        "TRIGGER_NOT_ALLOWED", "PERMISSION_DENIED", plan={"trigger_type": "cron"}
    ),
    "a domain out of scope": Case(
        "DOMAIN_NOT_IN_SCOPE",
        "PERMISSION_DENIED",
        (EFFECT, step("text", "upper", text="x")),
        grant={"scope": {"trial": ("effect",)}},
    ),
    "a method out of scope": Case(
        "METHOD_NOT_IN_SCOPE",
        "PERMISSION_DENIED",
        (EFFECT, ECHO()),
        grant={"scope": {"trial": ("effect",)}},
    ),
    "a token bound to another plan": Case(
        "PLAN_NOT_BOUND", "PERMISSION_DENIED", grant={"plan_digest": bytes(32)}
    ),
    "too few invocations": Case(
        "LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        (EFFECT, EFFECT),
        grant={"limits": {"max_invocations": 1}},
    ),
    "too many plans in the window": Case(
        "LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        grant={"limits": {"max_frequency": "1 per 60 seconds"}},
        first=_spend,
    ),
    "too few bytes left": Case(
        "LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        grant={"limits": {"max_total_response_bytes": 5}},
    ),
    "bytes that run out at the second step": Case(
        "LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        (ECHO(padding="x" * 100), EFFECT),
        grant={"limits": {"max_total_response_bytes": 4100}},
        step=1,
        effects=SOME,
    ),
    "a domain nobody declared": Case(
        "DOMAIN_UNKNOWN",
        "FAILED_PRECONDITION",
        (step("weather", "report"),),
        grant={"scope": {"weather": ("report",)}},
    ),
    "a method nobody declared": Case(
        "METHOD_UNDECLARED",
        "FAILED_PRECONDITION",
        (step("text", "shout"),),
        grant={"scope": {"text": ("shout",)}},
    ),
    "parameters of another shape at the first step": Case(
        "PARAMETERS_INVALID", "FAILED_PRECONDITION", (step("text", "upper", text=1),), step=0
    ),
    "parameters of another shape after an effect": Case(
        "PARAMETERS_INVALID",
        "FAILED_PRECONDITION",
        (EFFECT, step("text", "upper", text=1)),
        step=1,
        effects=SOME,
    ),
    "a binding whose source is missing": Case(
        "BINDING_UNRESOLVED",
        "FAILED_PRECONDITION",
        (EFFECT, ECHO()),
        plan={"data_bindings": [_binding("nowhere")]},
        step=1,
        effects=SOME,
    ),
    "a binding of another type": Case(
        "BINDING_UNRESOLVED",
        "FAILED_PRECONDITION",
        (EFFECT, ECHO()),
        plan={"data_bindings": [_binding("effects", expected_type="string")]},
        step=1,
        effects=SOME,
    ),
    "a method that fails": Case(
        "DOMAIN_FAILED",
        "FAILED_PRECONDITION",
        (EFFECT, step("trial", "fail"), EFFECT),
        step=1,
        effects=UNKNOWN,
    ),
    "a domain out of reach at the first step": Case(
        "DOMAIN_UNREACHABLE", "FAILED_PRECONDITION", (step("trial", "unreachable"),), step=0
    ),
    "a domain out of reach after an effect": Case(
        "DOMAIN_UNREACHABLE",
        "FAILED_PRECONDITION",
        (EFFECT, step("trial", "unreachable")),
        step=1,
        effects=SOME,
    ),
    "an answer that is no JSON": Case(
        "ANSWER_INVALID",
        "FAILED_PRECONDITION",
        (step("trial", "garbage"),),
        step=0,
        effects=UNKNOWN,
    ),
    "an answer that is too large": Case(
        "ANSWER_INVALID",
        "FAILED_PRECONDITION",
        (step("trial", "oversized"),),
        step=0,
        effects=UNKNOWN,
    ),
    "an answer with an integer nobody else can read": Case(
        "ANSWER_INVALID",
        "FAILED_PRECONDITION",
        (step("trial", "huge_integer"),),
        step=0,
        effects=UNKNOWN,
    ),
    "no answer": Case(
        "STEP_IN_DOUBT",
        "FAILED_PRECONDITION",
        (EFFECT, step("trial", "silent"), EFFECT),
        step=1,
        effects=UNKNOWN,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_reason_arrives_unchanged_and_is_recorded_on_both_sides(pair: Pair, name: str) -> None:
    """Code, reason, step and effects; GetPlan says the same; both logs end with it."""
    case = CASES[name]
    issued = pair.stage3.issue(**{"scope": SCOPE, **case.grant})
    case.first(pair, issued.token_hash, issued.token.token_id)
    effects_before = len(pair.trial.effects)
    document = plan_document(issued.token_hash, *case.steps)
    answer = pair.stage4.execute({**document, **case.plan})

    assert (answer.code, answer.reason) == (case.code, case.reason)
    assert answer.error is not None
    assert answer.error.domain == "stagegate"
    outcome = answer.outcome
    assert (outcome.step if outcome.HasField("step") else None) == case.step
    assert outcome.effects == case.effects
    plan = pair.stage4.plan(outcome.plan_id)
    assert (plan.reason, plan.effects, plan.request_id) == (
        case.reason,
        case.effects,
        outcome.request_id,
    )
    assert plan.state == (pb.PLAN_STATE_REFUSED if case.step is None else pb.PLAN_STATE_FAILED)
    above = pair.stage4.events(plan_id=outcome.plan_id)
    assert [event["event_type"] for event in above] == [
        *("plan_received", "execution_started", "execution_failed")
    ]
    assert above[-1]["details"]["reason"] == case.reason
    below = pair.stage3.events(plan_id=outcome.plan_id)
    assert [event["additional_data"].get("terminal", False) for event in below] == [
        *([False] * (len(below) - 1)),
        True,
    ]
    # A plan with a forbidden step has no effect at all; a started one keeps what it did.
    ran = case.step if case.steps[0] == EFFECT and case.step else 0
    assert len(pair.trial.effects) - effects_before == ran


def test_one_answer_for_every_way_not_to_be_accepted(pair: Pair) -> None:
    """Revoked, unknown, another's and not for this client differ in the log alone."""
    names = ("an unknown token", "a revoked token", "another user's token")
    answers = []
    for name in (*names, "a token for another client"):
        case = CASES[name]
        issued = pair.stage3.issue(**{"scope": SCOPE, **case.grant})
        case.first(pair, issued.token_hash, issued.token.token_id)
        document = plan_document(issued.token_hash, EFFECT)
        answers.append(pair.stage4.execute({**document, **case.plan}).error)
    told = {
        (error.code, error.reason, error.message, error.violations) for error in answers if error
    }
    assert told == {("UNAUTHENTICATED", "TOKEN_NOT_ACCEPTED", "the token is not accepted", ())}
    reasons = [e["reason"] for e in pair.stage3.events(event_type="TOKEN_VALIDATION")[-4:]]
    assert reasons == ["token_unknown", "token_revoked", "user_mismatch", "caller_mismatch"]


def test_a_step_that_raises_is_told_without_its_words(pair: Pair) -> None:
    """The text of the error quotes parameters; neither the client nor a log reads it."""
    answer = pair.stage4.execute(
        plan_document(pair.token(), step("trial", "raise_error", canary="ochre pelican"))
    )
    assert answer.reason == "DOMAIN_FAILED"
    assert "ochre pelican" not in str(answer.error)
    assert "ochre pelican" not in str(pair.stage3.events(plan_id=answer.outcome.plan_id))
    assert "ochre pelican" not in str(pair.stage4.events(plan_id=answer.outcome.plan_id))


@pytest.mark.slow
def test_a_method_that_takes_too_long_is_in_doubt_and_its_late_answer_is_recorded(
    tmp_path: Path,
) -> None:
    """STEP_IN_DOUBT at the method's maximum; the answer afterwards changes no outcome."""
    with running_pair(tmp_path) as own:
        document = plan_document(own.token(), EFFECT, step("trial", "stall"), EFFECT)
        answer = own.stage4.execute(document, request_id="slow")
        assert (answer.reason, answer.outcome.step) == ("STEP_IN_DOUBT", 1)
        own.trial.release.set()
        plan_id = answer.outcome.plan_id
        waiting = threading.Event()
        for _ in range(400):
            if own.types(plan_id)[-1] == "LATE_OUTCOME":
                break
            waiting.wait(0.025)
        assert own.types(plan_id)[-2:] == ["OPERATION_ABORTED", "LATE_OUTCOME"]
        assert own.stage4.execute(document, request_id="slow").reason == "STEP_IN_DOUBT"
        assert len(own.trial.effects) == 1


def test_a_token_revoked_between_two_steps_stops_the_second(pair: Pair) -> None:
    """TOKEN_NOT_ACCEPTED after an effect: admitted, so the outcome says step and effects."""
    issued = pair.stage3.issue(scope=SCOPE)
    document = plan_document(issued.token_hash, step("trial", "hang"), EFFECT)
    running = _start(pair, document)
    revoked = pair.stage3.revoke(issued.token.token_id)
    answer = _let_go(pair, running)
    assert [(s.plan_id, s.step) for s in revoked.steps_in_flight] == [(answer.outcome.plan_id, 0)]
    assert (answer.code, answer.reason) == ("UNAUTHENTICATED", "TOKEN_NOT_ACCEPTED")
    assert (answer.outcome.step, answer.outcome.effects) == (1, SOME)


def test_a_halted_service_says_so_and_resumes(tmp_path: Path) -> None:
    """SERVICE_HALTED before and between steps; the same request executes once it is resumed."""
    with running_pair(tmp_path) as own:
        running = _start(own, plan_document(own.token(), step("trial", "hang"), EFFECT))
        own.stage3.operator().Halt(
            operator_service_pb2.HaltRequest(reason="drill"), timeout=TIMEOUT_S
        )
        between = _let_go(own, running)
        assert (between.code, between.reason) == ("FAILED_PRECONDITION", "PLAN_HALTED")
        assert (between.outcome.step, between.outcome.effects) == (1, SOME)
        document = plan_document(own.token(), EFFECT)
        before = own.stage4.execute(document, request_id="halted")
        assert (before.reason, before.outcome.effects) == ("SERVICE_HALTED", NONE)
        own.stage3.operator().Resume(
            operator_service_pb2.ResumeRequest(reason="over"), timeout=TIMEOUT_S
        )
        assert own.stage4.execute(document, request_id="halted").completed.replay is False
        assert len(own.trial.effects) == 1


def test_a_client_that_leaves_stops_the_next_step(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The running effect is recorded as it ends; a resubmission learns CLIENT_CANCELLED."""
    document = plan_document(pair.token(), step("trial", "hang"), EFFECT)
    effects = list(pair.trial.effects)
    calls: list[Call] = []
    execute = PlanExecutor.execute

    def observed(self: PlanExecutor, submission: Submission, call: Call) -> object:
        calls.append(call)
        return execute(self, submission, call)

    monkeypatch.setattr(PlanExecutor, "execute", observed)
    pair.forget_calls()
    request = pb.ExecutePlanRequest(plan_json=as_bytes(document), request_id="left")
    call: Any = pair.stage4.plans().ExecutePlan.future(request, timeout=TIMEOUT_S)
    assert pair.trial.entered.acquire(timeout=TIMEOUT_S)
    call.cancel()
    # Stage-4 takes its own call along, and its record is made before the step ends.
    waiting = threading.Event()
    while not calls[0].cancelled() or is_running(pair):
        waiting.wait(0.01)
    answer = None
    pair.trial.release.set()
    while answer is None or answer.reason == "REQUEST_IN_PROGRESS":
        answer = pair.stage4.execute(document, request_id="left")
    pair.trial.release.clear()
    assert (answer.code, answer.reason) == ("CANCELLED", "CLIENT_CANCELLED")
    assert (answer.outcome.step, answer.outcome.effects) == (1, SOME)
    assert pair.trial.effects == effects


def test_time_that_ends_in_mid_plan_is_pending_and_then_told(tmp_path: Path) -> None:
    """OUTCOME_PENDING when the time is up; the resubmission learns how it ended."""
    # The service's own maximum: no clock of the client's can end the call before Stage-4 answers.
    bounds = ClientBounds(max_deadline_s=2.0)
    with running_pair(tmp_path, stage4={"plans": bounds}) as own:
        document = plan_document(own.token(), step("trial", "hang"))
        answer = own.stage4.execute(document, request_id="pending", timeout_s=None)
        assert (answer.code, answer.reason) == ("DEADLINE_EXCEEDED", "OUTCOME_PENDING")
        assert answer.outcome.effects == UNKNOWN
        own.trial.release.set()
        again = answer
        while again.reason in {"OUTCOME_PENDING", "REQUEST_IN_PROGRESS"}:
            again = own.stage4.execute(document, request_id="pending")
        assert again.completed.replay is True
        assert own.stage4.plan(answer.outcome.plan_id).state == pb.PLAN_STATE_COMPLETED


def test_time_that_ends_between_two_steps_stops_the_next(pair: Pair) -> None:
    """DEADLINE with step and effects: nothing further was started, and the outcome is known."""
    document = plan_document(pair.token(), step("trial", "hang"), EFFECT)
    effects = list(pair.trial.effects)
    running = _start(pair, document)
    # The longest that a client may wait, at Stage-3's clock alone.
    pair.clock.advance(300)
    answer = _let_go(pair, running)
    assert (answer.code, answer.reason) == ("DEADLINE_EXCEEDED", "DEADLINE")
    assert (answer.outcome.step, answer.outcome.effects) == (1, SOME)
    assert pair.types(answer.outcome.plan_id)[-1] == "OPERATION_ABORTED"
    assert pair.trial.effects == effects


def test_a_caller_denied_too_often_is_overloaded_without_an_event(tmp_path: Path) -> None:
    """Stage-3's budget is its own: OVERLOADED arrives as such, and its log does not grow."""
    with running_pair(tmp_path, stage3={"denials": Denials(burst=3, per_second=0)}) as own:
        document = plan_document("token_" + "A" * 43, EFFECT)
        told = [own.stage4.execute(document).reason for _ in range(3)]
        size, _ = own.sizes()
        over = own.stage4.execute(document)
        assert told == ["TOKEN_NOT_ACCEPTED"] * 3
        assert (over.code, over.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert over.outcome.effects == NONE
        assert own.sizes()[0] == size
        # A budget is for denials: what is allowed is still done.
        assert own.stage4.execute(plan_document(own.token(), EFFECT)).code == "OK"


def test_a_log_that_fails_before_and_after_an_effect(tmp_path: Path) -> None:
    """AUDIT_UNAVAILABLE when nothing started, OUTCOME_UNRECORDED when an effect happened."""
    with running_pair(tmp_path) as own:
        token = own.token()
        running = _start(own, plan_document(token, step("trial", "effect_then_hang")))
        own.stage3.service._ledger.close()
        after = _let_go(own, running)
        assert (after.code, after.reason) == ("INTERNAL", "OUTCOME_UNRECORDED")
        assert after.outcome.effects == UNKNOWN
        assert own.stage4.plan(after.outcome.plan_id).state == pb.PLAN_STATE_UNKNOWN
        before = own.stage4.execute(plan_document(token, EFFECT))
        assert (before.code, before.reason) == ("UNAVAILABLE", "AUDIT_UNAVAILABLE")
        assert before.outcome.effects == NONE
        assert len(own.trial.effects) == 1


def is_running(pair: Pair) -> bool:
    """Say whether the plan that `cli` submitted last has no recorded outcome."""
    page = pair.stage4.plans().ListPlans(pb.ListPlansRequest(page_size=1), timeout=TIMEOUT_S)
    return page.plans[0].state == pb.PLAN_STATE_RUNNING


def _start(pair: Pair, document: dict[str, Any]) -> tuple[threading.Thread, list[Any]]:
    """Submit a plan whose first step hangs, and return once it does."""
    pair.forget_calls()
    pair.stage4.plans()
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(pair.stage4.execute(document)))
    thread.start()
    assert pair.trial.entered.acquire(timeout=TIMEOUT_S)
    return thread, answers


def _let_go(pair: Pair, running: tuple[threading.Thread, list[Any]]) -> Any:
    """Let the step end, and return what the client was told."""
    thread, answers = running
    pair.trial.release.set()
    thread.join(TIMEOUT_S)
    pair.trial.release.clear()
    return answers[0]
