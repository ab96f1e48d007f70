"""What clients and auditors may ask of Stage-4, and what they read."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from stagegate.stage4.v1 import plan_service_pb2 as pb

from servicekit.clock import SystemClock
from servicekit.serving.client_errors import ClientError, decode_rpc_error
from stage4_service.settings import Limits, Refusals
from stage4_service.wire.method_table import plan_methods
from tests.fakes.manual_clock import ManualClock
from tests.fakes.stage3_service import TOKEN, FakeStage3
from tests.fakes.trial_plans import trial_plan, trial_step
from tests.harness.pki import uri
from tests.harness.stage4 import TIMEOUT_S, Stage4UnderTest, running_stage4

REQUESTS: dict[str, Any] = {
    "ExecutePlan": pb.ExecutePlanRequest(plan_json=b"{}"),
    "ValidatePlan": pb.ValidatePlanRequest(plan_json=b"{}"),
    "GetPlan": pb.GetPlanRequest(plan_id="none"),
    "ListPlans": pb.ListPlansRequest(),
    "ListAuditEvents": pb.ListAuditEventsRequest(),
}
READS = {"GetPlan", "ListPlans", "ListAuditEvents"}


def _refusal(call: Callable[[], object]) -> ClientError:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return decode_rpc_error(refused.value)


@pytest.mark.parametrize("method", REQUESTS)
@pytest.mark.parametrize("caller", ["cli", "other", "reader", "oona", "nobody", "stage4", "domain"])
def test_who_may_call_what(stage4: Stage4UnderTest, caller: str, method: str) -> None:
    """Expect the table of the contract for every pair: clients all, auditors reads, others none."""
    permitted = caller in {"cli", "other"} or (caller == "reader" and method in READS)
    reason = ""
    try:
        getattr(stage4.plans(caller), method)(REQUESTS[method], timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        reason = decode_rpc_error(error).reason
    assert (reason != "METHOD_NOT_PERMITTED") is permitted


def test_every_method_of_the_service_is_in_the_table() -> None:
    """Expect no method without a rule, and no rule without a method but those of health."""
    named = {f"/stagegate.stage4.v1.PlanService/{method}" for method in REQUESTS}
    rules = set(plan_methods(reflection=False).rules)
    assert {rule for rule in rules if "Health" not in rule} == named
    described = pb.DESCRIPTOR.services_by_name["PlanService"].methods
    assert {method.name for method in described} == set(REQUESTS)
    assert set(plan_methods(reflection=True).rules) > rules


def test_validation_gives_the_verdict_and_records_nothing(stage4: Stage4UnderTest) -> None:
    """Expect the digest of a valid plan, the path of an invalid one, and an empty log."""
    plan_json = json.dumps(trial_plan()).encode()
    valid = stage4.plans().ValidatePlan(pb.ValidatePlanRequest(plan_json=plan_json), timeout=5)
    assert valid.valid
    assert len(valid.plan_digest) == 32
    broken = json.dumps(trial_plan(trial_step(method="No"))).encode()
    invalid = stage4.plans().ValidatePlan(pb.ValidatePlanRequest(plan_json=broken), timeout=5)
    assert not invalid.valid
    assert invalid.field == "steps[0].method"
    assert invalid.description.startswith("must match")
    assert invalid.plan_digest == b""
    assert stage4.events() == []
    executed = stage4.execute(trial_plan())
    assert executed.completed.plan_digest == valid.plan_digest


def test_an_invalid_plan_can_be_read_afterwards(stage4: Stage4UnderTest) -> None:
    """Expect the plan_id in the refusal to name a refused submission without user or digest."""
    executed = stage4.execute(trial_plan(steps=[]), request_id="r")
    assert executed.error is not None
    assert executed.error.violations == (("steps", "must hold at least one step"),)
    plan = stage4.plan(executed.outcome.plan_id)
    assert (plan.state, plan.reason) == (pb.PLAN_STATE_REFUSED, "PLAN_INVALID")
    assert (plan.user_id, plan.plan_digest, plan.steps) == ("", b"", 0)
    assert plan.request_id == "r"


@pytest.mark.parametrize("request_id", ["a b", "ä", "x" * 129, "a/b", "\n"])
def test_a_request_identifier_that_is_none_is_refused(
    stage4: Stage4UnderTest, fake: FakeStage3, request_id: str
) -> None:
    """Expect PLAN_INVALID at request_id, a record, and a minted identifier in its place."""
    executed = stage4.execute(trial_plan(), request_id=request_id)
    assert executed.error is not None
    assert executed.reason == "PLAN_INVALID"
    assert executed.error.violations[0][0] == "request_id"
    assert stage4.plan(executed.outcome.plan_id).request_id.startswith("req_")
    assert fake.received == []


@pytest.mark.parametrize("field", ["user_id", "trigger_type", "request_id"])
def test_a_credential_in_the_wrong_place_is_refused_and_not_written_down(
    stage4: Stage4UnderTest, fake: FakeStage3, field: str
) -> None:
    """Expect the slip of a caller to be told to the caller, and to leave no secret in the log."""
    if field == "request_id":
        executed = stage4.execute(trial_plan(), request_id=TOKEN)
    else:
        executed = stage4.execute(trial_plan(**{field: f"x {TOKEN}"}))
    assert executed.reason == "PLAN_INVALID"
    assert executed.error is not None
    assert executed.error.violations == ((field, "must not hold a credential"),)
    assert fake.received == []
    written = json.dumps(stage4.events()) + str(stage4.plan(executed.outcome.plan_id))
    assert TOKEN not in written
    assert TOKEN not in str(executed.error)


def test_an_absent_request_identifier_is_minted(stage4: Stage4UnderTest) -> None:
    """Expect two submissions without one to be two requests."""
    one, other = (stage4.execute(trial_plan()).completed for _ in range(2))
    assert one.request_id != other.request_id
    assert one.plan_id != other.plan_id
    assert not other.replay


def test_the_limits_of_the_settings_hold(tmp_path: Path, stage3_address: str) -> None:
    """Expect bytes to be asked before the rules, and counts after them."""
    limits = Limits(max_bytes=300, max_steps=1)
    with running_stage4(tmp_path, stage3_address, limits=limits) as stage4:
        large = stage4.execute({"filler": "x" * 300})
        assert large.error is not None
        assert large.error.violations == (("", "longer than 300 bytes"),)
        many = stage4.execute(trial_plan(trial_step(), trial_step()))
        assert many.error is not None
        assert many.error.violations == (("steps", "must hold at most 1 steps"),)


def test_plans_are_listed_newest_first_in_pages(stage4: Stage4UnderTest) -> None:
    """Expect every plan of the caller once, without results, and no other caller's."""
    submitted = [stage4.execute(trial_plan()).completed.plan_id for _ in range(5)]
    stage4.execute(trial_plan(), caller="other")
    listed, token = [], ""
    while True:
        page = stage4.plans().ListPlans(
            pb.ListPlansRequest(page_size=2, page_token=token), timeout=5
        )
        assert len(page.plans) <= 2
        listed += [plan.plan_id for plan in page.plans]
        assert all(plan.result_json == b"" for plan in page.plans)
        token = page.next_page_token
        if not token:
            break
    assert listed == submitted[::-1]


