"""Development certificates: exactly the shape that the serving side accepts."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from servicekit.certificates import (
    CertificateRefused,
    IssuedFiles,
    create_authority,
    issue_caller,
    issue_server,
    trust_domain_of,
)

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
DOMAIN = "stagegate.test"
ALICE = f"spiffe://{DOMAIN}/client/alice"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with an authority."""
    create_authority(tmp_path / "certificates", DOMAIN, NOW)
    return tmp_path / "certificates"


def read(files: IssuedFiles) -> x509.Certificate:
    """Read a certificate back."""
    return x509.load_pem_x509_certificate(files.certificate_file.read_bytes())


def names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """Return every subject alternative name."""
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    """Return every extended key usage."""
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


class TestShape:
    """What is in a certificate, and what is not."""

    def test_a_server_has_server_auth_and_one_dns_name(self, directory: Path) -> None:
        """Nothing else: no URI, no clientAuth."""
        certificate = read(issue_server(directory, "stage3", "stage3.stagegate.test", NOW))
        assert names(certificate) == [x509.DNSName("stage3.stagegate.test")]
        assert usages(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]

    def test_a_caller_has_client_auth_and_one_uri(self, directory: Path) -> None:
        """Nothing else: no DNS name, no serverAuth."""
        certificate = read(issue_caller(directory, "alice", ALICE, NOW))
        assert names(certificate) == [x509.UniformResourceIdentifier(ALICE)]
        assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]

    def test_only_the_authority_can_sign(self, directory: Path) -> None:
        """A leaf is no authority, and the authority's own issue ends the chain."""
        authority = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
        leaf = read(issue_caller(directory, "alice", ALICE, NOW))
        leaf.verify_directly_issued_by(authority)
        constraints = [
            each.extensions.get_extension_for_class(x509.BasicConstraints).value
            for each in (authority, leaf)
        ]
        assert [(each.ca, each.path_length) for each in constraints] == [(True, 0), (False, None)]

    def test_every_key_is_p_256_and_no_two_are_alike(self, directory: Path) -> None:
        """Serial numbers and keys are fresh each time."""
        issued = [issue_caller(directory, f"a{n}", ALICE, NOW) for n in range(3)]
        keys = [
            load_pem_private_key(path.read_bytes(), None)
            for path in (directory / "ca.key", *(each.key_file for each in issued))
        ]
        assert {key.curve.name for key in keys if isinstance(key, ec.EllipticCurvePrivateKey)} == {
            "secp256r1"
        }
        assert len({read(each).serial_number for each in issued}) == 3
        assert len({each.key_file.read_bytes() for each in issued}) == 3

    def test_validity_starts_a_little_before_now(self, directory: Path) -> None:
        """The time is the one handed in, and a clock five minutes behind still accepts it."""
        certificate = read(issue_caller(directory, "alice", ALICE, NOW))
        assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
        assert certificate.not_valid_after_utc == NOW + timedelta(days=365)

    def test_no_leaf_outlives_its_authority(self, directory: Path) -> None:
        """Near the authority's end, a leaf ends with it."""
        late = NOW + timedelta(days=3600)
        authority = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
        certificate = read(issue_caller(directory, "alice", ALICE, late))
        assert certificate.not_valid_after_utc == authority.not_valid_after_utc
        with pytest.raises(CertificateRefused, match="has expired"):
            issue_caller(directory, "bob", ALICE, NOW + timedelta(days=3651))


