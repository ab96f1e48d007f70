"""The JSON Schema of the domains file itself, made of the bounds that the parser enforces.

Guards nothing: `parse_declarations` decides, and it knows more (reserved names, what a schema may
say, what a builtin method promises). What this schema refuses, the parser refuses; an editor shows
it while it is typed. Deliberately absent: a second list of names or numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from servicekit.ijson import JsonValue
from stage3_service.domains.declaration import (
    MAX_DURATION_S,
    MAX_RESPONSE_BYTES,
    NAME,
    Repetition,
)
from stage3_service.domains.mcp_file_schema import mcp_tables
from stage3_service.domains.parse_declarations import BUILTIN_ADAPTER, MAX_DOMAINS
from stage3_service.domains.parse_grpc_domain import GRPC_ADAPTER
from stage3_service.domains.parse_mcp_domain import MAX_TOOL_NAME, MCP_ADAPTER
from stage3_service.domains.parse_method import MAX_DESCRIPTION_CHARACTERS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REQUIRED: Final = ("description", "max_duration_s", "max_response_bytes", "repetition")
_TOOL: Final[JsonValue] = {
    "description": "The tool's own name, where it is not the method's.",
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_TOOL_NAME,
}
_NAME: Final = f"^{NAME.pattern}$"


def file_schema(builtin: Mapping[str, Sequence[str]]) -> JsonValue:
    """Return the schema; `builtin` names the methods of each domain in this process."""
    return {
        "$schema": DIALECT,
        "title": "Stagegate domains file",
        "type": "object",
        "properties": {
            "domains": {
                "description": "The domains that Stage-3 serves, by the name that plans use.",
                "type": "object",
                "minProperties": 1,
                "maxProperties": MAX_DOMAINS,
                "propertyNames": {"pattern": _NAME},
                "additionalProperties": {"$ref": "#/$defs/domain"},
            }
        },
        "required": ["domains"],
        "additionalProperties": False,
        "$defs": {
            "domain": {
                "type": "object",
                "properties": {"adapter": {"enum": [BUILTIN_ADAPTER, GRPC_ADAPTER, MCP_ADAPTER]}},
                "required": ["adapter"],
                "oneOf": [
                    *(_builtin(endpoint, methods) for endpoint, methods in builtin.items()),
                    _grpc(),
                    *mcp_tables(),
                ],
            },
            "narrowing": _table(_limits(), ()),
            "method": _table(_promises(), _REQUIRED),
            "tool": _table({**_promises(), "tool": _TOOL}, _REQUIRED),
        },
    }


def _builtin(endpoint: str, methods: Sequence[str]) -> JsonValue:
    return _table(
        {
            "adapter": {"const": BUILTIN_ADAPTER},
            "endpoint": {"const": endpoint},
            "methods": {
                "type": "object",
                "minProperties": 1,
                "properties": {name: {"$ref": "#/$defs/narrowing"} for name in methods},
                "additionalProperties": False,
            },
        },
        ("adapter", "endpoint", "methods"),
    )


def _grpc() -> JsonValue:
    return _table(
        {
            "adapter": {"const": GRPC_ADAPTER},
            "endpoint": {"description": "host:port", "type": "string"},
            "server_name": {
                "description": "The DNS name in the domain's certificate.",
                "type": "string",
            },
            "methods": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": _NAME},
                "additionalProperties": {"$ref": "#/$defs/method"},
            },
        },
        ("adapter", "endpoint", "server_name", "methods"),
    )


def _promises() -> dict[str, JsonValue]:
    return {
        **_limits(),
        "description": {
            "description": "One sentence for people.",
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_DESCRIPTION_CHARACTERS,
        },
        "repetition": {
            "description": "What happens when the same idempotency key comes twice.",
            "enum": [repetition.value for repetition in Repetition],
        },
    }


def _limits() -> dict[str, JsonValue]:
    return {
        "max_duration_s": {
            "description": "Seconds one call may take.",
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_DURATION_S,
        },
        "max_response_bytes": {
            "description": "Bytes one answer may have.",
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_RESPONSE_BYTES,
        },
        "parameters_schema": {
            "description": "JSON Schema (draft 2020-12) that parameters must satisfy.",
            "type": "object",
        },
    }


def _table(properties: dict[str, JsonValue], required: Sequence[str]) -> dict[str, JsonValue]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
