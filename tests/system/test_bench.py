"""The benchmark itself: it measures what it says, and refuses what it must. No time is asserted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from stagegate.stage4.v1.plan_service_pb2 import ExecutePlanResponse

from bench.echo import Variant, make_certificates, running_echo
from bench.load import Round
from bench.plans import measure_plans
from bench.report import ALONE, BUSY, OURS, PINNED_ECHO, Measured, figures, goals
from bench.work import (
    COMMITS_A_PLAN,
    STAGE3_EVENTS_A_PLAN,
    STAGE4_EVENTS_A_PLAN,
    EchoWork,
    PlanWork,
    ToolWork,
    UpperWork,
    WrongAnswerError,
)

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 1.0


def test_plans_are_executed_validated_and_accounted_for(tmp_path: Path) -> None:
    """The installed pair answers; 19 rows and at least 6 syncs a plan are found, not assumed."""
    with measure_plans(tmp_path / "pair", pinned=False) as plans:
        measured = plans.run(2, SECONDS, 0.0)
        evidence = plans.evidence()
    assert measured.answered > 0
    assert evidence.plans >= measured.answered
    assert evidence.stage3_events == STAGE3_EVENTS_A_PLAN * evidence.plans
    assert evidence.stage4_events == STAGE4_EVENTS_A_PLAN * evidence.plans
    assert evidence.syncs_a_plan is None or evidence.syncs_a_plan >= COMMITS_A_PLAN


@pytest.mark.parametrize("encrypted", [True, False])
def test_the_baseline_echoes_over_two_hops(tmp_path: Path, *, encrypted: bool) -> None:
    """With certificates and without, every answer is the bytes that were sent."""
    make_certificates(tmp_path / "certificates")
    with running_echo(
        tmp_path / "certificates", Variant(pinned=False, encrypted=encrypted)
    ) as echo:
        assert echo.run(2, SECONDS, 0.0).answered > 0


def test_an_answer_that_is_not_the_plans_is_no_answer() -> None:
    """A response without the three digests, or another echo, ends a benchmark."""
    plan = PlanWork(user_id="ada", token_hash="token_" + "0" * 43)
    with pytest.raises(WrongAnswerError):
        plan.verify("label", plan.request("label"), b"\x1a\x02{}")
    with pytest.raises(WrongAnswerError):
        EchoWork(size=8).verify("label", b"12345678", b"12345679")
    told = {"step": 0, "output": {"structured_content": {"time_difference": "+8.0h"}}}
    other = ExecutePlanResponse(result_json=json.dumps({"results": [told]}).encode())
    for work in (
        ToolWork("ada", "token_", "clock", "convert", 1, {}, "+9.0h"),
        UpperWork("ada", "token_"),
    ):
        with pytest.raises(WrongAnswerError):
            work.verify("label", work.request("label"), other.SerializeToString())


def test_the_table_divides_medians_and_says_what_it_did_not_measure() -> None:
    """250 plans beside 1,000 echoes are 0.25; a contender that never ran has no figure."""
    measured = Measured()
    measured.fdatasync_ms.append(0.5)
    for per_second in (240.0, 250.0, 900.0):
        measured.add(OURS, BUSY, Round(per_second, 1.0, 2.0, 10))
    measured.add(PINNED_ECHO, BUSY, Round(1000.0, 1.0, 2.0, 10))
    measured.add(OURS, ALONE, Round(100.0, 8.0, 9.0, 10))
    measured.add(PINNED_ECHO, ALONE, Round(1000.0, 1.0, 2.0, 10))
    ratios = {line[:42].strip(): line[42:].split() for line in goals(measured)}
    assert ratios["plans/s, 32 callers ÷ pinned mTLS echo"][:3] == ["250.00", "1,000.00", "0.25"]
    assert ratios["p50 ms, 1 caller ÷ (echo + 6 fdatasync)"][:3] == ["8.00", "4.00", "2.00"]
    assert ratios["plans/s, 32 callers ÷ free plain echo"][:2] == ["not", "measured"]
    assert any(line.startswith(OURS) and "250" in line for line in figures(measured))
