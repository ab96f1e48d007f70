"""A file system that is really full: a small tmpfs that only the process under test sees.

A scenario is a module that is run there, in a process with mounts of its own, and says what
happened as one line of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servicekit.log import configure_logging
from servicekit.store import ledger
from servicekit.store.disk_reserve import DiskReserve

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
CANNOT_MOUNT = "NOT TESTED: a full disk needs root and a mount namespace"


def can_mount() -> bool:
    """Return whether this process may mount a file system of its own."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    done = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def on_a_full_disk(
    scenario: str, home: Path, *, disk_mib: int, with_reserve: bool = True
) -> tuple[int, dict[str, Any]]:
    """Run a scenario on a tmpfs of its own; return its exit code and its report."""
    script = f'mount -t tmpfs -o size={disk_mib}m none "$1" && exec "$2" -m "$3" "$1" "$4"'
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-ec", script, "sh"),
            *(str(home), sys.executable, scenario, "reserve" if with_reserve else "none"),
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


def fill(directory: Path, *, leave_bytes: int = 0) -> int:
    """Take every byte that is left, as some other program's log would; return how many."""
    taken = 0
    descriptor = os.open(directory / "other.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (1_048_576, 4_096):
            while True:
                left = os.statvfs(directory)
                if left.f_bavail * left.f_frsize < leave_bytes + size:
                    break
                try:
                    taken += os.write(descriptor, b"x" * size)
                except OSError:
                    break
    finally:
        os.close(descriptor)
    return taken


def report_of(run: Callable[[Path, int], Any], reserve_bytes: int) -> None:
    """Be the process of a scenario: run it below the first argument, print its report, and end."""
    configure_logging("tests", "critical")
    if sys.argv[2] == "none":
        # The control: the store holds and watches nothing.
        vars(ledger)["DiskReserve"] = lambda store, _: DiskReserve(store, 0)
    print(json.dumps(asdict(run(Path(sys.argv[1]), reserve_bytes))), flush=True)  # noqa: T201 - what its parent reads
    os._exit(0)
