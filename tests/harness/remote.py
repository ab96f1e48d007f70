"""Domains elsewhere, as tests declare and reach them, and one as a process to be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servicekit.clock import SystemClock
from servicekit.log import logger
from servicekit.serving.rotation import Rotation
from servicekit.serving.tls import CredentialFiles, read_caller_credential
from stage3_service.adapters.grpc_domain import Dialer, GrpcDomain
from stage3_service.domains.declaration import DomainDeclaration, MethodDeclaration, Repetition
from stage3_service.settings import DomainClient
from tests.fakes.domains import METHODS, TRIAL_MAX_RESPONSE_BYTES, longest_s
from tests.fakes.remote_domain import FURTHER_METHODS
from tests.harness.pki import Pki, pki, server_dns
from tests.harness.reserved_ports import ReservedPort

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stage3_service.domains.definition import AcceptedDefinitions, Definition

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0


def remote_methods(max_duration_s: float) -> dict[str, Any]:
    """Return the declarations of the trial service's methods, as a domains file holds them."""
    return {
        name: {
            "description": f"Behaves as its name says: {name}.",
            "max_duration_s": longest_s(name, max_duration_s),
            "max_response_bytes": TRIAL_MAX_RESPONSE_BYTES,
            "repetition": "neither",
            "parameters_schema": {"type": "object"},
        }
        for name in (*METHODS, *FURTHER_METHODS)
    }


def write_domains_file(
    path: Path, address: str, *, name: str = "trial", max_duration_s: float = 5.0, **changes: Any
) -> Path:
    """Write a domains file with the trial service at `address`, and the builtin text domain."""
    trial = {
        "adapter": "grpc",
        "endpoint": address,
        "server_name": server_dns("trial"),
        "methods": remote_methods(max_duration_s),
        **changes,
    }
    text = {"adapter": "builtin", "endpoint": "text", "methods": {"upper": {}, "concat": {}}}
    path.write_text(json.dumps({"domains": {name: trial, "text": text}}))
    return path


def domain_client(caller: str = "stage3", keys: Pki | None = None) -> DomainClient:
    """Return the settings with which Stage-3 calls domains, as this caller."""
    keys = keys or pki()
    return DomainClient(
        certificate_file=keys.file(f"{caller}.crt"),
        key_file=keys.file(f"{caller}.key"),
        server_authority_file=keys.file("ca.crt"),
        connect_timeout_s=5.0,
    )


def remote_declaration(
    address: str,
    *,
    max_duration_s: float = 60.0,
    limits_s: Mapping[str, float] | None = None,
    server_name: str | None = None,
    methods: tuple[str, ...] = (),
) -> DomainDeclaration:
    """Declare the trial service at `address`; `methods` are declared beside the usual ones.

    `limits_s` are the longest times of methods that may not take `max_duration_s`.
    """
    declared = {
        name: MethodDeclaration(
            name,
            "A trial.",
            (limits_s or {}).get(name, longest_s(name, max_duration_s)),
            TRIAL_MAX_RESPONSE_BYTES,
            Repetition.NEITHER,
        )
        for name in (*METHODS, *FURTHER_METHODS, *methods)
    }
    return DomainDeclaration("trial", "grpc", address, declared, server_name or server_dns("trial"))


class AnythingAccepted:
    """Accept whatever a domain shows, for tests of the way there."""

    def is_accepted(self, domain: str, digest: str) -> bool:
        """Say yes."""
        return True

    def accepted(self, domain: str) -> Definition | None:
        """Know nothing."""
        return None


def dialer(
    caller: str = "stage3",
    *,
    keys: Pki | None = None,
    connect_s: float = 5.0,
    accepted: AcceptedDefinitions | None = None,
) -> Dialer:
    """Return what reaches domains as this caller."""
    client = domain_client(caller, keys)
    files = CredentialFiles(client.certificate_file, client.key_file, client.server_authority_file)
    clock = SystemClock()
    certificate = Rotation(files, read_caller_credential, clock=clock, log=logger("dialer"))
    accepted = accepted or AnythingAccepted()
    return Dialer(certificate, connect_s, clock.monotonic_s, accepted, lambda _: None)


@contextmanager
def reached(declaration: DomainDeclaration, dialed: Dialer | None = None) -> Iterator[GrpcDomain]:
    """Open a domain and close it."""
    domain = (dialed or dialer()).open(declaration)
    try:
        yield domain
    finally:
        domain.close()


class RemoteProcess:
    """The trial service as a process, at one address over any number of restarts."""

    def __init__(self, directory: Path) -> None:
        self.effects_file = directory / "effects"
        self._directory = directory
        self._process: subprocess.Popen[str] | None = None
        self._port = ReservedPort()
        self.address = self._port.address

    def start(self) -> None:
        """Start, and wait until it listens."""
        with (self._directory / "remote.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.harness.serve_remote_domain"),
                    *(str(pki().directory), self.address, str(self.effects_file)),
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}"},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        assert said == self.address, (self._directory / "remote.log").read_text()

    def send(self, number: signal.Signals) -> None:
        """Send a signal: SIGKILL ends it without a word, SIGSTOP makes it hang."""
        assert self._process is not None
        self._process.send_signal(number)
        if number is signal.SIGKILL:
            self._process.wait(START_S)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def effects(self) -> list[str]:
        """Return the idempotency key of every effect that happened in the world."""
        return self.effects_file.read_text().split() if self.effects_file.exists() else []

    def end(self) -> None:
        """Kill it if it still runs, stopped or not."""
        if self._process is not None:
            self.send(signal.SIGKILL)

    def close(self) -> None:
        """Give its port back."""
        self._port.close()


@contextmanager
def remote_process(directory: Path) -> Iterator[RemoteProcess]:
    """Run the trial service as a process, and end it in any case."""
    running = RemoteProcess(directory)
    try:
        running.start()
        yield running
    finally:
        running.end()
        running.close()
