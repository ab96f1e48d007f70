"""Whose certificate a connection shows, fact by fact, and whether it has expired at this call."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from servicekit.certificates import LEAF_LIFETIME, create_authority, issue_caller
from servicekit.serving.identity import IdentityRefused
from servicekit.serving.peer_certificates import REMEMBERED_MAX, PeerCertificates

DOMAIN = "stagegate.test"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
Facts = Mapping[str, Sequence[bytes]]


def microseconds(instant: datetime) -> int:
    """Return an instant as the door is told it."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


URI = f"spiffe://{DOMAIN}/client/alice".encode()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Return what gRPC tells of a caller that a real authority certified."""
    return {
        "ssl_tls_version": [b"TLSv1.3"],
        "peer_uri": [URI],
        "x509_subject_alternative_name": [URI],
        "x509_pem_cert": [certificate(tmp_path_factory.mktemp("pki"))],
    }


def certificate(directory: Path, now: datetime = NOW) -> bytes:
    """Return alice's certificate, issued now."""
    create_authority(directory, DOMAIN, now)
    issue_caller(directory, "alice", URI.decode(), now)
    return (directory / "alice.crt").read_bytes()


def name_of(facts: Facts, now: datetime = NOW, peers: PeerCertificates | None = None) -> str:
    """Ask once."""
    return (peers or PeerCertificates(DOMAIN)).identity(facts, microseconds(now)).name


def test_a_verified_peer_is_its_uri(good: Facts) -> None:
    """The control of the refusals below."""
    assert name_of(good) == "alice"


@pytest.mark.parametrize(
    "change",
    [
        {"ssl_tls_version": []},
        {"ssl_tls_version": [b"TLSv1.2"]},
        {"ssl_tls_version": [b"TLSv1.3", b"TLSv1.2"]},
        {"peer_uri": []},
        {"peer_uri": [URI, URI]},
        {"x509_subject_alternative_name": []},
        {"x509_subject_alternative_name": [URI, b"alice.test"]},
        {"x509_subject_alternative_name": [b"alice.test"]},
        {"x509_pem_cert": []},
        {"x509_pem_cert": [b"text"]},
        {"peer_uri": [b"\xff"], "x509_subject_alternative_name": [b"\xff"]},
    ],
)
def test_a_peer_that_differs_in_one_fact_is_refused(good: Facts, change: Facts) -> None:
    """Each fact is required, and required to be the only one of its kind."""
    with pytest.raises(IdentityRefused):
        name_of({**good, **change})


@pytest.mark.parametrize(
    "missing", ["ssl_tls_version", "peer_uri", "x509_subject_alternative_name", "x509_pem_cert"]
)
def test_a_peer_of_which_a_fact_is_not_known_is_refused(good: Facts, missing: str) -> None:
    """A transport that does not tell is a transport that is not trusted."""
    facts = {key: value for key, value in good.items() if key != missing}
    with pytest.raises(IdentityRefused):
        name_of(facts)


@pytest.mark.parametrize(
    ("now", "is_valid"),
    [
        (NOW, True),
        (NOW + LEAF_LIFETIME - timedelta(microseconds=1), True),
        (NOW + LEAF_LIFETIME, False),
    ],
)
def test_expiry_is_asked_at_every_call(good: Facts, now: datetime, *, is_valid: bool) -> None:
    """Of a certificate that is remembered too: its end is remembered, not the answer."""
    peers = PeerCertificates(DOMAIN)
    assert name_of(good, NOW, peers) == "alice"
    if is_valid:
        assert name_of(good, now, peers) == "alice"
    else:
        with pytest.raises(IdentityRefused, match="client/alice has expired"):
            name_of(good, now, peers)
    assert name_of(good, NOW, peers) == "alice"


def test_a_clock_that_was_set_back_shuts_nobody_out(good: Facts) -> None:
    """The handshake asked whether its time had come, and operators are needed most just then."""
    assert name_of(good, NOW - timedelta(days=1)) == "alice"


def test_another_trust_domain_remembers_for_itself(good: Facts) -> None:
    """What one door has accepted is nothing to the next one."""
    assert name_of(good, NOW, PeerCertificates(DOMAIN)) == "alice"
    with pytest.raises(IdentityRefused, match="trust domain"):
        name_of(good, NOW, PeerCertificates("other.test"))


def test_other_names_beside_the_same_certificate_are_other_facts(good: Facts) -> None:
    """An answer is remembered under everything that it follows from."""
    peers = PeerCertificates(DOMAIN)
    assert name_of(good, NOW, peers) == "alice"
    bob = [URI.replace(b"alice", b"bob")]
    assert name_of({**good, "peer_uri": bob, "x509_subject_alternative_name": bob}, NOW, peers) == (
        "bob"
    )


def test_more_callers_than_are_remembered_are_told_apart(good: Facts) -> None:
    """Past its bound the memory forgets, and no answer changes."""
    peers = PeerCertificates(DOMAIN)
    for _ in range(2):
        for number in range(REMEMBERED_MAX + 5):
            uri = [f"spiffe://{DOMAIN}/client/c{number}".encode()]
            facts = {**good, "peer_uri": uri, "x509_subject_alternative_name": uri}
            assert name_of(facts, NOW, peers) == f"c{number}"
