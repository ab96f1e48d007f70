"""Reads one message of a server, and says whose answer it was meant to be if it cannot be read.

Guards the library, which would accept duplicate keys and numbers that nobody can hold, and the log,
which must tell an answer that is none from no answer. Deliberately absent: repair. What cannot be
read is attributed by its first or last bytes, where both generations write the identifier.
"""

from __future__ import annotations

import re
from typing import Final

import mcp_types
from pydantic import ValidationError

from servicekit.ijson import JsonLimits, JsonRefused, parse

RequestId = mcp_types.RequestId

KEPT_BYTES: Final = 256
"""Of a line that is too long, as much as is kept of both ends to find its identifier in."""

_MAX_DEPTH: Final = 64
_MAX_VALUES: Final = 400_000
_MAX_KEY_BYTES: Final = 1024

# An identifier is the message's own right after its opening brace or right before its closing one.
_AT_THE_START: Final = re.compile(
    rb'\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d{1,15})\s*,'
)
_AT_THE_END: Final = re.compile(
    rb',\s*"id"\s*:\s*(\d{1,15})\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*\Z'
)


class MessageRefused(ValueError):
    """A message cannot be read; `request_id` is the call it answers, where that can be told."""

    def __init__(self, description: str, request_id: RequestId | None) -> None:
        """Keep both; the description quotes nothing."""
        super().__init__(description)
        self.description = description
        self.request_id = request_id


def read_message(data: bytes, max_bytes: int) -> mcp_types.JSONRPCMessage:
    """Return one JSON-RPC message.

    Raises:
        MessageRefused: it is not strict JSON (RFC 7493), or no message.

    """
    limits = JsonLimits(max_bytes, _MAX_DEPTH, _MAX_VALUES, _MAX_KEY_BYTES, max_bytes)
    try:
        value = parse(data, limits).value
    except JsonRefused as refused:
        description = f"the answer is not strict JSON: {refused.description}"
        raise MessageRefused(description, attributed(data)) from None
    try:
        return mcp_types.jsonrpc_message_adapter.validate_python(value, by_name=False)
    except ValidationError:
        found = value.get("id") if isinstance(value, dict) and "method" not in value else None
        request_id = found if isinstance(found, int) and not isinstance(found, bool) else None
        raise MessageRefused("the answer is no JSON-RPC message", request_id) from None


def attributed(data: bytes) -> RequestId | None:
    """Return the identifier of the request that a message answers, or None if that is not plain.

    `data` is the message, or as much of it as was kept of both its ends.
    """
    found = _AT_THE_START.match(data[:KEPT_BYTES]) or _AT_THE_END.search(data[-KEPT_BYTES:])
    return None if found is None else int(found.group(1))
