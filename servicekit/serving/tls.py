"""Certificates and keys on their way from files to gRPC, each checked before it is used.

gRPC accepts almost any bytes and fails later, at a handshake, with a text about sockets. Here every
file is asked what could be wrong with it, and the answer names the file and what to do.

Deliberately absent: the making of certificates, and any way to serve or call without a peer's
certificate being verified.
"""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

PEM_MAX_BYTES: Final = 1_048_576
"""Longest file read: a bundle of authorities is some kilobytes, anything more is a wrong path."""

_BLOCK_BEGINS: Final = b"-----BEGIN "
_WHOLE_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class CredentialRefused(Exception):
    """A certificate or key that cannot be used: which file, why, and what to do about it."""

    def __init__(self, path: Path, description: str, advice: str) -> None:
        super().__init__(f"{path}: {description}. {advice}")
        self.path = path
        self.description = description
        self.advice = advice


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """Where one certificate, its key, and the authority of its peers are kept, all PEM."""

    certificate_file: Path
    key_file: Path
    authority_file: Path


@dataclass(frozen=True, slots=True, eq=False)
class Credential:
    """What the three files held together when every check passed. Secret."""

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    authority: bytes = field(repr=False)
    serial_number: int
    expires_at: datetime

    @property
    def content(self) -> tuple[bytes, bytes, bytes]:
        """Return the bytes of all three files: what two credentials are the same by."""
        return self.chain, self.key, self.authority


def read_server_credential(files: CredentialFiles, now: datetime) -> Credential:
    """Read a server's certificate, its key, and the authority of its clients.

    Raises:
        CredentialRefused: a file is missing, unreadable, malformed, expired, exposed, not a
            server's certificate with one DNS SAN, or the key is of another certificate.
    """
    return _read_credential(files, now, _verify_server)


def read_caller_credential(files: CredentialFiles, now: datetime) -> Credential:
    """Read a caller's certificate, its key, and the authority of its servers.

    Raises:
        CredentialRefused: as for a server, except that the certificate must be a caller's, with
            one URI SAN and no other.
    """
    return _read_credential(files, now, _verify_caller)


def server_credentials(
    certificate_file: Path, key_file: Path, client_authority_file: Path, *, now: datetime
) -> grpc.ServerCredentials:
    """Return credentials that present this certificate and demand one from every client.

    They never change; `rotation` has those that follow their files.

    Raises:
        CredentialRefused: as for `read_server_credential`.
    """
    files = CredentialFiles(certificate_file, key_file, client_authority_file)
    credential = read_server_credential(files, now)
    return grpc.ssl_server_credentials(
        [(credential.key, credential.chain)], credential.authority, require_client_auth=True
    )


def channel_credentials(
    server_authority_file: Path, certificate_file: Path, key_file: Path, *, now: datetime
) -> grpc.ChannelCredentials:
    """Return credentials that verify the server and present this caller's certificate.

    Raises:
        CredentialRefused: as for `read_caller_credential`.
    """
    files = CredentialFiles(certificate_file, key_file, server_authority_file)
    return secure_channel_credentials(read_caller_credential(files, now))


def secure_channel_credentials(credential: Credential) -> grpc.ChannelCredentials:
    """Return what a channel presents and verifies with."""
    return grpc.ssl_channel_credentials(credential.authority, credential.key, credential.chain)


def _read_credential(
    files: CredentialFiles, now: datetime, verify: Callable[[Path, x509.Certificate], None]
) -> Credential:
    chain, key, leaf = _read_pair(files.certificate_file, files.key_file, now)
    verify(files.certificate_file, leaf)
    authority = _read_authority(files.authority_file, now)
    return Credential(chain, key, authority, leaf.serial_number, leaf.not_valid_after_utc)


