"""Certificates that the product never makes, signed by its own authority, for doors to refuse."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import grpc
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

CALLER = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


def uri_name(text: str) -> x509.GeneralName:
    """Return a URI SAN."""
    return x509.UniformResourceIdentifier(text)


def dns_name(text: str) -> x509.GeneralName:
    """Return a DNS SAN."""
    return x509.DNSName(text)


def issue_odd(
    authority: Path,
    names: Sequence[x509.GeneralName],
    *,
    not_before: datetime,
    lifetime: timedelta = timedelta(days=1),
    usage: x509.ObjectIdentifier | None = CALLER,
) -> tuple[bytes, bytes]:
    """Sign whatever is asked with the authority in this directory; return certificate and key."""
    issuer = x509.load_pem_x509_certificate((authority / "ca.crt").read_bytes())
    issuer_key = load_pem_private_key((authority / "ca.key").read_bytes(), password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    certificate = builder.sign(issuer_key, hashes.SHA256())
    return (
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def odd_channel_credentials(
    server_authority: Path, pair: tuple[bytes, bytes]
) -> grpc.ChannelCredentials:
    """Return credentials made past the product's own checks."""
    certificate, key = pair
    return grpc.ssl_channel_credentials(
        (server_authority / "ca.crt").read_bytes(), key, certificate
    )
