"""Either service as a process of its own, to be killed without a word.

Each listens where the system chose when it was made, at every start: nobody is given its ports
while it is away.
"""

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

from servicekit.clock import SystemClock
from servicekit.settings import describe_settings
from stage3_service.bootstrap import create_state
from stage3_service.settings import Listen
from stage4_service.bootstrap import init_store
from stage4_service.settings import Listen as Stage4Listen
from tests.harness.pki import pki
from tests.harness.reserved_ports import ReservedPort
from tests.harness.stage3 import Stage3UnderTest, stage3_settings
from tests.harness.stage4 import Stage4UnderTest, stage4_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0


class Stage3Process:
    """Run `tests.harness.serve_stage3` over one directory; start it again as often as wished."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.directory = directory
        self.effects_file = directory / "effects"
        self.log_file = directory / "stage3.log"
        self._ports = {name: ReservedPort() for name in ("plans", "operators", "probes", "metrics")}
        self.addresses = {name: port.address for name, port in self._ports.items()}
        self._settings = stage3_settings(
            directory, **{"listen": Listen(**self.addresses), **changes}
        )
        create_state(self._settings)
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
        (self.directory / "stage3.json").write_text(self._settings.model_dump_json())
        self._process, said = _start(
            ["tests.harness.serve_stage3", str(self.directory), str(self.effects_file)],
            self.log_file,
        )
        self.recovered_plans = said["recovered_plans"]
        assert {name: said[name] for name in self.addresses} == self.addresses
        listeners = {
            name: SimpleNamespace(address=address) for name, address in self.addresses.items()
        }
        self.under_test = Stage3UnderTest(SimpleNamespace(**listeners), pki())  # type: ignore[arg-type]  # the parts of a service that a client sees
        return self.under_test

    def strike(self) -> None:
        """Kill the process without waiting for its end."""
        self.process.send_signal(signal.SIGKILL)

    def kill(self) -> None:
        """End the process as a power cut would, without a word to it."""
        self.strike()
        self.process.wait(START_S)
        self.close()

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(START_S)
        self.close()
        return code

    def release(self) -> None:
        """Let go of the trial's methods that hang, now and from now on."""
        self.process.send_signal(signal.SIGUSR1)

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

    def end(self) -> None:
        """Kill the process if it still runs, stopped or not, and give its ports back."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        for port in self._ports.values():
            port.close()


class Stage4Process:
    """Run `stage4 serve` over one directory; start it again as often as wished."""

    def __init__(self, directory: Path, stage3_address: str, **changes: Any) -> None:
        self._ports = {name: ReservedPort() for name in ("clients", "probes", "metrics")}
        self._addresses = {name: port.address for name, port in self._ports.items()}
        self.settings = stage4_settings(
            directory, stage3_address, **{"listen": Stage4Listen(**self._addresses), **changes}
        )
        self.config_file = directory / "stage4.toml"
        self.log_file = directory / "stage4.log"
        self.under_test: Stage4UnderTest
        init_store(self.settings, clock=SystemClock())
        self._process: subprocess.Popen[str] | None = None

    @property
    def process(self) -> subprocess.Popen[str]:
        """Return the running process."""
        assert self._process is not None
        return self._process

    def start(self) -> Stage4UnderTest:
        """Start and wait for the line that says it serves."""
        self.config_file.write_text(describe_settings(self.settings))
        self._process, said = _start(
            ["stage4_service", "serve", "--config", str(self.config_file), "--json"], self.log_file
        )
        listeners = said["listeners"]
        assert listeners == self._addresses
        service: Any = SimpleNamespace(addresses=SimpleNamespace(**listeners))
        self.under_test = Stage4UnderTest(service, pki())
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

    def close(self) -> None:
        """Close the channels and the pipe."""
        self.under_test.close()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def end(self) -> None:
        """Kill the process if it still runs, and give its ports back."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        for port in self._ports.values():
            port.close()


def _start(module: list[str], log_file: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start a program of this tree, and return it with the line it says once it serves."""
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
    except BaseException:
        # The suite's time limit came first, and nobody else knows of the process.
        process.kill()
        process.wait(START_S)
        process.stdout.close()
        raise
    if not line:
        code = process.wait(START_S)
        process.stdout.close()
        message = f"{module[0]} ended with {code} before it served: {log_file.read_text()}"
        raise AssertionError(message)
    return process, json.loads(line)


@contextmanager
def stage3_process(directory: Path, **changes: Any) -> Iterator[Stage3Process]:
    """Run Stage-3 as a process below `directory`, and end it in any case."""
    running = Stage3Process(directory, **changes)
    running.start()
    try:
        yield running
    finally:
        running.end()
