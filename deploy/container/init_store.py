"""Make a service's store at the first start of a deployment, and never again.

`python init_store.py SERVICE STORE MARKER`: SERVICE's own `init` makes STORE; MARKER, on another
volume, remembers that it did. A store that was made and is gone is not made anew: an empty log
would deny everything that the lost one proves.

Deliberately absent: settings. `init` reads the same environment as `serve`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OK = 0
STORE_FAILED = 74


def init(service: str, store: Path, marker: Path) -> int:
    """Return the exit code: 0 when there is a store now."""
    if store.exists():
        marker.touch()
        return OK
    if marker.exists():
        sys.stderr.write(
            f"{store} is gone, and {marker} says that it was made. Restore the volume from a "
            "backup. To begin with an empty log, knowing that the old one is lost, remove the "
            "marker.\n"
        )
        return STORE_FAILED
    program = Path(sys.executable).with_name(service)
    # The settings come from the environment; an empty file is what --config has to name.
    done = subprocess.run([program, "init", "--config", "/dev/null"], check=False)
    if done.returncode == OK:
        marker.touch()
    return done.returncode


if __name__ == "__main__":
    sys.exit(init(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
