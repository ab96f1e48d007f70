"""A declared schema may only speak of properties that the method has."""

from __future__ import annotations

import pytest

from servicekit.ijson import JsonValue
from stage3_service.domains.narrowing import unknown_properties

_OWN: JsonValue = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "text": {"type": "string"},
        "parts": {"type": "array", "items": {"type": "string"}},
        "place": {"type": "object", "additionalProperties": False, "properties": {"city": {}}},
        "open": {"type": "object", "properties": {"known": {"type": "string"}}},
    },
}
_TXT: JsonValue = {"properties": {"txt": {"maxLength": 3}}}


def _faults(declared: JsonValue) -> list[str]:
    return [str(fault) for fault in unknown_properties(declared, _OWN)]


@pytest.mark.parametrize(
    "declared",
    [
        True,
        {},
        {"properties": {"text": {"maxLength": 3}, "place": {"properties": {"city": {}}}}},
        {"required": ["text", "parts"]},
        {"dependentRequired": {"text": ["parts"]}},
        {"properties": {"open": {"properties": {"anything": {"properties": {"more": {}}}}}}},
        {"patternProperties": {"^t": {"maxLength": 3}}},
        {"$defs": {"unused": _TXT}},
        {"allOf": [{"$ref": "#"}], "properties": {"place": {"$ref": "#/$defs/city"}},
         "$defs": {"city": {"required": ["city"]}}},
    ],
)  # fmt: skip
def test_a_schema_that_names_the_methods_properties_is_accepted(declared: JsonValue) -> None:
    """So is one that names none, and one that speaks of an object with open names."""
    assert _faults(declared) == []


@pytest.mark.parametrize(
    ("declared", "way"),
    [
        (_TXT, "properties.txt"),
        ({"required": ["text", "txt"]}, "required.1"),
        ({"dependentRequired": {"txt": []}}, "dependentRequired.txt"),
        ({"dependentRequired": {"text": ["txt"]}}, "dependentRequired.text.0"),
        ({"dependentSchemas": {"txt": True}}, "dependentSchemas.txt"),
        ({"dependentSchemas": {"text": _TXT}}, "dependentSchemas.text.properties.txt"),
        ({"allOf": [True, _TXT]}, "allOf.1.properties.txt"),
        ({"anyOf": [_TXT]}, "anyOf.0.properties.txt"),
        ({"oneOf": [_TXT]}, "oneOf.0.properties.txt"),
        ({"not": _TXT}, "not.properties.txt"),
        ({"if": _TXT}, "if.properties.txt"),
        ({"then": _TXT}, "then.properties.txt"),
        ({"else": _TXT}, "else.properties.txt"),
        ({"$defs": {"a": _TXT}, "$ref": "#/$defs/a"}, "$defs.a.properties.txt"),
        (
            {"$defs": {"a": {"$anchor": "a", "required": ["txt"]}}, "$ref": "#a"},
            "$defs.a.required.0",
        ),
    ],
)
def test_a_property_that_the_method_lacks_is_named(declared: JsonValue, way: str) -> None:
    """Wherever it is named, with the way to it and the nearest that the method has."""
    assert _faults(declared) == [f"{way}: the method has no property 'txt'; did you mean text?"]


@pytest.mark.parametrize(
    ("declared", "way"),
    [
        ({"properties": {"place": {"required": ["x"]}}}, "properties.place.required.0"),
        ({"properties": {"text": {"required": ["x"]}}}, "properties.text.required.0"),
        (
            {"properties": {"parts": {"items": {"required": ["x"]}}}},
            "properties.parts.items.required.0",
        ),
        (
            {"properties": {"parts": {"prefixItems": [{"required": ["x"]}]}}},
            "properties.parts.prefixItems.0.required.0",
        ),
    ],
)
def test_a_property_inside_a_property_is_looked_up_there(declared: JsonValue, way: str) -> None:
    """A string has no properties, and neither have a string's neighbours in an array."""
    assert _faults(declared) == [f"{way}: the method has no property 'x'"]
