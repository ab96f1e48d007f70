"""The promised catalogue: what Stage-4 accepts as a plan, and that nothing else gets in."""

import copy
import json
import subprocess
import sys
from typing import Any

import pytest

from stage4_service import Stage4ExecutionPlan, validate_strict_json_plan
from tests.fakes.plans import PLAN, a_binding, a_plan, a_plan_without, a_step


def _refusal_of(plan: Any) -> Any:
    is_valid, error = validate_strict_json_plan(plan)
    assert is_valid is False
    assert error
    return error


class TestRequiredFields:
    """Rule 1: the four required fields are present."""

    def test_a_complete_plan_is_valid(self) -> None:
        """Expect no error for the plan every other test changes in one place."""
        assert validate_strict_json_plan(a_plan()) == (True, None)

    @pytest.mark.parametrize("field", ["user_id", "token_hash", "trigger_type", "steps"])
    def test_a_missing_field_is_named(self, field: Any) -> None:
        """Expect the path of the missing field, for each of the four."""
        assert _refusal_of(a_plan_without(field)) == f"{field}: required field is missing"

    def test_the_first_missing_field_wins(self) -> None:
        """Expect the order of the contract, whatever the order of the document."""
        assert _refusal_of({"steps": []}).startswith("user_id")

    def test_data_bindings_are_optional(self) -> None:
        """Expect a plan without them to be valid."""
        assert validate_strict_json_plan(a_plan_without("data_bindings")) == (True, None)

    @pytest.mark.parametrize("document", [None, [], "plan", 1, 1.5, True, ({},), {1, 2}])
    def test_what_is_not_an_object_is_refused_first(self, document: Any) -> None:
        """Expect one answer for every parsed value that is not an object."""
        assert _refusal_of(document) == "plan is not a JSON object"


