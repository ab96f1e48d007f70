"""The engine the compose tests run on: the machine's own, or one started for them.

Deliberately absent: pulling. Where no image registry is reached, `engine.sh` makes a stand-in for
the base image from Debian's packages.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("engine.sh")
NO_ENGINE = 69


class NoEngine(Exception):
    """No container engine answers and none can be started here; the text says why."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers, and whether it was started for these tests."""

    environment: Mapping[str, str]
    started: bool

    def run(self, *words: str | Path, timeout_s: float = 120.0) -> str:
        """Run a command against the engine and return what it printed.

        Raises:
            AssertionError: it did not end with 0; the text holds what it said.
        """
        done = subprocess.run(
            [str(word) for word in words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stderr[-4000:]}"
        return done.stdout

    def stop(self) -> None:
        """End the engine if it was started for these tests and is not to be kept."""
        if self.started and not os.environ.get("STAGEGATE_ENGINE_KEEP"):
            self.run(SCRIPT, "stop", timeout_s=90)


def find_engine() -> Engine:
    """Return the engine that answers already, or start one.

    Raises:
        NoEngine: this is not possible here.
    """
    environment = dict(os.environ)
    if _answers(environment):
        engine = Engine(environment, started=False)
    else:
        started = subprocess.run(
            [SCRIPT, "start"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if started.returncode != 0:
            raise NoEngine(started.stderr.strip()[-2000:])
        environment["DOCKER_HOST"] = started.stdout.split()[-1]
        engine = Engine(environment, started=True)
    if engine.started:
        engine.run(SCRIPT, "images", timeout_s=600)
    return engine


def _answers(environment: Mapping[str, str]) -> bool:
    try:
        for words in (["docker", "version"], ["docker", "compose", "version"]):
            subprocess.run(words, env=environment, capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
