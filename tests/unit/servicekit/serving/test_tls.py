"""Certificate files on their way to gRPC: every one that cannot work is refused by name."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from servicekit.certificates import create_authority, issue_caller, issue_server
from servicekit.serving.tls import (
    CredentialRefused,
    channel_credentials,
    server_credentials,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return an authority, a server's and a caller's certificate."""
    create_authority(tmp_path, "stagegate.test", NOW)
    issue_server(tmp_path, "server", "stage3.stagegate.test", NOW)
    issue_caller(tmp_path, "caller", "spiffe://stagegate.test/client/alice", NOW)
    issue_caller(tmp_path, "other", "spiffe://stagegate.test/client/other", NOW)
    return tmp_path


def serve(
    directory: Path, *, certificate: str = "server.crt", key: str = "server.key",
    authority: str = "ca.crt", now: datetime = NOW,
) -> object:  # fmt: skip
    """Make a server's credentials from files of the directory."""
    return server_credentials(
        directory / certificate, directory / key, directory / authority, now=now
    )


def connect(
    directory: Path, *, certificate: str = "caller.crt", key: str = "caller.key",
    authority: str = "ca.crt", now: datetime = NOW,
) -> object:  # fmt: skip
    """Make a caller's credentials from files of the directory."""
    return channel_credentials(
        directory / authority, directory / certificate, directory / key, now=now
    )


def test_what_the_authority_issued_is_accepted(directory: Path) -> None:
    """The product's own certificates pass the product's own checks."""
    assert serve(directory) is not None
    assert connect(directory) is not None


@pytest.mark.parametrize("make", [serve, connect])
class TestEither:
    """What is asked of both sides' files."""

    @pytest.mark.parametrize("part", ["certificate", "key", "authority"])
    def test_a_missing_file_is_named(
        self, directory: Path, make: Callable[..., object], part: str
    ) -> None:
        """With what to do about it."""
        with pytest.raises(CredentialRefused, match="there is no such file") as caught:
            make(directory, **{part: "absent.pem"})
        assert caught.value.path == directory / "absent.pem"
        assert caught.value.advice

    @pytest.mark.parametrize("part", ["certificate", "key", "authority"])
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"text",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            b"x" * 1_048_577,
        ],
    )
    def test_a_file_of_something_else_is_named(
        self, directory: Path, make: Callable[..., object], part: str, content: bytes
    ) -> None:
        """Empty, plain text, broken PEM, or far too long."""
        (directory / "odd.pem").write_bytes(content)
        (directory / "odd.pem").chmod(0o600)
        with pytest.raises(CredentialRefused) as caught:
            make(directory, **{part: "odd.pem"})
        assert caught.value.path == directory / "odd.pem"

    @pytest.mark.parametrize("part", ["certificate", "key", "authority"])
    def test_a_directory_is_named(
        self, directory: Path, make: Callable[..., object], part: str
    ) -> None:
        """A path that is no file is told as the system tells it."""
        (directory / "folder").mkdir()
        with pytest.raises(CredentialRefused, match="Is a directory"):
            make(directory, **{part: "folder"})

    @pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666])
    def test_a_key_for_everybody_is_refused(
        self, directory: Path, make: Callable[..., object], mode: int
    ) -> None:
        """The advice says what to do, and to issue a new one if it was exposed."""
        for key in directory.glob("*.key"):
            key.chmod(mode)
        with pytest.raises(CredentialRefused, match="every user of this machine"):
            make(directory)

    @pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
    def test_a_key_for_its_owner_or_group_is_accepted(
        self, directory: Path, make: Callable[..., object], mode: int
    ) -> None:
        """Mounted secrets are often the group's."""
        for key in directory.glob("*.key"):
            key.chmod(mode)
        assert make(directory) is not None

    def test_a_key_of_another_certificate_is_refused(
        self, directory: Path, make: Callable[..., object]
    ) -> None:
        """Otherwise it would show at the first handshake, as a text about sockets."""
        with pytest.raises(CredentialRefused, match="it is not the key of"):
            make(directory, key="other.key")

    @pytest.mark.parametrize(
        ("now", "description"),
        [
            (NOW + timedelta(days=365), "expired at"),
            (NOW - timedelta(minutes=6), "valid only from"),
        ],
    )
    def test_a_certificate_out_of_its_time_is_refused(
        self, directory: Path, make: Callable[..., object], now: datetime, description: str
    ) -> None:
        """To the second: the last moment of validity is not inside."""
        with pytest.raises(CredentialRefused, match=description):
            make(directory, now=now)

    def test_an_expired_authority_is_refused(
        self, directory: Path, make: Callable[..., object], tmp_path: Path
    ) -> None:
        """No peer could be verified against it."""
        create_authority(tmp_path / "old", "stagegate.test", NOW - timedelta(days=4000))
        with pytest.raises(CredentialRefused, match="expired at"):
            make(directory, authority="old/ca.crt")

    def test_a_leaf_is_no_authority(self, directory: Path, make: Callable[..., object]) -> None:
        """Trusting one peer's certificate as everyone's issuer is a mistake."""
        with pytest.raises(CredentialRefused, match="not an authority"):
            make(directory, authority="other.crt")

    def test_a_bundle_of_authorities_is_accepted(
        self, directory: Path, make: Callable[..., object], tmp_path: Path
    ) -> None:
        """Two authorities stand beside each other while one replaces the other."""
        create_authority(tmp_path / "new", "stagegate.test", NOW)
        bundle = (directory / "ca.crt").read_bytes() + (tmp_path / "new/ca.crt").read_bytes()
        (directory / "bundle.crt").write_bytes(bundle)
        assert make(directory, authority="bundle.crt") is not None


