"""Certificates and keys on their way from files to gRPC, each checked before it is used.

gRPC accepts almost any bytes and fails later, at a handshake, with a text about sockets. Here every
file is asked what could be wrong with it, and the answer names the file and what to do.

Deliberately absent: the making of certificates, and any way to serve or call without a peer's
certificate being verified.
"""

import os
import stat
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


class CredentialRefused(Exception):
    """A certificate or key that cannot be used: which file, why, and what to do about it."""

    def __init__(self, path: Path, description: str, advice: str) -> None:
        super().__init__(f"{path}: {description}. {advice}")
        self.path = path
        self.description = description
        self.advice = advice


def server_credentials(
    certificate_file: Path, key_file: Path, client_authority_file: Path, *, now: datetime
) -> grpc.ServerCredentials:
    """Return credentials that present this certificate and demand one from every client.

    Raises:
        CredentialRefused: a file is missing, unreadable, malformed, expired, exposed, not a
            server's certificate with one DNS SAN, or the key is of another certificate.
    """
    chain, key = _read_pair(certificate_file, key_file, now)
    _verify_server(certificate_file, _leaf(certificate_file, chain))
    authority = _read_authority(client_authority_file, now)
    return grpc.ssl_server_credentials([(key, chain)], authority, require_client_auth=True)


def channel_credentials(
    server_authority_file: Path, certificate_file: Path, key_file: Path, *, now: datetime
) -> grpc.ChannelCredentials:
    """Return credentials that verify the server and present this caller's certificate.

    Raises:
        CredentialRefused: as for a server, except that the certificate must be a caller's, with
            one URI SAN and no other.
    """
    chain, key = _read_pair(certificate_file, key_file, now)
    _verify_caller(certificate_file, _leaf(certificate_file, chain))
    authority = _read_authority(server_authority_file, now)
    return grpc.ssl_channel_credentials(authority, key, chain)


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
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise CredentialRefused(
            path, "it holds no readable PEM certificate", "Correct the setting."
        ) from None


def _leaf(path: Path, pem: bytes) -> x509.Certificate:
    return _certificates(path, pem)[0]


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


def _read_pair(certificate_file: Path, key_file: Path, now: datetime) -> tuple[bytes, bytes]:
    chain = _read(certificate_file, secret=False)
    leaf = _leaf(certificate_file, chain)
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
    return chain, key_pem


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
