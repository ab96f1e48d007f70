"""What a domain brought along and what the operator wrote are both in force."""

from __future__ import annotations

from dataclasses import replace

import pytest

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonValue
from stage3_service.adapters.json_schema import compile_foreign_schema, compile_schema
from stage3_service.domains.accepted_schemas import with_accepted_schemas
from stage3_service.domains.declaration import (
    DomainDeclaration,
    MethodDeclaration,
    ParametersValidator,
    Repetition,
    SchemaRefused,
)
from stage3_service.domains.definition import Definition

READ = MethodDeclaration("read", "Reads.", 1.0, 100, Repetition.IDEMPOTENT)
OWN: dict[str, JsonValue] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "title": "Read",
    "x-order": 3,
    "properties": {
        "path": {"$ref": "#/definitions/path", "default": "/"},
        "day": {"type": "string", "format": "date"},
    },
    "definitions": {"path": {"type": "string", "maxLength": 10, "x-widget": "path"}},
    "required": ["path"],
    "additionalProperties": False,
}


def validator(own: JsonValue, declared: JsonValue = None) -> ParametersValidator | None:
    """Return what gate 4 asks of the method, once its definition was accepted."""
    method = READ
    if declared is not None:
        declared_json = canonicalize(declared)
        method = replace(
            READ,
            parameters_schema_json=declared_json,
            validator=compile_schema(declared_json),
        )
    declaration = DomainDeclaration("files", "mcp", "/usr/bin/server", {"read": method})
    accepted = Definition.of({"methods": {"read": {"input_schema": own}}})
    both = with_accepted_schemas(declaration, accepted, foreign=compile_foreign_schema)
    return both.methods["read"].validator


@pytest.mark.parametrize(
    ("parameters", "fits"),
    [
        ({"path": "/a"}, True),
        ({"path": "/a", "day": "2026-11-29"}, True),
        ({"path": "/a/long/path"}, False),
        ({"path": "/a", "day": "today"}, False),
        ({"path": "/a", "other": 1}, False),
        ({}, False),
    ],
)
def test_a_foreign_schema_is_enforced_by_its_own_draft(parameters: JsonValue, fits: bool) -> None:
    """Definitions, formats and closed names hold; titles, defaults and x- keywords are remarks."""
    asked = validator(OWN)

    assert asked is not None
    assert (asked.first_error(parameters) is None) is fits


@pytest.mark.parametrize(
    ("parameters", "fits"),
    [({"path": "/a"}, True), ({"path": "/b"}, False), ({"path": "/a/long/path"}, False)],
)
def test_the_operators_schema_holds_beside_it(parameters: JsonValue, fits: bool) -> None:
    """Neither replaces the other."""
    asked = validator(OWN, {"properties": {"path": {"pattern": "^/a"}}})

    assert asked is not None
    assert (asked.first_error(parameters) is None) is fits


def test_a_limit_on_what_the_method_does_not_have_is_refused() -> None:
    """It would limit nothing; the nearest name is suggested."""
    with pytest.raises(SchemaRefused) as caught:
        validator(OWN, {"properties": {"pathh": {"maxLength": 1}}})

    (fault,) = caught.value.faults
    assert str(fault).startswith("read.properties.pathh: the method has no property 'pathh'")


@pytest.mark.parametrize(
    "own",
    [
        {"$ref": "https://example.com/schema"},
        {"properties": {"a": {"pattern": "(?=a)b"}}},
        {"$schema": "https://example.com/dialect"},
        {"type": "objekt"},
    ],
    ids=["elsewhere", "pattern", "dialect", "type"],
)
def test_a_schema_that_cannot_be_enforced_is_refused(own: JsonValue) -> None:
    """Nothing is dropped from it in silence: such a tool is not offered."""
    with pytest.raises(SchemaRefused):
        validator(own)


def test_a_method_whose_definition_has_no_schema_keeps_the_files() -> None:
    """There is nothing to add."""
    assert validator(None) is None
