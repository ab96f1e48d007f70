"""What a service refuses to start with, from its own image: one sentence and a documented code.

Each start is beside the running pair and leaves it as it was.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

import pytest

from servicekit.process import ExitCode
from tests.compose.marks import COMPOSED
from tests.compose.stack import Stack

pytestmark = COMPOSED

NEWER_STORE = """
import os, shutil, sqlite3
os.mkdir("/tmp/newer")
for name in ("stage3.sqlite3", "log.key"):
    shutil.copy(f"/var/lib/stagegate/{name}", f"/tmp/newer/{name}")
with sqlite3.connect("/tmp/newer/stage3.sqlite3") as store:
    store.execute("PRAGMA user_version = 9999")
os.environ["STAGE3_STATE_DIR"] = "/tmp/newer"
os.execvp("stage3", ["stage3", "serve"])
"""


def start(
    pair: Stack,
    service: str,
    *,
    variables: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    command: Sequence[str] = ("serve",),
    entrypoint: str = "/opt/stagegate/bin/service",
) -> tuple[int, str]:
    """Start one more container of a service; return its exit code and what it said."""
    words = ["docker", "compose", "run", "--rm", "-T", "--no-deps", "--entrypoint", entrypoint]
    for name, value in (variables or {}).items():
        words += ["--env", f"{name}={value}"]
    done = subprocess.run(
        [*words, *options, service, *command],
        env=pair.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


CONFIGURED_WRONG = {
    "a key that is not there": (
        "stage3",
        {"STAGE3_TLS__KEY_FILE": "/run/stagegate/none.key"},
        "/run/stagegate/none.key: there is no such file\n  next: Make certificates first",
    ),
    "a certificate of another key": (
        "stage4",
        {"STAGE4_TLS__KEY_FILE": "/run/stagegate/stage4-caller.key"},
        "it is not the key of /run/stagegate/stage4.crt",
    ),
    "a caller's certificate for a server": (
        "stage4",
        {
            "STAGE4_TLS__CERTIFICATE_FILE": "/run/stagegate/stage4-caller.crt",
            "STAGE4_TLS__KEY_FILE": "/run/stagegate/stage4-caller.key",
        },
        "it is not a server's certificate",
    ),
    "a misspelled setting": (
        "stage3",
        {"STAGE3_LISTEN__PLAN": "0.0.0.0:7403"},
        "did you mean STAGE3_LISTEN__PLANS?",
    ),
    "a variable that a cluster sets for a service of that name": (
        "stage3",
        {"STAGE3_SERVICE_HOST": "192.0.2.1"},
        "STAGE3_SERVICE_HOST: no such setting",
    ),
}


@pytest.mark.parametrize(
    ("service", "variables", "sentence"), CONFIGURED_WRONG.values(), ids=CONFIGURED_WRONG.keys()
)
def test_wrong_configuration_is_refused(
    pair: Stack, service: str, variables: Mapping[str, str], sentence: str
) -> None:
    """78, and what to correct."""
    code, said = start(pair, service, variables=variables)

    assert sentence in said
    assert code == ExitCode.CONFIG


def test_two_services_on_one_store_are_refused(pair: Stack) -> None:
    """75: the running process keeps the store, and goes on."""
    code, said = start(pair, "stage3")

    assert code == ExitCode.STORE_LOCKED, said
    assert pair.health("stage3") == "healthy"


def test_a_volume_of_another_owner_is_refused(pair: Stack) -> None:
    """Another user can read neither keys nor store."""
    code, said = start(pair, "stage3", options=("--user", "10009:10009"))

    assert code == ExitCode.CONFIG, said
    assert "it cannot be read (Permission denied)\n  next: Let the service's user read it." in said


def test_a_store_of_a_newer_version_is_refused(pair: Stack) -> None:
    """An older program does not write into what it does not understand."""
    code, said = start(pair, "stage3", entrypoint="python", command=("-c", NEWER_STORE))

    assert code == ExitCode.CONFIG, said
    assert "version 9999" in said