def _read(path: Path, *, secret: bool) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if secret and status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
                raise CredentialRefused(
                    path,
                    "every user of this machine may read or write this key",
                    "Run chmod 600 on it; if it was exposed, issue a new one.",
                )
            content = file.read(PEM_MAX_BYTES + 1)
    except FileNotFoundError:
        raise CredentialRefused(
            path, "there is no such file", "Make certificates first, or correct the setting."
        ) from None
    except OSError as error:
        raise CredentialRefused(
            path,
            f"it cannot be read ({os.strerror(error.errno or 0)})",
            "Let the service's user read it.",
        ) from None
    if len(content) > PEM_MAX_BYTES:
        raise CredentialRefused(
            path, f"it is longer than {PEM_MAX_BYTES} bytes", "Correct the setting."
        )
    return content


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    # The parser leaves out a last block that is cut off: half a bundle would look like a whole one.
    if pem.count(_BLOCK_BEGINS) != len(_WHOLE_BLOCK.findall(pem)):
        raise CredentialRefused(
            path, "it ends in the middle of a certificate", "Write it anew, and rename it in place."
        )
    try:
        certificates = x509.load_pem_x509_certificates(pem)
        # Both are parsed on demand: what is malformed is to be told here, with the file's name.
        for certificate in certificates:
            certificate.extensions  # noqa: B018 - reading it is the check
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        raise CredentialRefused(
            path, "it holds no readable PEM certificate", "Correct the setting."
        ) from None
    return certificates


def _verify_time(path: Path, certificate: x509.Certificate, now: datetime) -> None:
    if now < certificate.not_valid_before_utc:
        raise CredentialRefused(
            path,
            f"its certificate is valid only from {certificate.not_valid_before_utc.isoformat()}",
            "Check this machine's clock.",
        )
    if now >= certificate.not_valid_after_utc:
        raise CredentialRefused(
            path,
            f"its certificate expired at {certificate.not_valid_after_utc.isoformat()}",
            "Issue a new one.",
        )


def _read_pair(
    certificate_file: Path, key_file: Path, now: datetime
) -> tuple[bytes, bytes, x509.Certificate]:
    chain = _read(certificate_file, secret=False)
    leaf = _certificates(certificate_file, chain)[0]
    _verify_time(certificate_file, leaf, now)
    key_pem = _read(key_file, secret=True)
    try:
        key = load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CredentialRefused(
            key_file,
            "it holds no readable private key without a passphrase",
            "Correct the setting.",
        ) from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise CredentialRefused(
            key_file,
            f"it is not the key of {certificate_file}",
            "Correct one of the two settings.",
        )
    return chain, key_pem, leaf


def _read_authority(path: Path, now: datetime) -> bytes:
    pem = _read(path, secret=False)
    for certificate in _certificates(path, pem):
        _verify_time(path, certificate, now)
        try:
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        except x509.ExtensionNotFound:
            is_authority = False
        else:
            is_authority = constraints.value.ca
        if not is_authority:
            raise CredentialRefused(
                path,
                "it holds a certificate that is not an authority's",
                "Name the file of the authority that issued the peers' certificates.",
            )
    return pem


def _alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(extension.value)


def _permits(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> bool:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return False
    return usage in extension.value


def _verify_server(path: Path, leaf: x509.Certificate) -> None:
    names = _alternative_names(leaf)
    one_dns = len(names) == 1 and isinstance(names[0], x509.DNSName)
    if not (_permits(leaf, ExtendedKeyUsageOID.SERVER_AUTH) and one_dns):
        raise CredentialRefused(
            path,
            "it is not a server's certificate (serverAuth and exactly one DNS SAN)",
            "Issue one for this server's name.",
        )


def _verify_caller(path: Path, leaf: x509.Certificate) -> None:
    names = _alternative_names(leaf)
    one_uri = len(names) == 1 and isinstance(names[0], x509.UniformResourceIdentifier)
    if not (_permits(leaf, ExtendedKeyUsageOID.CLIENT_AUTH) and one_uri):
        raise CredentialRefused(
            path,
            "it is not a caller's certificate (clientAuth and exactly one URI SAN)",
            "Issue one for this caller's identity.",
        )
