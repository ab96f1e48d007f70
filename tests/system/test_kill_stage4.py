"""kill -9 of either service in mid-plan, seen by the client of Stage-4.

Whoever is killed, nobody executes anything a second time, and the client's own resubmission is the
one way to learn what became of the plan.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stagegate.error.v1 import plan_outcome_pb2
from stagegate.stage4.v1 import plan_service_pb2 as pb

from servicekit.store.ledger import verify_log
from stage3_service.settings import STORE_FILE as STAGE3_STORE
from stage4_service.settings import STORE_FILE as STAGE4_STORE
from stage4_service.settings import ClientBounds
from tests.harness.pair import pair_of_processes, plan_document
from tests.harness.stage3 import step
from tests.system.invariants import verify_invariants

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness.pair import ProcessPair

NONE = plan_outcome_pb2.EFFECTS_NONE
UNKNOWN = plan_outcome_pb2.EFFECTS_UNKNOWN
SCOPE = {"trial": ("effect", "hang", "effect_then_hang", "slow", "echo")}
EFFECT = step("trial", "effect")
HANGING = {"hang": 1, "effect_then_hang": 2}
"""Methods that never return, and how many effects there are once they hang as the second step."""


def verify_everything(pair: ProcessPair) -> None:
    """Assert that both logs verify, and that Stage-3's agrees with the world."""
    directory = pair.stage3_process.directory
    assert verify_log(directory / "stage3" / STAGE3_STORE).problem is None
    assert verify_log(directory / "stage4" / STAGE4_STORE).problem is None
    verify_invariants(pair.stage3.events(), pair.effects())
    for plan_id in {event["plan_id"] for event in plan_events(pair)}:
        types = [event["event_type"] for event in plan_events(pair, plan_id)]
        assert types[:2] == ["plan_received", "execution_started"]
        assert types[2:] in (["execution_completed"], ["execution_failed"])


def plan_events(pair: ProcessPair, plan_id: str = "") -> list[dict[str, Any]]:
    """Return Stage-4's events of one plan, or of all."""
    events = pair.stage4.events("reader", plan_id=plan_id)
    return [event for event in events if "event_type" in event]


def recoveries(pair: ProcessPair) -> list[int]:
    """Return how many plans each recovery of Stage-4 closed.

    A start that had nothing to close leaves no record.
    """
    records = [r for r in pair.stage4.events("reader") if "record_type" in r]
    assert {record["record_type"] for record in records} <= {"recovery_completed"}
    return [record["details"]["closed"] for record in records]


