"""Both services refuse the same plans at the same place, by code of their own.

Stage-3 trusts nothing that Stage-4 found; that the two agree is what makes Stage-4's earlier
answer true.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from stage3_service.plan.limits import PlanLimits
from stage3_service.plan.parse import PlanInvalid, parse_plan
from stage4_service.plan_validator import first_violation
from tests.unit.stage3.plan.raw_plans import raw_from_document

LAWFUL: dict[str, Any] = {
    "user_id": "alice",
    "token_hash": "t",
    "trigger_type": "manual",
    "steps": [{"domain": "text", "method": "upper", "parameters": {"a": 1}} for _ in range(3)],
    "data_bindings": [
        {"source_step": 0, "source_path": "a", "target_step": 1, "target_path": "b.c"},
        {"source_step": 1, "source_path": "a", "target_step": 2, "target_path": "b"},
    ],
}
TEXTS = st.sampled_from(
    [
        *("", "a", "A", "a.b", "a..b", "`a.b`", "`a", "``", "a\n", "a\u2028", "é", "é" * 600),
        *("x" * 257, "a" * 64, "a" * 65, ".".join("a" * 32), ".".join("a" * 33)),
        *("string", "null", "any", "0"),
    ]
)
STEPS = st.integers(-1, 3)
EDITS: st.SearchStrategy[list[tuple[Any, ...]]] = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["user_id", "token_hash", "trigger_type"]), TEXTS),
        st.tuples(
            st.just("steps"), st.integers(0, 2), st.sampled_from(["domain", "method"]), TEXTS
        ),
        st.tuples(
            st.just("steps"),
            st.integers(0, 2),
            st.just("parameters"),
            st.sampled_from(
                [{}, [], None, {"a": {"b": [0, "\x00"]}}, {"k" * 129: 0}, {"a": 2**53}]
            ),
        ),
        st.tuples(
            st.just("data_bindings"),
            st.integers(0, 1),
            st.sampled_from(["source_step", "target_step"]),
            STEPS,
        ),
        st.tuples(
            st.just("data_bindings"),
            st.integers(0, 1),
            st.sampled_from(["source_path", "target_path", "expected_type"]),
            TEXTS,
        ),
    ),
    max_size=3,
)


def edited(edits: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Return the lawful plan with some of its members replaced."""
    document = copy.deepcopy(LAWFUL)
    for *way, last, value in edits:
        member: Any = document
        for key in way:
            member = member[key]
        member[last] = value
    return document


@given(EDITS)
@example([])
@example([("steps", [])])
@example([("steps", LAWFUL["steps"] * 22)])
@example([("data_bindings", LAWFUL["data_bindings"] * 33)])
@example([("data_bindings", [])])
def test_the_first_fault_is_at_the_same_place(edits: list[tuple[Any, ...]]) -> None:
    """Accepted by one, accepted by the other; refused by one, refused there by the other."""
    document = edited(edits)
    violation = first_violation(document)
    try:
        parse_plan(raw_from_document(document), PlanLimits())
    except PlanInvalid as caught:
        invalid: PlanInvalid | None = caught
    else:
        invalid = None
    assert (invalid is None) == (violation is None), (invalid, violation)
    # Stage-3 reads the parameters of a step behind its names, and bounds a path where it reads it;
    # Stage-4 has some of both before and after everything else.
    places = {fault.path for fault in (invalid, violation) if fault is not None}
    elsewhere = [p for p in places if ".parameters" not in p and "_path" not in p]
    assert len(places) <= 1 or len(elsewhere) <= 1
