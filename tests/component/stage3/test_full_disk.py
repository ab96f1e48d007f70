"""Stage-3 on a file system that is really full: nothing starts, and nothing that ran is lost.

The file system is a small tmpfs, mounted where only the process under test sees it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.full_disk import CANNOT_MOUNT, can_mount, on_a_full_disk
from tests.harness.full_disk_stage3 import RESERVE_BYTES

SCENARIO = "tests.harness.full_disk_stage3"
DISK_MIB = 24

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_mount(), reason=CANNOT_MOUNT),
]


def test_what_ran_is_recorded_and_nothing_starts(tmp_path: Path) -> None:
    """COMPLETED, ABORTED, REVOKED and a halt are durable; so is a restart; then it goes on."""
    code, report = on_a_full_disk(SCENARIO, tmp_path, disk_mib=DISK_MIB)

    assert code == 0, report
    assert report["filled_bytes"] > RESERVE_BYTES
    # The running step is recorded as it ended, and the next one is not started.
    assert (report["in_flight"], report["second_step"]) == ("aborted", "PLAN_HALTED")
    assert report["halted_for"] == ["disk"]
    assert (report["new_plan"], report["issue"]) == ("SERVICE_HALTED", "SERVICE_HALTED")
    assert report["revoked"]
    assert report["halt_recorded"]
    assert report["restart"] == "operator"
    assert report["after_free"] == "completed"
    assert report["problem"] is None
    assert report["types"].count("EXECUTION_COMPLETED") == 2
    assert report["types"].count("OPERATION_ABORTED") == 1
    assert report["types"].count("TOKEN_REVOKED") == 2


def test_without_the_reserve_steps_start_on_a_full_disk(tmp_path: Path) -> None:
    """The control: the second step and a new plan run there, and nobody gets in after a restart."""
    _, report = on_a_full_disk(SCENARIO, tmp_path, disk_mib=DISK_MIB, with_reserve=False)

    assert report["in_flight"] == "completed", report
    assert report["halted_for"] == [""]
    assert "cannot be opened" in report["restart"]
    assert report["after_free"] == ""
