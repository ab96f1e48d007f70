"""A submission is held to its rule field by field, in one order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from servicekit.serving.identity import parse_identity, verify_trust_domain
from stage3_service.execution.submission import Submission, is_client, is_identifier
from stage3_service.plan.parse import RawPlan
from tests.unit.stage3 import grants

SUBMISSION = Submission(
    RawPlan("alice", "token_x", "manual", (), None),
    bytes(32),
    "plan-1",
    "request-1",
    grants.CLIENT,
    grants.DIGEST,
)


def test_a_lawful_submission_breaks_no_rule() -> None:
    """What Stage-4 sends."""
    assert SUBMISSION.first_violation() is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"plan_id": "", "request_id": "", "caller": "", "claimed_digest": b""}, "plan_id"),
        ({"request_id": "a/b", "caller": "", "claimed_digest": b""}, "request_id"),
        ({"caller": "spiffe://stagegate.test/stage4", "claimed_digest": b""}, "caller"),
        ({"claimed_digest": bytes(31)}, "plan_digest"),
    ],
)
def test_the_first_field_at_fault_is_named(changes: dict[str, Any], field: str) -> None:
    """Later faults wait for their turn."""
    violation = replace(SUBMISSION, **changes).first_violation()

    assert violation is not None
    assert violation[0] == field


@pytest.mark.parametrize(
    ("text", "lawful"),
    [
        ("a", True),
        ("A-z.0_9", True),
        ("x" * 128, True),
        ("", False),
        ("x" * 129, False),
        ("a/0", False),
        ("a\n", False),
        ("ä", False),
        ("٣", False),
    ],
)
def test_an_identifier_is_ascii_and_short(text: str, lawful: bool) -> None:
    """It ends in events, file names and idempotency keys: `plan_id/step` splits at the slash."""
    assert is_identifier(text) is lawful


@pytest.mark.parametrize("trust_domain", ["a", "stagegate.test", "x" * 253])
def test_every_client_that_a_certificate_can_name_is_one_here(trust_domain: str) -> None:
    """The door of Stage-4 and this one agree: whoever gets in there is not malformed here."""
    for name in ("a", "ops-1.x_y", "x" * 64):
        uri = f"spiffe://{verify_trust_domain(trust_domain)}/client/{name}"
        assert parse_identity(uri, trust_domain).name == name
        assert is_client(uri)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cli",
        "spiffe://stagegate.test/client/",
        "spiffe://stagegate.test/operator/oona",
        "spiffe://stagegate.test/client/a/b",
        "spiffe://STAGEGATE.test/client/a",
        "spiffe:///client/a",
        "spiffe://stagegate.test/client/a\n",
    ],
)
def test_nothing_else_is_a_client(text: str) -> None:
    """An operator, a service or a sentence submits no plan."""
    assert not is_client(text)
