"""Where schemas stand inside a JSON Schema (draft 2020-12), and what in them would say nothing.

Guards against the standard's leniency: to it a misspelt keyword is an annotation, so that a limit
somebody wrote limits nothing. Deliberately absent: whether a keyword's value is well formed, which
the validator's compiler asks, and any reading of a value that is no schema, such as `const`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from servicekit.ijson import JsonValue
from stage3_service.domains.declaration import SchemaFault
from stage3_service.domains.suggestion import suggestion

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Location = tuple[str, ...]
"""The way to a value inside a schema: keys, and indexes in decimal."""

# By what a keyword's value is: a schema, an array of schemas, schemas by name, something else.
_ONE_SCHEMA: Final = frozenset(
    (
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    )
)
_SCHEMAS_IN_ORDER: Final = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_SCHEMAS_BY_NAME: Final = frozenset(
    ("$defs", "dependentSchemas", "patternProperties", "properties")
)
_NO_SCHEMA: Final = frozenset(
    (
        "$anchor",
        "$comment",
        "$dynamicAnchor",
        "$dynamicRef",
        "$id",
        "$ref",
        "$schema",
        "$vocabulary",
        "const",
        "contentEncoding",
        "contentMediaType",
        "default",
        "dependentRequired",
        "deprecated",
        "description",
        "enum",
        "examples",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "maxContains",
        "maximum",
        "maxItems",
        "maxLength",
        "maxProperties",
        "minContains",
        "minimum",
        "minItems",
        "minLength",
        "minProperties",
        "multipleOf",
        "pattern",
        "readOnly",
        "required",
        "title",
        "type",
        "uniqueItems",
        "writeOnly",
    )
)
KEYWORDS: Final = _ONE_SCHEMA | _SCHEMAS_IN_ORDER | _SCHEMAS_BY_NAME | _NO_SCHEMA
"""Every keyword of the dialect's seven vocabularies."""

_RETIRED: Final = {
    "$recursiveAnchor": "$dynamicAnchor",
    "$recursiveRef": "$dynamicRef",
    "additionalItems": "items",
    "definitions": "$defs",
    "dependencies": "dependentRequired or dependentSchemas",
    "id": "$id",
}
# The dialect knows these and lets them assert nothing. Who writes one expects a check.
_UNENFORCED: Final = frozenset(("contentEncoding", "contentMediaType", "contentSchema", "format"))
_WITHOUT_EFFECT_ALONE: Final = {
    "else": "if",
    "maxContains": "contains",
    "minContains": "contains",
    "then": "if",
}


class Place(NamedTuple):
    """A schema that is an object, where it stands, and the resource its references start from."""

    location: Location
    schema: dict[str, JsonValue]
    resource: Location


class SchemaOutline:
    """Every place inside one schema where a schema stands. Immutable after it is made."""

    __slots__ = ("_booleans", "_places")

    def __init__(self, schema: JsonValue) -> None:
        """Find the places. Takes a value that may break every rule, at most as deep as JSON is."""
        self._places: dict[Location, Place] = {}
        self._booleans: set[Location] = set()
        self._visit(schema, (), ())

    def faults(self) -> Iterator[SchemaFault]:
        """Yield each keyword that is unknown or would say nothing, in the schema's order."""
        for place in self._places.values():
            for keyword, value in place.schema.items():
                description = self._fault(place, keyword, value)
                if description is not None:
                    yield SchemaFault((*place.location, keyword), description)

    def target(self, place: Place, reference: JsonValue) -> Place | None:
        """Return the object a reference inside this schema leads to, or None for any other."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        name = reference[1:]
        if not name or name.startswith("/"):
            return self._places.get(_pointed_at(place, name))
        for other in self._places.values():
            anchors = (other.schema.get("$anchor"), other.schema.get("$dynamicAnchor"))
            if other.resource == place.resource and name in anchors:
                return other
        return None

    @property
    def root(self) -> Place | None:
        """The schema as a whole, or None when it is no object."""
        return self._places.get(())

    def place(self, location: Location) -> Place | None:
        """Return the schema at a location, if an object stands there as a schema."""
        return self._places.get(location)

    def _visit(self, schema: JsonValue, location: Location, resource: Location) -> None:
        if isinstance(schema, bool):
            self._booleans.add(location)
        if not isinstance(schema, dict):
            return
        if "$id" in schema:
            resource = location
        self._places[location] = Place(location, schema, resource)
        for keyword, value in schema.items():
            for name, inner in _schemas_under(keyword, value):
                self._visit(inner, (*location, keyword, *name), resource)

    def _fault(self, place: Place, keyword: str, value: JsonValue) -> str | None:
        if keyword not in KEYWORDS:
            if keyword in _RETIRED:
                return f"unknown keyword; draft 2020-12 has {_RETIRED[keyword]}"
            return f"unknown keyword{suggestion(keyword, KEYWORDS)}"
        if keyword in _UNENFORCED:
            return "is an annotation and enforces nothing"
        needed = _WITHOUT_EFFECT_ALONE.get(keyword)
        if needed is not None and needed not in place.schema:
            return f"says nothing without {needed}"
        if keyword == "$schema" and value != DIALECT:
            return f"the dialect must be {DIALECT}"
        if keyword in ("$ref", "$dynamicRef") and self._leads_astray(place, value):
            return "leads to a place where no schema stands"
        return None

    def _leads_astray(self, place: Place, reference: JsonValue) -> bool:
        """Return whether a pointer leads where keywords were not looked at.

        A pointer is followed inside the schema it stands in. Names are the compiler's to look up:
        it finds them only where schemas stand.
        """
        if not isinstance(reference, str) or "#" not in reference:
            return False
        start, _, pointer = reference.partition("#")
        if pointer and not pointer.startswith("/"):
            return False
        if start:
            return pointer != ""
        at = _pointed_at(place, pointer)
        return at not in self._places and at not in self._booleans


def _schemas_under(keyword: str, value: JsonValue) -> Iterator[tuple[Location, JsonValue]]:
    if keyword in _ONE_SCHEMA:
        yield (), value
    elif keyword in _SCHEMAS_IN_ORDER and isinstance(value, list):
        for index, inner in enumerate(value):
            yield (str(index),), inner
    elif keyword in _SCHEMAS_BY_NAME and isinstance(value, dict):
        for name, inner in value.items():
            yield (name,), inner


def _pointed_at(place: Place, pointer: str) -> Location:
    # No percent-decoding: a pointer spelled with it is one that leads nowhere, and is refused.
    tokens = pointer.split("/")[1:]
    return place.resource + tuple(t.replace("~1", "/").replace("~0", "~") for t in tokens)
