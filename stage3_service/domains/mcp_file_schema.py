"""The part of the domains file's schema that speaks of MCP servers; see `file_schema`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from servicekit.ijson import JsonValue
from stage3_service.domains.declaration import NAME
from stage3_service.domains.mcp_server import MAX_START_TIMEOUT_S, Protocol
from stage3_service.domains.parse_mcp_domain import MAX_ITEMS, MAX_PORT, MCP_ADAPTER, VARIABLE

_PATH: Final[JsonValue] = {"type": "string", "pattern": "^/"}
_PATHS: Final[JsonValue] = {"type": "array", "items": _PATH, "maxItems": MAX_ITEMS}


def mcp_tables() -> tuple[JsonValue, JsonValue]:
    """Return the schemas of a program that is started, and of a service that is reached."""
    return _stdio(), _http()


def _stdio() -> JsonValue:
    variables: dict[str, JsonValue] = {
        "type": "object",
        "propertyNames": {"pattern": f"^{VARIABLE.pattern}$"},
        "additionalProperties": {"type": "string"},
    }
    schema = _server(
        {
            "command": {
                "description": "The program's absolute path, and its arguments.",
                "type": "array",
                "prefixItems": [_PATH],
                "items": {"type": "string"},
                "minItems": 1,
                "maxItems": MAX_ITEMS,
            },
            "working_directory": _PATH,
            "environment": {"description": "All variables that it gets.", **variables},
            "environment_files": {
                "description": "Variables whose values are in files.",
                **variables,
            },
            "user": {
                "description": "Who it runs as: neither root nor Stage-3's own user.",
                "type": "string",
            },
            "readable_paths": _PATHS,
            "writable_paths": _PATHS,
            "connect_ports": {
                "description": "TCP ports that it may connect to.",
                "type": "array",
                "items": {"type": "integer", "minimum": 1, "maximum": MAX_PORT},
                "maxItems": MAX_ITEMS,
            },
            "unsafe_stdio": {
                "description": "Run it as Stage-3 itself, unconfined; recorded in the log.",
                "type": "boolean",
            },
            "show_errors": {
                "description": "Pass its error output on, which may quote parameters.",
                "type": "boolean",
            },
        },
        ("command", "working_directory"),
    )
    confined: JsonValue = {"required": ["user"], "properties": {"unsafe_stdio": {"const": False}}}
    unsafe: JsonValue = {"required": ["unsafe_stdio"], "properties": {"user": False}}
    return {**schema, "oneOf": [confined, unsafe]}


def _http() -> JsonValue:
    return _server(
        {
            "endpoint": {
                "description": "The https URL of the service.",
                "type": "string",
                "pattern": "^https?://",
            },
            "authority_file": _PATH,
            "bearer_token_file": _PATH,
        },
        ("endpoint",),
    )


def _server(properties: dict[str, JsonValue], required: Sequence[str]) -> dict[str, JsonValue]:
    return {
        "type": "object",
        "properties": {
            "adapter": {"const": MCP_ADAPTER},
            **properties,
            "protocol": {"enum": [protocol.value for protocol in Protocol]},
            "start_timeout_s": {
                "description": "Seconds until the server must have shown its tools.",
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": MAX_START_TIMEOUT_S,
            },
            "methods": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": f"^{NAME.pattern}$"},
                "additionalProperties": {"$ref": "#/$defs/tool"},
            },
        },
        "required": ["adapter", "methods", *required],
        "additionalProperties": False,
    }
