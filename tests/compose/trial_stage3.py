"""Serve Stage-3 from its image with the trial domain beside the shipped ones.

Mounted into the container by trial.yaml, with `tests/fakes` beside it. Each effect of the trial
domain is one durable line in `effects`, in the volume of the store.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from servicekit.cli.service_process import announce, serve_process
from servicekit.settings import load_settings
from stage3_service.bootstrap import build_stage3
from stage3_service.settings import Stage3Settings
from tests.fakes.domains import trial_domain

if TYPE_CHECKING:
    from stage3_service.bootstrap import Stage3


def main() -> int:
    """Serve until told to stop; return the exit code."""
    settings = load_settings(Stage3Settings, file=None, environ=os.environ, env_prefix="STAGE3_")
    extra, _domain = trial_domain(max_duration_s=20.0, effects_file=settings.state_dir / "effects")

    def say(service: Stage3) -> None:
        announce("stage3", {"plans": service.plans.address}, as_json=True)

    return int(
        serve_process(
            "stage3",
            lambda seal: build_stage3(settings, extra_domains=[extra], on_poison=seal),
            say,
            log_level=settings.log_level,
            cpu=settings.cpu,
            drain_s=settings.drain_s,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
