"""What a JSON Schema says about parameters in its plainest words, and what it certainly refuses.

Guards one direction: what is named an offence here is refused by gate 4, under every draft, for
as long as the schema stands. The other direction is deliberately absent: parameters without an
offence may still be refused. Only `required`, closed objects and simple types are read, at the top
and below `allOf`; whatever could mean something else elsewhere (a reference, a pattern) is passed
over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from servicekit.ijson import JsonValue
from stage4_service.preview.catalogue import Schema

TYPES: Final = ("string", "integer", "number", "boolean", "object", "array", "null")


@dataclass(frozen=True, slots=True)
class DeclaredParameter:
    """One parameter by name; no types where they are not said in simple words."""

    name: str
    types: tuple[str, ...]
    required: bool


@dataclass(frozen=True, slots=True)
class Offence:
    """What gate 4 refuses; `name` is the parameter's."""

    name: str
    description: str


def declared_parameters(schema: Schema) -> tuple[DeclaredParameter, ...]:
    """Return the parameters that the schema names, in the order in which it does."""
    types: dict[str, tuple[str, ...]] = {}
    required: set[str] = set()
    for part in _parts(schema):
        for name, inner in _properties(part).items():
            types[name] = types.get(name) or _types(inner)
        for name in _required(part):
            required.add(name)
            types.setdefault(name, ())
    return tuple(DeclaredParameter(name, types[name], name in required) for name in types)


def is_closed(schema: Schema) -> bool:
    """Say whether the schema certainly refuses every parameter that it does not name."""
    return any(_closes(part) for part in _parts(schema))


def certain_offences(
    schema: Schema, parameters: Mapping[str, JsonValue], filled: Mapping[str, str | None]
) -> tuple[Offence, ...]:
    """Return what is certainly refused of parameters of which bindings fill some, as far as known.

    `filled` are the names that a binding writes to, wholly or in part: they will be there. With a
    name is the type that a binding which fills it wholly expects, so that no other value comes
    there; with None, nothing is known of the value.
    """
    found: dict[Offence, None] = {}
    for part in _parts(schema):
        properties = _properties(part)
        for name in _required(part):
            if name not in parameters and name not in filled:
                found[Offence(name, "is required and missing")] = None
        if _closes(part):
            for name in (*parameters, *filled):
                if name not in properties:
                    found[Offence(name, "is no parameter of this method")] = None
        for name, value in parameters.items():
            allowed = () if name in filled else _types(properties.get(name))
            if allowed and not set(allowed) & _types_of(value):
                found[Offence(name, f"must be {' or '.join(allowed)}")] = None
        for name, expected in filled.items():
            allowed = _types(properties.get(name))
            if allowed and expected and not set(allowed) & _types_expected(expected):
                description = f"must be {' or '.join(allowed)}, and its binding expects {expected}"
                found[Offence(name, description)] = None
    return tuple(found)


def _parts(schema: JsonValue) -> Iterator[Schema]:
    """Yield the schema and those that it joins by `allOf`: every one of them has to hold."""
    # Until 2019-09 a reference made a draft ignore whatever stands beside it.
    if not isinstance(schema, dict) or "$ref" in schema:
        return
    yield schema
    joined = schema.get("allOf")
    for inner in joined if isinstance(joined, list) else ():
        yield from _parts(inner)


def _properties(part: Schema) -> Schema:
    properties = part.get("properties")
    return properties if isinstance(properties, dict) else {}


def _required(part: Schema) -> list[str]:
    required = part.get("required")
    return (
        [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    )


def _closes(part: Schema) -> bool:
    return part.get("additionalProperties") is False and not part.get("patternProperties")


def _types(schema: JsonValue) -> tuple[str, ...]:
    if not isinstance(schema, dict) or "$ref" in schema:
        return ()
    said = schema.get("type")
    names = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    known = tuple(name for name in names if isinstance(name, str) and name in TYPES)
    return known if len(known) == len(names) else ()


def _types_expected(expected: str) -> frozenset[str]:
    """Return every type that a draft could take a value for that has passed its binding."""
    # 1 is a number, and 1.0 an integer, to a binding as to all drafts but the fourth.
    numbers = frozenset({"integer", "number"})
    return numbers if expected in numbers else frozenset({expected})


def _types_of(value: JsonValue) -> frozenset[str]:
    """Return every type that a draft could take the value for."""
    match value:
        case None:
            return frozenset({"null"})
        case bool():
            return frozenset({"boolean"})
        case int():
            return frozenset({"integer", "number"})
        case float():
            # Draft 4 takes 1.0 for no integer, every later one does.
            return frozenset({"integer", "number"} if value.is_integer() else {"number"})
        case str():
            return frozenset({"string"})
        case list():
            return frozenset({"array"})
        case _:
            return frozenset({"object"})
