"""Canaries in every field and type, and a search for them wherever something is written.

The installed services run as processes; plans succeed, fail, are refused and are malformed, each
with canaries of its own. Afterwards everything that the services wrote or show is searched: logs,
metrics, stores to the last byte, environment, command line, core files, exported logs, and the
output of commands. The control of each channel is a leak planted there, which the search finds.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from examples.local_pair import LocalPair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]

TEXT = "canary-text-8d1f0a"
KEY = "canarykey7c2e"
DEEP = "canary-deep-55e01b"
NUMBER = 7_315_904_268_113
RESULT = TEXT.upper()
BOUND = (TEXT + DEEP).upper()
INVALID = "canary-invalid-90ab"
MALFORMED = "canary-malformed-3391"
USER_FIELD = "canary-extra-field-01c4"


@dataclass
class Secrets:
    """What must be found nowhere, by name, in every form in which it would be of use."""

    forms: dict[str, list[bytes]] = field(default_factory=dict)

    def add(self, name: str, secret: str | bytes) -> None:
        """Look for these bytes, and for their usual encodings."""
        raw = secret.encode() if isinstance(secret, str) else secret
        encoded = [raw, base64.b64encode(raw).rstrip(b"="), raw.hex().encode()]
        encoded.append(base64.urlsafe_b64encode(raw).rstrip(b"="))
        # A piece of a credential is a leak as well; the ends of base64 depend on what is beside it.
        self.forms[name] = [form[2:26] if len(form) > 28 else form for form in encoded]

    def found_in(self, data: bytes) -> set[str]:
        """Return the names of the secrets that these bytes hold."""
        return {name for name, forms in self.forms.items() if any(form in data for form in forms)}


@dataclass
class World:
    """The pair after all that happened to it, and what it wrote or showed."""

    pair: LocalPair
    secrets: Secrets
    channels: dict[str, bytes]


def _plan(user: str, steps: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "user_id": user,
        # Where the command puts the credential that is in a file.
        "token_hash": "REPLACE_WITH_TOKEN",
        "trigger_type": "manual",
        "steps": steps,
        **more,
    }


def _step(method: str, **parameters: Any) -> dict[str, Any]:
    return {"domain": "text", "method": method, "parameters": parameters}


PLANS: Mapping[str, dict[str, Any]] = {
    "completed, with a binding": _plan(
        "ada",
        [_step("upper", text=TEXT + DEEP), _step("sha256")],
        data_bindings=[
            {"source_step": 0, "source_path": "text", "target_step": 1, "target_path": "text"}
        ],
    ),
    "parameters of the wrong type": _plan(
        "ada", [_step("upper", text={KEY: [NUMBER, {"deep": DEEP, "no": None, "yes": True}]})]
    ),
    "parameters that are not declared": _plan("ada", [_step("upper", text=TEXT, other=INVALID)]),
    "a binding that leads nowhere": _plan(
        "ada",
        [_step("upper", text=TEXT), _step("upper")],
        data_bindings=[
            {"source_step": 0, "source_path": "none", "target_step": 1, "target_path": "text"}
        ],
    ),
    "a method that is not in scope": _plan("ada", [_step("concat", parts=[TEXT, DEEP])]),
    "another user": _plan("eve", [_step("upper", text=TEXT)]),
    "a field too many": _plan("ada", [_step("upper", text=TEXT)], **{USER_FIELD: MALFORMED}),
    "a credential as user": _plan("token_" + "B" * 43, [_step("upper", text=TEXT)]),
}


def _happen(pair: LocalPair, secrets: Secrets) -> bytes:
    """Let everything happen once, and return what commands said, answers to a client apart."""
    token_file = pair.directory / "canary.token"
    said = pair.run(
        "stage3",
        *("token", "issue", "--user", "ada", "--client", "demo"),
        *("--allow", "text:upper,sha256", "--output", token_file),
    )
    credential = token_file.read_text().strip()
    secrets.add("credential", credential)
    for name, plan in PLANS.items():
        file = pair.directory / "plan.json"
        file.write_text(json.dumps(plan))
        ran = pair.attempt("stage4", "plan", "run", file, "--token-file", token_file, "--json")
        assert (ran.returncode == 0) == (name == "completed, with a binding"), (name, ran.stderr)
        # The result is the client's own; what went wrong may be read by anybody.
        said += ran.stderr
    malformed = pair.directory / "malformed.json"
    malformed.write_text('{"user_id":"ada","' + MALFORMED + '":')
    said += pair.attempt(
        "stage4", "plan", "run", malformed, "--token-file", token_file, "--json"
    ).stderr
    for program in ("stage3", "stage4"):
        said += pair.run(program, "audit", "list", "--json")
        said += pair.run(program, "audit", "list")
        said += pair.run(program, "serve", "--config", _config(pair, program), "--print-config")
    plans = json.loads(pair.run("stage4", "plan", "list", "--json"))["plans"]
    assert len(plans) >= len(PLANS) - 2
    tokens = json.loads(pair.run("stage3", "token", "list", "--json"))["tokens"]
    said += json.dumps([plans, tokens])
    said += pair.run("stage3", "token", "revoke", tokens[0]["token_id"], "--reason", "done")
    return said.encode()


def _config(pair: LocalPair, program: str) -> Path:
    return pair.stage3_config if program == "stage3" else pair.stage4_config


def _stores(directory: Path) -> bytes:
    """Return every byte of a service's state, files beside the database included.

    A notebook is a domain's own data, and the key ring is where the key is.
    """
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    assert any(path.name.endswith("-wal") for path in files), "no WAL: the search would miss it"
    return b"".join(path.read_bytes() for path in files if "notebook" not in path.name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Run the installed pair, let everything happen, and gather what it wrote or showed."""
    directory = tmp_path_factory.mktemp("canaries")
    secrets = Secrets()
    for name, secret in {
        "a text": TEXT,
        "a key": KEY,
        "a deep text": DEEP,
        "a result": BOUND,
        "an invalid value": INVALID,
        "a malformed value": MALFORMED,
        "a number": str(NUMBER),
    }.items():
        secrets.add(name, secret)
    pair = LocalPair(directory)
    pair.make()
    for file in sorted(pair.certificates.glob("*.key")):
        body = re.sub(r"-----[^-]+-----|\s", "", file.read_text())
        secrets.add(f"the key {file.name}", base64.b64decode(body)[16:])
    with pair:
        pair.start_stage3({"STAGE3_LOG_LEVEL": "debug"})
        pair.start_stage4({"STAGE4_LOG_LEVEL": "debug"})
        channels = {"commands": _happen(pair, secrets)}
        for program, process, addresses in (
            ("stage3", pair.stage3_process, pair.stage3_addresses),
            ("stage4", pair.stage4_process, pair.stage4_addresses),
        ):
            assert process is not None
            channels[f"log of {program}"] = pair.log_of(program).read_bytes()
            channels[f"store of {program}"] = _stores(directory / program)
            proc = Path(f"/proc/{process.pid}")
            channels[f"command line of {program}"] = (proc / "cmdline").read_bytes()
            channels[f"environment of {program}"] = (proc / "environ").read_bytes()
            with urllib.request.urlopen(f"http://{addresses['metrics']}/metrics") as answer:
                channels[f"metrics of {program}"] = answer.read()
        yield World(pair, secrets, channels)


