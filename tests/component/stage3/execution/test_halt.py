"""Halting: an operator's word outlives a clock's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stagegate.stage3.v1 import operator_service_pb2

from tests.harness.stage3 import TIMEOUT_S, Stage3UnderTest, running_stage3, step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.manual_clock import ManualClock

HALT = operator_service_pb2.HaltRequest(reason="an incident")
RESUME = operator_service_pb2.ResumeRequest(reason="it is over")
FAR_AHEAD_S = 1_000.0


def test_an_operator_halts_a_service_that_its_clock_has_halted(
    tmp_path: Path, clock: ManualClock
) -> None:
    """The clock's halt ends with the process; the operator's is recorded and survives it."""
    with running_stage3(tmp_path, clock=clock) as stage3:
        clock.step(FAR_AHEAD_S)
        first = stage3.operator().Halt(HALT, timeout=TIMEOUT_S)
        again = stage3.operator().Halt(HALT, timeout=TIMEOUT_S)
        assert (first.already_halted, again.already_halted) == (False, True)
        assert len(stage3.events(event_type="SERVICE_HALTED")) == 1

    with running_stage3(tmp_path, clock=clock, create=False) as stage3:
        token = stage3.issue()
        answer = stage3.run(token.token_hash, step("text", "upper", text="a"))
        assert answer.reason == "SERVICE_HALTED"


def test_resuming_takes_back_both_halts(tmp_path: Path, clock: ManualClock) -> None:
    """One resume believes the clock and takes the operator's word back."""
    with running_stage3(tmp_path, clock=clock) as stage3:
        clock.step(FAR_AHEAD_S)
        stage3.operator().Halt(HALT, timeout=TIMEOUT_S)

        stage3.operator().Resume(RESUME, timeout=TIMEOUT_S)

        token = stage3.issue()
        assert stage3.run(token.token_hash, step("text", "upper", text="a")).kind == "completed"


def test_resuming_a_service_that_serves_changes_nothing(stage3: Stage3UnderTest) -> None:
    """It is said so, and nothing is recorded."""
    answer = stage3.operator().Resume(RESUME, timeout=TIMEOUT_S)

    assert answer.already_serving
    assert stage3.events(event_type="SERVICE_RESUMED") == []
