"""A plan that was validated stays what it was, and says no more of itself than it should."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest

from stage4_service import Stage4ExecutionPlan
from stage4_service.frozen_json import FrozenArray, FrozenObject, freeze, thaw
from stage4_service.limits import PlanLimits
from stage4_service.plan_validator import PlanInvalid
from tests.fakes.plans import PLAN, TOKEN, a_plan, a_plan_without, a_step


def test_the_constructor_takes_none_for_no_bindings() -> None:
    """Expect None to be absence, while in a document null is refused."""
    plan = Stage4ExecutionPlan(**a_plan(data_bindings=None))
    assert plan.data_bindings is None
    assert plan == Stage4ExecutionPlan(**a_plan_without("data_bindings"))
    assert plan != Stage4ExecutionPlan(**a_plan(data_bindings=[]))


def test_a_plan_can_be_made_of_another_plans_parts() -> None:
    """Expect frozen parts to be taken for the lists and dicts they equal."""
    plan = Stage4ExecutionPlan(**a_plan())
    again = Stage4ExecutionPlan(**a_plan(steps=plan.steps, data_bindings=plan.data_bindings))
    assert again == plan
    assert again.copy() == PLAN


def test_no_way_around_the_setters_changes_a_plan() -> None:
    """Expect a second construction and `object.__setattr__` to leave a valid plan as it was."""
    plan = Stage4ExecutionPlan(**a_plan())
    step: Any = plan.steps[0]
    initialize: Any = plan.__init__  # type: ignore[misc]
    initialize(**a_plan(user_id="eve"))
    step.__init__({"domain": "other"})
    for holder, slot in ((plan, "_document"), (step, "_members")):
        with pytest.raises(AttributeError):
            object.__setattr__(holder, slot, FrozenObject({}))
        with pytest.raises(AttributeError):
            object.__delattr__(holder, slot)
    assert plan.copy() == PLAN


def test_a_plan_has_no_subclass_that_could_answer_for_it() -> None:
    """Expect `isinstance` to mean that the fields are those that were validated."""
    with pytest.raises(TypeError, match="no subclasses"):
        type("Other", (Stage4ExecutionPlan,), {})
    with pytest.raises(PlanInvalid):
        Stage4ExecutionPlan.__new__(Stage4ExecutionPlan)


def test_a_plan_equals_plans_only_and_has_no_hash() -> None:
    """Expect no accidental equality with a document, and no use as a key."""
    plan: object = Stage4ExecutionPlan(**a_plan())
    assert plan != PLAN
    with pytest.raises(TypeError):
        hash(plan)


def test_the_credential_is_masked_where_a_plan_is_printed() -> None:
    """Expect every other member to be shown."""
    shown = f"{Stage4ExecutionPlan(**a_plan())!r}"
    assert TOKEN not in shown
    assert "user_id='ada'" in shown
    assert "'method': 'upper'" in shown


def test_a_plan_is_copied_by_not_copying_and_never_pickled() -> None:
    """Expect identity from copy and deepcopy, and a refusal from pickle."""
    plan = Stage4ExecutionPlan(**a_plan())
    assert copy.copy(plan) is plan
    assert copy.deepcopy(plan) is plan
    with pytest.raises(TypeError, match="credential"):
        pickle.dumps(plan)


def test_what_is_validated_is_what_is_kept() -> None:
    """Expect a document that changes in another thread to be taken as it was at one moment."""
    document = a_plan(steps=[a_step(parameters={"n": 0})], data_bindings=[])
    stop = threading.Event()

    def spoil() -> None:
        while not stop.is_set():
            document["steps"][0]["parameters"]["n"] = {1, 2}
            document["steps"][0]["parameters"]["n"] = 0

    thread = threading.Thread(target=spoil)
    thread.start()
    try:
        for _ in range(300):
            try:
                plan = Stage4ExecutionPlan(**document)
            except PlanInvalid:
                continue
            assert plan.steps[0]["parameters"]["n"] == 0
    finally:
        stop.set()
        thread.join()


def test_limits_are_those_that_were_given() -> None:
    """Expect the same document to pass one set of limits and break another."""
    assert Stage4ExecutionPlan.from_document(a_plan(), PlanLimits(max_steps=3)).user_id == "ada"
    with pytest.raises(PlanInvalid) as refused:
        Stage4ExecutionPlan.from_document(a_plan(), PlanLimits(max_steps=2))
    assert refused.value.violation.path == "steps"


@pytest.mark.parametrize("value", [[], {}, [1, [2, {"a": None}]], {"a": [True, "x", 1.5]}])
def test_frozen_values_equal_what_they_were_made_of(value: Any) -> None:
    """Expect equality both ways, equal text, and a copy that shares nothing."""
    frozen = freeze(value)
    assert frozen == value
    assert value == frozen
    assert not frozen != value  # noqa: SIM202 - the operator is under test
    assert repr(frozen) == repr(value)
    assert thaw(frozen) == value
    assert type(thaw(frozen)) is type(value)
    assert copy.copy(frozen) is frozen
    assert copy.deepcopy(frozen) is frozen


def test_frozen_values_differ_from_everything_else() -> None:
    """Expect no equality with other types or other content."""
    assert freeze([1]) != {"0": 1}
    assert freeze([1]) != [2]
    assert freeze({}) != []
    assert freeze([1]) == (1,)
    assert thaw(freeze("text")) == "text"


def test_frozen_values_cannot_be_changed_or_hashed() -> None:
    """Expect AttributeError, TypeError, and no place in a set."""
    array, members = FrozenArray([1]), FrozenObject({"a": 1})
    with pytest.raises(AttributeError):
        members._members = {}
    with pytest.raises(AttributeError):
        del members._members
    with pytest.raises(AttributeError):
        array.extra = 1  # type: ignore[attr-defined]
    for value in (array, members):
        with pytest.raises(TypeError):
            hash(value)
    assert (list(members), len(members), members["a"]) == (["a"], 1, 1)


def test_only_json_is_frozen() -> None:
    """Expect a TypeError for anything that no JSON parser makes."""
    with pytest.raises(TypeError, match="set is not a JSON value"):
        freeze({"a": {1}})
