"""Stage-3 on a file system that is really full: nothing starts, and nothing that ran is lost.

The file system is a small tmpfs, mounted where only the process under test sees it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness.full_disk import RESERVE_BYTES

ROOT = Path(__file__).resolve().parents[3]
DISK_MIB = 24


def _can_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    done = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not _can_mount(), reason="NOT TESTED: a full disk needs root and a mount namespace"
    ),
]


def on_a_full_disk(home: Path, reserve_bytes: int) -> tuple[int, dict[str, Any]]:
    """Run the scenario on a tmpfs of its own; return its exit code and its report."""
    script = (
        f'mount -t tmpfs -o size={DISK_MIB}m none "$1" && '
        'exec "$2" -m tests.harness.full_disk "$1" "$3"'
    )
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-ec", script),
            *("sh", str(home), sys.executable, str(reserve_bytes)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    lines = done.stdout.splitlines()
    report: dict[str, Any] = json.loads(lines[-1]) if lines else {"said": done.stderr}
    return done.returncode, report


def test_what_ran_is_recorded_and_nothing_starts(tmp_path: Path) -> None:
    """COMPLETED, ABORTED, REVOKED and a halt are durable; so is a restart; then it goes on."""
    code, report = on_a_full_disk(tmp_path, RESERVE_BYTES)

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
    _, report = on_a_full_disk(tmp_path, 0)

    assert report["in_flight"] == "completed", report
    assert report["halted_for"] == [""]
    assert "cannot be opened" in report["restart"]
    assert report["after_free"] == ""
