"""A token that a store returns is held to the rules that it was issued under."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from stage3_service.tokens.method_scope import MethodScope
from stage3_service.tokens.refusal import IssueRefused
from stage3_service.tokens.token import CapabilityToken
from tests.unit.stage3.grants import CLIENT, NOW, token


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"token_key": b""}, "token_key"),
        ({"token_key": bytes(31)}, "token_key"),
        ({"token_key": bytes(33)}, "token_key"),
        ({"token_id": ""}, "token_id"),
        ({"token_id": "tok_"}, "token_id"),
        ({"token_id": "tok_" + "0" * 31}, "token_id"),
        ({"token_id": "tok_" + "A" * 32}, "token_id"),
        ({"token_id": "token_" + "0" * 32}, "token_id"),
        ({"token_id": "tok_" + "0" * 32 + "\n"}, "token_id"),
        ({"user_id": "stage3"}, "user_id"),
        ({"issued_by": "stage3"}, "issued_by"),
        ({"capability": "*"}, "capability"),
        ({"domain_scope": ("stage3",)}, "domain_scope"),
        ({"domain_scope": ("text",)}, "method_scope"),
        ({"method_scope": MethodScope(())}, "method_scope"),
        ({"method_scope": MethodScope((("text", ()),))}, "method_scope.text"),
        ({"allowed_trigger_types": ()}, "allowed_trigger_types"),
        ({"expires_at": NOW - timedelta(seconds=1)}, "expires_at"),
        ({"expires_at": NOW.replace(tzinfo=None)}, "expires_at"),
        ({"client_identities": ()}, "client_identities"),
        ({"client_identities": ("*",)}, "client_identities"),
        ({"bearer": True}, "client_identities"),
        ({"plan_digest": b""}, "plan_digest"),
    ],
)
def test_an_unlawful_token_cannot_be_made(changes: dict[str, Any], field: str) -> None:
    """Whoever makes it, and from whatever it is read."""
    with pytest.raises(IssueRefused) as caught:
        replace(token(), **changes)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"token_key": "0" * 32}, "token_key"),
        ({"token_key": bytearray(32)}, "token_key"),
        ({"resource_limits": None}, "resource_limits"),
        ({"bearer": 1}, "bearer"),
        ({"bearer": None}, "bearer"),
    ],
)
def test_a_token_of_other_shapes_cannot_be_made(changes: dict[str, Any], name: str) -> None:
    """A value that merely behaves like the right one is another value."""
    with pytest.raises(TypeError, match=f"^{name} must be a"):
        replace(token(), **changes)


def test_a_token_is_for_named_callers_and_any_plan_unless_it_says_otherwise() -> None:
    """What is left out opens nothing: without callers there is no token at all."""
    granted = token()
    names = {field.name for field in fields(granted)}
    given = {name: getattr(granted, name) for name in names - {"bearer", "plan_digest"}}
    assert CapabilityToken(**given) == granted
    assert not CapabilityToken(**given).bearer
    del given["client_identities"]
    with pytest.raises(IssueRefused, match="client_identities"):
        CapabilityToken(**given)


@pytest.mark.parametrize(
    ("life", "seconds"),
    [
        (timedelta(microseconds=1), 1),
        (timedelta(seconds=1), 1),
        (timedelta(seconds=1, microseconds=1), 2),
        (timedelta(days=1), 86_400),
    ],
)
def test_a_lifetime_is_rounded_up(life: timedelta, seconds: int) -> None:
    """A fraction over a bound is over the bound."""
    assert replace(token(), expires_at=NOW + life).lifetime_s == seconds


def test_the_bounds_of_a_grant_are_inclusive() -> None:
    """64 domains, 256 methods of each, 64 clients."""
    domains = tuple(f"d{number}" for number in range(64))
    methods = tuple(f"m{number}" for number in range(256))
    granted = token(
        domain_scope=domains,
        method_scope=tuple((domain, methods) for domain in domains),
        client_identities=tuple(f"{CLIENT}{number}" for number in range(64)),
    )
    assert granted.method_scope.permits("d63", "m255")
    assert len(granted.client_identities) == 64


@pytest.mark.parametrize("trust_domain", ["a", "a" * 247, "stage-gate.example_1"])
@pytest.mark.parametrize("name", ["a", "A.b_c-9", "x" * 64])
def test_lawful_client_identities_are_accepted(trust_domain: str, name: str) -> None:
    """Up to 320 characters in all."""
    identity = f"spiffe://{trust_domain}/client/{name}"[:320]
    assert token(client_identities=(identity,)).client_identities == (identity,)


def test_a_client_identity_of_321_characters_is_refused() -> None:
    """Though each of its parts is lawful."""
    identity = f"spiffe://{'a' * 240}/client/{'x' * 64}"
    assert len(identity) == 321
    with pytest.raises(IssueRefused, match="client_identities"):
        token(client_identities=(identity,))
    assert token(client_identities=(identity[:-1],)).client_identities == (identity[:-1],)
