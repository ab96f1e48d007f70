"""The one URI SAN, part by part."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit.serving.identity import (
    Identity,
    IdentityKind,
    IdentityRefused,
    parse_identity,
    verify_trust_domain,
)

DOMAIN = "stagegate.test"


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        ("stage3", IdentityKind.STAGE3, ""),
        ("stage4", IdentityKind.STAGE4, ""),
        ("operator/olga", IdentityKind.OPERATOR, "olga"),
        ("auditor/a", IdentityKind.AUDITOR, "a"),
        ("client/team-1.batch_2", IdentityKind.CLIENT, "team-1.batch_2"),
        ("domain/notebook", IdentityKind.DOMAIN, "notebook"),
        ("client/" + "a" * 64, IdentityKind.CLIENT, "a" * 64),
    ],
)
def test_every_kind_of_caller_is_read(path: str, kind: IdentityKind, name: str) -> None:
    """Kind, name and the URI exactly as it stands in the certificate."""
    uri = f"spiffe://{DOMAIN}/{path}"
    assert parse_identity(uri, DOMAIN) == Identity(kind, name, uri)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://",
        f"spiffe://{DOMAIN}",
        f"spiffe://{DOMAIN}/",
        f"spiffe://{DOMAIN}//client/alice",
        f"SPIFFE://{DOMAIN}/client/alice",
        f"https://{DOMAIN}/client/alice",
        f"spiffe://{DOMAIN}:443/client/alice",
        f"spiffe://user@{DOMAIN}/client/alice",
        "spiffe://STAGEGATE.test/client/alice",
        "spiffe://stagegate.test./client/alice",
        "spiffe://stagegate-test/client/alice",
        "spiffe://sub.stagegate.test/client/alice",
        f"spiffe://{DOMAIN}/Client/alice",
        f"spiffe://{DOMAIN}/clients/alice",
        f"spiffe://{DOMAIN}/client",
        f"spiffe://{DOMAIN}/client/",
        f"spiffe://{DOMAIN}/client/alice/",
        f"spiffe://{DOMAIN}/client/alice?x",
        f"spiffe://{DOMAIN}/client/alice#x",
        f"spiffe://{DOMAIN}/client/%61lice",
        f"spiffe://{DOMAIN}/client/alice\n",
        f"spiffe://{DOMAIN}/client/alice\x00",
        f"spiffe://{DOMAIN}/client/..",
        f"spiffe://{DOMAIN}/client/.alice",
        f"spiffe://{DOMAIN}/client/alice-",
        f"spiffe://{DOMAIN}/client/аlice",
        f"spiffe://{DOMAIN}/client/" + "a" * 65,
        f"spiffe://{DOMAIN}/client/" + "a" * 600,
        f"spiffe://{DOMAIN}/stage4/",
        f"spiffe://{DOMAIN}/stage4/x",
        f"spiffe://{DOMAIN}/stage3/",
        f"spiffe://{DOMAIN}/stage3/x",
        f"spiffe://{DOMAIN}/stage2",
    ],
)
def test_any_other_uri_is_refused(uri: str) -> None:
    """Nothing is folded, decoded, trimmed or defaulted."""
    with pytest.raises(IdentityRefused):
        parse_identity(uri, DOMAIN)


@given(st.text(max_size=80))
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    """Whatever stands after the trust domain: an identity whose URI is the text, or a refusal."""
    uri = f"spiffe://{DOMAIN}/{text}"
    try:
        identity = parse_identity(uri, DOMAIN)
    except IdentityRefused:
        return
    assert identity.uri == uri
    assert uri == f"spiffe://{DOMAIN}/{identity.kind}" + (f"/{identity.name}" * bool(identity.name))


@pytest.mark.parametrize("domain", ["", "Upper.test", "a/b", "a:1", "-a", "a-", "a b", "ä.test"])
def test_a_trust_domain_is_a_host_name(domain: str) -> None:
    """Settings with any other trust domain would accept nobody, or somebody else."""
    with pytest.raises(ValueError, match="not a trust domain"):
        verify_trust_domain(domain)
