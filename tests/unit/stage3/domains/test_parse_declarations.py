"""Parsing declarations: all problems at once, each with its path; a file only ever narrows."""

from __future__ import annotations

from collections.abc import Sized

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit.ijson import JsonValue
from stage3_service.adapters.json_schema import compile_schema
from stage3_service.domains.declaration import Catalogue, MethodDeclaration, Repetition
from stage3_service.domains.declarations_reading import DeclarationsRefused
from stage3_service.domains.parse_declarations import MAX_DOMAINS, parse_declarations

_SCHEMA = (
    b'{"additionalProperties":false,"properties":{"text":{"maxLength":10,"type":"string"}},'
    b'"type":"object"}'
)
_BUILTIN = {
    "text": {
        "upper": MethodDeclaration(
            "upper", "Upper.", 2.0, 1000, Repetition.IDEMPOTENT, _SCHEMA, compile_schema(_SCHEMA)
        ),
        "plain": MethodDeclaration("plain", "Plain.", 2.0, 1000, Repetition.NEITHER),
    },
}


def _parse(raw: JsonValue) -> Catalogue:
    return parse_declarations(raw, validators=compile_schema, builtin=_BUILTIN)


def _file(methods: JsonValue, **changes: JsonValue) -> JsonValue:
    domain = {"adapter": "builtin", "endpoint": "text", "methods": methods, **changes}
    return {"domains": {"words": domain}}


def _problems(raw: JsonValue) -> tuple[str, ...]:
    with pytest.raises(DeclarationsRefused) as caught:
        _parse(raw)
    return caught.value.problems


def test_only_named_methods_exist() -> None:
    """A file that names one of two methods offers one, unchanged, under the file's own name."""
    catalogue = _parse(_file({"upper": {}}))
    domain = catalogue.domain("words")
    assert domain is not None
    assert (domain.adapter, domain.endpoint) == ("builtin", "text")
    assert dict(domain.methods) == {"upper": _BUILTIN["text"]["upper"]}
    assert catalogue.domain("text") is None


def test_a_method_can_be_narrowed() -> None:
    """Shorter and smaller limits take the place of the builtin's own."""
    method = _parse(_file({"upper": {"max_duration_s": 1, "max_response_bytes": 10}})).method(
        "words", "upper"
    )
    assert method is not None
    assert (method.max_duration_s, method.max_response_bytes) == (1.0, 10)
    assert isinstance(method.max_duration_s, float)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("max_duration_s", 2.1, "over 0 and at most 2 seconds: a file may only narrow"),
        ("max_duration_s", 0, "over 0 and at most 2 seconds: a file may only narrow"),
        ("max_duration_s", True, "must be a number of seconds"),
        ("max_duration_s", "1", "must be a number of seconds"),
        ("max_duration_s", None, "must be a number of seconds"),
        ("max_response_bytes", 1001, "must be 1 to 1000: a file may only narrow"),
        ("max_response_bytes", 0, "must be 1 to 1000: a file may only narrow"),
        ("max_response_bytes", 10.0, "must be a whole number of bytes"),
        ("max_response_bytes", True, "must be a whole number of bytes"),
        ("parameters_schema", "{}", "must be a table: a JSON Schema"),
        ("parameters_schema", {"$ref": "https://elsewhere.test/x"}, "Retrieval is disabled"),
        ("parameters_schema", {"maximum": 2**60}, ""),
        ("retries", 3, "unknown key; known: max_duration_s, max_response_bytes, parameters_schema"),
        ("max_duration", 1, "unknown key; did you mean max_duration_s?"),
    ],
)
def test_a_wrong_method_key_is_refused_with_its_path(
    key: str, value: JsonValue, problem: str
) -> None:
    """One wrong value, one problem, naming where it stands."""
    (found,) = _problems(_file({"upper": {key: value}}))
    assert found.startswith(f"domains.words.methods.upper.{key}: ")
    assert problem in found


def test_a_file_schema_holds_beside_the_builtins_own() -> None:
    """Both must be satisfied: a file that allows everything does not lift the builtin's bound."""
    stricter: JsonValue = {"properties": {"text": {"pattern": "^a"}}}
    method = _parse(_file({"upper": {"parameters_schema": stricter}})).method("words", "upper")
    assert method is not None
    assert method.validator is not None
    assert method.validator.first_error({"text": "abc"}) is None
    assert method.validator.first_error({"text": "bcd"}) is not None
    assert method.validator.first_error({"text": "a" * 11}) is not None


