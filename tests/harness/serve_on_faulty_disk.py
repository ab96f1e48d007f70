"""Serve Stage-3 as `stage3 serve` does, on a disk whose syncs hang from a moment on.

Run as `python -m tests.harness.serve_on_faulty_disk DIRECTORY`; the syncs of the write-ahead log
hang as soon as DIRECTORY holds a file `hang`. Prints one line of JSON once it serves.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from servicekit.cli.service_process import serve_process
from stage3_service.bootstrap import build_stage3
from stage3_service.settings import Stage3Settings
from tests.fakes.domains import trial_domain
from tests.fakes.faulty_disk import FaultyDisk

if TYPE_CHECKING:
    from stage3_service.bootstrap import Stage3


def announce(service: Stage3) -> None:
    """Say where it listens."""
    print(  # noqa: T201 - the line that its parent waits for
        json.dumps({"plans": service.plans.address, "operators": service.operators.address}),
        flush=True,
    )


def main(directory: Path) -> int:
    """Serve until the store has failed, and say with which exit code."""
    settings = Stage3Settings.model_validate_json((directory / "stage3.json").read_bytes())
    disk = FaultyDisk()

    def hang() -> None:
        if (directory / "hang").exists():
            threading.Event().wait()

    disk.before_sync = hang
    extra, _ = trial_domain(max_duration_s=20.0, effects_file=directory / "effects")
    return serve_process(
        "stage3",
        lambda seal: build_stage3(settings, on_poison=seal, extra_domains=[extra], vfs=disk.name),
        announce,
        log_level="critical",
        cpu=None,
        drain_s=5.0,
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
