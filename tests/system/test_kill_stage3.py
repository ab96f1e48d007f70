"""kill -9 of Stage-3 in mid-plan: what it may have done is in doubt, and never done again."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from servicekit.store.ledger import verify_log
from stage3_service.settings import STORE_FILE
from tests.crash.forked import fork_server
from tests.crash.forked_stage3 import ForkedStage3
from tests.harness.processes import Stage3Process, stage3_process
from tests.harness.slices import slice_of_long_run
from tests.harness.stage3 import step
from tests.system.invariants import verify_invariants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harness.stage3 import Answer

SCOPE = {"trial": ("effect", "hang", "effect_then_hang", "slow", "echo")}
EFFECT = step("trial", "effect")


def verify_log_of(running: Stage3Process | ForkedStage3) -> None:
    """Assert that the log agrees with itself and with what happened in the world."""
    assert verify_log(running.directory / "stage3" / STORE_FILE).problem is None
    verify_invariants(running.under_test.events(), running.effects())


@pytest.mark.parametrize("method", ["hang", "effect_then_hang"])
def test_the_step_in_doubt_is_closed_and_never_runs_again(tmp_path: Path, method: str) -> None:
    """Whether the effect happened before the kill or not, the log says that it is not known."""
    with stage3_process(tmp_path) as running:
        stage3 = running.under_test
        token = stage3.issue(scope=SCOPE)
        request = stage3.request(token.token_hash, [EFFECT, step("trial", method), EFFECT])
        call = stage3.plans().ExecuteMultiDomainPlan.future(request, timeout=30)
        while len(running.effects()) < 1 + (method == "effect_then_hang") or not any(
            event["event_type"] == "EXECUTION_STARTED" and event["step"] == 1
            for event in stage3.events(plan_id=request.plan_id)
        ):
            assert not call.done()
        running.kill()
        before = running.effects()

        again = running.start()
        assert running.recovered_plans == 1
        last = again.events(plan_id=request.plan_id)[-1]
        assert (last["event_type"], last["step"], last["reason"]) == (
            "OPERATION_ABORTED",
            1,
            "STEP_IN_DOUBT",
        )
        answer = again.send(request)
        assert (answer.kind, answer.ended.step) == ("in_doubt", 1)
        assert running.effects() == before
        verify_log_of(running)


def test_an_idle_service_loses_nothing(tmp_path: Path) -> None:
    """What was answered is there, and the stored outcome is told again."""
    with stage3_process(tmp_path) as running:
        stage3 = running.under_test
        token = stage3.issue(scope=SCOPE)
        request = stage3.request(token.token_hash, [EFFECT, EFFECT])
        first = stage3.send(request)
        running.kill()
        again = running.start().send(request)
        assert (first.kind, again.kind) == ("completed", "completed")
        assert first.ended == again.ended
        assert len(running.effects()) == 2
        verify_log_of(running)


def test_a_revocation_that_was_answered_holds_after_a_kill(tmp_path: Path) -> None:
    """An operator who was told `revoked` may pull the plug."""
    with stage3_process(tmp_path) as running:
        stage3 = running.under_test
        token = stage3.issue(scope=SCOPE)
        stage3.revoke(token.token.token_id)
        running.kill()
        again = running.start()
        answer = again.send(
            again.request(token.token_hash, [EFFECT], plan_id="later", request_id="later")
        )
        assert answer.reason == "TOKEN_NOT_ACCEPTED"
        verify_log_of(running)


def kill_during_load(running: Stage3Process | ForkedStage3, after_answers: int) -> None:
    """Kill after so many answers under load from eight callers; restart; verify; ask again."""
    stage3 = running.under_test
    token = stage3.issue(scope=SCOPE)
    requests = [stage3.request(token.token_hash, [EFFECT] * 3) for _ in range(after_answers + 16)]
    answers: dict[str, Answer] = {}
    waiting = iter(requests)
    enough = threading.Event()

    def call() -> None:
        for request in waiting:
            answers[request.plan_id] = stage3.send(request, timeout_s=10)
            if len(answers) >= after_answers:
                enough.set()

    stage3.plans()
    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    assert enough.wait(60)
    running.strike()
    for caller in callers:
        caller.join(60)
    running.kill()

    again = running.start()
    before = running.effects()
    for request in requests:
        told = answers[request.plan_id]
        replay = again.send(request)
        if told.kind == "completed":
            # I8: every outcome told to a client is in the log.
            assert replay.response is not None
            assert replay.response.replay is True
            assert replay.ended == told.ended
        else:
            assert replay.kind in {"completed", "in_doubt"}
    assert before == running.effects()[: len(before)]
    verify_log_of(running)


@pytest.mark.slow
@pytest.mark.parametrize("after_answers", [1, 7, 20])
def test_under_load_nothing_told_is_lost_and_nothing_happens_twice(
    tmp_path: Path, after_answers: int
) -> None:
    """A sample of the kill points: I1 to I9 hold over the log and the world."""
    with stage3_process(tmp_path) as running:
        kill_during_load(running, after_answers)


@pytest.mark.ci
@pytest.mark.parametrize("after_answers", range(1, 61))
def test_under_load_at_many_points(tmp_path: Path, after_answers: int) -> None:
    """The same at sixty points."""
    with stage3_process(tmp_path) as running:
        kill_during_load(running, after_answers)


@pytest.mark.long
def test_under_load_at_very_many_points(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The same at two thousand points; prints how many were tried."""
    part = slice_of_long_run()
    points = part.cases(2000)
    # A process of its own for each start would spend most of the time on imports.
    with fork_server(tmp_path) as server:
        for number in points:
            directory = tmp_path / str(number)
            directory.mkdir()
            running = ForkedStage3(directory, server)
            running.start()
            kill_during_load(running, 1 + number % 60)
            running.kill()
            shutil.rmtree(directory)
    figure = f"{len(points):,} kills under load: nothing told is lost, nothing happens twice"
    record_property("figure", part.label(figure))
