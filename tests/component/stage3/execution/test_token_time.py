"""One time for issuing and judging: the log's, whatever the wall clock shows."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from stagegate.stage3.v1 import operator_service_pb2

from tests.harness.stage3 import TIMEOUT_S, Stage3UnderTest, step

if TYPE_CHECKING:
    from tests.fakes.manual_clock import ManualClock

HOUR_S = 3_600.0
RESUME = operator_service_pb2.ResumeRequest(reason="the clock was looked at")


def test_a_token_issued_under_a_clock_that_was_set_back_lives_its_whole_life(
    stage3: Stage3UnderTest, clock: ManualClock
) -> None:
    """Judged by a time that is ahead of the wall, it would have expired before it was shown."""
    stage3.issue()
    clock.step(-HOUR_S)
    stage3.operator().Resume(RESUME, timeout=TIMEOUT_S)

    token = stage3.issue(lifetime_seconds=600)

    assert stage3.run(token.token_hash, step("text", "upper", text="a")).kind == "completed"
    clock.advance(600)
    assert stage3.run(token.token_hash, step("text", "upper", text="a")).reason == "TOKEN_EXPIRED"


@pytest.mark.parametrize("leap_s", [HOUR_S, -HOUR_S])
def test_a_clock_that_is_not_believed_dates_no_token(
    stage3: Stage3UnderTest, clock: ManualClock, leap_s: float
) -> None:
    """While the service is halted for its clock, a token is dated by what the log last believed."""
    before = stage3.issue().token
    clock.step(leap_s)

    after = stage3.issue().token

    assert after.issue_time.ToMicroseconds() == before.issue_time.ToMicroseconds()


def test_the_log_alone_tells_what_was_granted(stage3: Stage3UnderTest) -> None:
    """Every gate can be asked again from TOKEN_ISSUED: limits and expiry are in it."""
    stage3.issue(
        lifetime_seconds=60, limits={"max_invocations": 3, "max_frequency": "1 per 9 seconds"}
    )

    (event,) = stage3.events(event_type="TOKEN_ISSUED")

    assert event["additional_data"]["resource_limits"] == {
        "max_frequency": "1 per 9 seconds",
        "max_invocations": 3,
        "max_response_bytes": None,
        "max_total_response_bytes": None,
    }
    issued, expires = event["timestamp"], event["additional_data"]["expires_at"]
    assert (datetime.fromisoformat(expires) - datetime.fromisoformat(issued)).seconds == 60
    assert len(expires) == len(issued)
