"""Whether a declared schema speaks of properties that the method has.

Guards against the second way to narrow nothing: a limit on a parameter that no call can carry,
because the method's own schema closes the list of names. Deliberately absent: whether a limit is
narrower than the method's own. Both hold, so it need not be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from servicekit.ijson import JsonValue
from stage3_service.domains.declaration import SchemaFault
from stage3_service.domains.schema_outline import Location, Place, SchemaOutline
from stage3_service.domains.suggestion import suggestion

# Keywords whose schemas speak of the same value as the schema they stand in.
_SAME_VALUE: Final = ("if", "then", "else", "not")
_SAME_VALUE_IN_ORDER: Final = ("allOf", "anyOf", "oneOf")
_ELEMENTS: Final = ("items", "contains", "unevaluatedItems")


def unknown_properties(declared: JsonValue, own: JsonValue) -> tuple[SchemaFault, ...]:
    """Name every property in `declared` that no value valid under `own` can have.

    Only where `own` closes its names, by `additionalProperties: false` or by a type that has none.
    A property that a pattern covers, and one that is reached by a URI, are not looked at.
    """
    return tuple(_Comparison(SchemaOutline(declared)).faults(own))


class _Comparison:
    """One walk through a declared schema, beside the method's own."""

    __slots__ = ("_outline", "_seen")

    def __init__(self, outline: SchemaOutline) -> None:
        self._outline = outline
        self._seen: set[tuple[Location, int]] = set()

    def faults(self, own: JsonValue) -> Iterator[SchemaFault]:
        yield from self._at(self._outline.root, own)

    def _under(self, place: Place, *way: str, own: JsonValue) -> Iterator[SchemaFault]:
        yield from self._at(self._outline.place((*place.location, *way)), own)

    def _at(self, place: Place | None, own: JsonValue) -> Iterator[SchemaFault]:
        # References may lead in a circle; `own` outlives the walk, so its identity is its name.
        if place is None or (place.location, id(own)) in self._seen:
            return
        self._seen.add((place.location, id(own)))
        yield from _named(place, own)
        for keyword in _SAME_VALUE:
            yield from self._under(place, keyword, own=own)
        for keyword in _SAME_VALUE_IN_ORDER:
            for index in range(_length(place.schema.get(keyword))):
                yield from self._under(place, keyword, str(index), own=own)
        for name in _members(place.schema.get("dependentSchemas")):
            yield from self._under(place, "dependentSchemas", name, own=own)
        for keyword in ("$ref", "$dynamicRef"):
            yield from self._at(self._outline.target(place, place.schema.get(keyword)), own)
        for name in _members(place.schema.get("properties")):
            yield from self._under(place, "properties", name, own=_properties(own).get(name, True))
        element = own.get("items", True) if isinstance(own, dict) else True
        for keyword in _ELEMENTS:
            yield from self._under(place, keyword, own=element)
        for index in range(_length(place.schema.get("prefixItems"))):
            yield from self._under(place, "prefixItems", str(index), own=element)


def _named(place: Place, own: JsonValue) -> Iterator[SchemaFault]:
    if not _is_closed(own):
        return
    known = _properties(own)
    for way, name in _names(place.schema):
        if name not in known:
            description = f"the method has no property {name!r}{suggestion(name, known)}"
            yield SchemaFault((*place.location, *way), description)


def _names(schema: Mapping[str, JsonValue]) -> Iterator[tuple[Location, str]]:
    for keyword in ("properties", "dependentSchemas", "dependentRequired"):
        for name in _members(schema.get(keyword)):
            yield (keyword, name), name
    lists: list[tuple[Location, JsonValue]] = [(("required",), schema.get("required"))]
    dependent = schema.get("dependentRequired")
    if isinstance(dependent, dict):
        lists += [(("dependentRequired", name), names) for name, names in dependent.items()]
    for way, names in lists:
        for index, required in enumerate(names if isinstance(names, list) else ()):
            if isinstance(required, str):
                yield (*way, str(index)), required


def _is_closed(own: JsonValue) -> bool:
    if not isinstance(own, dict):
        return False
    closes = own.get("additionalProperties") is False and "patternProperties" not in own
    return closes or (isinstance(own.get("type"), str) and own["type"] != "object")


def _properties(own: JsonValue) -> Mapping[str, JsonValue]:
    found = own.get("properties") if isinstance(own, dict) else None
    return found if isinstance(found, dict) else {}


def _members(value: JsonValue) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, dict) else ()


def _length(value: JsonValue) -> int:
    return len(value) if isinstance(value, list) else 0