class TestNoExtraFields:
    """Rule 2: a plan holds nothing that nobody asked for."""

    @pytest.mark.parametrize("field", ["schedule", "retry", "User_id", "user_id ", ""])
    def test_an_extra_field_is_refused_by_name(self, field: Any) -> None:
        """Expect the name of the field, look-alikes of known names included."""
        assert "unexpected field" in _refusal_of(a_plan(**{field: 1}))

    def test_of_several_extra_fields_the_same_one_is_named_in_every_process(self) -> None:
        """Expect the first in sorted order, not in an order that hashing decides."""
        code = (
            "from stage4_service import validate_strict_json_plan as v; import json, sys;"
            "print(v(json.loads(sys.argv[1])))"
        )
        plan = a_plan(zeta=1, alpha=2, middle=3)
        answers = {
            subprocess.run(
                [sys.executable, "-c", code, json.dumps(plan)],
                env={"PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in ("0", "1", "2")
        }
        assert answers == {"(False, 'alpha: unexpected field')\n"}


class TestTypeValidation:
    """Rule 3: the five fields have their types."""

    @pytest.mark.parametrize("field", ["user_id", "token_hash", "trigger_type"])
    @pytest.mark.parametrize("value", [None, 1, True, ["a"], {"a": 1}, b"bytes"])
    def test_the_identifiers_are_strings(self, field: Any, value: Any) -> None:
        """Expect a refusal of every other type, at the field."""
        assert _refusal_of(a_plan(**{field: value})) == f"{field}: must be a string"

    @pytest.mark.parametrize("field", ["user_id", "token_hash", "trigger_type"])
    def test_the_identifiers_are_not_empty(self, field: Any) -> None:
        """Expect an empty string to be as good as none."""
        assert _refusal_of(a_plan(**{field: ""})) == f"{field}: must not be empty"

    @pytest.mark.parametrize("field", ["steps", "data_bindings"])
    @pytest.mark.parametrize("value", [None, "x", 1, {}, (), {"0": {}}])
    def test_the_lists_are_arrays(self, field: Any, value: Any) -> None:
        """Expect a refusal of every other type; null is not an absent list."""
        assert _refusal_of(a_plan(**{field: value})).startswith(f"{field}: must be an array")


class TestStepsValidation:
    """Rules 4 and 5: at least one step, and each is a step."""

    def test_a_plan_without_steps_is_refused(self) -> None:
        """Expect an empty list to be refused: a plan that does nothing is a mistake."""
        assert _refusal_of(a_plan(steps=[])) == "steps: must hold at least one step"

    @pytest.mark.parametrize("step", [None, "upper", 1, ["text", "upper", {}]])
    def test_a_step_is_an_object(self, step: Any) -> None:
        """Expect the index of the step that is something else."""
        assert _refusal_of(a_plan(steps=[a_step(), step])) == "steps[1]: must be an object"

    @pytest.mark.parametrize("field", ["domain", "method", "parameters"])
    def test_a_step_has_its_three_fields(self, field: Any) -> None:
        """Expect the path of the missing field; there is no default for any."""
        step = a_step()
        del step[field]
        assert _refusal_of(a_plan(steps=[step])) == f"steps[0].{field}: required field is missing"

    def test_a_step_has_no_other_field(self) -> None:
        """Expect conditions, retries and names of steps to be refused."""
        for field in ("condition", "retry", "id", "on_error"):
            assert (
                _refusal_of(a_plan(steps=[a_step(**{field: 1})]))
                == f"steps[0].{field}: unexpected field"
            )

    @pytest.mark.parametrize(
        ("field", "value", "error"),
        [
            ("domain", 1, "must be a string"),
            ("method", None, "must be a string"),
            ("parameters", [], "must be an object"),
            ("parameters", None, "must be an object"),
            ("parameters", "{}", "must be an object"),
            ("domain", "", "must match"),
            ("domain", "Text", "must match"),
            ("domain", "text.upper", "must match"),
            ("domain", "te*t", "must match"),
            ("domain", "1text", "must match"),
            ("domain", "text\n", "must match"),
            ("domain", "ｔext", "must match"),
            ("domain", "a" * 65, "must match"),
            ("method", "upper ", "must match"),
            ("method", "_upper", "must match"),
        ],
    )
    def test_the_fields_of_a_step_have_their_types_and_names(
        self, field: Any, value: Any, error: Any
    ) -> None:
        """Expect exact types, and names of lower-case ASCII only."""
        assert _refusal_of(a_plan(steps=[a_step(**{field: value})])).startswith(
            f"steps[0].{field}: {error}"
        )


class TestDataBindingsValidation:
    """Rules 6 and 7: each binding is one, and points forward."""

    @pytest.mark.parametrize("field", ["source_step", "source_path", "target_step", "target_path"])
    def test_a_binding_has_its_four_fields(self, field: Any) -> None:
        """Expect the path of the missing field."""
        binding = a_binding()
        del binding[field]
        assert (
            _refusal_of(a_plan(data_bindings=[binding]))
            == f"data_bindings[0].{field}: required field is missing"
        )

    @pytest.mark.parametrize("binding", [None, [], "0.a -> 1.b", 1])
    def test_a_binding_is_an_object(self, binding: Any) -> None:
        """Expect the index of the binding that is something else."""
        error = _refusal_of(a_plan(data_bindings=[a_binding(), binding]))
        assert error == "data_bindings[1]: must be an object"

    def test_a_binding_has_no_other_field(self) -> None:
        """Expect transformations to be refused: a binding copies, it does not compute."""
        error = _refusal_of(a_plan(data_bindings=[a_binding(transform="upper")]))
        assert error == "data_bindings[0].transform: unexpected field"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("source_step", True),
            ("source_step", "0"),
            ("source_step", 0.0),
            ("source_step", None),
            ("target_step", False),
            ("source_path", 0),
            ("source_path", ""),
            ("source_path", "a..b"),
            ("source_path", ".a"),
            ("source_path", "a."),
            ("source_path", "a`b"),
            ("target_path", "`open"),
            ("target_path", "`a`b"),
            ("target_path", None),
            ("expected_type", None),
            ("expected_type", "str"),
            ("expected_type", ["string"]),
        ],
    )
    def test_the_fields_of_a_binding_have_their_types(self, field: Any, value: Any) -> None:
        """Expect exact types: a bool is never a step, a float is never one either."""
        error = _refusal_of(a_plan(data_bindings=[a_binding(), a_binding(**{field: value})]))
        assert error.startswith(f"data_bindings[1].{field}: must be")

    @pytest.mark.parametrize(
        ("source", "target", "error"),
        [
            (-1, 1, "source_step: names no step"),
            (3, 1, "source_step: names no step"),
            (0, 3, "target_step: names no step"),
            (0, -1, "target_step: names no step"),
            (1, 1, "target_step: must come after"),
            (2, 1, "target_step: must come after"),
            (2, 0, "target_step: must come after"),
        ],
    )
    def test_a_binding_points_forward_between_steps_of_the_plan(
        self, source: Any, target: Any, error: Any
    ) -> None:
        """Expect out-of-range, self and backward references to be refused: no cycle can exist."""
        plan = a_plan(data_bindings=[a_binding(source_step=source, target_step=target)])
        assert _refusal_of(plan).startswith(f"data_bindings[0].{error}")

    @pytest.mark.parametrize(
        "bindings",
        [
            [],
            [a_binding(expected_type="string")],
            [a_binding(source_path="a.0.`b.c`.`d``e`", target_path="x.y")],
            [a_binding(), a_binding(source_step=1, target_step=2)],
        ],
    )
    def test_well_formed_bindings_are_valid(self, bindings: Any) -> None:
        """Expect none, typed, quoted and chained ones to be valid."""
        assert validate_strict_json_plan(a_plan(data_bindings=bindings)) == (True, None)


