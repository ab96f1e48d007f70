"""One development authority and the callers that tests speak as."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from servicekit.certificates import create_authority, issue_caller, issue_server
from servicekit.serving.channel import open_channel
from servicekit.serving.tls import channel_credentials

if TYPE_CHECKING:
    import grpc

TRUST_DOMAIN = "stagegate.test"
SERVERS = ("stage3", "stage4", "trial")
"""Names of servers; their certificates are `<name>-server`. `trial` is a domain elsewhere."""

CALLERS = {
    "stage3": "stage3",
    "stage4": "stage4",
    "oona": "operator/oona",
    "issuer": "operator/issuer",
    "revoker": "operator/revoker",
    "auditor": "operator/auditor",
    "halter": "operator/halter",
    "curator": "operator/curator",
    "nobody": "operator/nobody",
    "reader": "auditor/reader",
    "cli": "client/cli",
    "other": "client/other",
    "domain": "domain/text",
}
"""Certificate names and the identities in them. `nobody` is an operator without a role."""


def uri(name: str) -> str:
    """Return the identity that the certificate of this name carries."""
    return f"spiffe://{TRUST_DOMAIN}/{CALLERS[name]}"


@dataclass(frozen=True, slots=True)
class Pki:
    """Hold the directory of an authority and its certificates."""

    directory: Path

    def file(self, name: str) -> Path:
        """Return a file of the directory."""
        return self.directory / name

    def channel(self, caller: str, address: str, server: str) -> grpc.Channel:
        """Return a channel to a server (one of `SERVERS`), speaking as this caller."""
        credentials = channel_credentials(
            self.file("ca.crt"),
            self.file(f"{caller}.crt"),
            self.file(f"{caller}.key"),
            now=datetime.now(UTC),
        )
        return open_channel(address, credentials, server_dns(server))


def server_dns(server: str) -> str:
    """Return the DNS name that clients pin."""
    return f"{server}.{TRUST_DOMAIN}"


@cache
def pki() -> Pki:
    """Return this process's authority; made once, because keys take time and tests share them."""
    directory = Path(mkdtemp(prefix="stagegate-pki-"))
    now = datetime.now(UTC)
    create_authority(directory, TRUST_DOMAIN, now)
    for server in SERVERS:
        issue_server(directory, f"{server}-server", server_dns(server), now)
    for name in CALLERS:
        issue_caller(directory, name, uri(name), now)
    return Pki(directory)
