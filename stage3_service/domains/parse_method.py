"""Turns one method's table of a domain elsewhere into a declaration.

Guards that every limit is written: there is no code here to take one from. Deliberately absent:
what an adapter adds to a method, and any comparison with what the domain says of itself.
"""

from __future__ import annotations

from collections.abc import Collection

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonValue
from stage3_service.domains.declaration import (
    MAX_DURATION_S,
    MAX_RESPONSE_BYTES,
    NAME,
    MethodDeclaration,
    ParametersValidator,
    Repetition,
    SchemaRefused,
)
from stage3_service.domains.declarations_reading import Reading

MAX_DESCRIPTION_CHARACTERS = 500
"""One sentence for people, shown in tables."""

_REQUIRED = ("description", "max_duration_s", "max_response_bytes", "repetition")
_OPTIONAL = ("parameters_schema",)


def parse_methods(
    reading: Reading, path: str, raw: JsonValue, further_keys: Collection[str] = ()
) -> dict[str, MethodDeclaration]:
    """Return the methods that a table declares, those with problems left out and noted.

    `further_keys` are known to the adapter, which reads them itself.
    """
    if not isinstance(raw, dict) or not raw:
        reading.refuse(path, "must be a table that names at least one method")
        return {}
    keys = (*_REQUIRED, *_OPTIONAL, *further_keys)
    found = {
        name: _method(reading, f"{path}.{name}", name, reading.table(f"{path}.{name}", table, keys))
        for name, table in raw.items()
    }
    return {name: method for name, method in found.items() if method is not None}


def _method(
    reading: Reading, path: str, name: str, table: dict[str, JsonValue]
) -> MethodDeclaration | None:
    problems_before = len(reading.problems)
    if NAME.fullmatch(name) is None:
        reading.refuse(path, "a method name has the form [a-z][a-z0-9_]{0,63}")
    missing = [key for key in _REQUIRED if key not in table]
    if missing:
        reading.refuse(path, f"lacks {', '.join(missing)}")
        return None
    description = _description(reading, f"{path}.description", table["description"])
    duration_s = _duration_s(reading, f"{path}.max_duration_s", table["max_duration_s"])
    size = _bytes(reading, f"{path}.max_response_bytes", table["max_response_bytes"])
    repetition = _repetition(reading, f"{path}.repetition", table["repetition"])
    schema_json, validator = _schema(reading, f"{path}.parameters_schema", table)
    if len(reading.problems) > problems_before:
        return None
    return MethodDeclaration(
        name, description, duration_s, size, repetition, schema_json, validator
    )


# Each of the following answers something after a refusal too: the next key is looked at as well.


def _description(reading: Reading, path: str, raw: JsonValue) -> str:
    if isinstance(raw, str) and 0 < len(raw) <= MAX_DESCRIPTION_CHARACTERS and raw.isprintable():
        return raw
    reading.refuse(path, f"must be one line of 1 to {MAX_DESCRIPTION_CHARACTERS} characters")
    return ""


def _duration_s(reading: Reading, path: str, raw: JsonValue) -> float:
    # A bool is an int to Python and a mistake to everybody else.
    if isinstance(raw, int | float) and not isinstance(raw, bool) and 0 < raw <= MAX_DURATION_S:
        return float(raw)
    reading.refuse(path, f"must be a number of seconds, over 0 and at most {MAX_DURATION_S:g}")
    return MAX_DURATION_S


def _bytes(reading: Reading, path: str, raw: JsonValue) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 < raw <= MAX_RESPONSE_BYTES:
        return raw
    reading.refuse(path, f"must be a whole number of bytes, 1 to {MAX_RESPONSE_BYTES}")
    return MAX_RESPONSE_BYTES


def _repetition(reading: Reading, path: str, raw: JsonValue) -> Repetition:
    for repetition in Repetition:
        if raw == repetition.value:
            return repetition
    reading.refuse(path, f"must be one of: {', '.join(Repetition)}")
    return Repetition.NEITHER


def _schema(
    reading: Reading, path: str, table: dict[str, JsonValue]
) -> tuple[bytes | None, ParametersValidator | None]:
    if "parameters_schema" not in table:
        return None, None
    raw = table["parameters_schema"]
    if not isinstance(raw, dict):
        reading.refuse(path, "must be a table: a JSON Schema")
        return None, None
    try:
        schema_json = canonicalize(raw)
        return schema_json, reading.validators(schema_json)
    except SchemaRefused as refused:
        reading.refuse_schema(path, refused)
        return None, None
    except ValueError as refused:  # a number that JSON cannot carry exactly
        reading.refuse(path, str(refused))
        return None, None
