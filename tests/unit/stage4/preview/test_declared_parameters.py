"""What a schema certainly refuses: never more than gate 4 does, whatever the draft."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from servicekit.canonical_json import canonicalize
from stage3_service.adapters.json_schema import compile_foreign_schema
from stage3_service.domains.declaration import SchemaRefused
from stage3_service.plan.bindings import has_type
from stage3_service.plan.plan import JsonType
from stage4_service.preview import declared_parameters as preview
from stage4_service.preview.declared_parameters import (
    TYPES,
    DeclaredParameter,
    Offence,
    certain_offences,
    declared_parameters,
    is_closed,
)

CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "limit": {"type": ["integer", "null"]}},
    "required": ["text"],
    "additionalProperties": False,
}
BOTH: dict[str, Any] = {
    "allOf": [CLOSED, {"properties": {"text": {"maxLength": 3}}, "required": ["limit"]}]
}


def test_the_plain_words_are_read() -> None:
    """Names in their order, types, which are required, and that nothing else may come."""
    assert declared_parameters(CLOSED) == (
        DeclaredParameter("text", ("string",), required=True),
        DeclaredParameter("limit", ("integer", "null"), required=False),
    )
    assert is_closed(CLOSED)
    assert not is_closed({})
    assert declared_parameters({}) == ()


def test_two_schemas_of_which_both_hold_are_read_as_one() -> None:
    """What a server says and what the file says: a name is required when either says so."""
    assert declared_parameters(BOTH) == (
        DeclaredParameter("text", ("string",), required=True),
        DeclaredParameter("limit", ("integer", "null"), required=True),
    )
    assert is_closed(BOTH)
    assert certain_offences(BOTH, {"text": "a"}, {}) == (
        Offence("limit", "is required and missing"),
    )


@pytest.mark.parametrize(
    ("parameters", "filled", "offences"),
    [
        ({"text": "a"}, {}, ()),
        ({}, {"text": None}, ()),
        ({"text": 1}, {"text": None}, ()),
        ({}, {}, (Offence("text", "is required and missing"),)),
        ({"text": 1}, {}, (Offence("text", "must be string"),)),
        ({"text": "a", "limit": True}, {}, (Offence("limit", "must be integer or null"),)),
        ({"text": "a", "limit": 2.0}, {}, ()),
        ({"text": "a", "limit": 2.5}, {}, (Offence("limit", "must be integer or null"),)),
        ({"text": "a", "txt": 1}, {}, (Offence("txt", "is no parameter of this method"),)),
        ({"text": "a"}, {"txt": None}, (Offence("txt", "is no parameter of this method"),)),
        ({}, {"text": "string"}, ()),
        (
            {},
            {"text": "number"},
            (Offence("text", "must be string, and its binding expects number"),),
        ),
        ({"text": "a"}, {"limit": "number"}, ()),
        ({"text": "a"}, {"limit": "null"}, ()),
        (
            {"text": "a"},
            {"limit": "array"},
            (Offence("limit", "must be integer or null, and its binding expects array"),),
        ),
        ({"text": "a"}, {"txt": "string"}, (Offence("txt", "is no parameter of this method"),)),
    ],
)
def test_what_is_certainly_refused_is_named(
    parameters: dict[str, Any], filled: dict[str, str | None], offences: tuple[Offence, ...]
) -> None:
    """Missing, unknown and of another type; of what a binding fills, what it expects there."""
    assert certain_offences(CLOSED, parameters, filled) == offences


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/definitions/a", "required": ["a"], "definitions": {"a": {}}},
        {"properties": {"a": {"$ref": "#/$defs/b", "type": "string"}}, "$defs": {"b": {}}},
        {"patternProperties": {"^a": {}}, "additionalProperties": False},
        {"properties": {"a": {"type": ["string", "decimal"]}}},
        {"properties": {"a": {"type": 1}}},
        {"properties": {"a": True}},
        {"properties": [], "required": {}, "allOf": {}, "additionalProperties": {}},
        {"allOf": [True, 1, None]},
        {"if": {}, "else": {"required": ["b"]}},
        {"not": {"required": ["a"]}, "anyOf": [{"required": ["b"]}]},
    ],
)
def test_what_could_mean_something_else_is_passed_over(schema: dict[str, Any]) -> None:
    """A reference, a pattern, an unknown type, a condition: nothing is claimed."""
    assert certain_offences(schema, {"a": 1}, {}) == ()


NAMES = st.sampled_from("abc")
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.5, 1.0, -1.0, 1e300])
    | st.sampled_from(["", "a"])
)
VALUES = LEAVES | st.lists(LEAVES, max_size=2) | st.dictionaries(NAMES, LEAVES, max_size=2)
INNER = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, unique=True),
        "$ref": st.just("#/definitions/any"),
        "enum": st.lists(LEAVES, min_size=1, max_size=3),
        "minimum": st.integers(-1, 1),
    },
)
DRAFTS = (
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
)


def schemas(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Return schemas of objects in few words, so that they meet the parameters often."""
    below = {} if depth == 0 else {"allOf": st.lists(schemas(depth - 1), min_size=1, max_size=2)}
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.just("object"),
            "properties": st.dictionaries(NAMES, INNER, max_size=3),
            "required": st.lists(NAMES, min_size=1, unique=True),
            "additionalProperties": st.booleans() | INNER,
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "."]), INNER, max_size=1),
            "$ref": st.just("#/definitions/any"),
            "not": st.just({"required": ["c"]}),
            **below,
        },
    )


