"""Compiled schemas: the first offence by its path, never a value, nothing from outside."""

from __future__ import annotations

import pytest

from servicekit.ijson import JsonValue
from stage3_service.adapters.json_schema import compile_schema
from stage3_service.domains.declaration import SchemaRefused

_SCHEMA = (
    b'{"type":"object","required":["text"],"additionalProperties":false,"properties":'
    b'{"text":{"type":"string","maxLength":3},"a.b":{"type":"array","items":{"type":"integer"}},'
    b'"tick`":{"const":1},"mode":{"enum":["x"]}}}'
)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"text": "abc"}, None),
        ({"text": "abc", "a.b": [1, 2.0]}, None),
        ({}, '"text" is a required property'),
        ({"text": "hunter2"}, "text: the value is longer than 3 characters"),
        ({"text": 31337}, 'text: the value is not of type "string"'),
        ({"text": True}, 'text: the value is not of type "string"'),
        ({"text": "a", "a.b": [1, 31337.5]}, '`a.b`.1: the value is not of type "integer"'),
        ({"text": "a", "tick`": 31337}, "`tick```: 1 was expected"),
        ({"text": "a", "mode": "hunter2"}, "mode: the value is not"),
        ([], 'the value is not of type "object"'),
        ({"text": "a", "a.b": [True]}, '`a.b`.0: the value is not of type "integer"'),
    ],
)
def test_the_first_offence_is_named_by_path_and_quotes_no_value(
    value: JsonValue, error: str | None
) -> None:
    """Parameters may be secrets: the message says what is wrong, not what was given."""
    found = compile_schema(_SCHEMA).first_error(value)
    if error is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(error)
        assert "hunter2" not in found
        assert "31337" not in found


def test_an_offending_key_cannot_forge_a_line_or_flood_the_log() -> None:
    """A key is the client's text: control characters are replaced and the length is bounded."""
    found = compile_schema(_SCHEMA).first_error({"text": "a", "x\n\x1b[31mERROR " + "y" * 5000: 1})
    assert found is not None
    assert found.isprintable()
    assert len(found) == 500


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (b"{", "not strict JSON"),
        (b'{"type":"object","type":"object"}', "not strict JSON"),
        (b"true", "must be an object"),
        (b"[]", "must be an object"),
        (b'{"type":"objekt"}', "type: "),
        (b'{"properties":5}', "properties: "),
        (b'{"$schema":"http://json-schema.org/draft-07/schema#"}', "dialect must be"),
        (b'{"$schema":5}', "dialect must be"),
        (b'{"$ref":"https://elsewhere.test/schema.json"}', "Retrieval is disabled"),
        (b'{"$ref":"file:///etc/passwd"}', "Retrieval is disabled"),
        (b'{"$ref":"#/$defs/none"}', "$ref: leads to a place where no schema stands"),
        (b'{"$ref":"#none"}', "does not exist"),
        (b'{"maxLenght":3}', "maxLenght: unknown keyword; did you mean maxLength?"),
        (b'{"properties":{"a":{"items":{"patern":"a"}}}}', "properties.a.items.patern: unknown"),
        (b'{"minlength":1,"maxlength":2}', "minLength?; maxlength: unknown"),
        (b'{"pattern":"("}', "pattern: "),
        (b'{"pattern":"(a)\\\\1"}', ""),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused_at_the_start(
    schema: bytes, problem: str
) -> None:
    """A malformed, foreign or reaching schema never becomes a validator."""
    with pytest.raises(SchemaRefused) as caught:
        compile_schema(schema)
    assert problem in str(caught.value)


def test_a_pattern_that_defeats_backtracking_ends_at_once() -> None:
    """The classic exponential pattern meets its worst input; a backtracking engine would hang."""
    validator = compile_schema(b'{"pattern":"^(a+)+$"}')
    assert validator.first_error("a" * 60_000 + "b") is not None


def test_the_declared_dialect_is_accepted() -> None:
    """Naming the one dialect changes nothing."""
    schema = b'{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"string"}'
    assert compile_schema(schema).first_error("x") is None


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (b'{"type":"integer"}', "hunter2"),
        (b'{"enum":["x"]}', "hunter2"),
        (b'{"const":1}', "hunter2"),
        (b'{"maxLength":3}', "hunter2"),
        (b'{"minLength":30}', "hunter2"),
        (b'{"pattern":"^x"}', "hunter2"),
        (b'{"not":{"type":"string"}}', "hunter2"),
        (b'{"anyOf":[{"const":1},{"type":"integer"}]}', "hunter2"),
        (b'{"oneOf":[{"type":"string"},{"minLength":1}]}', "hunter2"),
        (b'{"allOf":[false]}', "hunter2"),
        (b'{"uniqueItems":true}', ["hunter2", "hunter2"]),
        (b'{"contains":{"const":1}}', ["hunter2"]),
        (b'{"maxItems":1}', ["hunter2", "hunter2"]),
        (b'{"prefixItems":[true],"items":false}', [1, "hunter2"]),
        (b'{"additionalProperties":{"type":"integer"}}', {"a": "hunter2"}),
        (b'{"unevaluatedProperties":false}', {"a": "hunter2"}),
        (b'{"minProperties":2}', {"a": "hunter2"}),
        (b'{"maxProperties":0}', {"a": "hunter2"}),
        (b'{"dependentRequired":{"a":["b"]}}', {"a": "hunter2"}),
        (b'{"propertyNames":{"maxLength":0}}', {"a": "hunter2"}),
        (b'{"maximum":1}', 31337),
        (b'{"minimum":99999}', 31337),
        (b'{"exclusiveMaximum":1}', 31337),
        (b'{"multipleOf":2}', 31337),
        (b'{"if":{"type":"string"},"then":{"maxLength":1}}', "hunter2"),
    ],
)
def test_no_keyword_quotes_the_value_it_refuses(schema: bytes, value: JsonValue) -> None:
    """Whatever a deployment's schema says, a secret parameter stays out of the description."""
    found = compile_schema(schema).first_error(value)
    assert found is not None
    assert "hunter2" not in found
    assert "31337" not in found
