"""A Stage-3 of one directory, forked for each start from a process that has imported it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from stage3_service.bootstrap import create_state
from tests.harness.pki import pki
from tests.harness.stage3 import Stage3UnderTest, stage3_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.crash.forked import ForkServer


class ForkedStage3:
    """Stand for `tests.harness.processes.Stage3Process` where a sweep starts it thousands of times.

    The service runs the same program; only its imports are made once. One runs at a time.
    """

    def __init__(self, directory: Path, server: ForkServer) -> None:
        self.directory = directory
        self.under_test: Stage3UnderTest
        self._server = server
        settings = stage3_settings(directory)
        create_state(settings)
        (directory / "stage3.json").write_text(settings.model_dump_json())

    def start(self) -> Stage3UnderTest:
        """Start and wait for the line that says it serves."""
        log = self.directory / "stage3.log"
        said = self._server.start("serve stage3", [self.directory, self._effects_file], log)
        assert isinstance(said, dict), (said, log.read_text())
        listeners = {
            name: SimpleNamespace(address=said[name]) for name in ("plans", "operators", "probes")
        }
        self.under_test = Stage3UnderTest(SimpleNamespace(**listeners), pki())  # type: ignore[arg-type]  # the parts of a service that a client sees
        return self.under_test

    def strike(self) -> None:
        """Kill it without waiting for its end."""
        self._server.strike()

    def kill(self) -> None:
        """Kill it, if it still runs, and wait for its end."""
        self._server.kill()
        self.under_test.close()

    def effects(self) -> list[str]:
        """Return the idempotency key of every effect that happened in the world."""
        return self._effects_file.read_text().split() if self._effects_file.exists() else []

    @property
    def _effects_file(self) -> Path:
        return self.directory / "effects"
