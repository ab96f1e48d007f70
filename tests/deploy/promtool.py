"""Prometheus' own judge of rules: the one of this machine, or Debian's, unpacked and not installed.

Deliberately absent: a running Prometheus, and a service that an installation would start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

PATIENCE_S = 300


@cache
def promtool() -> str | None:
    """Return the program, fetched with apt where the machine has none; None if that fails too."""
    found = shutil.which("promtool")
    if found is not None or shutil.which("apt-get") is None:
        return found
    directory = Path(mkdtemp(prefix="stagegate-promtool-"))
    for command in (
        ["apt-get", "download", "-q", "prometheus"],
        ["sh", "-c", "dpkg-deb --extract prometheus_*.deb ."],
    ):
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode != 0:
            return None
    unpacked = directory / "usr" / "bin" / "promtool"
    return str(unpacked) if unpacked.exists() else None