class TestFiles:
    """Where they are written, and how."""

    def test_everything_is_for_its_owner_only(self, directory: Path) -> None:
        """Keys were never readable by others, not even for a moment."""
        issue_server(directory, "stage3", "stage3.stagegate.test", NOW)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
        assert modes == dict.fromkeys(("ca.crt", "ca.key", "stage3.crt", "stage3.key"), 0o600)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    @pytest.mark.parametrize("existing", ["alice.crt", "alice.key"])
    def test_nothing_is_overwritten(self, directory: Path, existing: str) -> None:
        """Either file is enough to refuse, and it stays as it is."""
        (directory / existing).write_text("mine")
        with pytest.raises(CertificateRefused, match="exists already"):
            issue_caller(directory, "alice", ALICE, NOW)
        assert (directory / existing).read_text() == "mine"
        assert len(list(directory.glob("alice.*"))) == 1

    def test_an_authority_is_never_replaced(self, directory: Path) -> None:
        """Every certificate it signed would stop working."""
        before = (directory / "ca.key").read_bytes()
        with pytest.raises(CertificateRefused, match="exists already"):
            create_authority(directory, DOMAIN, NOW)
        assert (directory / "ca.key").read_bytes() == before

    def test_a_link_in_the_way_is_not_followed(self, directory: Path, tmp_path: Path) -> None:
        """A dangling link does not lead a key to another place."""
        (directory / "alice.key").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(CertificateRefused, match="exists already"):
            issue_caller(directory, "alice", ALICE, NOW)
        assert not (tmp_path / "elsewhere").exists()


class TestRefused:
    """What is not made."""

    @pytest.mark.parametrize(
        "uri",
        [
            "spiffe://other.test/client/alice",
            f"spiffe://{DOMAIN}/root/alice",
            f"spiffe://{DOMAIN}/client/",
            f"https://{DOMAIN}/client/alice",
            "",
        ],
    )
    def test_a_caller_that_no_door_would_accept(self, directory: Path, uri: str) -> None:
        """The mistake is told now, not at the first refused call."""
        with pytest.raises(CertificateRefused, match="URI SAN"):
            issue_caller(directory, "alice", uri, NOW)

    @pytest.mark.parametrize("dns", ["", "Stage3.test", "a..b", "-a", "a_b", "a b", "*.test"])
    def test_a_server_without_a_plain_dns_name(self, directory: Path, dns: str) -> None:
        """No wildcard, no upper case, no empty label."""
        with pytest.raises(CertificateRefused, match="not a DNS name"):
            issue_server(directory, "stage3", dns, NOW)

    @pytest.mark.parametrize("name", ["", "ca", "../alice", "a/b", "Alice", "a.b"])
    def test_a_file_name_that_leads_elsewhere(self, directory: Path, name: str) -> None:
        """A name is one file in this directory, and never the authority's."""
        with pytest.raises(CertificateRefused, match="cannot name a certificate"):
            issue_caller(directory, name, ALICE, NOW)

    @pytest.mark.parametrize("domain", ["", "Stagegate.test", "a/b", "a b", "spiffe://a"])
    def test_a_trust_domain_that_is_no_host_name(self, tmp_path: Path, domain: str) -> None:
        """Nothing is written."""
        with pytest.raises(CertificateRefused, match="not a trust domain"):
            create_authority(tmp_path / "new", domain, NOW)
        assert not (tmp_path / "new").exists()

    def test_without_an_authority(self, tmp_path: Path) -> None:
        """The text says what comes first."""
        with pytest.raises(CertificateRefused, match="make one first"):
            issue_server(tmp_path, "stage3", "stage3.test", NOW)

    @pytest.mark.parametrize("file", ["ca.crt", "ca.key"])
    def test_with_a_damaged_authority(self, directory: Path, file: str) -> None:
        """A file that is no PEM is not taken for one."""
        (directory / file).write_text("damaged")
        with pytest.raises(CertificateRefused, match="not readable"):
            issue_server(directory, "stage3", "stage3.test", NOW)


def test_the_trust_domain_is_kept_in_the_authority(directory: Path) -> None:
    """Whoever issues later need not remember it."""
    assert trust_domain_of(directory) == DOMAIN


def test_whoever_needs_the_trust_domain_needs_no_key(directory: Path) -> None:
    """A service is set up where the authority's certificate is, and its key must not be."""
    (directory / "ca.key").unlink()
    assert trust_domain_of(directory) == DOMAIN


def test_an_authority_signs_with_its_own_key_only(directory: Path, tmp_path: Path) -> None:
    """Certificates signed with another key would be refused one by one, at every handshake."""
    create_authority(tmp_path / "other", DOMAIN, NOW)
    (tmp_path / "other" / "ca.key").replace(directory / "ca.key")
    with pytest.raises(CertificateRefused, match="not the key"):
        issue_caller(directory, "alice", ALICE, NOW)
