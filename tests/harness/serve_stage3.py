"""Serve Stage-3 with the trial domain, as a process that a test can kill.

Run as `python -m tests.harness.serve_stage3 DIRECTORY EFFECTS_FILE`; prints one line of JSON with
its addresses and how many plans it closed, then serves until SIGTERM. SIGUSR1 lets go of the
trial's methods that hang.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from servicekit.log import configure_logging
from servicekit.process import ExitCode, StopSwitch, disable_core_dumps, on_hangup
from stage3_service.bootstrap import build_stage3
from stage3_service.settings import STORE_FILE, Stage3Settings
from tests.fakes.domains import trial_domain


def main(directory: Path, effects_file: Path) -> int:
    """Serve until told to stop, and say with which exit code."""
    disable_core_dumps()
    configure_logging("stage3", "warning")
    switch = StopSwitch()
    switch.install()
    settings = Stage3Settings.model_validate_json((directory / "stage3.json").read_bytes())
    extra, domain = trial_domain(max_duration_s=20.0, effects_file=effects_file)
    signal.signal(signal.SIGUSR1, lambda *_: domain.release.set())
    service = build_stage3(
        settings,
        extra_domains=[extra],
        on_poison=lambda _error: switch.request(ExitCode.STORE_FAILED),
    )
    service.start()
    on_hangup(service.reload)
    print(  # noqa: T201 - the line that its parent waits for
        json.dumps(
            {
                "plans": service.plans.address,
                "operators": service.operators.address,
                "probes": service.probes.address,
                "metrics": "" if service.metrics is None else service.metrics.address,
                "recovered_plans": service.recovered_plans,
                "store": str(settings.state_dir / STORE_FILE),
            }
        ),
        flush=True,
    )
    code = switch.wait()
    service.stop(settings.drain_s)
    return code


if __name__ == "__main__":
    # A trial method that hangs holds a thread that an ordinary exit would wait for.
    os._exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
