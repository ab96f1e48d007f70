"""Turns the raw content of a declarations file into the catalogue, or into all of its problems.

Guards the start: a service whose declarations are not understood to the last key does not serve.
Of a builtin domain a file chooses which methods are offered and may narrow them (shorter, smaller,
stricter); it can never widen what the code of a domain promises. Of a domain elsewhere it says all
that there is to know (`parse_grpc_domain`, `parse_mcp_domain`). Deliberately absent: defaults. A
domain or a method that the file does not name does not exist. Reading the file is `adapters`'
affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonLimits, JsonValue, parse
from stage3_service.domains.declaration import (
    NAME,
    Catalogue,
    DomainDeclaration,
    MethodDeclaration,
    ParametersValidator,
    SchemaRefused,
)
from stage3_service.domains.declarations_reading import (
    DeclarationsRefused,
    Reading,
    nearest_or_all,
)
from stage3_service.domains.narrowing import unknown_properties
from stage3_service.domains.parse_grpc_domain import GRPC_ADAPTER, parse_grpc_domain
from stage3_service.domains.parse_mcp_domain import MCP_ADAPTER, parse_mcp_domain
from stage3_service.tokens.reserved_names import is_reserved_domain

BUILTIN_ADAPTER = "builtin"

_ADAPTERS = (BUILTIN_ADAPTER, GRPC_ADAPTER, MCP_ADAPTER)
_DOMAIN_KEYS = ("adapter", "endpoint", "methods")
_METHOD_KEYS = ("max_duration_s", "max_response_bytes", "parameters_schema")

MAX_DOMAINS = 256
"""More would be a generated file gone wrong; the catalogue is held in memory for ever."""

_DECLARED_ID = "urn:stagegate:declared"
"""Names the file's schema where it stands beside the method's own."""

_SCHEMA_LIMITS = JsonLimits()
"""A schema is at most as large and as deep as the parameters it describes."""


def parse_declarations(
    raw: JsonValue,
    *,
    validators: Callable[[bytes], ParametersValidator],
    builtin: Mapping[str, Mapping[str, MethodDeclaration]],
) -> Catalogue:
    """Return the catalogue that `raw` declares.

    `validators` compiles the JSON bytes of a schema and raises `SchemaRefused` when it cannot;
    `builtin` holds the methods that each in-process domain has.

    Raises:
        DeclarationsRefused: with every problem of the file, not only the first.

    """
    reading = Reading(validators, builtin, [])
    domains = _domains(reading, raw)
    if reading.problems:
        raise DeclarationsRefused(reading.problems)
    return Catalogue(domains)


def _domains(reading: Reading, raw: JsonValue) -> list[DomainDeclaration]:
    if not isinstance(raw, dict):
        reading.refuse("document", "must be a table with the one key 'domains'")
        return []
    for key in raw:
        if key != "domains":
            reading.refuse(key, f"unknown key{nearest_or_all(key, ('domains',))}")
    tables = raw.get("domains")
    if not isinstance(tables, dict) or not tables:
        reading.refuse("domains", "must be a table that declares at least one domain")
        return []
    if len(tables) > MAX_DOMAINS:
        reading.refuse("domains", f"declares {len(tables)} domains, {MAX_DOMAINS} are allowed")
        return []
    declared = [_domain(reading, name, table) for name, table in tables.items()]
    return [domain for domain in declared if domain is not None]


def _domain(reading: Reading, name: str, raw: JsonValue) -> DomainDeclaration | None:
    path = f"domains.{name}"
    if NAME.fullmatch(name) is None:
        reading.refuse(path, "a domain name has the form [a-z][a-z0-9_]{0,63}")
        return None
    if is_reserved_domain(name):
        reading.refuse(path, "this name is reserved: no domain may pass for a part of the service")
        return None
    adapter = raw.get("adapter") if isinstance(raw, dict) else None
    if adapter == GRPC_ADAPTER:
        return parse_grpc_domain(reading, path, name, raw)
    if adapter == MCP_ADAPTER:
        return parse_mcp_domain(reading, path, name, raw)
    if adapter is None or adapter == BUILTIN_ADAPTER:
        return _builtin_domain(reading, path, name, raw)
    reading.refuse(f"{path}.adapter", f"must be one of: {', '.join(_ADAPTERS)}")
    return None


def _builtin_domain(
    reading: Reading, path: str, name: str, raw: JsonValue
) -> DomainDeclaration | None:
    table = reading.table(path, raw, _DOMAIN_KEYS)
    missing = [key for key in _DOMAIN_KEYS if key not in table]
    if missing:
        reading.refuse(path, f"lacks {', '.join(missing)}")
        return None
    endpoint = table["endpoint"]
    offered = reading.builtin.get(endpoint) if isinstance(endpoint, str) else None
    if offered is None:
        known = ", ".join(sorted(reading.builtin))
        reading.refuse(f"{path}.endpoint", f"must name a builtin domain: {known}")
        return None
    methods = _methods(reading, f"{path}.methods", table["methods"], offered)
    return DomainDeclaration(name, BUILTIN_ADAPTER, str(endpoint), methods) if methods else None


def _methods(
    reading: Reading,
    path: str,
    raw: JsonValue,
    offered: Mapping[str, MethodDeclaration],
) -> dict[str, MethodDeclaration]:
    if not isinstance(raw, dict) or not raw:
        reading.refuse(path, "must be a table that names at least one method")
        return {}
    methods: dict[str, MethodDeclaration] = {}
    for name, table in raw.items():
        builtin = offered.get(name)
        if builtin is None:
            reading.refuse(f"{path}.{name}", f"no such method{nearest_or_all(name, offered)}")
        else:
            methods[name] = _narrowed(reading, f"{path}.{name}", table, builtin)
    return methods


def _narrowed(
    reading: Reading, path: str, raw: JsonValue, builtin: MethodDeclaration
) -> MethodDeclaration:
    table = reading.table(path, raw, _METHOD_KEYS)
    method = builtin
    if "max_duration_s" in table:
        duration = table["max_duration_s"]
        # A bool is an int to Python and a mistake to everybody else.
        if isinstance(duration, bool) or not isinstance(duration, int | float):
            reading.refuse(f"{path}.max_duration_s", "must be a number of seconds")
        elif not 0 < duration <= builtin.max_duration_s:
            limit = f"over 0 and at most {builtin.max_duration_s:g} seconds"
            reading.refuse(f"{path}.max_duration_s", f"must be {limit}: a file may only narrow")
        else:
            method = replace(method, max_duration_s=float(duration))
    if "max_response_bytes" in table:
        size = table["max_response_bytes"]
        if isinstance(size, bool) or not isinstance(size, int):
            reading.refuse(f"{path}.max_response_bytes", "must be a whole number of bytes")
        elif not 0 < size <= builtin.max_response_bytes:
            limit = f"1 to {builtin.max_response_bytes}"
            reading.refuse(f"{path}.max_response_bytes", f"must be {limit}: a file may only narrow")
        else:
            method = replace(method, max_response_bytes=size)
    if "parameters_schema" in table:
        method = _stricter(reading, f"{path}.parameters_schema", table["parameters_schema"], method)
    return method


def _stricter(
    reading: Reading, path: str, raw: JsonValue, method: MethodDeclaration
) -> MethodDeclaration:
    """Return the method with both schemas in force: the file's never replaces the code's own."""
    if not isinstance(raw, dict):
        reading.refuse(path, "must be a table: a JSON Schema")
        return method
    try:
        schema_json = canonicalize(raw)
        validator = reading.validators(schema_json)
        if method.parameters_schema_json is not None:
            own = parse(method.parameters_schema_json, _SCHEMA_LIMITS).value
            faults = unknown_properties(raw, own)
            if faults:
                raise SchemaRefused(*faults)
            # With an identifier its references keep meaning places in itself.
            schema_json = canonicalize({"allOf": [own, {"$id": _DECLARED_ID, **raw}]})
            validator = reading.validators(schema_json)
    except SchemaRefused as refused:
        reading.refuse_schema(path, refused)
        return method
    except ValueError as refused:  # a number that JSON cannot carry exactly
        reading.refuse(path, str(refused))
        return method
    return replace(method, parameters_schema_json=schema_json, validator=validator)
