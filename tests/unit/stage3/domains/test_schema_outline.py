"""Every place where a schema stands is looked at, and nothing that only looks like a schema."""

from __future__ import annotations

import jsonschema_rs
import pytest

from servicekit.ijson import JsonValue
from stage3_service.domains.schema_outline import KEYWORDS, SchemaOutline

_MISSPELT: JsonValue = {"maxLenght": 3}


def _faults(schema: JsonValue) -> list[str]:
    return [str(fault) for fault in SchemaOutline(schema).faults()]


def test_the_keywords_are_those_of_the_dialects_own_schema() -> None:
    """The seven vocabularies have 57 between them: 9, 15, 2, 20, 7, 1 and 3.

    The meta-schema that the validator carries knows each of them: it refuses some value under it.
    """
    dialect = jsonschema_rs.Draft202012Validator(
        {"$ref": "https://json-schema.org/draft/2020-12/schema"}, offline=True
    )
    refused = {
        keyword
        for keyword in KEYWORDS
        if not all(dialect.is_valid({keyword: value}) for value in (None, 5, "a b", [5]))
    }
    assert KEYWORDS - refused == {"const", "default"}
    assert len(KEYWORDS) == 57


@pytest.mark.parametrize(
    "keyword",
    [
        *("additionalProperties", "contains", "if", "items", "not", "propertyNames"),
        *("unevaluatedItems", "unevaluatedProperties"),
    ],
)
def test_a_schema_under_a_keyword_is_looked_at(keyword: str) -> None:
    """The misspelt keyword is found, with the way to it."""
    assert _faults({keyword: _MISSPELT}) == [
        f"{keyword}.maxLenght: unknown keyword; did you mean maxLength?"
    ]


@pytest.mark.parametrize("keyword", ["then", "else"])
def test_a_schema_under_a_condition_is_looked_at(keyword: str) -> None:
    """These stand beside `if`."""
    (found,) = _faults({"if": True, keyword: _MISSPELT})
    assert found.startswith(f"{keyword}.maxLenght: unknown keyword")


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf", "prefixItems"])
def test_a_schema_in_an_array_is_looked_at(keyword: str) -> None:
    """The index is part of the way."""
    (found,) = _faults({keyword: [True, _MISSPELT]})
    assert found.startswith(f"{keyword}.1.maxLenght: unknown keyword")


@pytest.mark.parametrize(
    "keyword", ["$defs", "dependentSchemas", "patternProperties", "properties"]
)
def test_a_schema_under_a_name_is_looked_at(keyword: str) -> None:
    """The name itself is no keyword, whatever it is called."""
    (found,) = _faults({keyword: {"maxLenght": _MISSPELT, "other": {}}})
    assert found.startswith(f"{keyword}.maxLenght.maxLenght: unknown keyword")


@pytest.mark.parametrize("keyword", ["const", "default"])
def test_a_value_that_is_no_schema_is_left_alone(keyword: str) -> None:
    """An object that a parameter must equal may have any key."""
    assert _faults({keyword: _MISSPELT}) == []
    assert _faults({"enum": [_MISSPELT], "examples": [_MISSPELT]}) == []


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"x-owner": "ada"}, "x-owner: unknown keyword"),
        ({"definitions": {}}, "definitions: unknown keyword; draft 2020-12 has $defs"),
        ({"dependencies": {}}, "dependencies: unknown keyword; draft 2020-12 has dependent"),
        ({"MaxLength": 3}, "MaxLength: unknown keyword; did you mean maxLength?"),
        ({"format": "email"}, "format: is an annotation and enforces nothing"),
        ({"contentEncoding": "base64"}, "contentEncoding: is an annotation and enforces nothing"),
        ({"then": False}, "then: says nothing without if"),
        ({"minContains": 2}, "minContains: says nothing without contains"),
        (
            {"items": {"$schema": "http://json-schema.org/draft-07/schema#"}},
            "items.$schema: the dialect must be https://json-schema.org/draft/2020-12/schema",
        ),
    ],
)
def test_a_keyword_that_would_say_nothing_is_a_fault(schema: JsonValue, fault: str) -> None:
    """Whoever writes one expects that something is checked."""
    (found,) = _faults(schema)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    "reference",
    ["#/enum/0", "#/properties", "#/$defs", "#/$defs/none", "#/%65num/0", "urn:x#/enum/0"],
)
@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
def test_a_pointer_to_what_is_no_schema_is_a_fault(keyword: str, reference: str) -> None:
    """Else a keyword could be misspelt where nobody looks."""
    schema: JsonValue = {
        keyword: reference,
        "enum": [_MISSPELT],
        "properties": {"a": True},
        "$defs": {"a": {"$id": "urn:x", "enum": [_MISSPELT]}},
    }
    assert _faults(schema) == [f"{keyword}: leads to a place where no schema stands"]


@pytest.mark.parametrize(
    "reference",
    ["#", "#/$defs/a~1b~0", "#/properties/a", "#/allOf/0", "#name", "urn:x", "https://e.test/"],
)
def test_a_reference_to_a_schema_is_none(reference: str) -> None:
    """Names and addresses are the compiler's to look up."""
    schema: JsonValue = {
        "properties": {"a": True, "b": {"$ref": reference}},
        "allOf": [{}],
        "$defs": {"a/b~": {"$anchor": "name"}, "c": {"$id": "urn:x"}},
    }
    assert _faults(schema) == []


def test_a_pointer_starts_at_the_nearest_identifier() -> None:
    """A schema with an `$id` is a resource of its own."""
    inner: JsonValue = {"$id": "urn:x", "$defs": {"a": {}}, "$ref": "#/$defs/a"}
    assert _faults({"allOf": [inner]}) == []
    assert _faults({"allOf": [inner], "$ref": "#/$defs/a"}) != []


@pytest.mark.parametrize(
    "schema",
    [None, 5, "a", [], True, {"allOf": {}}, {"properties": []}, {"$ref": 5}, {"items": "a"}],
)
def test_a_value_of_another_shape_is_left_to_the_compiler(schema: JsonValue) -> None:
    """The outline says nothing of it and does not fail."""
    assert _faults(schema) == []