class Submitted:
    """A plan whose answer is awaited on a thread of its own."""

    def __init__(self, pair: ProcessPair, document: Any, **options: Any) -> None:
        stage4 = pair.stage4
        stage4.plans()
        self._answers: list[Any] = []
        self._thread = threading.Thread(
            target=lambda: self._answers.append(stage4.execute(document, **options))
        )
        self._thread.start()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the plan brings about, as long as it is not answered."""
        while not condition():
            self._thread.join(0.01)
            assert self._thread.is_alive(), self._answers

    def answer(self) -> Any:
        """Return what the client was told."""
        self._thread.join(30)
        assert self._answers, "no answer"
        return self._answers[0]


def hangs_at_the_second_step(pair: ProcessPair, method: str) -> Callable[[], bool]:
    """Return whether the second step of the only plan hangs in its domain."""
    return lambda: pair.stage3_started(1) and len(pair.effects()) == HANGING[method]


@pytest.mark.slow
@pytest.mark.parametrize("method", HANGING)
def test_stage3_killed_in_mid_plan_leaves_the_outcome_unknown_until_it_is_asked(
    tmp_path: Path, method: str
) -> None:
    """OUTCOME_UNKNOWN with both identifiers; after its restart the stored outcome is in doubt."""
    with pair_of_processes(tmp_path) as pair:
        token = pair.stage3.issue(scope=SCOPE)
        document = plan_document(token.token_hash, EFFECT, step("trial", method), EFFECT)
        submitted = Submitted(pair, document, request_id="mid-plan")
        submitted.until(hangs_at_the_second_step(pair, method))
        pair.stage3_process.kill()
        lost = submitted.answer()
        before = pair.effects()

        assert (lost.code, lost.reason) == ("INTERNAL", "OUTCOME_UNKNOWN")
        assert (lost.outcome.request_id, lost.outcome.effects) == ("mid-plan", UNKNOWN)
        assert lost.outcome.plan_id
        last = plan_events(pair, lost.outcome.plan_id)[-1]
        assert last["event_type"] == "execution_failed"
        assert last["details"]["outcome"] == "unknown"
        assert pair.stage4.plan(lost.outcome.plan_id).state == pb.PLAN_STATE_UNKNOWN

        pair.stage3_process.start()
        assert pair.stage3_process.recovered_plans == 1
        learned = pair.stage4.execute(document, request_id="mid-plan")
        assert (learned.code, learned.reason) == ("FAILED_PRECONDITION", "STEP_IN_DOUBT")
        assert (learned.outcome.step, learned.outcome.effects) == (1, UNKNOWN)
        replayed = plan_events(pair, learned.outcome.plan_id)
        assert [event["details"].get("replay") for event in replayed] == [True] * 3
        # The submission whose answer was lost has learned it too.
        first = pair.stage4.plan(lost.outcome.plan_id)
        assert (first.state, first.reason, first.step) == (
            pb.PLAN_STATE_FAILED,
            "STEP_IN_DOUBT",
            1,
        )
        assert pair.effects() == before
        verify_everything(pair)


@pytest.mark.slow
def test_stage3_killed_while_idle_is_invisible_to_the_next_plan(tmp_path: Path) -> None:
    """Stage-4 finds it again at its address, and what was answered is answered again."""
    with pair_of_processes(tmp_path) as pair:
        document = plan_document(pair.stage3.issue(scope=SCOPE).token_hash, EFFECT)
        first = pair.stage4.execute(document, request_id="idle").completed
        pair.stage3_process.kill()
        pair.stage3_process.start()
        again = pair.stage4.execute(document, request_id="idle").completed
        assert (again.replay, again.result_json) == (True, first.result_json)
        assert pair.stage4.execute(document).completed.replay is False
        assert len(pair.effects()) == 2
        verify_everything(pair)


@pytest.mark.slow
@pytest.mark.parametrize("method", HANGING)
def test_stage4_killed_in_mid_plan_closes_it_as_unknown_and_calls_nobody(
    tmp_path: Path, method: str
) -> None:
    """Recovery records execution_failed{unknown, recovered}; Stage-3 sees no second submission."""
    with pair_of_processes(tmp_path) as pair:
        token = pair.stage3.issue(scope=SCOPE)
        document = plan_document(token.token_hash, EFFECT, step("trial", method), EFFECT)
        submitted = Submitted(pair, document, request_id="mid-plan")
        submitted.until(hangs_at_the_second_step(pair, method))
        before = pair.effects()
        log_before = pair.stage3.events()
        pair.stage4_process.kill()
        # What a client hears of a connection that is gone says nothing about its plan.
        assert submitted.answer().reason == ""
        assert submitted.answer().response is None

        pair.stage4_process.start()
        (plan_id,) = {event["plan_id"] for event in plan_events(pair)}
        events = plan_events(pair, plan_id)
        assert [event["event_type"] for event in events] == [
            *("plan_received", "execution_started", "execution_failed")
        ]
        assert events[2]["details"] == {
            "reason": "OUTCOME_UNKNOWN",
            "outcome": "unknown",
            "effects": "unknown",
            "recovered": True,
        }
        assert recoveries(pair) == [1]
        plan = pair.stage4.plan(plan_id)
        assert (plan.state, plan.reason, plan.request_id) == (
            pb.PLAN_STATE_UNKNOWN,
            "OUTCOME_UNKNOWN",
            "mid-plan",
        )
        assert pair.stage3.events() == log_before
        # Stage-3 has not given the step up; only a resubmission asks it, and it says so.
        again = pair.stage4.execute(document, request_id="mid-plan")
        assert (again.code, again.reason) == ("ABORTED", "REQUEST_IN_PROGRESS")
        assert pair.effects() == before


@pytest.mark.slow
def test_a_plan_whose_stage4_was_killed_is_learned_by_resubmitting_it(tmp_path: Path) -> None:
    """The step that ran ends and is recorded; the next is not started; the outcome is told once.

    Stage-4's death is to Stage-3 a client that left: the plan ends before its next step.
    """
    with pair_of_processes(tmp_path) as pair:
        token = pair.stage3.issue(scope=SCOPE)
        document = plan_document(token.token_hash, EFFECT, step("trial", "hang"), EFFECT)
        submitted = Submitted(pair, document, request_id="learned")
        submitted.until(lambda: pair.stage3_started(1))
        pair.stage4_process.kill()
        submitted.answer()
        pair.stage4_process.start()
        (lost,) = {event["plan_id"] for event in plan_events(pair)}
        again = pair.stage4.execute(document, request_id="learned")
        assert again.reason == "REQUEST_IN_PROGRESS"
        pair.stage3_process.release()
        while again.reason == "REQUEST_IN_PROGRESS":
            again = pair.stage4.execute(document, request_id="learned")
        assert (again.code, again.reason) == ("CANCELLED", "CLIENT_CANCELLED"), again.error
        assert (again.outcome.step, again.outcome.effects) == (2, plan_outcome_pb2.EFFECTS_SOME)
        assert pair.stage4.plan(lost).reason == "CLIENT_CANCELLED"
        assert pair.effects() == [f"{lost}/0"]
        verify_everything(pair)


@pytest.mark.slow
def test_both_killed_at_once_agree_after_their_restart(tmp_path: Path) -> None:
    """Unknown above, in doubt below; the resubmission joins the two stories."""
    with pair_of_processes(tmp_path) as pair:
        token = pair.stage3.issue(scope=SCOPE)
        document = plan_document(token.token_hash, step("trial", "effect_then_hang"))
        submitted = Submitted(pair, document, request_id="both")
        submitted.until(lambda: len(pair.effects()) == 1)
        pair.stage4_process.kill()
        pair.stage3_process.kill()
        submitted.answer()
        pair.stage3_process.start()
        pair.stage4_process.start()
        (lost,) = {event["plan_id"] for event in plan_events(pair)}
        assert pair.stage4.plan(lost).reason == "OUTCOME_UNKNOWN"
        learned = pair.stage4.execute(document, request_id="both")
        assert (learned.reason, learned.outcome.step) == ("STEP_IN_DOUBT", 0)
        assert pair.stage4.plan(lost).reason == "STEP_IN_DOUBT"
        assert pair.effects() == [f"{lost}/0"]
        verify_everything(pair)


@pytest.mark.slow
def test_an_answered_plan_survives_a_kill_of_stage4(tmp_path: Path) -> None:
    """I8: what a client was told is in the log, result included; a restart closes nothing."""
    with pair_of_processes(tmp_path) as pair:
        document = plan_document(pair.stage3.issue(scope=SCOPE).token_hash, EFFECT)
        told = pair.stage4.execute(document, request_id="told").completed
        refused = pair.stage4.execute(b"{}", request_id="refused")
        pair.stage4_process.kill()
        pair.stage4_process.start()
        kept = pair.stage4.plan(told.plan_id)
        assert (kept.state, kept.result_json) == (pb.PLAN_STATE_COMPLETED, told.result_json)
        assert pair.stage4.plan(refused.outcome.plan_id).reason == "PLAN_INVALID"
        assert recoveries(pair) == []


@pytest.mark.slow
def test_without_stage3_nothing_happens_and_the_request_executes_later(tmp_path: Path) -> None:
    """STAGE3_UNREACHABLE consumes no request identifier; the same one executes once it is up."""
    with pair_of_processes(tmp_path, stage4={"connect_timeout_s": 0.3}) as pair:
        token = pair.stage3.issue(scope=SCOPE)
        document = plan_document(token.token_hash, EFFECT)
        pair.stage3_process.kill()
        # A connection is not known to be dead at once, and what is lost on it is unknown.
        while pair.stage4.execute(document).reason == "OUTCOME_UNKNOWN":
            pass
        refused = pair.stage4.execute(document, request_id="later")
        assert (refused.code, refused.reason) == ("UNAVAILABLE", "STAGE3_UNREACHABLE")
        assert (refused.outcome.effects, refused.outcome.request_id) == (NONE, "later")
        assert pair.stage4.plan(refused.outcome.plan_id).state == pb.PLAN_STATE_REFUSED
        pair.stage4_process.kill()
        pair.stage4_process.start()
        cold = pair.stage4.execute(document, request_id="later")
        assert (cold.reason, cold.outcome.effects) == ("STAGE3_UNREACHABLE", NONE)
        assert pair.effects() == []

        pair.stage3_process.start()
        executed = pair.stage4.execute(document, request_id="later")
        while executed.reason == "STAGE3_UNREACHABLE":
            executed = pair.stage4.execute(document, request_id="later")
        assert executed.completed.replay is False
        assert len(pair.effects()) == 1
        verify_everything(pair)


@pytest.mark.slow
def test_a_stage3_that_hangs_costs_no_more_than_the_clients_time(tmp_path: Path) -> None:
    """Stopped: answered in time as not known. Continued: a resubmission learns it."""
    # The client waits for as long as Stage-4 lets it: its own clock does not end the call.
    bounds = ClientBounds(max_deadline_s=3.0)
    with pair_of_processes(tmp_path, stage4={"plans": bounds}) as pair:
        token = pair.stage3.issue(scope=SCOPE)
        document = plan_document(token.token_hash, EFFECT)
        assert pair.stage4.execute(document).code == "OK"
        os.kill(pair.stage3_process.process.pid, signal.SIGSTOP)
        try:
            answer = pair.stage4.execute(document, request_id="stopped", timeout_s=None)
        finally:
            os.kill(pair.stage3_process.process.pid, signal.SIGCONT)
        assert answer.reason in {"OUTCOME_PENDING", "OUTCOME_UNKNOWN"}
        assert answer.outcome.effects == UNKNOWN
        assert plan_events(pair, answer.outcome.plan_id)[-1]["details"]["outcome"] == "unknown"
        again = pair.stage4.execute(document, request_id="stopped")
        while again.reason == "REQUEST_IN_PROGRESS":
            again = pair.stage4.execute(document, request_id="stopped")
        # Stage-3 refused the expired call or executed it: in either case it ran once.
        assert again.code == "OK"
        assert len(pair.effects()) == 2
        verify_everything(pair)


def kill_stage4_during_load(tmp_path: Path, after_answers: int) -> None:
    """Kill Stage-4 after so many answers to eight callers; restart; ask for every plan again."""
    with pair_of_processes(tmp_path) as pair:
        document = plan_document(pair.stage3.issue(scope=SCOPE).token_hash, EFFECT, EFFECT)
        names = [f"request-{number}" for number in range(after_answers + 16)]
        told: dict[str, Any] = {}
        waiting, enough = iter(names), threading.Event()
        stage4 = pair.stage4
        stage4.plans()

        def submit() -> None:
            for name in waiting:
                told[name] = stage4.execute(document, request_id=name)
                if len(told) >= after_answers:
                    enough.set()

        callers = [threading.Thread(target=submit) for _ in range(8)]
        for caller in callers:
            caller.start()
        assert enough.wait(60)
        pair.stage4_process.process.kill()
        for caller in callers:
            caller.join(60)
        pair.stage4_process.kill()

        pair.stage4_process.start()
        for name in names:
            again = pair.stage4.execute(document, request_id=name)
            while again.reason == "REQUEST_IN_PROGRESS":
                again = pair.stage4.execute(document, request_id=name)
            if told[name].response is not None:
                assert again.completed.replay is True
                assert again.completed.result_json == told[name].completed.result_json
            else:
                assert again.response is not None or again.reason == "CLIENT_CANCELLED"
        # Every request had its effects once, and none was left open.
        assert len(pair.effects()) == len(set(pair.effects()))
        verify_everything(pair)


@pytest.mark.slow
@pytest.mark.parametrize("after_answers", [3, 17])
def test_under_load_nothing_told_is_lost_and_nothing_happens_twice(
    tmp_path: Path, after_answers: int
) -> None:
    """A sample of the kill points of Stage-4."""
    kill_stage4_during_load(tmp_path, after_answers)


@pytest.mark.ci
@pytest.mark.parametrize("after_answers", range(1, 41))
def test_under_load_at_many_points(tmp_path: Path, after_answers: int) -> None:
    """The same at forty points."""
    kill_stage4_during_load(tmp_path, after_answers)
