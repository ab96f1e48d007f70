"""Issuing turns an operator's words into a grant, or refuses all of them."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage3_service.tokens.credential import credential_key, encode_credential, keys_match
from stage3_service.tokens.issue import IssuePolicy, issue_token
from stage3_service.tokens.refusal import IssueRefused
from stage3_service.tokens.resource_limits import ResourceLimits
from tests.unit.stage3.grants import DIGEST, NOW, issue, request


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_a_reference_takes_16_bytes(length: int) -> None:
    """128 bits, from a source that is not the credential's."""
    with pytest.raises(ValueError, match="16 bytes"):
        issue_token(
            request(),
            issued_by="opal",
            now=NOW,
            credential_entropy=bytes(32),
            id_entropy=bytes(length),
            policy=IssuePolicy(),
        )


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_credentials_are_their_entropy(one: bytes, other: bytes) -> None:
    """All 256 bits are in it, so that no two are alike that should not be."""
    credential = encode_credential(one)
    assert urlsafe_b64decode(credential.removeprefix("token_") + "=") == one
    keys = credential_key(credential), credential_key(encode_credential(other))
    assert keys_match(*keys) == (one == other)


def test_without_limits_a_token_has_none_of_its_own() -> None:
    """What is not asked for is not invented."""
    assert issue().token.resource_limits == ResourceLimits()


def test_the_refusal_says_where_and_why() -> None:
    """In a form that a program can read and a person too."""
    with pytest.raises(IssueRefused) as caught:
        issue(lifetime_s=0)
    assert caught.value.field == "lifetime_seconds"
    assert str(caught.value) == (
        "lifetime_seconds: must be an integer from 1 to 1800; "
        "bind it to a plan and its number of steps for longer"
    )


def test_a_bound_token_is_not_advised_to_be_bound() -> None:
    """There is nothing longer to have."""
    with pytest.raises(IssueRefused) as caught:
        issue(lifetime_s=86_401, plan_digest=DIGEST, max_invocations=1)
    assert caught.value.description == "must be an integer from 1 to 86400"


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": "*"},
        {"max_frequency": "often"},
        {"max_invocations": 0},
        {"method_scope": (("text", ("upper",)), ("text", ("lower",)))},
        {"client_identities": ("*",)},
        {"plan_digest": b""},
    ],
)
def test_a_refusal_never_holds_the_credential(changes: dict[str, Any]) -> None:
    """The entropy has been handed in by then; it goes no further."""
    credential = issue().credential
    with pytest.raises(IssueRefused) as caught:
        issue(**changes)
    assert credential not in str(caught.value)
    assert credential not in repr(caught.value)


def test_lists_in_a_request_become_tuples() -> None:
    """Whoever keeps the list cannot change the token."""
    domains: Any = ["text"]
    token = issue(domain_scope=domains, method_scope=(("text", ("upper",)),)).token
    domains.append("notebook")
    assert token.domain_scope == ("text",)
