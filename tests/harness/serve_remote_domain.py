"""Serve the trial domain over gRPC, as a process that a test can kill.

Run as `python -m tests.harness.serve_remote_domain CERTIFICATES ADDRESS EFFECTS_FILE`; prints its
address, then serves until it is killed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fakes.domains import TrialDomain
from tests.fakes.remote_domain import serve_remote_domain
from tests.harness.pki import Pki

if __name__ == "__main__":
    running = serve_remote_domain(
        Pki(Path(sys.argv[1])), TrialDomain(Path(sys.argv[3])), address=sys.argv[2]
    )
    print(running.address, flush=True)  # noqa: T201 - the line that its parent waits for
    running.server.wait_for_termination()
