"""Compiles JSON Schema (draft 2020-12) into the validator that gate 4 asks.

Guards three things beyond validity: an error never quotes a value, because parameters may be
secrets; a schema never reaches outside itself; and no keyword is ignored, because a limit that is
misspelt must not pass for one. A schema that a domain brings along is read by its own draft.
Deliberately absent: formats as assertions in an operator's schema (one that writes it is refused),
and the retrieval of references over a network or from files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Protocol

import jsonschema_rs

from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse
from stage3_service.domains.declaration import SchemaFault, SchemaRefused
from stage3_service.domains.schema_outline import DIALECT, Location, SchemaOutline

_SCHEMA_LIMITS = JsonLimits(max_string_bytes=65_536)
_MAX_ERROR_CHARACTERS = 500
_MASK = "the value"


class _Offence(Protocol):
    @property
    def message(self) -> str: ...

    @property
    def instance_path(self) -> list[str | int]: ...


class _Compiled(Protocol):
    """What the compilers of every draft return."""

    def __init__(
        self,
        schema: object,
        *,
        mask: str,
        offline: bool,
        validate_formats: bool,
        pattern_options: jsonschema_rs.RegexOptions,
    ) -> None: ...

    def is_valid(self, instance: object) -> bool: ...

    def iter_errors(self, instance: object) -> Iterator[_Offence]: ...


_FOREIGN_DIALECTS: Final[Mapping[str, type[_Compiled]]] = MappingProxyType(
    {
        "http://json-schema.org/draft-04/schema": jsonschema_rs.Draft4Validator,
        "http://json-schema.org/draft-06/schema": jsonschema_rs.Draft6Validator,
        "http://json-schema.org/draft-07/schema": jsonschema_rs.Draft7Validator,
        "https://json-schema.org/draft/2019-09/schema": jsonschema_rs.Draft201909Validator,
        DIALECT: jsonschema_rs.Draft202012Validator,
    }
)


class JsonSchemaValidator:
    """One compiled schema; immutable, and safe to ask from any thread."""

    __slots__ = ("_compiled",)

    def __init__(self, compiled: _Compiled) -> None:
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
    schema = _read(schema_json)
    faults = tuple(SchemaOutline(schema).faults())
    if faults:
        raise SchemaRefused(*faults)
    return _compile(jsonschema_rs.Draft202012Validator, schema, validate_formats=False)


def compile_foreign_schema(schema_json: bytes) -> JsonSchemaValidator:
    """Return the validator of a schema that came from a domain and not from the operator.

    It is read as its own draft reads it: what that draft does not know is a remark, because whoever
    wrote it did not write it to Stage-3. Whatever that draft can enforce is enforced, formats
    included.

    Raises:
        SchemaRefused: it is not strict JSON, not a valid schema, of an unknown dialect, or needs
            what cannot be had here: another document, or a pattern without linear time.

    """
    schema = _read(schema_json)
    dialect = schema.get("$schema", DIALECT)
    compiler = _FOREIGN_DIALECTS.get(dialect.rstrip("#")) if isinstance(dialect, str) else None
    if compiler is None:
        raise _refused("the dialect is none that can be enforced", ("$schema",))
    return _compile(compiler, schema, validate_formats=True)


def _read(schema_json: bytes) -> dict[str, JsonValue]:
    try:
        schema = parse(schema_json, _SCHEMA_LIMITS).value
    except JsonRefused as refused:
        raise _refused(f"the schema is not strict JSON: {refused}") from refused
    if not isinstance(schema, dict):
        raise _refused("the schema must be an object")
    return schema


def _compile(
    compiler: type[_Compiled], schema: dict[str, JsonValue], *, validate_formats: bool
) -> JsonSchemaValidator:
    try:
        compiled = compiler(
            schema,
            mask=_MASK,
            offline=True,
            validate_formats=validate_formats,
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