class TestJsonSerializable:
    """Rule 8: a plan is JSON and nothing else."""

    @pytest.mark.parametrize(
        "value",
        [
            {1, 2},
            (1, 2),
            b"bytes",
            object(),
            float("nan"),
            float("inf"),
            -0.0,
            1e300,
            2**53,
            -(2**53),
            "\ud800",
            "nul\x00",
            {1: "key"},
            {"\udfff": 1},
            {"k\x00": 1},
            lambda: 1,
        ],
    )
    def test_what_no_json_reader_would_agree_on_is_refused(self, value: Any) -> None:
        """Expect the path of the value inside the parameters."""
        plan = a_plan_without("data_bindings", steps=[a_step(parameters={"a": [{"b": value}]})])
        assert _refusal_of(plan).startswith("steps[0].parameters.a[0].b: ")


class TestPlanImmutability:
    """A plan cannot change after it was validated."""

    def test_nothing_in_a_plan_can_be_set_deleted_or_reached_from_outside(self) -> None:
        """Expect AttributeError for attributes, TypeError for items, and no shared data."""
        document = a_plan()
        plan = Stage4ExecutionPlan(**document)
        for attribute in ("user_id", "token_hash", "steps", "data_bindings", "anything"):
            with pytest.raises(AttributeError):
                setattr(plan, attribute, "changed")
            with pytest.raises(AttributeError):
                delattr(plan, attribute)
            with pytest.raises(AttributeError):
                object.__setattr__(plan, attribute, "changed")
        with pytest.raises(TypeError):
            plan.steps[0] = {}  # type: ignore[index]
        with pytest.raises(TypeError):
            plan.steps[0]["domain"] = "notebook"
        with pytest.raises(TypeError):
            plan.steps[0]["parameters"]["deep"]["n"][0] = 2
        with pytest.raises(TypeError):
            del plan.data_bindings[0]["source_step"]  # type: ignore[index]
        document["steps"][0]["parameters"]["deep"]["n"].append(2)
        plan.steps.copy()[0]["domain"] = "notebook"
        plan.copy()["steps"].clear()
        assert isinstance(plan.steps, tuple)
        assert plan.steps == PLAN["steps"]
        assert plan.data_bindings == PLAN["data_bindings"]


