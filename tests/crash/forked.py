"""Speak to a fork server: start a service, arm it, learn how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.crash.ptrace import CannotTrace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.crash.points import KillPoint

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Ended:
    """Hold how a process ended. `trail` names the system calls of its window, in order.

    `killed_at` is the number of the one at whose entry it was killed; None where the window was
    shorter, and the process was killed after it or ended by itself.
    """

    code: int
    killed_at: int | None
    trail: tuple[str, ...]


class ForkServer:
    """Run one service at a time, each forked from a process that has imported it."""

    def __init__(self, errors: Path, *, lags: str = "") -> None:
        self._lags = lags
        with errors.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.fork_server"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._errors = errors

    def start(
        self,
        program: str,
        arguments: Sequence[object],
        log: Path,
        *,
        point: KillPoint | None = None,
        on_real_disk: bool = False,
    ) -> dict[str, Any] | Ended:
        """Start a program; return the line that it says once it serves, or how it ended before.

        `point` counts from its birth. `on_real_disk` leaves the lazy disk of a control out.
        """
        self._begin(program, arguments, log, point, on_real_disk=on_real_disk)
        event = self._next()
        if event["event"] == "said":
            said: dict[str, Any] = json.loads(event["line"])
            return said
        return self._ended(event)

    def run(
        self,
        program: str,
        arguments: Sequence[object],
        log: Path,
        *,
        point: KillPoint | None = None,
    ) -> Ended:
        """Run a program that ends by itself, or at the point."""
        self._begin(program, arguments, log, point, on_real_disk=False)
        return self.ended()

    def _begin(
        self,
        program: str,
        arguments: Sequence[object],
        log: Path,
        point: KillPoint | None,
        *,
        on_real_disk: bool,
    ) -> None:
        self._command(
            do="start",
            program=program,
            arguments=[str(argument) for argument in arguments],
            log=str(log),
            lags="" if on_real_disk else self._lags,
            point=_spelled(point),
        )

    def arm(self, point: KillPoint | None) -> None:
        """Count from the next arrival on; return once no call can escape the count."""
        self._command(do="arm", point=_spelled(point))
        event = self._next()
        assert event["event"] == "armed", event

    def kill(self) -> Ended:
        """Kill what runs, if it still does, and return how it ended."""
        self.strike()
        return self.ended()

    def strike(self) -> None:
        """Kill what runs, from any thread; `kill` says afterwards how it ended."""
        self._command(do="kill")

    def ended(self) -> Ended:
        """Wait until what runs has ended."""
        while (event := self._next())["event"] != "ended":
            pass
        return self._ended(event)

    def close(self) -> None:
        """End it, and what it runs."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(10)

    def _ended(self, event: dict[str, Any]) -> Ended:
        return Ended(event["code"], event["killed_at"], tuple(event["trail"]))

    def _command(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def _next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._errors.read_text()
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "cannot trace":
            raise CannotTrace(event["why"])
        return event


def _spelled(point: KillPoint | None) -> list[object] | None:
    return None if point is None else [point.number, point.name]


@contextmanager
def fork_server(directory: Path, *, lags: str = "") -> Iterator[ForkServer]:
    """Run a fork server whose own errors go below `directory`, and end it in any case.

    Services run on a disk that is one sync behind in files of names that end in `lags`, where it
    is given.

    Raises:
        CannotTrace: no process can be traced here.
    """
    server = ForkServer(directory / "fork-server.log", lags=lags)
    try:
        server.run("nothing", [], directory / "nothing.log")
        yield server
    finally:
        server.close()
