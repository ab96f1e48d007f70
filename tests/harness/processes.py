"""Stage-3 as a process of its own, to be killed without a word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from stage3_service.bootstrap import create_state
from tests.harness.pki import pki
from tests.harness.stage3 import Stage3UnderTest, stage3_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0


class Stage3Process:
    """Run `tests.harness.serve_stage3` over one directory; start it again as often as wished."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.directory = directory
        self.effects_file = directory / "effects"
        settings = stage3_settings(directory, **changes)
        (directory / "stage3.json").write_text(settings.model_dump_json())
        create_state(settings)
        self.under_test: Stage3UnderTest
        self.recovered_plans = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def process(self) -> subprocess.Popen[str]:
        """Return the running process."""
        assert self._process is not None
        return self._process

    def start(self) -> Stage3UnderTest:
        """Start and wait for the line that says it serves."""
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.harness.serve_stage3",
                str(self.directory),
                str(self.effects_file),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"Stage-3 ended with {self._process.wait(START_S)} before it served"
        said = json.loads(line)
        self.recovered_plans = said["recovered_plans"]
        listeners = {
            name: SimpleNamespace(address=said[name]) for name in ("plans", "operators", "probes")
        }
        self.under_test = Stage3UnderTest(SimpleNamespace(**listeners), pki())  # type: ignore[arg-type]  # the parts of a service that a client sees
        return self.under_test

    def kill(self) -> None:
        """End the process as a power cut would, without a word to it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(START_S)
        self.close()

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(START_S)
        self.close()
        return code

    def effects(self) -> list[str]:
        """Return the idempotency key of every effect that happened in the world."""
        if not self.effects_file.exists():
            return []
        return self.effects_file.read_text().split()

    def close(self) -> None:
        """Close the channels and the pipe."""
        self.under_test.close()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def stage3_process(directory: Path, **changes: Any) -> Iterator[Stage3Process]:
    """Run Stage-3 as a process below `directory`, and end it in any case."""
    running = Stage3Process(directory, **changes)
    running.start()
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()