def test_events_are_listed_oldest_first_in_pages(stage4: Stage4UnderTest) -> None:
    """Expect every event of the caller once and in order, and the bytes that were hashed."""
    for caller in ("cli", "other", "cli"):
        stage4.execute(trial_plan(), caller=caller)
    seqs, token = [], ""
    while True:
        request = pb.ListAuditEventsRequest(page_size=4, page_token=token)
        page = stage4.plans().ListAuditEvents(request, timeout=5)
        for event in page.events:
            spelled = json.loads(event.event_json)
            assert (spelled["seq"], spelled["event_type"]) == (event.seq, event.event_type)
            seqs.append(event.seq)
        token = page.next_page_token
        if not token:
            break
    assert seqs == [0, 1, 2, 6, 7, 8]


@pytest.mark.parametrize("token", ["x", "e1x", "p1", "e-1", "e01", "e" + "9" * 30])
def test_a_page_token_of_another_list_is_refused(stage4: Stage4UnderTest, token: str) -> None:
    """Expect REQUEST_INVALID at page_token."""
    request = pb.ListAuditEventsRequest(page_token=token)
    refusal = _refusal(lambda: stage4.plans().ListAuditEvents(request, timeout=5))
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "REQUEST_INVALID")
    assert refusal.violations[0][0] == "page_token"


