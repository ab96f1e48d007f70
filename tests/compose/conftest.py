"""The engine, the images and the pairs that the compose tests share."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.compose.engine import Engine, NoEngine, find_engine
from tests.compose.stack import ROOT, Stack, free_port, wait_until

TRIAL_FILES = ("compose.yaml", "tests/compose/trial.yaml")
SCOPE = (
    "text:upper",
    "notebook:append_note,list_notes",
    "ledger:transfer,balance",
    "trial:echo,effect,slow,effect_then_hang",
)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Return an engine; skip, loudly, only where none can be started."""
    try:
        found = find_engine()
    except NoEngine as none:
        reason = f"THE COMPOSED PAIR WAS NOT TESTED: no container engine. {none}"
        if os.environ.get("STAGEGATE_REQUIRE_ENGINE"):
            pytest.fail(reason)
        pytest.skip(reason)
    yield found
    found.stop()


@pytest.fixture(scope="session")
def images(engine: Engine) -> dict[str, float]:
    """Build all images; return the seconds each took."""
    took = {}
    for service in ("stage3", "stage4", "domain-example"):
        began = time.monotonic()
        words = ("docker", "compose", "--file", str(ROOT / "compose.yaml"), "build", service)
        engine.run(*words, timeout_s=900)
        took[service] = time.monotonic() - began
    return took


@pytest.fixture(scope="session")
def stack(
    engine: Engine, images: dict[str, float], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Return a healthy pair with the trial domain and a token for it; shared by all tests."""
    home = tmp_path_factory.mktemp("compose")
    running = Stack(engine, "stagegate-trial", TRIAL_FILES, home, free_port())
    running.down()
    try:
        running.up()
        running.fetch("client", home / "client")
        running.compose("run", "--rm", "-T", "ops", "domain", "accept", "ledger", "--first")
        running.issue_token(*SCOPE)
        yield running
    finally:
        running.down()


@pytest.fixture
def pair(stack: Stack) -> Stack:
    """Return the pair once it is healthy, without a hand, after what the last test did to it."""
    for service in ("stage3", "stage4", "domain-example"):
        wait_until(partial(_is_healthy, stack, service), f"{service} is healthy again", 30)
    return stack


def _is_healthy(stack: Stack, service: str) -> bool:
    return stack.health(service) == "healthy"