CHANNELS = [
    "commands",
    *(
        f"{what} of {program}"
        for program in ("stage3", "stage4")
        for what in ("log", "store", "command line", "environment", "metrics")
    ),
]


@pytest.mark.parametrize("channel", CHANNELS)
def test_no_canary_is_in(
    world: World, channel: str, record_property: Callable[[str, object], None]
) -> None:
    """Zero hits; and each secret, planted in the same bytes, is found there."""
    data = world.channels[channel]
    assert len(data) > 20, "there is nothing to search"
    assert world.secrets.found_in(data) == set()
    middle = len(data) // 2
    for name, forms in world.secrets.forms.items():
        for form in forms:
            planted = data[:middle] + b"..." + form + b"..." + data[middle:]
            assert name in world.secrets.found_in(planted)
    record_property(
        "figure",
        f"canaries in {channel}: 0 of {len(world.secrets.forms)} in {len(data):,} bytes",
    )


def test_what_the_client_was_answered_does_hold_the_result(world: World) -> None:
    """The control of the whole: the canaries did pass through, and came back to their client."""
    token_file = world.pair.directory / "second.token"
    world.pair.run(
        "stage3",
        *("token", "issue", "--user", "ada", "--client", "demo", "--allow", "text:upper"),
        *("--output", token_file),
    )
    file = world.pair.directory / "second.json"
    file.write_text(json.dumps(_plan("ada", [_step("upper", text=TEXT)])))
    answer = world.pair.run("stage4", "plan", "run", file, "--token-file", token_file, "--json")
    assert TEXT.upper() in answer


CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
DUMPS_CORE = f"""
import os, resource, signal
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
secret = "{TEXT}-in-memory"
print("ready", flush=True)
signal.pause()
"""


class TestCores:
    """What a crash leaves."""

    def test_a_service_that_is_aborted_leaves_no_core(self, world: World) -> None:
        """SIGABRT in the middle of its life: no file, where a careless process leaves one.

        The control runs first, so that a machine which writes no cores at all is noticed.
        """
        if CORE_PATTERN.read_text().startswith(("|", "/")):
            pytest.skip("CORES GO ELSEWHERE ON THIS MACHINE: kernel.core_pattern is not a file")
        directory = world.pair.directory / "cores"
        directory.mkdir()
        control = subprocess.Popen(
            [sys.executable, "-c", DUMPS_CORE], cwd=directory, stdout=subprocess.PIPE
        )
        assert control.stdout is not None
        control.stdout.readline()
        control.send_signal(signal.SIGABRT)
        control.wait(30)
        control.stdout.close()
        cores = list(directory.glob("core*"))
        assert cores, "the control left no core: this test would prove nothing"
        assert "a text" in world.secrets.found_in(b"".join(core.read_bytes() for core in cores))
        for process in (world.pair.stage4_process, world.pair.stage3_process):
            assert process is not None
            where = Path(f"/proc/{process.pid}/cwd").readlink()
            before = set(where.glob("core*"))
            process.send_signal(signal.SIGABRT)
            assert process.wait(30) == -signal.SIGABRT
            assert set(where.glob("core*")) == before