def test_an_auditor_reads_what_happened_and_not_what_came_of_it(stage4: Stage4UnderTest) -> None:
    """Expect everybody's plans and events, and no result."""
    plan_id = stage4.execute(trial_plan(trial_step(n=1))).completed.plan_id
    stage4.execute(trial_plan(), caller="other")
    assert stage4.plan(plan_id).result_json
    assert stage4.plan(plan_id, "reader").result_json == b""
    assert stage4.plan(plan_id, "reader").state == pb.PLAN_STATE_COMPLETED
    assert len(stage4.events("reader")) == 6
    assert len(stage4.plans("reader").ListPlans(pb.ListPlansRequest(), timeout=5).plans) == 2


def test_a_thousand_refusals_do_not_fill_the_log(tmp_path: Path, stage3_address: str) -> None:
    """Expect OVERLOADED without a record beyond the budget, one summary, and others unharmed."""
    refusals = Refusals(burst=10, per_second=1.0)
    clock = ManualClock(SystemClock().now_us())
    with running_stage4(tmp_path, stage3_address, refusals=refusals, clock=clock) as stage4:
        told = [stage4.execute(b"{}").reason for _ in range(5)]
        told += [stage4.execute(trial_plan(token_hash="token_x")).reason for _ in range(5)]
        size = stage4.service.journal.head.size
        assert size == 5 * 2 + 5 * 3
        told += [stage4.execute(trial_plan()).reason for _ in range(200)]
        assert told == ["PLAN_INVALID"] * 5 + ["TOKEN_NOT_ACCEPTED"] * 5 + ["OVERLOADED"] * 200
        assert stage4.service.journal.head.size == size
        assert stage4.execute(trial_plan(), caller="other").code == "OK"
        clock.advance(1.5)
        assert stage4.execute(trial_plan()).code == "OK"
        summary = stage4.events("reader")[size + 3]
        assert (summary["record_type"], summary["caller"]) == ("denials_suppressed", uri("cli"))
        assert summary["details"] == {"count": 200}


def test_what_was_suppressed_is_recorded_when_the_service_stops(
    tmp_path: Path, stage3_address: str
) -> None:
    """Expect the summary of a caller that never came back, refused at the door or later."""
    refusals = Refusals(burst=1, per_second=0)
    with running_stage4(tmp_path, stage3_address, refusals=refusals) as stage4:
        for _ in range(4):
            assert stage4.execute(trial_plan(), caller="domain").reason == "METHOD_NOT_PERMITTED"
            assert stage4.execute(b"").reason in {"PLAN_INVALID", "OVERLOADED"}
    with running_stage4(tmp_path, stage3_address, create=False) as stage4:
        records = [r for r in stage4.events("reader") if "record_type" in r]
        assert [(r["record_type"], r["caller"]) for r in records] == [
            ("caller_refused", uri("domain")),
            ("denials_suppressed", uri("cli")),
            ("denials_suppressed", uri("domain")),
        ]
        assert [r["details"].get("count") for r in records] == [None, 3, 3]


def test_a_journal_that_is_gone_is_said_to_be_gone(stage4: Stage4UnderTest) -> None:
    """Expect AUDIT_UNAVAILABLE of every method that needs it."""
    stage4.execute(trial_plan())
    stage4.service.journal.close()
    for method in ("ExecutePlan", *sorted(READS)):
        call = partial(getattr(stage4.plans(), method), REQUESTS[method], timeout=TIMEOUT_S)
        refusal = _refusal(call)
        assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "AUDIT_UNAVAILABLE")
    valid = json.dumps(trial_plan()).encode()
    refusal = _refusal(
        lambda: stage4.plans().ExecutePlan(pb.ExecutePlanRequest(plan_json=valid), timeout=5)
    )
    assert refusal.reason == "AUDIT_UNAVAILABLE"
