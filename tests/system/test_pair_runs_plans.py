"""The whole way of a plan: client, Stage-4, Stage-3, domain, and back."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from stagegate.error.v1 import plan_outcome_pb2
from stagegate.stage4.v1 import plan_service_pb2 as pb

from servicekit.serving.client_errors import decode_rpc_error
from stage3_service.execution.execute_plan import PlanExecutor
from tests.harness.pair import SCOPE, TRAIL_OF_A_STEP, as_bytes, plan_document, running_pair
from tests.harness.pki import uri
from tests.harness.stage3 import step
from tests.harness.stage4 import TIMEOUT_S
from tests.system.invariants import verify_invariants

if TYPE_CHECKING:
    from pathlib import Path

    from stage3_service.execution.submission import Call, Submission
    from tests.harness.pair import Pair

EFFECT = step("trial", "effect")
NONE, UNKNOWN = plan_outcome_pb2.EFFECTS_NONE, plan_outcome_pb2.EFFECTS_UNKNOWN
STAGE4_TRAIL = ["plan_received", "execution_started", "execution_completed"]


def test_three_steps_over_three_domains_leave_sixteen_events_and_three(pair: Pair) -> None:
    """Outputs by step, the binding filled, 1 + 5 events a step below and three above."""
    document = plan_document(
        pair.token(),
        step("text", "upper", text="one page"),
        step("notebook", "append_note", title="system"),
        step("trial", "echo", n=1),
        data_bindings=[
            {
                "source_step": 0,
                "source_path": "text",
                "target_step": 1,
                "target_path": "text",
                "expected_type": "string",
            }
        ],
    )
    answer = pair.stage4.execute(document, request_id="three-steps")

    completed = answer.completed
    results = answer.result["results"]
    assert answer.result["status"] == "completed"
    assert [result["step"] for result in results] == [0, 1, 2]
    assert results[0]["output"] == {"text": "ONE PAGE"}
    assert results[2]["output"] == {"n": 1}
    assert completed.request_id == "three-steps"
    assert completed.replay is False
    assert pair.types(completed.plan_id) == ["TOKEN_VALIDATION", *TRAIL_OF_A_STEP * 3]
    events = pair.stage4.events(plan_id=completed.plan_id)
    assert [event["event_type"] for event in events] == STAGE4_TRAIL
    note = pair.stage4.execute(
        plan_document(
            document["token_hash"],
            step("notebook", "read_note", note_id=results[1]["output"]["note_id"]),
        )
    )
    assert note.result["results"][0]["output"]["text"] == "ONE PAGE"


def test_the_only_event_below_without_the_plan_is_the_tokens_first_use(pair: Pair) -> None:
    """Seventeen events are appended by a first plan of three steps; the last one is terminal."""
    token = pair.token()
    before, _ = pair.sizes()
    plan_id = pair.stage4.execute(plan_document(token, EFFECT, EFFECT, EFFECT)).completed.plan_id
    added = pair.stage3.events()[before:]
    assert len(added) == 17
    assert [event["event_type"] for event in added if event["plan_id"] != plan_id] == [
        "TOKEN_FIRST_USED"
    ]
    terminal = [event["seq"] for event in added if event["additional_data"].get("terminal")]
    assert terminal == [added[-1]["seq"]]


def test_the_domain_gets_the_clients_bytes_and_the_client_the_domains(pair: Pair) -> None:
    """White space, spelling of numbers, escapes and order of keys survive both services."""
    span = b'{ "z" : 1.50e2 ,\t"a":[ 10.0,\r\n "\\u0041\xc3\xa9" ], "nested" :{"q":  false} }'
    raw = (
        b'{"steps":[{"method":"echo","parameters":' + span + b',"domain":"trial"}],'
        b'"trigger_type":"manual","user_id":"ada","token_hash":"' + pair.token().encode() + b'"}'
    )
    completed = pair.stage4.execute(raw).completed
    assert pair.trial.received[-1].parameters_json == span
    assert completed.result_json == (
        b'{"status":"completed","results":[{"step":0,"output":' + span + b"}]}"
    )
    assert pair.stage4.plan(completed.plan_id).result_json == completed.result_json


def test_a_domain_is_handed_four_things_and_nothing_of_the_plan(pair: Pair) -> None:
    """Method, parameters, its own deadline, and plan_id/step as idempotency key."""
    document = plan_document(pair.token(), EFFECT, step("trial", "echo", n=2))
    plan_id = pair.stage4.execute(document).completed.plan_id
    first, second = pair.trial.received[-2:]
    assert (first.method, first.parameters_json, first.idempotency_key) == (
        "effect",
        b"{}",
        f"{plan_id}/0",
    )
    assert (second.method, second.parameters_json, second.idempotency_key) == (
        "echo",
        b'{"n": 2}',
        f"{plan_id}/1",
    )
    assert first.deadline_s == 5.0


def test_validation_and_execution_compute_one_digest_and_validation_records_nothing(
    pair: Pair,
) -> None:
    """The digest of ValidatePlan is what both logs say of the plan; neither log grows by it."""
    document = as_bytes(plan_document(pair.token(), EFFECT))
    sizes = pair.sizes()
    valid = pair.stage4.plans().ValidatePlan(
        pb.ValidatePlanRequest(plan_json=document), timeout=TIMEOUT_S
    )
    assert (valid.valid, len(valid.plan_digest)) == (True, 32)
    assert pair.sizes() == sizes
    completed = pair.stage4.execute(document).completed
    assert completed.plan_digest == valid.plan_digest
    admitted = pair.stage3.events(plan_id=completed.plan_id)[0]
    assert admitted["additional_data"]["plan_digest"] == valid.plan_digest.hex()
    received = pair.stage4.events(plan_id=completed.plan_id)[0]
    assert received["details"]["plan_digest"] == valid.plan_digest.hex()


def test_a_request_identifier_is_minted_and_returned(pair: Pair) -> None:
    """Without one, each submission is a request of its own, known to Stage-3 by that name."""
    document = plan_document(pair.token(), EFFECT)
    first, second = (pair.stage4.execute(document).completed for _ in range(2))
    assert first.request_id
    assert first.request_id != second.request_id
    assert first.plan_id != second.plan_id
    admitted = pair.stage3.events(plan_id=first.plan_id)[0]["additional_data"]
    assert (admitted["request_id"], admitted["caller"]) == (first.request_id, uri("cli"))


class TestResubmission:
    """The same request identifier never executes twice."""

    def test_the_stored_outcome_comes_back_byte_for_byte(self, pair: Pair) -> None:
        """Another plan_id, the same bytes, its own three events with replay, no event below."""
        document = plan_document(pair.token(), EFFECT, EFFECT)
        first = pair.stage4.execute(document, request_id="again").completed
        effects, (size, _) = list(pair.trial.effects), pair.sizes()
        second = pair.stage4.execute(document, request_id="again").completed

        assert second.replay is True
        assert second.result_json == first.result_json
        assert second.plan_digest == first.plan_digest
        assert second.plan_id != first.plan_id
        assert pair.trial.effects == effects
        assert pair.sizes()[0] == size
        events = pair.stage4.events(plan_id=second.plan_id)
        assert [event["event_type"] for event in events] == STAGE4_TRAIL
        assert [event["details"]["replay"] for event in events] == [True] * 3
        assert events[2]["details"]["original_plan_id"] == first.plan_id
        assert pair.stage4.plan(second.plan_id).original_plan_id == first.plan_id

    def test_white_space_makes_no_other_plan(self, pair: Pair) -> None:
        """The digest is of the values, so another spelling of the same plan is the same request."""
        document = plan_document(pair.token(), step("trial", "echo", n=100))
        first = pair.stage4.execute(document, request_id="spelling").completed
        spelled = json.dumps(document, indent=3).replace("100", "1.0e2").encode()
        second = pair.stage4.execute(spelled, request_id="spelling").completed
        assert (second.replay, second.result_json) == (True, first.result_json)

    def test_a_failed_plan_fails_again_in_the_same_words(self, pair: Pair) -> None:
        """Reason, step and effects are the stored ones; nothing is tried again.

        A method that says it failed may have had an effect: nobody but its domain knows.
        """
        document = plan_document(pair.token(), EFFECT, step("trial", "fail"), EFFECT)
        first = pair.stage4.execute(document, request_id="failed")
        effects = list(pair.trial.effects)
        second = pair.stage4.execute(document, request_id="failed")
        assert (first.code, first.reason) == ("FAILED_PRECONDITION", "DOMAIN_FAILED")
        assert (second.code, second.reason) == (first.code, first.reason)
        assert (second.outcome.step, second.outcome.effects) == (1, UNKNOWN)
        assert first.outcome.effects == second.outcome.effects
        assert pair.trial.effects == effects
        events = pair.stage4.events(plan_id=second.outcome.plan_id)
        assert [event["details"].get("replay") for event in events] == [True] * 3

    def test_another_plan_under_the_same_identifier_is_refused(self, pair: Pair) -> None:
        """REQUEST_ID_REUSED, no effect, and the first outcome stays."""
        token = pair.token()
        first = pair.stage4.execute(plan_document(token, EFFECT), request_id="reused").completed
        effects = list(pair.trial.effects)
        other = pair.stage4.execute(plan_document(token, EFFECT, EFFECT), request_id="reused")
        assert (other.code, other.reason) == ("FAILED_PRECONDITION", "REQUEST_ID_REUSED")
        assert other.outcome.effects == NONE
        assert pair.trial.effects == effects
        again = pair.stage4.execute(plan_document(token, EFFECT), request_id="reused").completed
        assert (again.replay, again.result_json) == (True, first.result_json)

    def test_another_token_learns_nothing(self, pair: Pair) -> None:
        """TOKEN_NOT_ACCEPTED although the other token could execute the plan."""
        document = plan_document(pair.token(), EFFECT)
        pair.stage4.execute(document, request_id="mine").completed  # noqa: B018 - it completed
        effects = list(pair.trial.effects)
        stolen = pair.stage4.execute({**document, "token_hash": pair.token()}, request_id="mine")
        assert (stolen.code, stolen.reason) == ("UNAUTHENTICATED", "TOKEN_NOT_ACCEPTED")
        assert pair.trial.effects == effects

    @pytest.mark.parametrize("lost", ["revoked", "expired"])
    def test_the_first_token_may_have_ended_since(self, pair: Pair, lost: str) -> None:
        """Reading what happened needs no authority to act."""
        issued = pair.stage3.issue(scope={"trial": ("effect",)}, lifetime_seconds=60)
        document = plan_document(issued.token_hash, EFFECT)
        first = pair.stage4.execute(document, request_id=f"token-{lost}").completed
        if lost == "revoked":
            pair.stage3.revoke(issued.token.token_id)
        else:
            pair.clock.advance(61)
        assert pair.stage4.execute(document).reason == (
            "TOKEN_NOT_ACCEPTED" if lost == "revoked" else "TOKEN_EXPIRED"
        )
        second = pair.stage4.execute(document, request_id=f"token-{lost}").completed
        assert (second.replay, second.result_json) == (True, first.result_json)

    def test_the_same_identifier_of_another_client_is_another_request(self, pair: Pair) -> None:
        """The verified caller is part of the request's scope."""
        token = pair.token(client_identities=[uri("cli"), uri("other")])
        document = plan_document(token, EFFECT)
        answers = [
            pair.stage4.execute(document, request_id="shared", caller=caller).completed
            for caller in ("cli", "other")
        ]
        assert [answer.replay for answer in answers] == [False, False]

    def test_while_it_runs_it_is_in_progress(self, pair: Pair) -> None:
        """ABORTED with effects unknown; once it has ended, the same identifier tells how."""
        document = plan_document(pair.token(), step("trial", "hang"))
        request = pb.ExecutePlanRequest(plan_json=as_bytes(document), request_id="running")
        pair.forget_calls()
        running: Any = pair.stage4.plans().ExecutePlan.future(request, timeout=TIMEOUT_S)
        try:
            assert pair.trial.entered.acquire(timeout=TIMEOUT_S)
            again = pair.stage4.execute(document, request_id="running")
        finally:
            pair.trial.release.set()
        first = running.result()
        pair.trial.release.clear()
        assert (again.code, again.reason) == ("ABORTED", "REQUEST_IN_PROGRESS")
        assert again.outcome.effects == UNKNOWN
        stored = pair.stage4.execute(document, request_id="running").completed
        assert (stored.replay, stored.result_json) == (True, first.result_json)

    def test_many_clients_with_one_identifier_cause_one_effect(self, pair: Pair) -> None:
        """Whoever loses the race learns the outcome or that it still runs; nobody runs it again."""
        document = plan_document(pair.token(), EFFECT)
        before = len(pair.trial.effects)
        answers: list[Any] = []
        start = threading.Barrier(8)

        def submit() -> None:
            start.wait(TIMEOUT_S)
            answers.append(pair.stage4.execute(document, request_id="race"))

        callers = [threading.Thread(target=submit) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(TIMEOUT_S)
        assert len(pair.trial.effects) == before + 1
        told = [answer.reason for answer in answers]
        assert set(told) <= {"", "REQUEST_IN_PROGRESS"}
        firsts = [a for a in answers if a.response is not None and not a.response.replay]
        assert len(firsts) == 1


class TestReading:
    """A client reads what its own identity submitted; an auditor what happened to everybody."""

    def test_own_plans_are_read_and_listed(self, pair: Pair) -> None:
        """State, caller, digest, times and result, and the newest first in the list."""
        completed = pair.stage4.execute(plan_document(pair.token(), EFFECT)).completed
        plan = pair.stage4.plan(completed.plan_id)
        assert plan.state == pb.PLAN_STATE_COMPLETED
        assert (plan.caller, plan.user_id, plan.steps) == (uri("cli"), "ada", 1)
        assert plan.plan_digest == completed.plan_digest
        assert plan.result_json == completed.result_json
        assert plan.end_time.ToNanoseconds() >= plan.create_time.ToNanoseconds()
        listed = pair.stage4.plans().ListPlans(pb.ListPlansRequest(page_size=1), timeout=TIMEOUT_S)
        assert [entry.plan_id for entry in listed.plans] == [completed.plan_id]

    @pytest.mark.parametrize("read", ["GetPlan", "ListAuditEvents"])
    @pytest.mark.parametrize("whose", ["another's", "nobody's"])
    def test_anothers_plan_is_as_unknown_as_nobodys(
        self, pair: Pair, whose: str, read: str
    ) -> None:
        """PLAN_NOT_FOUND in the same words, whether the plan exists or not."""
        plan_id = pair.stage4.execute(plan_document(pair.token(), EFFECT)).completed.plan_id
        name = plan_id if whose == "another's" else "plan_0"
        asked: Any = {
            "GetPlan": pb.GetPlanRequest(plan_id=name),
            "ListAuditEvents": pb.ListAuditEventsRequest(plan_id=name),
        }[read]
        with pytest.raises(grpc.RpcError) as refused:
            getattr(pair.stage4.plans("other"), read)(asked, timeout=TIMEOUT_S)
        error = decode_rpc_error(refused.value)
        assert (error.code, error.reason) == ("NOT_FOUND", "PLAN_NOT_FOUND")
        assert error.message == "this caller submitted no such plan"

    def test_lists_hold_nothing_of_anybody_else(self, pair: Pair) -> None:
        """`other` sees its own submissions, `reader` everybody's, without a result."""
        token = pair.token(client_identities=[uri("cli"), uri("other")])
        mine = pair.stage4.execute(plan_document(token, EFFECT)).completed.plan_id
        other = pair.stage4.execute(plan_document(token, EFFECT), caller="other").completed
        for caller, seen in (("other", False), ("cli", True), ("reader", True)):
            page = pair.stage4.plans(caller).ListPlans(
                pb.ListPlansRequest(page_size=500), timeout=TIMEOUT_S
            )
            assert (mine in {plan.plan_id for plan in page.plans}) is seen
            callers = {event.get("plan_id") for event in pair.stage4.events(caller)}
            assert (mine in callers) is seen
        assert pair.stage4.plan(other.plan_id, "reader").result_json == b""
        assert pair.stage4.plan(other.plan_id, "reader").caller == uri("other")


def test_the_clients_remaining_time_reaches_stage3_less_the_margin(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five seconds at the client are at most 4.75 s at Stage-3; no deadline is less than 300 s.

    gRPC spells a timeout in steps of 10 ms below ten seconds and rounds up, once on each hop.
    """
    seen: list[float] = []
    execute = PlanExecutor.execute

    def observed(self: PlanExecutor, submission: Submission, call: Call) -> object:
        seen.append(call.time_left_s())
        return execute(self, submission, call)

    monkeypatch.setattr(PlanExecutor, "execute", observed)
    document = plan_document(pair.token(), EFFECT)
    assert pair.stage4.execute(document, timeout_s=5.0).code == "OK"
    assert pair.stage4.execute(document, timeout_s=None).code == "OK"
    assert 2.0 < seen[0] <= 4.77
    assert 290.0 < seen[1] <= 300.0


def test_two_clients_work_at_once_and_each_log_agrees_with_the_world(tmp_path: Path) -> None:
    """Sixteen plans from eight threads: every effect once, every invariant over the whole log."""
    with running_pair(tmp_path) as own:
        token = own.token(client_identities=[uri("cli"), uri("other")])
        document = plan_document(token, EFFECT, EFFECT, EFFECT)
        answers: list[Any] = []

        def submit(caller: str) -> None:
            answers.extend(own.stage4.execute(document, caller=caller) for _ in range(2))

        own.stage4.plans("cli")
        own.stage4.plans("other")
        callers = [
            threading.Thread(target=submit, args=("cli" if n % 2 else "other",)) for n in range(8)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(TIMEOUT_S)
        assert [answer.code for answer in answers] == ["OK"] * 16
        assert len(own.trial.effects) == 48
        verify_invariants(own.stage3.events(), own.trial.effects)
        assert len({answer.completed.plan_id for answer in answers}) == 16


def test_nothing_starts_after_a_revocation_that_falls_among_many_plans(tmp_path: Path) -> None:
    """I3 under load: whoever was told that a plan completed had its last step started before."""
    with running_pair(tmp_path) as own:
        issued = own.stage3.issue(scope=SCOPE)
        document = plan_document(issued.token_hash, EFFECT, EFFECT, EFFECT)
        answers: list[Any] = []

        def submit() -> None:
            while not answers or answers[-1].code == "OK":
                answers.append(own.stage4.execute(document))

        own.stage4.plans()
        callers = [threading.Thread(target=submit) for _ in range(8)]
        for caller in callers:
            caller.start()
        # More steps than eight plans have: at least one client is at its second plan.
        for _ in range(3 * 8 + 1):
            assert own.trial.entered.acquire(timeout=TIMEOUT_S)
        own.stage3.revoke(issued.token.token_id)
        for caller in callers:
            caller.join(TIMEOUT_S)
        assert {answer.reason for answer in answers} == {"", "TOKEN_NOT_ACCEPTED"}
        # After the answer to the revocation there was no effect at all.
        effects = len(own.trial.effects)
        assert own.stage4.execute(document).reason == "TOKEN_NOT_ACCEPTED"
        assert len(own.trial.effects) == effects
        verify_invariants(own.stage3.events(), own.trial.effects)


def test_stage4s_log_names_the_result_and_never_holds_it(pair: Pair) -> None:
    """Digest and size of the result and of the document; no parameter, no token."""
    document = as_bytes(plan_document(pair.token(), step("trial", "echo", secret="maroon heron")))
    completed = pair.stage4.execute(document).completed
    events = pair.stage4.events(plan_id=completed.plan_id)
    received, _started, ended = (event["details"] for event in events)
    assert received["raw_digest"] == hashlib.sha256(document).hexdigest()
    assert received["raw_bytes"] == len(document)
    assert ended["result_digest"] == hashlib.sha256(completed.result_json).hexdigest()
    assert "maroon heron" not in json.dumps(events)
