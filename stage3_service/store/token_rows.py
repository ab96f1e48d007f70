"""Rows of `tokens`, read and written.

A token never changes, so that it is decoded once and kept; what has become of it is read each time.
"""

from __future__ import annotations

import json
from threading import Lock
from typing import TYPE_CHECKING, Any

from stage3_service.audit.records import TokenRecord
from stage3_service.store.instants import from_us, to_us
from stage3_service.tokens.frequency import parse_frequency
from stage3_service.tokens.method_scope import MethodScope
from stage3_service.tokens.resource_limits import ResourceLimits
from stage3_service.tokens.token import CapabilityToken
from stage3_service.tokens.trigger_type import TriggerType
from stage3_service.tokens.usage import TokenUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servicekit.store.ledger import Turn

TOKEN_COLUMNS = (
    "t.token_id, t.token_key, t.document, t.invocations, t.response_bytes, t.first_used_us, "
    "t.expiry_recorded, "
    "(SELECT r.revoked_us FROM revocations r WHERE r.token_key = t.token_key)"
)
KEPT_TOKENS = 4096
"""Decoded tokens kept in memory, a few KiB each; beyond it the oldest is decoded again."""


class TokenRows:
    """Decode and insert tokens. Safe for any thread: a lost race decodes a token twice."""

    def __init__(self) -> None:
        self._kept: dict[str, CapabilityToken] = {}
        self._keeping = Lock()

    def decode(self, row: Sequence[Any]) -> TokenRecord:
        """Return the token in a row of TOKEN_COLUMNS."""
        token_id, token_key, document, invocations, response_bytes, first_us, expired, revoked = row
        token = self._kept.get(token_id)
        if token is None:
            token = _decode_document(token_id, token_key, document)
            with self._keeping:
                if len(self._kept) >= KEPT_TOKENS:
                    del self._kept[next(iter(self._kept))]
                self._kept[token_id] = token
        return TokenRecord(
            token=token,
            usage=TokenUsage(
                invocations, response_bytes, None if first_us is None else from_us(first_us)
            ),
            revoked_at=None if revoked is None else from_us(revoked),
            expiry_recorded=bool(expired),
        )

    def insert(self, turn: Turn, token: CapabilityToken) -> None:
        """Add a token."""
        turn.run(
            "INSERT INTO tokens (token_id, token_key, document, issued_us) VALUES (?, ?, ?, ?)",
            (token.token_id, token.token_key, _encode_document(token), to_us(token.issued_at)),
        )


def _encode_document(token: CapabilityToken) -> bytes:
    limits = token.resource_limits
    frequency = limits.max_frequency
    return json.dumps(
        {
            "allowed_trigger_types": [str(trigger) for trigger in token.allowed_trigger_types],
            "bearer": token.bearer,
            "capability": token.capability,
            "client_identities": list(token.client_identities),
            "domain_scope": list(token.domain_scope),
            "expires_us": to_us(token.expires_at),
            "issued_by": token.issued_by,
            "issued_us": to_us(token.issued_at),
            "max_frequency": None if frequency is None else str(frequency),
            "max_invocations": limits.max_invocations,
            "max_response_bytes": limits.max_response_bytes,
            "max_total_response_bytes": limits.max_total_response_bytes,
            "method_scope": [
                [domain, list(methods)] for domain, methods in token.method_scope.items()
            ],
            "plan_digest": None if token.plan_digest is None else token.plan_digest.hex(),
            "user_id": token.user_id,
        },
        sort_keys=True,
    ).encode()


def _decode_document(token_id: str, token_key: bytes, document: bytes) -> CapabilityToken:
    """Return the token, which checks its own rules again: a row that breaks one is no token."""
    held = json.loads(document)
    frequency, digest = held["max_frequency"], held["plan_digest"]
    return CapabilityToken(
        token_key=token_key,
        token_id=token_id,
        user_id=held["user_id"],
        capability=held["capability"],
        domain_scope=tuple(held["domain_scope"]),
        method_scope=MethodScope(
            tuple((domain, tuple(methods)) for domain, methods in held["method_scope"])
        ),
        resource_limits=ResourceLimits(
            max_invocations=held["max_invocations"],
            max_frequency=None if frequency is None else parse_frequency(frequency),
            max_response_bytes=held["max_response_bytes"],
            max_total_response_bytes=held["max_total_response_bytes"],
        ),
        allowed_trigger_types=tuple(TriggerType(name) for name in held["allowed_trigger_types"]),
        issued_by=held["issued_by"],
        issued_at=from_us(held["issued_us"]),
        expires_at=from_us(held["expires_us"]),
        client_identities=tuple(held["client_identities"]),
        bearer=held["bearer"],
        plan_digest=None if digest is None else bytes.fromhex(digest),
    )
