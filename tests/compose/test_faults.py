"""What becomes of a plan when a container dies, freezes or loses its network in the middle of it.

Each time: the client is told no more than is known, no effect happens twice, the same request_id
answers what became of it, and the pair is whole again without a hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.compose.marks import COMPOSED
from tests.compose.stack import Stack, wait_until

pytestmark = COMPOSED

HEALED_S = 10.0
EFFECT: Mapping[str, Any] = {"domain": "trial", "method": "effect", "parameters": {}}

Record = Callable[[str, object], None]


def slow(seconds: float) -> Mapping[str, Any]:
    """Return a step that takes this long."""
    return {"domain": "trial", "method": "slow", "parameters": {"seconds": seconds}}


def events(pair: Stack) -> list[dict[str, Any]]:
    """Return what Stage-3 recorded about the plan that had the last effect.

    A replay has an identifier of its own; the effect's idempotency key names the original.
    """
    plan_id = pair.effects()[-1].partition("/")[0]
    listed: list[dict[str, Any]] = pair.operate("audit", "list", "--plan", plan_id)["events"]
    return listed


def in_the_middle(pair: Stack, effects: int) -> None:
    """Wait until the first step of a plan has had its effect: the next one is slow."""
    wait_until(lambda: len(pair.effects()) == effects, "the first step's effect")


def assert_whole(pair: Stack, name: str) -> None:
    """A plan of two steps runs, with one effect."""
    before = len(pair.effects())

    answer = pair.run_plan([EFFECT, slow(0)], f"{name}-after")

    assert answer["status"] == "completed", answer
    assert len(pair.effects()) == before + 1


def assert_log_holds(pair: Stack) -> None:
    """Every hash of Stage-3's log, recomputed from the file, and each effect once."""
    told = pair.compose(
        *("exec", "-T", "stage3", "stage3", "audit", "verify", "--config", "/dev/null", "--json")
    )
    assert '"verified": true' in told, told
    effects = pair.effects()
    assert len(effects) == len(set(effects))


def whole_again(pair: Stack, killed: str, pid: int) -> float:
    """Wait until another process of a killed service is healthy; return how long it took."""

    def replaced() -> bool:
        state = pair.inspect(killed)["State"]
        return bool(state["Pid"] not in {0, pid} and pair.health(killed) == "healthy")

    return wait_until(replaced, f"{killed} is healthy again", 60)


def test_stage3_killed_in_the_middle_of_a_step(pair: Stack, record_property: Record) -> None:
    """The client hears that the outcome is unknown; afterwards the step is in doubt, for good."""
    before = len(pair.effects())
    pid = pair.inspect("stage3")["State"]["Pid"]
    steps = [EFFECT, slow(15), EFFECT]
    submitted = pair.submit(steps, "kill-stage3")
    in_the_middle(pair, before + 1)

    pair.kill("stage3")
    told = submitted.outcome()["error"]

    assert told["reason"] == "OUTCOME_UNKNOWN"
    took_s = whole_again(pair, "stage3", pid)
    record_property("figure", f"stage3 healthy again after kill -9: {took_s:.1f} s")
    assert took_s <= HEALED_S
    again = pair.run_plan(steps, "kill-stage3")["error"]
    assert again["reason"] == "STEP_IN_DOUBT"
    recorded = events(pair)
    assert recorded[-1]["event_type"] == "OPERATION_ABORTED"
    assert recorded[-1]["step"] == 1
    assert len(pair.effects()) == before + 1
    assert_whole(pair, "kill-stage3")
    assert_log_holds(pair)


def test_stage4_killed_in_the_middle_of_a_step(pair: Stack, record_property: Record) -> None:
    """The connection breaks; Stage-3 records the step as it ends and starts no other."""
    before = len(pair.effects())
    pid = pair.inspect("stage4")["State"]["Pid"]
    steps = [EFFECT, slow(6), EFFECT]
    submitted = pair.submit(steps, "kill-stage4")
    in_the_middle(pair, before + 1)

    pair.kill("stage4")
    told = submitted.outcome()["error"]

    assert told["exit_code"] != 0
    took_s = whole_again(pair, "stage4", pid)
    record_property("figure", f"stage4 healthy again after kill -9: {took_s:.1f} s")
    assert took_s <= HEALED_S
    answers: list[dict[str, Any]] = []

    def ended() -> bool:
        answers.append(pair.run_plan(steps, "kill-stage4")["error"])
        return str(answers[-1]["reason"]) != "REQUEST_IN_PROGRESS"

    wait_until(ended, "the step under way has ended", 30)
    assert answers[-1]["reason"] == "CLIENT_CANCELLED"
    recorded = [(event["event_type"], event["step"]) for event in events(pair)]
    assert ("EXECUTION_COMPLETED", 1) in recorded
    assert recorded[-1][0] == "OPERATION_ABORTED"
    assert ("EXECUTION_STARTED", 2) not in recorded
    assert len(pair.effects()) == before + 1
    assert_whole(pair, "kill-stage4")
    assert_log_holds(pair)