class TestNoAutonomyProof:
    """Validation decides nothing: it neither adds, nor changes, nor follows anything."""

    def test_validation_leaves_the_document_as_it_was(self) -> None:
        """Expect the same document after a valid and after an invalid verdict."""
        for plan in (a_plan(), a_plan(extra=1), a_plan(steps=[a_step(parameters={"a": {1}})])):
            before = copy.deepcopy(plan)
            validate_strict_json_plan(plan)
            assert plan == before

    def test_a_plan_holds_exactly_what_was_written(self) -> None:
        """Expect no default, no normalisation, no added member."""
        plan = Stage4ExecutionPlan(**a_plan_without("data_bindings"))
        assert plan.copy() == a_plan_without("data_bindings")
        assert plan.data_bindings is None
        assert Stage4ExecutionPlan(**a_plan(data_bindings=[])).data_bindings == []

    def test_the_public_names_load_the_standard_library_only(self) -> None:
        """Expect no third-party module, no socket and no thread module of ours after the import."""
        code = (
            "import sys; before = set(sys.modules);"
            "from stage4_service import Stage4AuditEvent, Stage4ExecutionPlan, Stage4Orchestrator,"
            " validate_strict_json_plan;"
            "new = {name.split('.')[0] for name in set(sys.modules) - before};"
            "print(sorted(new - set(sys.stdlib_module_names) - {'stage4_service', 'servicekit'}),"
            " 'socket' in sys.modules, 'sqlite3' in sys.modules)"
        )
        answer = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert answer.stdout == "[] False False\n"


class TestNoDynamicBehavior:
    """The verdict is a function of the document."""

    def test_the_same_document_gets_the_same_verdict(self) -> None:
        """Expect equal answers for equal documents, however often and in whatever key order."""
        plan = a_plan(unknown=1)
        reordered = dict(reversed(plan.items()))
        answers = {validate_strict_json_plan(p) for p in (plan, reordered) for _ in range(50)}
        assert len(answers) == 1

    def test_a_name_is_not_interpreted(self) -> None:
        """Expect strings that look like code, paths or patterns to be data in parameters."""
        for text in ("${HOME}", "{{ steps[0] }}", "__import__('os')", "../../etc", "*", "steps.0"):
            plan = Stage4ExecutionPlan(
                **a_plan(steps=[a_step(parameters={"v": text})], data_bindings=[])
            )
            assert plan.steps[0]["parameters"]["v"] == text


class TestFailClosed:
    """Whatever is not certainly a plan is refused."""

    def test_an_invalid_plan_cannot_be_constructed(self) -> None:
        """Expect ValueError with the text of the verdict, for a break of each rule."""
        for broken in (
            {},
            a_plan_without("steps"),
            a_plan(extra=1),
            a_plan(user_id=1),
            a_plan(steps=[]),
            a_plan(steps=[a_step(method="No")]),
            a_plan(data_bindings=[a_binding(target_step=0)]),
            a_plan(steps=[a_step(parameters={"a": {1}})]),
            a_plan(steps=[a_step()] * 65, data_bindings=[]),
        ):
            _, error = validate_strict_json_plan(broken)
            with pytest.raises(ValueError) as refused:  # noqa: PT011 - compared in whole below
                Stage4ExecutionPlan(**broken)
            assert str(refused.value) == error

    def test_hostile_structures_are_refused_and_not_followed(self) -> None:
        """Expect a verdict, never an exception or a hang, for cycles, depth and width."""
        cycle: dict[str, object] = {}
        cycle["again"] = cycle
        deep: object = 1
        for _ in range(5000):
            deep = [deep]
        wide: object = "x"
        for _ in range(30):
            wide = [wide] * 10
        for hostile in (cycle, {"a": deep}, {"a": wide}):
            plan = a_plan(steps=[a_step(parameters=hostile)], data_bindings=[])
            assert validate_strict_json_plan(plan)[0] is False
            with pytest.raises(ValueError, match=r"steps\[0\]\.parameters"):
                Stage4ExecutionPlan(**plan)
