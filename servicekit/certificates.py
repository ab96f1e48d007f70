"""A development authority: certificates for the listeners and callers of one trust domain.

Every key is EC P-256. A server's certificate carries serverAuth and one DNS SAN, a caller's
clientAuth and one URI SAN, and neither anything else, which is exactly what the serving side
accepts.

Deliberately absent: revocation, renewal, passphrases and any hardware: a deployment that matters
has an authority of its own, and only the shape of its certificates is required here.
"""

import os
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from servicekit.serving.address import DNS_NAME
from servicekit.serving.identity import IdentityRefused, parse_identity, verify_trust_domain

AUTHORITY_NAME: Final = "ca"
AUTHORITY_LIFETIME: Final = timedelta(days=3650)
LEAF_LIFETIME: Final = timedelta(days=365)
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""How far before `now` a certificate is valid, for machines whose clocks run a little behind."""

_FILE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class CertificateRefused(Exception):
    """A certificate that cannot be made as asked; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class IssuedFiles:
    """Where one certificate and its key were written."""

    certificate_file: Path
    key_file: Path


def create_authority(directory: Path, trust_domain: str, now: datetime) -> IssuedFiles:
    """Make `ca.crt` and `ca.key` in `directory`, for one trust domain; never overwrite.

    Raises:
        CertificateRefused: the directory already holds one, or the trust domain is malformed.
    """
    try:
        verify_trust_domain(trust_domain)
    except ValueError as error:
        raise CertificateRefused(str(error)) from None
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = _files(directory, AUTHORITY_NAME)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"development authority of {trust_domain}")
    certificate = (
        _builder(subject, subject, key.public_key(), now, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(files, certificate, key)
    return files


def issue_server(directory: Path, name: str, dns: str, now: datetime) -> IssuedFiles:
    """Make `<name>.crt` and `<name>.key` for a server that clients pin as `dns`.

    Raises:
        CertificateRefused: there is no authority, a name is malformed, or a file exists already.
    """
    if DNS_NAME.fullmatch(dns) is None:
        raise CertificateRefused(f"{dns!r} is not a DNS name in lower case")
    return _issue(directory, name, x509.DNSName(dns), ExtendedKeyUsageOID.SERVER_AUTH, now)


def issue_caller(directory: Path, name: str, uri: str, now: datetime) -> IssuedFiles:
    """Make `<name>.crt` and `<name>.key` for the caller that `uri` names.

    Raises:
        CertificateRefused: there is no authority, the URI is no identity of its trust domain, or a
            file exists already.
    """
    try:
        parse_identity(uri, trust_domain_of(directory))
    except IdentityRefused as refused:
        raise CertificateRefused(f"{uri!r}: {refused.description}") from None
    return _issue(
        directory,
        name,
        x509.UniformResourceIdentifier(uri),
        ExtendedKeyUsageOID.CLIENT_AUTH,
        now,
    )


def trust_domain_of(directory: Path) -> str:
    """Return the trust domain of the authority in this directory; its key need not be there.

    Raises:
        CertificateRefused: there is no authority, or it names no trust domain.
    """
    certificate = _authority_certificate(directory)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        raise CertificateRefused(
            f"{directory / 'ca.crt'} names no trust domain; make a new authority"
        ) from None
    return uri.removeprefix("spiffe://")


def _issue(
    directory: Path,
    name: str,
    alternative_name: x509.GeneralName,
    usage: x509.ObjectIdentifier,
    now: datetime,
) -> IssuedFiles:
    if name == AUTHORITY_NAME or _FILE_NAME.fullmatch(name) is None:
        raise CertificateRefused(f"{name!r} cannot name a certificate: use a-z, 0-9, _ and -")
    authority, authority_key = _load_authority(directory)
    files = _files(directory, name)
    if now + CLOCK_TOLERANCE >= authority.not_valid_after_utc:
        raise CertificateRefused(f"the authority in {directory} has expired; make a new one")
    lifetime = min(LEAF_LIFETIME, authority.not_valid_after_utc - now)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_subject(name), authority.subject, key.public_key(), now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName([alternative_name]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    _write(files, certificate, key)
    return files


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + lifetime)
    )


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load_authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = _authority_certificate(directory)
    try:
        key = load_pem_private_key(_read(directory, "ca.key"), password=None)
    except ValueError:
        raise CertificateRefused(f"the authority in {directory} is not readable") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateRefused(f"the authority in {directory} has no EC key")
    if key.public_key() != certificate.public_key():
        raise CertificateRefused(f"{directory / 'ca.key'} is not the key of ca.crt beside it")
    return certificate, key


def _authority_certificate(directory: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(directory, "ca.crt"))
    except ValueError:
        raise CertificateRefused(f"the authority in {directory} is not readable") from None


def _read(directory: Path, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except FileNotFoundError:
        raise CertificateRefused(f"{directory} holds no authority; make one first") from None


def _files(directory: Path, name: str) -> IssuedFiles:
    files = IssuedFiles(directory / f"{name}.crt", directory / f"{name}.key")
    for path in (files.certificate_file, files.key_file):
        if path.exists() or path.is_symlink():
            raise CertificateRefused(f"{path} exists already; remove it first if it is to go")
    return files


def _write(
    files: IssuedFiles, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    # The key first: a certificate without its key is noticed at once, the reverse looks complete.
    _write_private(
        files.key_file,
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    _write_private(files.certificate_file, certificate.public_bytes(Encoding.PEM))


def _write_private(path: Path, content: bytes) -> None:
    # Created with its mode, never changed to it: in between, anyone could have opened it.
    # Exclusive, so that a name or a link that appears meanwhile is not followed.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
