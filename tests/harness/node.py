"""Node, and the packages that foreign clients need."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

NODE_MODULES = Path(__file__).resolve().parents[1] / "system" / "node" / "node_modules"


def node_program() -> str:
    """Return the Node of this environment, or the machine's."""
    beside = Path(sys.executable).with_name("node")
    found = str(beside) if beside.is_file() else shutil.which("node")
    installed = (NODE_MODULES / "@grpc" / "grpc-js").is_dir()
    assert found, "Node is missing: `make test` brings it"
    assert installed, "the packages of the Node client are missing: `make test` installs them"
    return found