def test_a_file_schema_for_a_method_without_one_is_the_whole_schema() -> None:
    """There is nothing to combine it with."""
    schema: JsonValue = {"required": ["x"]}
    method = _parse(_file({"plain": {"parameters_schema": schema}})).method("words", "plain")
    assert method is not None
    assert method.validator is not None
    assert method.parameters_schema_json == b'{"required":["x"]}'
    assert method.validator.first_error({}) is not None


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "objekt"}, ".type: "),
        (
            {"properties": {"text": {"maxLenght": 1}}},
            ".properties.text.maxLenght: unknown keyword; did you mean maxLength?",
        ),
        (
            {"properties": {"txt": {"maxLength": 1}}},
            ".properties.txt: the method has no property 'txt'; did you mean text?",
        ),
        (
            {"properties": {"a.b": {"maxLength": 1}}},
            ".properties.`a.b`: the method has no property 'a.b'",
        ),
    ],
)
def test_what_is_wrong_in_a_schema_is_named_where_it_stands(
    schema: JsonValue, problem: str
) -> None:
    """The path goes on into the schema as the file spells it, in the notation of bindings."""
    (found,) = _problems(_file({"upper": {"parameters_schema": schema}}))
    assert found.startswith(f"domains.words.methods.upper.parameters_schema{problem}")


def test_every_keyword_that_is_misspelt_is_named_at_once() -> None:
    """Two slips in one schema are two problems."""
    schema: JsonValue = {"propertys": {}, "properties": {"text": {"maxlength": 1}}}
    assert len(_problems(_file({"upper": {"parameters_schema": schema}}))) == 2


def test_a_method_without_a_schema_takes_any_property() -> None:
    """It closes no list of names that a declared schema could miss."""
    schema: JsonValue = {"properties": {"anything": {"maxLength": 1}}}
    assert _parse(_file({"plain": {"parameters_schema": schema}})).method("words", "plain")


def test_a_reference_in_a_file_schema_leads_where_the_file_says() -> None:
    """Standing beside the builtin's own schema changes none of its references."""
    schema: JsonValue = {
        "$defs": {"short": {"maxLength": 2}},
        "properties": {"text": {"$ref": "#/$defs/short"}},
    }
    method = _parse(_file({"upper": {"parameters_schema": schema}})).method("words", "upper")
    assert method is not None
    assert method.validator is not None
    assert method.validator.first_error({"text": "ab"}) is None
    assert method.validator.first_error({"text": "abc"}) is not None


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (None, "document: must be a table with the one key 'domains'"),
        ([], "document: must be a table with the one key 'domains'"),
        ({}, "domains: must be a table that declares at least one domain"),
        ({"domains": {}}, "domains: must be a table that declares at least one domain"),
        ({"domains": []}, "domains: must be a table that declares at least one domain"),
        ({"domains": {"words": 5}}, "domains.words: must be a table"),
        ({"domains": {"words": {}}}, "domains.words: lacks adapter, endpoint, methods"),
        ({"domains": {"Words": {}}}, "domains.Words: a domain name has the form"),
        ({"domains": {"stage3": {}}}, "domains.stage3: this name is reserved"),
        (_file({}, adapter="grpcc"), "domains.words.adapter: must be one of: builtin"),
        (_file({}, adapter=5), "domains.words.adapter: must be one of: builtin"),
        (_file({}, endpoint="txt"), "domains.words.endpoint: must name a builtin domain: text"),
        (_file({}, endpoint=["text"]), "domains.words.endpoint: must name a builtin domain: text"),
        (_file({}), "domains.words.methods: must be a table that names at least one method"),
        (_file(["upper"]), "domains.words.methods: must be a table that names at least one method"),
        (_file({"uper": {}}), "domains.words.methods.uper: no such method; did you mean upper?"),
        (_file({"upper": []}), "domains.words.methods.upper: must be a table"),
        (_file({"upper": {}}, method={}), "domains.words.method: unknown key; did you mean"),
    ],
)
def test_a_malformed_file_is_refused_with_the_path_and_the_reason(
    raw: JsonValue, problem: str
) -> None:
    """The first problem names what to correct."""
    assert _problems(raw)[0].startswith(problem)


def test_an_unknown_top_level_key_is_refused_with_a_suggestion() -> None:
    """Also when the right key stands beside it."""
    raw: JsonValue = {"domain": {}, "domains": {"words": {}}}
    assert _problems(raw)[0] == "domain: unknown key; did you mean domains?"


def test_every_problem_is_named_at_once() -> None:
    """A person corrects a file once, not once per problem."""
    raw: JsonValue = {
        "domains": {
            "words": {"adapter": "builtin", "endpoint": "text", "methods": {"a": {}, "b": {}}},
            "planner": {},
            "more": {"adapter": "builtin", "endpoint": "text"},
        },
        "version": 1,
    }
    assert len(_problems(raw)) == 5


def test_too_many_domains_are_refused() -> None:
    """The bound is inclusive."""
    domain: JsonValue = {"adapter": "builtin", "endpoint": "text", "methods": {"upper": {}}}
    most = {f"d{number}": domain for number in range(MAX_DOMAINS)}
    assert len(_parse({"domains": most}).domains) == MAX_DOMAINS
    more = {**most, "one_more": domain}
    assert "257 domains, 256 are allowed" in _problems({"domains": more})[0]


_JSON: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["domains", "words", "adapter", "endpoint", "methods", "upper", "x", "text"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(_JSON)
def test_any_value_gives_a_catalogue_or_problems(raw: JsonValue) -> None:
    """Nothing a file may contain makes the parser raise anything else."""
    try:
        found: Sized = _parse(raw).domains
    except DeclarationsRefused as refused:
        found = refused.problems
    assert found
