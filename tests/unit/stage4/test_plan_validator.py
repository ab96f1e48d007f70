"""The rules at their edges: order, paths, limits, and documents that nobody thought of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit.ijson import JsonLimits, JsonRefused, parse
from stage4_service import Stage4ExecutionPlan, validate_strict_json_plan
from stage4_service.limits import PlanLimits
from stage4_service.plan_document import read_plan_document
from stage4_service.plan_validator import (
    PlanInvalid,
    Violation,
    first_violation,
    render_path,
)
from tests.fakes.plans import a_binding, a_plan, a_plan_without, a_step


def _limited(plan: object, **limits: int) -> Violation | None:
    return first_violation(plan, PlanLimits(**limits))


def _one_step(**parameters: Any) -> dict[str, Any]:
    return a_plan_without("data_bindings", steps=[a_step(parameters=parameters)])


@pytest.mark.parametrize(
    ("plan", "limits", "path", "words"),
    [
        (a_plan(), {"max_steps": 2}, "steps", "at most 2 steps"),
        (a_plan(), {"max_bindings": 0}, "data_bindings", "at most 0 bindings"),
        (a_plan(user_id="ada"), {"max_identifier_bytes": 2}, "user_id", "at most 2 bytes"),
        (a_plan(user_id="äda"), {"max_identifier_bytes": 48}, "token_hash", "at most 48 bytes"),
        (a_plan(user_id="a\nb"), {}, "user_id", "control character"),
        (a_plan(trigger_type="a\u2028"), {}, "trigger_type", "control character"),
        (a_plan(), {"max_path_bytes": 3}, "data_bindings[0].source_path", "at most 3 bytes"),
        (
            a_plan(data_bindings=[a_binding(target_path="a.b.c")]),
            {"max_path_segments": 2},
            "data_bindings[0].target_path",
            "at most 2 segments",
        ),
        (
            a_plan(data_bindings=[a_binding(source_path="a\x7f")]),
            {},
            "data_bindings[0].source_path",
            "control character",
        ),
        (_one_step(a=[[]]), {"max_depth": 5}, "steps[0].parameters.a[0]", "deeper than 5"),
        (_one_step(a="xyz"), {"max_string_bytes": 2}, "user_id", "longer than 2 bytes"),
        (_one_step(ab=1), {"max_key_bytes": 3}, "", "key is longer than 3 bytes"),
        (_one_step(a=[1, 2, 3]), {"max_values": 9}, "steps[0].parameters.a", "more than 9 values"),
    ],
)
def test_a_limit_that_is_passed_is_named(
    plan: dict[str, Any], limits: dict[str, int], path: str, words: str
) -> None:
    """Expect the place and the limit, and no complaint one step below it."""
    violation = _limited(plan, **limits)
    assert violation is not None
    assert violation.path == path
    assert words in violation.description


@pytest.mark.parametrize(
    ("limits", "fits"),
    [
        ({"max_depth": 7}, True),
        ({"max_depth": 6}, False),
        ({"max_values": 14}, True),
        ({"max_values": 13}, False),
        ({"max_key_bytes": 12}, True),
        ({"max_key_bytes": 11}, False),
        ({"max_string_bytes": 49}, True),
        ({"max_string_bytes": 48}, False),
    ],
)
def test_limits_are_inclusive_and_those_of_the_parser(limits: dict[str, int], fits: bool) -> None:
    """Expect the same verdict from the rules and from the parser, exactly at the limit."""
    plan = _one_step(a=[{"é": [1, 2]}])
    assert (_limited(plan, **limits) is None) is fits
    known: dict[str, Any] = limits
    try:
        parse(json.dumps(plan, ensure_ascii=False).encode(), JsonLimits(**known))
    except JsonRefused:
        assert not fits
    else:
        assert fits


def test_a_rule_that_is_broken_comes_before_a_limit_that_is_passed() -> None:
    """Expect rule 8 before the limits on counts, wherever in the document each stands."""
    plan = _one_step(long="x" * 70_000, bad={1})
    violation = first_violation(plan)
    assert violation == Violation("steps[0].parameters.bad", "is not a JSON value")
    plan = a_plan(steps=[a_step()] * 65, data_bindings=[a_binding(source_path=1)])
    violation = first_violation(plan)
    assert violation is not None
    assert violation.path == "data_bindings[0].source_path"


def test_a_field_name_that_is_no_string_is_refused_without_being_shown() -> None:
    """Expect the same words whatever the key is, and string keys to be named first."""
    plan: dict[Any, Any] = {**a_plan(), 1: 2}
    assert first_violation(plan) == Violation("", "has a field name that is not a string")
    assert first_violation({**plan, "z": 3}) == Violation("z", "unexpected field")


@pytest.mark.parametrize(
    ("segments", "path"),
    [
        ((), ""),
        (("a", 0, "b"), "a[0].b"),
        (("a b", "c.d"), "`a b`.`c.d`"),
        (("x" * 70,), "`" + "x" * 64 + "`"),
        (("\n", "é"), "`?`.`\\xe9`"),
        ((1,), "[1]"),
    ],
)
def test_paths_are_spelled_alike_and_harmlessly(segments: Any, path: str) -> None:
    """Expect odd keys in backticks, cut and escaped."""
    assert render_path(segments) == path


@pytest.mark.parametrize(
    "path", ["a", "a.b", "0", "a.0.b", "`a.b`", "`a``b`", "``", "`.`.`.`", "é.ü", "a b"]
)
def test_well_formed_binding_paths(path: str) -> None:
    """Expect keys, indexes and quoted keys."""
    assert first_violation(a_plan(data_bindings=[a_binding(source_path=path)])) is None


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "`", "`a", "a`", "`a`b", "a.`b`c"])
def test_malformed_binding_paths(path: str) -> None:
    """Expect an empty segment and a backtick out of place to be refused."""
    violation = first_violation(a_plan(data_bindings=[a_binding(source_path=path)]))
    assert violation == Violation("data_bindings[0].source_path", "must be dot-separated segments")


def test_a_document_gives_each_step_the_bytes_it_was_written_in() -> None:
    """Expect spans without the white space around them, and the digest of the plan."""
    text = json.dumps(a_plan(steps=[], data_bindings=[])).replace(
        '"steps": []',
        '"steps":[{"parameters" :  {"a" : 1.0}  ,"domain":"d","method":"m"},'
        '{"domain":"d","method":"m","parameters":{}}]',
    )
    document = read_plan_document(text.encode(), PlanLimits())
    assert document.parameters_json == (b'{"a" : 1.0}', b"{}")
    assert len(document.digest) == 32
    with pytest.raises(PlanInvalid) as refused:
        read_plan_document(b'{"user_id": 1, "user_id": 1}', PlanLimits())
    assert refused.value.violation.path == "user_id"


def test_a_document_that_spells_null_for_its_bindings_is_refused() -> None:
    """Expect the parsed document and its bytes to be refused, though the constructor takes None."""
    document = a_plan(data_bindings=None)
    for refuse in (
        lambda: Stage4ExecutionPlan.from_document(document),
        lambda: read_plan_document(json.dumps(document).encode(), PlanLimits()),
    ):
        with pytest.raises(PlanInvalid, match="data_bindings: must be an array"):
            refuse()
    assert Stage4ExecutionPlan(**document).data_bindings is None


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["text", "upper", "ada", "a.b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["domain", "method", "parameters", "source_step", "a", "é"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
FIELDS = ["user_id", "token_hash", "trigger_type", "steps", "data_bindings", "more"]


@pytest.mark.parametrize("number", [10**400, -(10**400), 2**53, 2**1024])
def test_an_integer_of_any_size_gets_a_verdict(number: int) -> None:
    """Expect the same words for an integer that not even a double could hold."""
    assert validate_strict_json_plan(_one_step(x=number)) == (
        False,
        "steps[0].parameters.x: is an integer beyond ±(2^53-1)",
    )


def test_a_key_that_refuses_to_be_compared_gets_a_verdict() -> None:
    """Expect the validator to ask no question of a key that only strings answer."""

    class Key:
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            raise AssertionError

    document: dict[Any, Any] = a_plan()
    document[Key()] = 1
    verdict = validate_strict_json_plan(document)
    assert verdict == (False, "has a field name that is not a string")


@given(st.dictionaries(st.sampled_from(FIELDS), anything), st.booleans())
def test_no_document_makes_the_validator_raise_or_waver(
    changes: dict[str, Any], whole: bool
) -> None:
    """Expect a verdict for everything, the same each time, and the constructor to agree with it."""
    document = {**a_plan(), **changes} if whole else changes
    verdict = validate_strict_json_plan(document)
    assert validate_strict_json_plan(document) == verdict
    if verdict[0]:
        assert Stage4ExecutionPlan(**document).copy() == document
        spelled = json.dumps(document, ensure_ascii=False).encode()
        assert read_plan_document(spelled, PlanLimits()).plan.copy() == document
    else:
        with pytest.raises(PlanInvalid) as refused:
            Stage4ExecutionPlan.from_document(document)
        assert str(refused.value) == verdict[1]
