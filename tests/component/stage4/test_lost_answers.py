"""What a client is told, and what is recorded, when the way to Stage-3 breaks."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from stagegate.stage4.v1 import plan_service_pb2

from stage4_service.settings import ClientBounds
from tests.fakes.stage3_service import FakeStage3, completed, serving
from tests.fakes.trial_plans import trial_plan, trial_step
from tests.harness.eventually import eventually
from tests.harness.processes import stage3_process
from tests.harness.reserved_ports import ReservedPort
from tests.harness.stage4 import Stage4UnderTest, running_stage4

UNKNOWN = 3
NONE = 1


def _last(stage4: Stage4UnderTest, plan_id: str) -> dict[str, Any]:
    return dict(stage4.events(plan_id=plan_id)[-1]["details"])


def test_without_stage3_nothing_is_sent_and_nothing_happened(tmp_path: Path) -> None:
    """Expect STAGE3_UNREACHABLE within the connect timeout, effects none, and the record."""
    with running_stage4(tmp_path, "127.0.0.1:1", connect_timeout_s=0.3) as stage4:
        executed = stage4.execute(trial_plan(), request_id="r")
        assert (executed.code, executed.reason) == ("UNAVAILABLE", "STAGE3_UNREACHABLE")
        assert (executed.outcome.effects, executed.outcome.request_id) == (NONE, "r")
        assert _last(stage4, executed.outcome.plan_id)["outcome"] == "refused"


def test_stage3_may_come_later_than_stage4(tmp_path: Path, fake: FakeStage3) -> None:
    """Expect a plan to wait for the connection, within its time, and no state to be left over."""
    with (
        ReservedPort() as address,
        running_stage4(tmp_path, address, connect_timeout_s=10.0) as stage4,
    ):
        # Said by Stage-4, or by the client's own clock where that is faster.
        refused = stage4.execute(trial_plan(), timeout_s=1.0)
        assert refused.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
        with serving(fake, address):
            assert stage4.execute(trial_plan()).code == "OK"


def test_a_stage3_that_went_away_between_two_plans_is_noticed(
    tmp_path: Path, fake: FakeStage3
) -> None:
    """Expect STAGE3_UNREACHABLE for a plan that found the connection gone, not OUTCOME_UNKNOWN."""
    with running_stage4(tmp_path, "127.0.0.1:1", connect_timeout_s=0.3) as stage4:
        assert stage4.execute(trial_plan()).reason == "STAGE3_UNREACHABLE"
    with (
        ReservedPort() as address,
        running_stage4(tmp_path / "b", address, connect_timeout_s=1.0) as stage4,
    ):
        with serving(fake, address):
            assert eventually(lambda: stage4.execute(trial_plan()).code == "OK")
        assert eventually(lambda: not stage4.reaches_stage3())
        assert stage4.execute(trial_plan()).reason == "STAGE3_UNREACHABLE"
        assert len(fake.received) == 1


def test_a_plan_that_outlives_the_clients_time_is_pending(
    tmp_path: Path, stage3_address: str, fake: FakeStage3
) -> None:
    """Expect OUTCOME_PENDING with unknown effects when the time is up.

    It is the service's maximum, so that no clock of the client's own can end the call first.
    """
    release = threading.Event()
    fake.script = lambda request, _context: (release.wait(20), completed(request, [{}]))[1]
    bounds = ClientBounds(max_deadline_s=1.0)
    with running_stage4(tmp_path, stage3_address, plans=bounds) as stage4:
        assert eventually(stage4.reaches_stage3)
        executed = stage4.execute(trial_plan(), timeout_s=None)
        release.set()
        assert (executed.code, executed.reason) == ("DEADLINE_EXCEEDED", "OUTCOME_PENDING")
        assert executed.outcome.effects == UNKNOWN
        assert _last(stage4, executed.outcome.plan_id)["outcome"] == "unknown"
        assert stage4.plan(executed.outcome.plan_id).state == plan_service_pb2.PLAN_STATE_UNKNOWN


def test_the_remaining_time_travels_on(stage4: Stage4UnderTest, fake: FakeStage3) -> None:
    """Expect Stage-3 to be given the client's time less 250 ms, and the maximum where none was set.

    gRPC rounds a long time up on the wire, so the maximum shows as 300 s to the other side.
    """
    times: list[float] = []

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        times.append(context.time_remaining())
        return completed(request, [{}])

    fake.script = answer
    assert stage4.execute(trial_plan(), timeout_s=5.0).code == "OK"
    assert stage4.execute(trial_plan(), timeout_s=None).code == "OK"
    assert 2.0 < times[0] < 4.78
    assert 290.0 < times[1] <= 300.0


def test_a_client_without_enough_time_starts_nothing(
    stage4: Stage4UnderTest, fake: FakeStage3
) -> None:
    """Expect no call when less than the margin is left."""
    assert stage4.execute(trial_plan(), timeout_s=0.2).code == "DEADLINE_EXCEEDED"
    assert fake.received == []


def test_a_client_that_leaves_takes_the_call_along_and_is_recorded(
    stage4: Stage4UnderTest, fake: FakeStage3
) -> None:
    """Expect Stage-3's call to be cancelled, and Stage-4's own record to say: unknown."""
    entered, cancelled = threading.Event(), threading.Event()

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(cancelled.set)
        entered.set()
        cancelled.wait(20)
        return completed(request, [{}])

    fake.script = answer
    request = plan_service_pb2.ExecutePlanRequest(
        plan_json=json.dumps(trial_plan()).encode(), request_id="r"
    )
    call: Any = stage4.plans().ExecutePlan.future(request, timeout=20)
    assert entered.wait(10)
    call.cancel()
    assert cancelled.wait(10)
    # The record is made in the handler's own time; stopping waits for handlers.
    stage4.service._clients.stop(10)
    plan = stage4.service.journal.plans(caller=None, before=None, limit=1)[0]
    assert (plan.state, plan.reason) == ("unknown", "OUTCOME_UNKNOWN")


def test_a_replay_teaches_the_lost_submission_its_outcome(
    stage4: Stage4UnderTest, fake: FakeStage3
) -> None:
    """Expect three events with replay: true, and the unknown plan to learn what became of it."""
    stored: list[Any] = []

    def lose(request: Any, context: grpc.ServicerContext) -> Any:
        stored.append(completed(request, [{"n": 1}]))
        return context.abort(grpc.StatusCode.UNAVAILABLE, "lost")

    fake.script = lose
    lost = stage4.execute(trial_plan(), request_id="r")
    assert lost.reason == "OUTCOME_UNKNOWN"

    def replay(_request: Any, _context: object) -> Any:
        stored[0].replay = True
        return stored[0]

    fake.script = replay
    learned = stage4.execute(trial_plan(), request_id="r").completed
    assert (learned.replay, learned.original_plan_id) == (True, lost.outcome.plan_id)
    events = stage4.events(plan_id=learned.plan_id)
    assert [event["details"]["replay"] for event in events] == [True, True, True]
    assert events[2]["details"]["original_plan_id"] == lost.outcome.plan_id
    first = stage4.plan(lost.outcome.plan_id)
    assert first.state == plan_service_pb2.PLAN_STATE_COMPLETED
    assert first.result_json == learned.result_json
    assert first.reason == ""
    second = stage4.plan(learned.plan_id)
    assert second.original_plan_id == lost.outcome.plan_id


def test_a_refused_submission_is_no_earlier_one(stage4: Stage4UnderTest, fake: FakeStage3) -> None:
    """Expect no replay mark after a submission that certainly was not admitted."""
    assert stage4.execute(trial_plan(token_hash="token_x"), request_id="r").code != "OK"
    response = stage4.execute(trial_plan(), request_id="r").completed
    events = stage4.events(plan_id=response.plan_id)
    assert ["replay" in event["details"] for event in events] == [False, False, True]
    assert events[2]["details"]["replay"] is False


@pytest.mark.slow
def test_a_stage3_killed_in_mid_step_leaves_the_outcome_unknown_until_it_is_asked_again(
    tmp_path: Path,
) -> None:
    """Expect OUTCOME_UNKNOWN with both identifiers, then in doubt from the restarted Stage-3."""
    with (
        stage3_process(tmp_path) as below,
        running_stage4(tmp_path, below.addresses["plans"], connect_timeout_s=20.0) as stage4,
    ):
        token = below.under_test.issue(scope={"trial": ("effect_then_hang",)}).token_hash
        plan = trial_plan(trial_step("effect_then_hang"), token_hash=token)
        answers: list[Any] = []
        thread = threading.Thread(
            target=lambda: answers.append(stage4.execute(plan, request_id="r"))
        )
        thread.start()
        while not below.effects():
            thread.join(0.01)
        below.kill()
        thread.join(20)
        (lost,) = answers
        assert (lost.code, lost.reason) == ("INTERNAL", "OUTCOME_UNKNOWN")
        assert (lost.outcome.request_id, lost.outcome.effects) == ("r", UNKNOWN)
        below.start()
        again = stage4.execute(plan, request_id="r")
        assert (again.code, again.reason) == ("FAILED_PRECONDITION", "STEP_IN_DOUBT")
        assert (again.outcome.step, again.outcome.effects) == (0, UNKNOWN)
        assert stage4.plan(lost.outcome.plan_id).reason == "STEP_IN_DOUBT"
        assert len(below.effects()) == 1


def test_a_resubmission_that_is_not_sent_promises_nothing(tmp_path: Path, fake: FakeStage3) -> None:
    """Expect effects unknown: the first submission may have run, whatever this call did."""

    def lose(_request: Any, context: grpc.ServicerContext) -> Any:
        return context.abort(grpc.StatusCode.UNAVAILABLE, "lost")

    with (
        ReservedPort() as address,
        running_stage4(tmp_path, address, connect_timeout_s=1.0) as stage4,
    ):
        with serving(fake, address):
            assert eventually(lambda: stage4.execute(trial_plan()).code == "OK")
            fake.script = lose
            assert stage4.execute(trial_plan(), request_id="r").reason == "OUTCOME_UNKNOWN"
        assert eventually(lambda: not stage4.reaches_stage3())
        again = stage4.execute(trial_plan(), request_id="r")
        assert (again.reason, again.outcome.effects) == ("STAGE3_UNREACHABLE", UNKNOWN)
        fresh = stage4.execute(trial_plan(), request_id="another")
        assert (fresh.reason, fresh.outcome.effects) == ("STAGE3_UNREACHABLE", NONE)
