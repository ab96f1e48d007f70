"""Serve Stage-4 as a process that a test can kill.

Run as `python -m tests.harness.serve_stage4 SETTINGS_FILE`; prints one line of JSON with its
addresses, then serves until SIGTERM.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from uuid_utils.compat import uuid7

from servicekit.clock import SystemClock
from servicekit.log import configure_logging
from servicekit.process import ExitCode, StopSwitch, disable_core_dumps
from stage4_service.bootstrap import build_stage4
from stage4_service.settings import Stage4Settings


def main(settings_file: Path) -> int:
    """Serve until told to stop, and say with which exit code."""
    disable_core_dumps()
    configure_logging("stage4", "warning")
    switch = StopSwitch()
    switch.install()
    settings = Stage4Settings.model_validate_json(settings_file.read_bytes())
    service = build_stage4(
        settings,
        clock=SystemClock(),
        ids=lambda: uuid7().hex,
        on_sealed=lambda _error: switch.request(ExitCode.STORE_FAILED),
    )
    service.start()
    line = {"clients": service.addresses.clients, "probes": service.addresses.probes}
    print(json.dumps(line), flush=True)  # noqa: T201 - the line that its parent waits for
    code = switch.wait()
    service.stop(settings.drain_s)
    return code


if __name__ == "__main__":
    # A handler that still waits for Stage-3 holds a thread that an ordinary exit would wait for.
    os._exit(main(Path(sys.argv[1])))
