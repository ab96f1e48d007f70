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


def test_a_crash_in_a_flood_forgets_the_last_minute_and_no_more(
    tmp_path: Path, clock: ManualClock, trial: Trial
) -> None:
    """The flood itself has its counts recorded once they have waited; nobody else has to call."""
    with running_stage3(
        tmp_path,
        clock=clock,
        extra_domains=[trial.extra],
        denials=Denials(burst=BURST, per_second=0),
    ) as flooded:
        nobody = "token_" + "A" * 43

        def flood(times: int) -> list[int]:
            for _ in range(times):
                flooded.run(nobody, step("text", "upper", text="a"))
            return [
                event["additional_data"]["count"]
                for event in flooded.events(event_type="DENIALS_SUPPRESSED")
            ]

        assert flood(BURST + 5) == []
        clock.advance(60)
        # What a kill would leave from here on; the sixth is the call that has them recorded.
        assert flood(1) == [6]
        assert flood(4) == [6]
        clock.advance(60)
        assert flood(1) == [6, 5]


def test_the_log_names_no_key_of_a_malformed_plan(stage3: Stage3UnderTest) -> None:
    """The client is told where; the log ends at `parameters`, whose keys may be anything."""
    token = stage3.issue()
    malformed = {
        "domain": "text",
        "method": "upper",
        "parameters_json": b'{"patient-17": {"hiv": NaN}}',
    }

    answer = stage3.run(token.token_hash, malformed)

    assert answer.error is not None
    assert answer.error.violations == (("steps[0].parameters.patient-17.hiv", "NaN or Infinity"),)
    (event,) = stage3.events(event_type="EXECUTION_DENIED")
    assert event["additional_data"] == {"field": "steps[0].parameters", "terminal": True}


def test_a_plan_that_is_too_large_as_a_whole_names_no_field(stage3: Stage3UnderTest) -> None:
    """A sentence that concerns the document begins with no colon."""
    token = stage3.issue()
    large = {
        "domain": "text",
        "method": "upper",
        "parameters_json": b'{"text":"%s"}' % (b"x" * 300_000),
    }

    answer = stage3.run(token.token_hash, large)

    assert answer.error is not None
    assert answer.error.message == "must have at most 262144 bytes"
    (event,) = stage3.events(event_type="EXECUTION_DENIED")
    assert event["additional_data"] == {"field": "", "terminal": True}


def test_callers_that_name_no_client_share_one_budget_and_no_line_of_the_log(
    frugal: Stage3UnderTest,
) -> None:
    """A compromised Stage-4 can send any text as a caller: none of it is kept or recorded."""
    token = frugal.issue()
    steps = [step("text", "upper", text="a")]
    nonsense = [f"nobody-{number}-" + "x" * 10_000 for number in range(BURST + 2)]

    reasons = [
        frugal.send(frugal.request(token.token_hash, steps, caller=caller)).reason
        for caller in nonsense
    ]

    assert reasons == ["PLAN_INVALID"] * BURST + ["OVERLOADED"] * 2
    assert "nobody" not in str(frugal.events())


def test_a_consumed_request_that_is_asked_again_with_another_plan_spends_the_budget(
    frugal: Stage3UnderTest,
) -> None:
    """It is refused before any gate, and costs the log as much as any denial."""
    token = frugal.issue()
    first = frugal.request(token.token_hash, [step("text", "upper", text="a")])
    assert frugal.send(first).kind == "completed"
    others = [
        frugal.request(
            token.token_hash, [step("text", "upper", text="b")], request_id=first.request_id
        )
        for _ in range(BURST + 1)
    ]

    reasons = [frugal.send(other).reason for other in others]

    assert reasons == ["REQUEST_ID_REUSED"] * BURST + ["OVERLOADED"]
    assert len(frugal.events(event_type="EXECUTION_DENIED")) == BURST


@pytest.mark.parametrize("plan", ["token", "request", "malformed"])
def test_the_next_denial_that_is_recorded_says_how_many_were_not(
    tmp_path: Path, clock: ManualClock, trial: Trial, plan: str
) -> None:
    """Whatever it is denied for, the caller's count stands before it in the same commit."""
    with running_stage3(
        tmp_path,
        clock=clock,
        extra_domains=[trial.extra],
        denials=Denials(burst=1, per_second=1.0),
    ) as stage3:
        token = stage3.issue().token_hash
        steps = [step("text", "upper", text="a")]
        other = [step("text", "upper", text="b")]
        assert stage3.send(stage3.request(token, steps, request_id="once")).kind == "completed"

        def deny() -> str:
            if plan == "token":
                return stage3.run("token_" + "A" * 43, *steps).reason
            if plan == "request":
                return stage3.send(stage3.request(token, other, request_id="once")).reason
            return stage3.run(token, *steps, plan_digest=bytes(31)).reason

        reasons = [deny() for _ in range(4)]
        clock.advance(1)
        reasons.append(deny())

        assert reasons[1:4] == ["OVERLOADED"] * 3
        assert reasons[0] == reasons[4] != "OVERLOADED"
        events = stage3.events()
        (at,) = (i for i, e in enumerate(events) if e["event_type"] == "DENIALS_SUPPRESSED")
        assert events[at]["additional_data"]["count"] == 3
        assert events[-1]["event_type"] == "EXECUTION_DENIED"
        assert [event["event_type"] for event in events[:at]].count("EXECUTION_DENIED") == 1


def test_an_identifier_that_is_none_is_not_in_the_log(stage3: Stage3UnderTest) -> None:
    """A caller may send any text as a plan_id; the event names a plan, or none."""
    answer = stage3.run(
        stage3.issue().token_hash, step("text", "upper", text="a"), plan_id="patient 17"
    )

    assert answer.reason == "PLAN_INVALID"
    (event,) = stage3.events(event_type="EXECUTION_DENIED")
    assert event["plan_id"] is None
    assert event["additional_data"] == {"field": "plan_id"}


def test_a_plan_id_that_is_known_is_named_as_what_is_wrong(stage3: Stage3UnderTest) -> None:
    """The caller mints a new one; the event does not name a plan that has its own."""
    steps = [step("text", "upper", text="a")]
    token = stage3.issue().token_hash
    stage3.run(token, *steps, plan_id="plan-a")

    answer = stage3.run(token, *steps, plan_id="plan-a")

    assert answer.error is not None
    assert answer.error.violations == (("plan_id", "was used before; mint a new one"),)
    (event,) = stage3.events(event_type="EXECUTION_DENIED")
    assert event["plan_id"] is None
