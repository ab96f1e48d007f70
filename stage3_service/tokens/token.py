"""The capability token: who may have what done, where, how often, why and until when.

It guards the grant itself: a value that cannot be changed after it was made, and cannot be made
against the rules, whoever makes it. Deliberately absent: the credential (only its SHA-256 is here),
usage, revocation, and every way to widen or prolong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from stage3_service.tokens.fields import (
    check_capability,
    check_client_identities,
    check_domain_scope,
    check_identity,
    check_methods,
    check_token_id,
)
from stage3_service.tokens.method_scope import MethodScope
from stage3_service.tokens.refusal import IssueRefused
from stage3_service.tokens.resource_limits import ResourceLimits
from stage3_service.tokens.trigger_type import TriggerType, parse_trigger_types

_SHA256_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityToken:
    """Hold one grant. Immutable through and through; equal and hashed by all of its fields.

    `token_key` is the SHA-256 of the credential and never printed. `client_identities` is empty
    exactly when `bearer` is set. `issued_at` and `expires_at` are in UTC; `expires_at` is the first
    instant at which the token is no longer accepted. `plan_digest`, if set, names the only plan it
    executes.

    Raises:
        IssueRefused: a field breaks its rule (`fields.py`), the methods name a domain outside
            `domain_scope`, or the token would expire before it is issued.
        TypeError: a field holds something mutable where a tuple belongs.
    """

    token_key: bytes = field(repr=False)
    token_id: str
    user_id: str
    capability: str
    domain_scope: tuple[str, ...]
    method_scope: MethodScope
    resource_limits: ResourceLimits
    allowed_trigger_types: tuple[TriggerType, ...]
    issued_by: str
    issued_at: datetime
    expires_at: datetime
    client_identities: tuple[str, ...] = ()
    bearer: bool = False
    plan_digest: bytes | None = None

    def __post_init__(self) -> None:
        """Let no unlawful token exist, not even for a moment, not even out of the store."""
        self._check_shape()
        check_token_id(self.token_id)
        check_identity("user_id", self.user_id)
        check_identity("issued_by", self.issued_by)
        check_capability(self.capability)
        self._check_scope()
        parse_trigger_types(self.allowed_trigger_types)
        self._check_life()
        self._check_callers()
        if self.plan_digest is not None and len(self.plan_digest) != _SHA256_BYTES:
            raise IssueRefused("plan_digest", "must be 32 bytes")

    @property
    def lifetime_s(self) -> int:
        """Return the length of the token's life in seconds, rounded up."""
        return -((self.issued_at - self.expires_at) // timedelta(seconds=1))

    def _check_shape(self) -> None:
        # A list would make the token's meaning the property of whoever else holds the list.
        shapes: tuple[tuple[str, type], ...] = (
            ("token_key", bytes),
            ("domain_scope", tuple),
            ("method_scope", MethodScope),
            ("resource_limits", ResourceLimits),
            ("allowed_trigger_types", tuple),
            ("client_identities", tuple),
            ("bearer", bool),
        )
        for name, shape in shapes:
            if type(getattr(self, name)) is not shape:
                raise TypeError(f"{name} must be a {shape.__name__}")
        if self.plan_digest is not None and type(self.plan_digest) is not bytes:
            raise TypeError("plan_digest must be bytes")
        if len(self.token_key) != _SHA256_BYTES:
            raise IssueRefused("token_key", "must be 32 bytes")

    def _check_scope(self) -> None:
        check_domain_scope(self.domain_scope)
        if not self.method_scope:
            raise IssueRefused("method_scope", "must not be empty: nothing is granted by silence")
        for domain, methods in self.method_scope.items():
            if domain not in self.domain_scope:
                raise IssueRefused("method_scope", "names a domain that is not in domain_scope")
            check_methods(domain, methods)

    def _check_life(self) -> None:
        for name, instant in (("issued_at", self.issued_at), ("expires_at", self.expires_at)):
            if instant.utcoffset() != timedelta(0):
                raise IssueRefused(name, "must be an aware instant in UTC")
        if self.expires_at <= self.issued_at:
            raise IssueRefused("expires_at", "must be after issued_at")

    def _check_callers(self) -> None:
        check_client_identities(self.client_identities, trust_domain=None)
        if not self.client_identities and not self.bearer:
            raise IssueRefused("client_identities", "must name who may use it, or set bearer")
        if self.client_identities and self.bearer:
            raise IssueRefused("client_identities", "must be empty for a bearer token")
