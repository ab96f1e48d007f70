"""Compiles JSON Schema (draft 2020-12) into the validator that gate 4 asks.

Guards three things beyond validity: an error never quotes a value, because parameters may be
secrets; a schema never reaches outside itself; and no keyword is ignored, because a limit that is
misspelt must not pass for one. Deliberately absent: formats as assertions (a schema that writes one
is refused), other drafts, and the retrieval of references over a network or from files.
"""

from __future__ import annotations

import jsonschema_rs

from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse
from stage3_service.domains.declaration import SchemaFault, SchemaRefused
from stage3_service.domains.schema_outline import Location, SchemaOutline

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
        location = tuple(str(segment) for segment in offence.instance_path)
        return _printable(str(SchemaFault(location, offence.message)))[:_MAX_ERROR_CHARACTERS]


def compile_schema(schema_json: bytes) -> JsonSchemaValidator:
    """Return the validator of a schema given as JSON.

    Raises:
        SchemaRefused: it is not strict JSON, not a valid schema, names another dialect, has a
            keyword that the dialect does not know or that would enforce nothing, or refers to
            something outside itself.

    """
    try:
        schema = parse(schema_json, _SCHEMA_LIMITS).value
    except JsonRefused as refused:
        raise _refused(f"the schema is not strict JSON: {refused}") from refused
    if not isinstance(schema, dict):
        raise _refused("the schema must be an object")
    faults = tuple(SchemaOutline(schema).faults())
    if faults:
        raise SchemaRefused(*faults)
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
        location = tuple(str(segment) for segment in getattr(error, "instance_path", ()))
        raise _refused(getattr(error, "message", str(error)), location) from error
    return JsonSchemaValidator(compiled)


def _refused(description: str, location: Location = ()) -> SchemaRefused:
    return SchemaRefused(SchemaFault(location, description))


def _printable(text: str) -> str:
    # A key is the client's text: it must not start a line of its own in a log or a terminal.
    return "".join(character if character.isprintable() else "�" for character in text)
