"""The builtin domain `json_schema`: does a value match a schema, both written in the plan?

Guards the service from the schema, which is a client's: without references and `unevaluated…`, and
with patterns matched in linear time, a check costs at most the size of the schema times that of the
value, and both are bounded. Deliberately absent: formats, remote schemas, and any value in an
answer; a mismatch is named by its place and rule.
"""

from __future__ import annotations

from typing import Any, Final

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonValue
from stage3_service.adapters.builtin.method import MethodRefused, Parameters, example
from stage3_service.adapters.builtin.pure_domain import PureDomain, pure_method
from stage3_service.adapters.json_schema import compile_schema
from stage3_service.domains.declaration import SchemaRefused

MAX_SCHEMA_BYTES: Final = 8_192
MAX_VALUE_BYTES: Final = 32_768
_RESULT_BYTES: Final = 4_096
_MAX_MESSAGE_CHARACTERS: Final = 500

# Each can make one place of the value be visited exponentially often.
_COSTLY: Final = frozenset(
    {"$ref", "$dynamicRef", "unevaluatedItems", "unevaluatedProperties", "uniqueItems"}
)


class CheckParameters(Parameters):
    """Parameters of `check`: `value` is any JSON value, `schema_object` a JSON Schema."""

    schema_object: dict[str, Any]
    value: Any


def check(parameters: CheckParameters) -> JsonValue:
    """Return whether the value matches, and where and why not.

    Raises:
        MethodRefused: the schema or the value is too large, or the schema cannot be enforced or
            could cost more than it is long.

    """
    schema_json, value_json = canonicalize(parameters.schema_object), canonicalize(parameters.value)
    if len(schema_json) > MAX_SCHEMA_BYTES:
        raise MethodRefused(f"schema_object: has more than {MAX_SCHEMA_BYTES} bytes")
    if len(value_json) > MAX_VALUE_BYTES:
        raise MethodRefused(f"value: has more than {MAX_VALUE_BYTES} bytes")
    if (keyword := _first_costly(parameters.schema_object)) is not None:
        raise MethodRefused(f"schema_object: {keyword} is not allowed here")
    try:
        error = compile_schema(schema_json).first_error(parameters.value)
    except SchemaRefused as refused:
        raise MethodRefused(f"schema_object: {refused}"[:_MAX_MESSAGE_CHARACTERS]) from None
    return {"valid": error is None, "error": error}


def _first_costly(schema: object) -> str | None:
    """Name a costly keyword anywhere, also where it is data: a false alarm costs a spelling."""
    pending: list[object] = [schema]
    while pending:
        match pending.pop():
            case dict() as table:
                found = _COSTLY & table.keys()
                if found:
                    return min(found)
                pending.extend(table.values())
            case list() as items:
                pending.extend(items)
            case _:
                pass
    return None


JSON_SCHEMA: Final = PureDomain(
    "json_schema",
    pure_method(
        check,
        CheckParameters,
        "Checks a value against a JSON Schema.",
        _RESULT_BYTES,
        example(
            {
                "schema_object": {"type": "object", "required": ["id"]},
                "value": {"name": "first"},
            },
            {"valid": False, "error": '"id" is a required property'},
        ),
    ),
)
"""The domain itself."""
