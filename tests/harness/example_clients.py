"""The example clients as the processes that a copy of them would be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.node import NODE_MODULES, node_program

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "clients"
LANGUAGES = ("python", "node")
PLACEHOLDER = "REPLACE_WITH_TOKEN"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a client ended: its exit code, the result it printed, the facts it told."""

    code: int
    result: bytes
    facts: dict[str, Any]
    said: bytes


@dataclass(frozen=True, slots=True)
class ExampleClient:
    """One of the examples, told whom to call and as whom; `keys` is a path without suffix."""

    language: str
    address: str
    server_name: str
    authority: Path
    keys: Path
    directory: Path

    def run(
        self, plan: bytes, token: str, request_id: str, *, timeout_s: float = 30.0, **changes: str
    ) -> Ended:
        """Submit a plan once, as a process; `changes` are options in place of the usual ones."""
        plan_file, token_file = self.directory / "plan.json", self.directory / "token"
        plan_file.write_bytes(plan)
        token_file.write_text(f"{token}\n")
        options = {
            "address": self.address,
            "server_name": self.server_name,
            "authority": str(self.authority),
            "keys": str(self.keys),
            "token_file": str(token_file),
            "request_id": request_id,
            "timeout_s": str(timeout_s),
            **changes,
        }
        done = subprocess.run(
            [
                *_program(self.language),
                str(plan_file),
                *(f"--{name.replace('_', '-')}={value}" for name, value in options.items()),
            ],
            cwd=self.directory,
            # The stubs and nothing else of this project.
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT / "protos/gen"),
                "NODE_PATH": str(NODE_MODULES),
            },
            capture_output=True,
            timeout=90,
            check=False,
        )
        said = done.stdout + done.stderr
        lines = done.stderr.splitlines()
        facts = json.loads(lines[-1]) if lines and lines[-1].startswith(b"{") else {}
        return Ended(done.returncode, done.stdout, facts, said)


def _program(language: str) -> tuple[str, ...]:
    if language == "python":
        return sys.executable, str(EXAMPLES / "python" / "stagegate_client.py")
    return node_program(), str(EXAMPLES / "node" / "stagegate_client.js")
