"""Certificates in files that are replaced, and who is seen with which."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from structlog.testing import CapturingLogger

from servicekit import certificates
from servicekit.clock import SystemClock
from servicekit.serving.rotation import Rotation
from servicekit.serving.server import RunningServer
from servicekit.serving.tls import (
    CredentialFiles,
    read_caller_credential,
    read_server_credential,
)
from tests.component.servicekit.serving_world import NOW, SERVER_NAME, Authority, uri
from tests.harness.rotation import put_pair, serial_of, serial_shown


@dataclass
class CertifiedFiles:
    """Three files in use, an authority that issues what replaces them, and the log about it."""

    authority: Authority
    issue: Callable[[Path, str], object]
    rotation: Rotation
    log: CapturingLogger
    issued: int = 0

    @property
    def files(self) -> CredentialFiles:
        """Return the files in use."""
        return in_use(self.authority.directory, "used")

    def serial(self) -> int:
        """Return the serial number that the certificate file holds."""
        return serial_of(self.files.certificate_file.read_bytes())

    def rotate(self) -> int:
        """Issue anew and replace key, then certificate; return the new serial number."""
        self.issued += 1
        name = f"fresh-{self.issued}"
        self.issue(self.authority.directory, name)
        return put_pair(self.authority.directory / name, self.authority.directory / "used")

    def events(self) -> list[str]:
        """Return the names of the events logged so far."""
        return [call.args[0] for call in self.log.calls]


def in_use(directory: Path, name: str) -> CredentialFiles:
    """Return the three files of a name, with an authority of their own."""
    return CredentialFiles(
        directory / f"{name}.crt", directory / f"{name}.key", directory / f"{name}-ca.crt"
    )


def server_files(authority: Authority) -> CertifiedFiles:
    """Issue a server's certificate that is to be replaced."""

    def issue(directory: Path, name: str) -> None:
        certificates.issue_server(directory, name, SERVER_NAME, NOW)

    return _certified(authority, issue, read_server_credential)


def caller_files(authority: Authority, path: str = "client/alice") -> CertifiedFiles:
    """Issue a caller's certificate that is to be replaced."""

    def issue(directory: Path, name: str) -> None:
        certificates.issue_caller(directory, name, uri(path), NOW)

    return _certified(authority, issue, read_caller_credential)


def serial_shown_by(server: RunningServer, authority: Authority) -> int:
    """Shake hands anew and return the serial number that the server shows."""
    client = authority.directory / "client"
    return serial_shown(server.address, SERVER_NAME, authority.file, client)


def _certified(
    authority: Authority,
    issue: Callable[[Path, str], object],
    read: Callable[..., object],
) -> CertifiedFiles:
    directory = authority.directory
    issue(directory, "used")
    shutil.copy(authority.file, directory / "used-ca.crt")
    log = CapturingLogger()
    rotation = Rotation(in_use(directory, "used"), read, clock=SystemClock(), log=log)  # type: ignore[arg-type]
    return CertifiedFiles(authority, issue, rotation, log)
