"""Lawful tokens, plans and facts for the tests to bend one field at a time.

Everything here is real: tokens come from `issue_token`, the catalogue is the service's own.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from stage3_service.authorization.token_gate import TokenFacts
from stage3_service.domains.declaration import (
    Catalogue,
    DomainDeclaration,
    MethodDeclaration,
    Repetition,
)
from stage3_service.plan.plan import Step
from stage3_service.tokens.issue import IssuedToken, IssuePolicy, IssueRequest, issue_token
from stage3_service.tokens.token import CapabilityToken
from stage3_service.tokens.usage import TokenUsage

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
CLIENT = "spiffe://stagegate.test/client/front"
OTHER_CLIENT = "spiffe://stagegate.test/client/other"
DIGEST = sha256(b"a plan").digest()
OTHER_DIGEST = sha256(b"another plan").digest()


def request(**changes: Any) -> IssueRequest:
    """Return what an operator could lawfully ask for, with changes."""
    lawful = IssueRequest(
        user_id="alice",
        capability="text tools",
        domain_scope=("text", "notebook"),
        method_scope=(("text", ("upper", "lower")), ("notebook", ("append_note",))),
        allowed_trigger_types=("manual", "direct_command"),
        lifetime_s=600,
        client_identities=(CLIENT,),
    )
    return replace(lawful, **changes)


def issue(
    *,
    seed: int = 1,
    issued_by: str = "opal",
    now: datetime = NOW,
    policy: IssuePolicy | None = None,
    **changes: Any,
) -> IssuedToken:
    """Issue a token; `seed` decides its credential and its reference."""
    return issue_token(
        request(**changes),
        issued_by=issued_by,
        now=now,
        credential_entropy=sha256(b"credential %d" % seed).digest(),
        id_entropy=sha256(b"reference %d" % seed).digest()[:16],
        policy=policy or IssuePolicy(),
    )


def token(*, seed: int = 1, **changes: Any) -> CapabilityToken:
    """Return a lawful token, with changes to what was asked for."""
    return issue(seed=seed, **changes).token


def facts(granted: CapabilityToken | None = None, **changes: Any) -> TokenFacts:
    """Return the facts under which a lawful token passes gate 1, with changes."""
    granted = granted or token()
    passing = TokenFacts(
        token=granted,
        presented_key=granted.token_key,
        revoked=False,
        user_id=granted.user_id,
        caller=CLIENT,
        trigger_type=granted.allowed_trigger_types[0],
        plan_digest=DIGEST,
        steps=2,
        now=NOW + timedelta(seconds=1),
        ordinary_lifetime_s=IssuePolicy().max_lifetime_s,
    )
    return replace(passing, **changes)


def charged(usage: TokenUsage, reserved_bytes: int) -> TokenUsage:
    """Return the usage once a step has started, as its `TokenCharged` adds to the token's row."""
    return replace(
        usage,
        invocations_charged=usage.invocations_charged + 1,
        response_bytes_charged=usage.response_bytes_charged + reserved_bytes,
    )


def step(domain: str = "text", method: str = "upper", *, index: int = 0) -> Step:
    """Return a step without parameters."""
    return Step(index, domain, method, {}, b"{}")


def catalogue(**methods: tuple[str, ...]) -> Catalogue:
    """Return a catalogue of domains by keyword; without any, the one the lawful token fits."""
    declared = methods or {"text": ("upper", "lower"), "notebook": ("append_note",)}
    return Catalogue(
        DomainDeclaration(
            name=name,
            adapter="builtin",
            endpoint=None,
            methods={
                method: MethodDeclaration(
                    name=method,
                    description="declared for a test",
                    max_duration_s=1.0,
                    max_response_bytes=1_000,
                    repetition=Repetition.IDEMPOTENT,
                )
                for method in names
            },
        )
        for name, names in declared.items()
    )
