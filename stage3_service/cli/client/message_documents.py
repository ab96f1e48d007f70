"""Messages as the documents that `--json` prints.

Instants are RFC 3339 in UTC, bytes are lower-case hexadecimal, what is not set is null.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeAlias

from stagegate.stage3.v1 import token_service_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from stagegate.stage3.v1 import audit_service_pb2, operator_service_pb2

Document: TypeAlias = dict[str, object]

_LIMITS = (
    "max_invocations",
    "max_frequency",
    "max_response_bytes",
    "max_total_response_bytes",
)


def token_document(token: token_service_pb2.Token) -> Document:
    """Return a token as operators see it: never its credential."""
    state = token_service_pb2.TokenState.Name(token.state)
    limits = token.resource_limits
    return {
        "token_id": token.token_id,
        "state": state.removeprefix("TOKEN_STATE_").lower(),
        "user_id": token.user_id,
        "capability": token.capability,
        "domain_scope": list(token.domain_scope),
        "method_scope": {scope.domain: list(scope.methods) for scope in token.method_scope},
        "resource_limits": {
            name: getattr(limits, name) if limits.HasField(name) else None  # type: ignore[arg-type]
            for name in _LIMITS
        },
        "allowed_trigger_types": list(token.allowed_trigger_types),
        "client_identities": list(token.client_identities),
        "bearer": token.bearer,
        "plan_digest": token.plan_digest.hex() or None,
        "issued_by": token.issued_by,
        "issue_time": instant_text(token, "issue_time"),
        "expire_time": instant_text(token, "expire_time"),
        "revoke_time": instant_text(token, "revoke_time"),
        "first_use_time": instant_text(token, "first_use_time"),
        "invocations_charged": token.invocations_charged,
        "response_bytes_charged": token.response_bytes_charged,
    }


def event_document(event: audit_service_pb2.AuditEvent) -> Document:
    """Return an event of the log: what its leaf says."""
    document: Document = json.loads(event.event_json)
    return document


def domain_document(domain: operator_service_pb2.Domain) -> Document:
    """Return a declared domain and its methods."""
    return {
        "name": domain.name,
        "adapter": domain.adapter,
        "offered": domain.offered,
        "accepted_digest": domain.accepted_digest or None,
        "shown_digest": domain.shown_digest or None,
        "methods": [
            {
                "name": method.name,
                "description": method.description,
                "max_duration_ms": method.max_duration_ms,
                "max_response_bytes": method.max_response_bytes,
                "repetition": method.repetition,
                "parameters_schema": (
                    json.loads(method.parameters_schema_json)
                    if method.parameters_schema_json
                    else None
                ),
                "example": (
                    {
                        "parameters": json.loads(method.example_parameters_json),
                        "output": json.loads(method.example_output_json),
                    }
                    if method.example_parameters_json
                    else None
                ),
            }
            for method in domain.methods
        ],
    }


def instant_text(message: Message, field: str) -> str | None:
    """Return a timestamp field as RFC 3339 text, or None when it is not set."""
    if not message.HasField(field):
        return None
    text: str = getattr(message, field).ToJsonString()
    return text
