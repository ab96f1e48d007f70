"""Catalogues as tests sign them: any document, any head, by a key that is the tests' own."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from servicekit.canonical_json import canonicalize
from servicekit.store.log_key import LogKey
from servicekit.tlog.checkpoint import Checkpoint, encode_checkpoint
from servicekit.tlog.signed_document import sign_document
from servicekit.tlog.tree import EMPTY_ROOT

ORIGIN = "dev.test/stage3"
KEY = LogKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
FOREIGN_KEY = LogKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
FORMAT = "stagegate/catalogue/v1"
EXPORTED_AT = "2026-03-01T12:00:00.000000Z"
TEXT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string", "maxLength": 65_536}},
    "required": ["text"],
    "additionalProperties": False,
}


def head(
    *, form: str = FORMAT, origin: str = ORIGIN, size: int = 7, exported_at: str = EXPORTED_AT
) -> str:
    """Return the lines above the digest."""
    checkpoint = encode_checkpoint(Checkpoint(origin, size, EMPTY_ROOT))
    return f"{form}\n{checkpoint}{exported_at}\n"


def method(name: str = "upper", **changes: Any) -> dict[str, Any]:
    """Return a method as a catalogue has it."""
    return {
        "name": name,
        "description": "Turns a text into upper case.",
        "max_duration_ms": 1000,
        "max_response_bytes": 262_144,
        "repetition": "idempotent",
        "parameters_schema": TEXT_SCHEMA,
        **changes,
    }


def domain(name: str = "text", *methods: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a domain as a catalogue has it."""
    return {
        "name": name,
        "adapter": "builtin",
        "offered": True,
        "accepted_digest": None,
        "shown_digest": None,
        "methods": list(methods) or [method()],
        **changes,
    }


def signed_catalogue(*domains: dict[str, Any], key: LogKey = KEY, **heading: Any) -> bytes:
    """Return a signed catalogue of these domains, or of `text` alone."""
    document = canonicalize({"domains": list(domains) or [domain()]})
    return sign_document(head(**heading), document, key)