def test_a_caller_s_certificate_does_not_serve(directory: Path) -> None:
    """Its clients would refuse it; the operator hears of it first."""
    with pytest.raises(CredentialRefused, match="not a server's certificate"):
        serve(directory, certificate="caller.crt", key="caller.key")


def test_a_server_s_certificate_does_not_call(directory: Path) -> None:
    """No server would accept it as a caller."""
    with pytest.raises(CredentialRefused, match="not a caller's certificate"):
        connect(directory, certificate="server.crt", key="server.key")


def bare(directory: Path, name: str, *, extensions: bool) -> str:
    """Write a self-signed certificate that lacks what is asked for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
    )
    if extensions:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    (directory / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (directory / f"{name}.key").chmod(0o600)
    return name


@pytest.mark.parametrize("make", [serve, connect])
@pytest.mark.parametrize("extensions", [True, False])
def test_a_certificate_without_names_or_purposes_is_refused(
    directory: Path, make: Callable[..., object], extensions: bool
) -> None:
    """What a certificate does not say, it is not taken to permit."""
    name = bare(directory, "bare", extensions=extensions)
    with pytest.raises(CredentialRefused, match="it is not a"):
        make(directory, certificate=f"{name}.crt", key=f"{name}.key")


def test_a_certificate_that_does_not_say_it_is_an_authority_is_none(directory: Path) -> None:
    """Basic constraints are required, not assumed."""
    name = bare(directory, "bare", extensions=False)
    with pytest.raises(CredentialRefused, match="not an authority"):
        serve(directory, authority=f"{name}.crt")


@pytest.mark.parametrize("cut", [-1, -10, -200, 40])
def test_a_bundle_that_was_cut_off_is_refused(directory: Path, cut: int) -> None:
    """Wherever in its last certificate: the whole one before it does not hide that."""
    whole = (directory / "ca.crt").read_bytes().strip()
    (directory / "bundle.crt").write_bytes(whole + b"\n" + whole)
    assert serve(directory, authority="bundle.crt") is not None
    (directory / "bundle.crt").write_bytes(whole + b"\n" + whole[:cut])
    with pytest.raises(CredentialRefused, match="ends in the middle of a certificate"):
        serve(directory, authority="bundle.crt")
