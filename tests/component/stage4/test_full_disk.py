"""Stage-4 on a file system that is really full: no plan leaves, and what had left is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.full_disk import CANNOT_MOUNT, can_mount, on_a_full_disk
from tests.harness.full_disk_stage4 import RESERVE_BYTES, RESULT_BYTES

SCENARIO = "tests.harness.full_disk_stage4"
DISK_MIB = 64

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_mount(), reason=CANNOT_MOUNT),
]


def test_an_outcome_is_recorded_and_no_plan_leaves(tmp_path: Path) -> None:
    """Six megabytes of result, a refusal and a recovery are durable; then it goes on."""
    code, report = on_a_full_disk(SCENARIO, tmp_path, disk_mib=DISK_MIB)

    assert code == 0, report
    assert report["filled_bytes"] > RESERVE_BYTES
    assert report["in_flight"] == "completed"
    assert report["result_bytes"] == report["read_bytes"] > RESULT_BYTES
    assert (report["new_plan"], report["new_plans_that_left"]) == ("AUDIT_UNAVAILABLE", 0)
    assert report["refused_caller"] == "METHOD_NOT_PERMITTED"
    # Still full: a start closes what was running, tells what had ended, and begins nothing.
    assert report["restart"] == "serving"
    assert report["halted_for"] == [["disk"], ["disk"]]
    assert report["left_running"] == "PLAN_STATE_UNKNOWN"
    assert report["read_after_restart_bytes"] == report["result_bytes"]
    assert report["after_restart"] == "AUDIT_UNAVAILABLE"
    assert report["after_free"] == "completed"
    assert report["problem"] is None
    assert report["types"].count("execution_completed") == 2
    assert report["types"].count("caller_refused") == 1
    assert report["types"].count("recovery_completed") == 1


def test_without_the_reserve_the_outcome_of_a_plan_that_left_is_lost(tmp_path: Path) -> None:
    """The control: nobody can be told what the plan came to, and no start succeeds there."""
    _, report = on_a_full_disk(SCENARIO, tmp_path, disk_mib=DISK_MIB, with_reserve=False)

    assert report["in_flight"] == "OUTCOME_UNRECORDED", report
    assert report["halted_for"] == [["seal"]]
    assert "No space left on device" in report["restart"]
    assert report["after_free"] == ""