def test_stage3_is_gone_for_a_while(pair: Stack) -> None:
    """While there is no Stage-3 the answer is that nothing happened, and that is so."""
    before = len(pair.effects())
    pair.compose("stop", "stage3")
    try:
        told = pair.run_plan([EFFECT], "gone")["error"]
    finally:
        pair.compose("start", "stage3")
        wait_until(lambda: pair.health("stage3") == "healthy", "stage3 is healthy again")

    assert told["reason"] == "STAGE3_UNREACHABLE"
    assert len(pair.effects()) == before
    assert pair.run_plan([EFFECT], "gone")["status"] == "completed"
    assert len(pair.effects()) == before + 1


@pytest.mark.parametrize(
    ("service", "network"), [("stage4", "back"), ("stage3", "back"), ("stage4", "front")]
)
def test_a_short_cut_is_survived(pair: Stack, service: str, network: str) -> None:
    """A link that comes back within the deadline costs time and nothing else."""
    before = len(pair.effects())
    submitted = pair.submit([EFFECT, slow(4), EFFECT], f"short-cut-{service}-{network}")
    in_the_middle(pair, before + 1)

    with pair.cut_off(service, network):
        time.sleep(2)
    answer = submitted.outcome()

    assert answer["status"] == "completed", answer
    assert len(pair.effects()) == before + 2
    assert len(events(pair)) == 16
    assert_log_holds(pair)


@pytest.mark.parametrize("service", ["stage4", "stage3"])
def test_a_cut_longer_than_the_clients_patience(pair: Stack, service: str) -> None:
    """The client is told that it is not known, in time; Stage-3 runs no step past the deadline."""
    before = len(pair.effects())
    name = f"long-cut-{service}"
    steps = [EFFECT, slow(5), EFFECT]
    submitted = pair.submit(steps, name, timeout_s=8)
    in_the_middle(pair, before + 1)

    with pair.cut_off(service, "back"):
        told = submitted.outcome()["error"]
        assert pair.health("stage4") == "healthy"

    assert told["reason"] in {"OUTCOME_PENDING", "OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED"}
    answers: list[dict[str, Any]] = []

    def told_what_became() -> bool:
        answer = pair.run_plan(steps, name)
        answers.append(answer.get("error", answer))
        return answers[-1].get("reason") not in {"REQUEST_IN_PROGRESS", "STAGE3_UNREACHABLE"}

    wait_until(told_what_became, "the link has healed", 30)
    stored = answers[-1]
    recorded = events(pair)
    assert recorded[-1]["event_type"] in {"OPERATION_ABORTED", "EXECUTION_COMPLETED"}
    if stored.get("status") == "completed":
        assert len(pair.effects()) == before + 2
    else:
        assert stored["reason"] in {"CLIENT_CANCELLED", "DEADLINE"}, stored
        assert len(pair.effects()) == before + 1
    assert pair.run_plan(steps, name).get("error", {}).get("reason") == stored.get("reason")
    assert_whole(pair, name)
    assert_log_holds(pair)


@pytest.mark.parametrize("service", ["stage3", "stage4"])
def test_a_short_pause_is_survived(pair: Stack, service: str) -> None:
    """A container that is frozen for a moment goes on where it stood."""
    before = len(pair.effects())
    submitted = pair.submit([EFFECT, slow(3), EFFECT], f"pause-{service}")
    in_the_middle(pair, before + 1)

    with pair.paused(service):
        time.sleep(2)
    answer = submitted.outcome()

    assert answer["status"] == "completed", answer
    assert len(pair.effects()) == before + 2
    assert_log_holds(pair)


def test_a_pause_of_stage3_longer_than_the_clients_patience(pair: Stack) -> None:
    """The client hears in time that the plan may still run; later it hears what became of it."""
    before = len(pair.effects())
    steps = [EFFECT, slow(1), EFFECT]
    submitted = pair.submit(steps, "long-pause", timeout_s=6)
    in_the_middle(pair, before + 1)

    with pair.paused("stage3"):
        told = submitted.outcome()["error"]

    assert told["reason"] in {"OUTCOME_PENDING", "OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED"}
    wait_until(lambda: pair.health("stage3") == "healthy", "stage3 is healthy again")
    answer = pair.run_plan(steps, "long-pause")
    stored = answer.get("error", answer)
    assert stored.get("status") == "completed" or stored["reason"] in {
        "CLIENT_CANCELLED",
        "DEADLINE",
        "STEP_IN_DOUBT",
    }
    assert len(pair.effects()) in {before + 1, before + 2}
    assert_whole(pair, "long-pause")
    assert_log_holds(pair)


def test_a_submission_that_is_repeated_through_all_of_it_has_one_effect(pair: Stack) -> None:
    """The same request_id before and after a restart of both: the stored bytes, no second run."""
    first = pair.run_plan([EFFECT], "repeated")
    before = pair.effects()
    pids = {name: pair.inspect(name)["State"]["Pid"] for name in ("stage3", "stage4")}
    for name, pid in pids.items():
        pair.kill(name)
        whole_again(pair, name, pid)

    again = pair.run_plan([EFFECT], "repeated")

    assert again["replay"] is True
    assert again["results"] == first["results"]
    assert pair.effects() == before
    assert_log_holds(pair)
