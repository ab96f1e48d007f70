"""Compiles JSON Schema (draft 2020-12) into the validator that gate 4 asks.

Guards two things beyond validity: an error never quotes a value, because parameters may be
secrets, and a schema never reaches outside itself. Deliberately absent: formats as assertions,
other drafts, and the retrieval of references over a network or from files.
"""

from __future__ import annotations

from collections.abc import Sequence

import jsonschema_rs

from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse
from stage3_service.domains.declaration import SchemaRefused

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCHEMA_LIMITS = JsonLimits(max_string_bytes=65_536)
_MAX_ERROR_CHARACTERS = 500
_MASK = "the value"


class JsonSchemaValidator:
    """One compiled schema; immutable, and safe to ask from any thread."""

    __slots__ = ("_compiled",)

    def __init__(self, compiled: jsonschema_rs.Draft202012Validator) -> None:
        self._compiled = compiled

    def first_error(self, value: JsonValue) -> str | None:
        """Name the first offence as `path: description`, or answer None when there is none.

        The path is in the notation of data bindings and empty for the parameters as a whole, in
        which case only the description is given. At most 500 characters, printable ones only.
        """
        if self._compiled.is_valid(value):
            return None
        offence = next(self._compiled.iter_errors(value))
        path = _format_path(offence.instance_path)
        text = f"{path}: {offence.message}" if path else offence.message
        return _printable(text)[:_MAX_ERROR_CHARACTERS]


def compile_schema(schema_json: bytes) -> JsonSchemaValidator:
    """Return the validator of a schema given as JSON.

    Raises:
        SchemaRefused: it is not strict JSON, not a valid schema, names another dialect, or refers
            to something outside itself.

    """
    try:
        schema = parse(schema_json, _SCHEMA_LIMITS).value
    except JsonRefused as refused:
        raise SchemaRefused(f"the schema is not strict JSON: {refused}") from refused
    if not isinstance(schema, dict):
        raise SchemaRefused("the schema must be an object")
    if schema.get("$schema", _DIALECT) != _DIALECT:
        raise SchemaRefused(f"the schema's dialect must be {_DIALECT}")
    try:
        compiled = jsonschema_rs.Draft202012Validator(
            schema,
            mask=_MASK,
            offline=True,
            # The backtracking engine would let a pattern and a parameter stall the gate together;
            # this one is linear in its input and refuses what it cannot do so, at the start.
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except (jsonschema_rs.ValidationError, ValueError) as error:
        where = _format_path(getattr(error, "instance_path", ()))
        reason = getattr(error, "message", str(error))
        raise SchemaRefused(f"{where}: {reason}" if where else reason) from error
    return JsonSchemaValidator(compiled)


def _format_path(segments: Sequence[str | int]) -> str:
    return ".".join(_format_segment(segment) for segment in segments)


def _format_segment(segment: str | int) -> str:
    if isinstance(segment, int) or not set(segment) & {".", "`"}:
        return str(segment)
    return "`" + segment.replace("`", "``") + "`"


def _printable(text: str) -> str:
    # A key is the client's text: it must not start a line of its own in a log or a terminal.
    return "".join(character if character.isprintable() else "�" for character in text)