ROOTS = st.builds(
    lambda schema, draft: {
        **schema,
        **({"$schema": draft} if draft else {}),
        "definitions": {"any": {}},
    },
    schemas(2),
    st.none() | st.sampled_from(DRAFTS),
)


def refused_by_gate_4(schema: dict[str, Any], parameters: dict[str, Any]) -> bool:
    """Ask the validator that Stage-3 asks; a schema that it does not take withholds the domain."""
    try:
        validator = compile_foreign_schema(canonicalize(schema))
    except SchemaRefused:
        return True
    return validator.first_error(parameters) is not None


EXPECTED = st.none() | st.sampled_from(TYPES)


@given(
    ROOTS,
    st.dictionaries(NAMES, VALUES, max_size=3),
    st.dictionaries(NAMES, st.tuples(VALUES, EXPECTED)),
)
@example({"$schema": DRAFTS[0], "properties": {"a": {"type": "integer"}}}, {"a": 1.0}, {})
@example({"$schema": DRAFTS[2], "$ref": "#/definitions/any", "required": ["a"]}, {}, {})
@example({"properties": {"a": {"type": "integer"}}}, {}, {"a": (1.0, "number")})
@example({"properties": {"a": {"type": "number"}}}, {}, {"a": (1, "integer")})
def test_whatever_is_named_gate_4_refuses(
    schema: dict[str, Any],
    parameters: dict[str, Any],
    brought: dict[str, tuple[Any, str | None]],
) -> None:
    """Under every draft, and whatever a binding lets pass: an offence is never a false alarm."""
    for value, expected in brought.values():
        assume(expected is None or has_type(value, JsonType(expected)))
    bound = {name: value for name, (value, _) in brought.items()}
    if certain_offences(schema, parameters, {name: type_ for name, (_, type_) in brought.items()}):
        assert refused_by_gate_4(schema, {**parameters, **bound})


def test_a_reading_that_forgets_references_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: beside a reference an old draft asserts nothing, and gate 4 says so."""
    schema = {"$schema": DRAFTS[2], "$ref": "#/definitions/any", "required": ["a"]}
    schema["definitions"] = {"any": {}}  # type: ignore[assignment]
    monkeypatch.setattr(preview, "_parts", lambda schema: iter([schema]))

    assert certain_offences(schema, {}, {})  # type: ignore[arg-type]
    assert not refused_by_gate_4(schema, {})


def test_most_plain_mistakes_are_noticed() -> None:
    """The other direction is no promise, but the plain words do find the plain mistakes."""
    mistakes: list[dict[str, Any]] = [
        {},
        {"text": 1},
        {"text": "a", "txt": 1},
        {"text": "a", "limit": "1"},
    ]
    for mistake in mistakes:
        assert certain_offences(CLOSED, mistake, {}), mistake
        assert refused_by_gate_4(CLOSED, mistake), mistake
