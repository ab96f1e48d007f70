"""What a denial may cost the log, whoever is denied and wherever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stage3_service.settings import Denials
from tests.harness.stage3 import Stage3UnderTest, running_stage3, step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.manual_clock import ManualClock
    from tests.harness.fixtures import Trial

BURST = 2


@pytest.fixture
def frugal(tmp_path: Path, clock: ManualClock, trial: Trial) -> Iterator[Stage3UnderTest]:
    """Run a Stage-3 that records two denials of a caller and no more."""
    with running_stage3(
        tmp_path,
        clock=clock,
        extra_domains=[trial.extra],
        denials=Denials(burst=BURST, per_second=0),
    ) as running:
        yield running


def test_a_first_step_that_gate_4_denies_spends_the_denial_budget(
    frugal: Stage3UnderTest,
) -> None:
    """Nothing is charged to the token, so the budget is all that keeps it from filling the log."""
    token = frugal.issue(limits={"max_invocations": 1, "max_frequency": "1 per 60 seconds"})

    reasons = [
        frugal.run(token.token_hash, step("text", "upper", unknown=1)).reason for _ in range(5)
    ]

    assert reasons == ["PARAMETERS_INVALID"] * BURST + ["OVERLOADED"] * 3
    assert len(frugal.events(event_type="EXECUTION_DENIED")) == BURST


def test_a_spent_budget_neither_consumes_the_request_nor_denies_a_good_plan(
    frugal: Stage3UnderTest,
) -> None:
    """OVERLOADED means that nothing happened: the same identifiers still execute."""
    token = frugal.issue()
    for _ in range(BURST):
        frugal.run(token.token_hash, step("text", "upper", unknown=1))
    refused = frugal.request(token.token_hash, [step("text", "upper", unknown=1)])
    assert frugal.send(refused).reason == "OVERLOADED"
    good = frugal.request(
        token.token_hash,
        [step("text", "upper", text="a")],
        plan_id=refused.plan_id,
        request_id=refused.request_id,
    )

    assert frugal.send(good).kind == "completed"
    (suppressed,) = frugal.events(event_type="DENIALS_SUPPRESSED")
    assert suppressed["additional_data"]["count"] == 1
