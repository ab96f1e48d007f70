"""Replacing certificates in their files, as docs/operations.md says, and seeing which is shown."""

from __future__ import annotations

import shutil
import socket
import ssl
from typing import TYPE_CHECKING

from cryptography import x509

if TYPE_CHECKING:
    from pathlib import Path


def put(source: Path, target: Path) -> None:
    """Replace a file atomically, mode and all."""
    fresh = target.with_name(f"{target.name}.new")
    shutil.copy(source, fresh)
    fresh.replace(target)


def put_pair(source: Path, target: Path) -> int:
    """Replace key, then certificate, given as paths without suffix; return the serial number."""
    for kind in (".key", ".crt"):
        put(source.with_name(source.name + kind), target.with_name(target.name + kind))
    return serial_of(target.with_name(f"{target.name}.crt").read_bytes())


def serial_of(pem: bytes) -> int:
    """Return the serial number of a certificate."""
    return x509.load_pem_x509_certificate(pem).serial_number


def serial_shown(address: str, server_name: str, authority: Path, caller: Path) -> int:
    """Shake hands anew, as the caller whose files have this path without suffix.

    Return the serial number of the certificate that the server shows.
    """
    context = ssl.create_default_context(cafile=str(authority))
    context.load_cert_chain(
        caller.with_name(f"{caller.name}.crt"), caller.with_name(f"{caller.name}.key")
    )
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as connection,
    ):
        shown = connection.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number
