"""The order of the validator's rules: of two faults, the earlier rule's is told.

Every pair of faults is put into one document; a lawful one and each fault alone are the controls.
"""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from stage4_service.limits import PlanLimits
from stage4_service.plan_validator import PlanInvalid, Violation, first_violation

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = PlanLimits()
STEP = {"domain": "text", "method": "upper", "parameters": {"a": 1}}
BINDING = {"source_step": 0, "source_path": "a", "target_step": 1, "target_path": "b"}
LAWFUL: dict[str, Any] = {
    "user_id": "ada",
    "token_hash": "t",
    "trigger_type": "manual",
    "steps": [STEP, STEP],
    "data_bindings": [BINDING],
}


def put(*way: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return an edit that puts a value somewhere; where there is no such place it does nothing."""

    def edit(plan: dict[str, Any]) -> None:
        place: Any = plan
        with suppress(KeyError, IndexError, TypeError):
            for key in way[:-1]:
                place = place[key]
            # Anew each time: nothing of a plan is shared with another, or with itself.
            place[way[-1]] = json.loads(json.dumps(value))

    return edit


def drop(*way: str | int) -> Callable[[dict[str, Any]], None]:
    """Return an edit that takes a member away, if it is there."""

    def edit(plan: dict[str, Any]) -> None:
        place: Any = plan
        with suppress(KeyError, IndexError, TypeError):
            for key in way[:-1]:
                place = place[key]
            del place[way[-1]]

    return edit


# In the order of docs/spec/plan.md; each with the path that it is told at, and a word of it.
FAULTS: list[tuple[str, str, Callable[[dict[str, Any]], None]]] = [
    ("user_id", "missing", drop("user_id")),
    ("token_hash", "missing", drop("token_hash")),
    ("trigger_type", "missing", drop("trigger_type")),
    ("steps", "missing", drop("steps")),
    ("another", "unexpected", put("another", value=1)),
    ("user_id", "string", put("user_id", value=1)),
    ("user_id", "empty", put("user_id", value="")),
    ("token_hash", "string", put("token_hash", value=None)),
    ("trigger_type", "empty", put("trigger_type", value="")),
    ("steps", "array", put("steps", value={})),
    ("data_bindings", "array", put("data_bindings", value=None)),
    ("steps", "at least", put("steps", value=[])),
    ("steps[0]", "object", put("steps", 0, value=[])),
    ("steps[0].domain", "missing", drop("steps", 0, "domain")),
    ("steps[0].method", "missing", drop("steps", 0, "method")),
    ("steps[0].parameters", "missing", drop("steps", 0, "parameters")),
    ("steps[0].extra", "unexpected", put("steps", 0, "extra", value=1)),
    ("steps[0].domain", "string", put("steps", 0, "domain", value=1)),
    ("steps[0].method", "string", put("steps", 0, "method", value=1)),
    ("steps[0].parameters", "object", put("steps", 0, "parameters", value=[])),
    ("steps[0].domain", "match", put("steps", 0, "domain", value="A")),
    ("steps[0].method", "match", put("steps", 0, "method", value="A")),
    ("steps[1]", "object", put("steps", 1, value=None)),
    ("data_bindings[0]", "object", put("data_bindings", 0, value=[])),
    ("data_bindings[0].source_step", "missing", drop("data_bindings", 0, "source_step")),
    ("data_bindings[0].extra", "unexpected", put("data_bindings", 0, "extra", value=1)),
    ("data_bindings[0].source_step", "integer", put("data_bindings", 0, "source_step", value=True)),
    ("data_bindings[0].target_step", "integer", put("data_bindings", 0, "target_step", value=1.0)),
    ("data_bindings[0].source_path", "string", put("data_bindings", 0, "source_path", value=1)),
    ("data_bindings[0].source_path", "dot", put("data_bindings", 0, "source_path", value="")),
    ("data_bindings[0].target_path", "string", put("data_bindings", 0, "target_path", value=1)),
    ("data_bindings[0].target_path", "dot", put("data_bindings", 0, "target_path", value="a.")),
    (
        "data_bindings[0].expected_type",
        "one of",
        put("data_bindings", 0, "expected_type", value="text"),
    ),
    ("data_bindings[0].source_step", "no step", put("data_bindings", 0, "source_step", value=-1)),
    ("data_bindings[0].target_step", "no step", put("data_bindings", 0, "target_step", value=1000)),
    ("data_bindings[0].target_step", "after", put("data_bindings", 0, "target_step", value=0)),
    ("steps[1].parameters.x", "U+0000", put("steps", 1, "parameters", "x", value="\0")),
    ("steps", "at most", put("steps", value=[STEP] * 65)),
    ("data_bindings", "at most", put("data_bindings", value=[BINDING] * 65)),
    ("user_id", "bytes", put("user_id", value="x" * 300)),
    ("user_id", "control", put("user_id", value="a\n")),
    ("token_hash", "bytes", put("token_hash", value="\n" * 300)),
    ("trigger_type", "control", put("trigger_type", value="\x7f")),
    (
        "data_bindings[0].source_path",
        "bytes",
        put("data_bindings", 0, "source_path", value=".".join("a" * 700)),
    ),
    (
        "data_bindings[0].source_path",
        "segments",
        put("data_bindings", 0, "source_path", value=".".join("a" * 33)),
    ),
    (
        "data_bindings[0].target_path",
        "bytes",
        put("data_bindings", 0, "target_path", value="x" * 2000),
    ),
]


def told(*edits: Callable[[dict[str, Any]], None]) -> Violation | None:
    """Return what is told of the lawful plan after these edits."""
    plan = json.loads(json.dumps(LAWFUL))
    for edit in edits:
        edit(plan)
    return first_violation(plan)


def test_a_lawful_plan_has_no_fault() -> None:
    """The control: without it all below could be told of any plan."""
    assert told() is None


@pytest.mark.parametrize(
    ("path", "word", "edit"), FAULTS, ids=[f"{path}-{word}" for path, word, _ in FAULTS]
)
def test_each_fault_alone_is_told_where_it_is(
    path: str, word: str, edit: Callable[[dict[str, Any]], None]
) -> None:
    """Path and description are the fault's own."""
    violation = told(edit)
    assert violation is not None
    assert (violation.path, word in violation.description) == (path, True), violation


def test_of_two_faults_the_earlier_rule_is_told() -> None:
    """Every pair, the later fault put in first so that the earlier one may take its place."""
    for (path, word, earlier), (_path, _word, later) in combinations(FAULTS, 2):
        violation = told(later, earlier)
        assert violation is not None
        assert violation.path == path, (path, word, _path, _word, violation)
        assert word in violation.description, (path, word, _path, _word, violation)


def test_a_refusal_raised_says_what_the_verdict_says() -> None:
    """Path and description, in one text, and the violation beside it."""
    violation = Violation("steps", "must be an array")
    raised = PlanInvalid(violation)
    assert str(raised) == "steps: must be an array"
    assert raised.violation is violation


@pytest.mark.parametrize("value", [None, True, 1, "plan", [], [LAWFUL], ()])
def test_what_is_no_object_is_refused_before_any_rule(value: Any) -> None:
    """The path is the plan's own, which has no name."""
    assert first_violation(value) == Violation("", "plan is not a JSON object")


def test_limits_on_counts_are_inclusive() -> None:
    """As many as the limit says are lawful; one more is not."""
    most = {**LAWFUL, "steps": [STEP] * 64, "data_bindings": [BINDING] * 64}
    assert first_violation(most) is None
    assert first_violation({**most, "steps": [STEP] * 65}) == Violation(
        "steps", "must hold at most 64 steps"
    )
    assert first_violation({**most, "data_bindings": [BINDING] * 65}) == Violation(
        "data_bindings", "must hold at most 64 bindings"
    )


@pytest.mark.parametrize("path", ["`a`b", "`a`bc", "`a``", "a`b", "`a`.`", "`a` .b"])
def test_text_behind_a_closing_backtick_is_no_path(path: str) -> None:
    """A segment ends at a dot or at the end."""
    violation = told(put("data_bindings", 0, "target_path", value=path))
    assert violation == Violation("data_bindings[0].target_path", "must be dot-separated segments")


@pytest.mark.parametrize(
    "expected", ["string", "integer", "number", "boolean", "object", "array", "null"]
)
def test_each_type_that_may_be_expected_is_lawful(expected: str) -> None:
    """By its exact name."""
    assert told(put("data_bindings", 0, "expected_type", value=expected)) is None
    assert told(put("data_bindings", 0, "expected_type", value=expected.upper())) is not None


def test_a_step_just_behind_the_last_is_no_step() -> None:
    """Indexes end one before the number of steps."""
    violation = told(put("data_bindings", 0, "target_step", value=2))
    assert violation == Violation("data_bindings[0].target_step", "names no step of this plan")


def test_limits_on_texts_and_paths_are_inclusive() -> None:
    """As many bytes or segments as the limit says are lawful; one more is not."""
    most = LIMITS.max_identifier_bytes
    assert told(put("user_id", value="x" * most)) is None
    assert told(put("user_id", value="x" * (most + 1))) is not None
    path = put("data_bindings", 0, "target_path", value="x" * LIMITS.max_path_bytes)
    assert told(path) is None
    segments = LIMITS.max_path_segments
    assert told(put("data_bindings", 0, "source_path", value=".".join("a" * segments))) is None
    longer = put("data_bindings", 0, "source_path", value=".".join("a" * (segments + 1)))
    assert told(longer) is not None
