"""Data flows between steps only where a binding declares it, typed, bounded and recorded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from servicekit.canonical_json import canonicalize
from tests.harness.stage3 import step

if TYPE_CHECKING:
    from tests.harness.fixtures import Trial
    from tests.harness.stage3 import Stage3UnderTest

SCOPE = {"text": ("upper", "sha256"), "trial": ("echo", "effect"), "notebook": ("append_note",)}


def binding(source_path: str, target_path: str, **changes: Any) -> dict[str, Any]:
    """Return a binding from step 0 into step 1."""
    return {
        "source_step": 0,
        "source_path": source_path,
        "target_step": 1,
        "target_path": target_path,
        **changes,
    }


def handed(trial: Trial, index: int = 1) -> Any:
    """Return the parameters that the trial domain was handed at its call of this number."""
    return json.loads(trial.domain.received[index].parameters_json)


OUTPUT = {
    "word": "quartz",
    "deep": {"list": [10, {"x": True}, None], "a.b": 1, "tick`s": 2},
    "number": 1.5,
}


class TestWhatFlows:
    """A binding fills exactly the member it names."""

    @pytest.mark.parametrize(
        ("source_path", "value"),
        [
            ("word", "quartz"),
            ("deep", OUTPUT["deep"]),
            ("deep.list", [10, {"x": True}, None]),
            ("deep.list.0", 10),
            ("deep.list.1.x", True),
            ("deep.list.2", None),
            ("deep.`a.b`", 1),
            ("deep.`tick``s`", 2),
            ("number", 1.5),
        ],
    )
    def test_a_source_path_reads_its_value(
        self, stage3: Stage3UnderTest, trial: Trial, source_path: str, value: object
    ) -> None:
        """Keys, indexes and quoted keys reach every part of an output."""
        token = stage3.issue(scope=SCOPE)
        answer = stage3.run(
            token.token_hash,
            step("trial", "echo", **OUTPUT),
            step("trial", "echo"),
            bindings=[binding(source_path, "got")],
        )
        assert answer.kind == "completed"
        assert handed(trial) == {"got": value}

    @pytest.mark.parametrize(
        ("parameters", "target_path", "expected"),
        [
            ({}, "w", {"w": "quartz"}),
            ({"w": "old"}, "w", {"w": "quartz"}),
            ({}, "a.b.c", {"a": {"b": {"c": "quartz"}}}),
            ({"a": {"k": 1}}, "a.b", {"a": {"k": 1, "b": "quartz"}}),
            ({"l": [1, 2]}, "l.1", {"l": [1, "quartz"]}),
            ({}, "`a.b`", {"a.b": "quartz"}),
        ],
    )
    def test_a_target_path_is_filled(
        self,
        stage3: Stage3UnderTest,
        trial: Trial,
        parameters: dict[str, Any],
        target_path: str,
        expected: object,
    ) -> None:
        """Missing objects are created, present values replaced, neighbours kept."""
        token = stage3.issue(scope=SCOPE)
        stage3.run(
            token.token_hash,
            step("trial", "echo", **OUTPUT),
            step("trial", "echo", **parameters),
            bindings=[binding("word", target_path)],
        )
        assert handed(trial) == expected

    def test_bindings_apply_in_declared_order(self, stage3: Stage3UnderTest, trial: Trial) -> None:
        """The later of two bindings into one member stands."""
        token = stage3.issue(scope=SCOPE)
        stage3.run(
            token.token_hash,
            step("trial", "echo", a=1, b=2),
            step("trial", "echo"),
            bindings=[binding("a", "got"), binding("b", "got")],
        )
        assert handed(trial) == {"got": 2}

    def test_a_filled_step_gets_canonical_bytes(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """The domain gets the RFC 8785 form where a binding filled something."""
        token = stage3.issue(scope=SCOPE)
        spelled = {
            "domain": "trial",
            "method": "echo",
            "parameters_json": b'{ "z" : 1.0, "a" : 2 }',
        }
        stage3.run(
            token.token_hash,
            step("trial", "echo", **OUTPUT),
            spelled,
            bindings=[binding("word", "m")],
        )
        assert trial.domain.received[1].parameters_json == canonicalize(
            {"z": 1, "a": 2, "m": "quartz"}
        )

    def test_a_step_without_a_binding_sees_nothing_of_another(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """Outputs do not leak into steps that no binding names."""
        token = stage3.issue(scope=SCOPE)
        stage3.run(
            token.token_hash,
            step("trial", "echo", **OUTPUT),
            step("trial", "echo"),
            step("trial", "echo", own=1),
            bindings=[binding("word", "w")],
        )
        assert handed(trial, 2) == {"own": 1}

    def test_a_real_plan_flows_from_text_into_the_notebook(self, stage3: Stage3UnderTest) -> None:
        """The note holds what the first step made."""
        token = stage3.issue(scope=SCOPE)
        answer = stage3.run(
            token.token_hash,
            step("text", "upper", text="hello"),
            step("notebook", "append_note", title="t"),
            bindings=[binding("text", "text", expected_type="string")],
        )
        assert answer.kind == "completed"


UNRESOLVED = {
    "missing-key": binding("nothing", "w"),
    "missing-index": binding("deep.list.3", "w"),
    "index-into-object": binding("deep.0", "w"),
    "key-into-array": binding("deep.list.first", "w"),
    "through-a-string": binding("word.length", "w"),
    "wrong-type": binding("word", "w", expected_type="integer"),
    "bool-is-no-integer": binding("deep.list.1.x", "w", expected_type="integer"),
    "fraction-is-no-integer": binding("number", "w", expected_type="integer"),
    "null-is-no-string": binding("deep.list.2", "w", expected_type="string"),
    "in-the-way": binding("word", "own.x"),
}


class TestWhatDoesNotFlow:
    """A binding that cannot be honoured ends the plan before its step; earlier effects stay."""

    @pytest.mark.parametrize("case", UNRESOLVED)
    def test_it_is_denied_at_the_data_boundary(
        self, stage3: Stage3UnderTest, trial: Trial, case: str
    ) -> None:
        """BINDING_UNRESOLVED at step 1, recorded, with the step never started."""
        token = stage3.issue(scope=SCOPE)
        answer = stage3.run(
            token.token_hash,
            step("trial", "echo", **OUTPUT),
            step("trial", "echo", own="value"),
            bindings=[UNRESOLVED[case]],
        )
        assert (answer.kind, answer.reason, answer.ended.step) == (
            "denied",
            "BINDING_UNRESOLVED",
            1,
        )
        assert len(trial.domain.received) == 1
        assert stage3.trail("plan-1")[-4:] == [
            ("AUTHORIZATION_SCOPE_CHECK", "success", 1),
            ("RESOURCE_LIMIT_CHECK", "success", 1),
            ("DATA_BOUNDARY_CHECK", "denied", 1),
            ("EXECUTION_DENIED", "denied", 1),
        ]
        assert "data_bindings[0]" in answer.ended.message
        assert "quartz" not in answer.ended.message

    def test_a_value_that_the_schema_refuses_is_denied_after_filling(
        self, stage3: Stage3UnderTest
    ) -> None:
        """The schema is asked about the final parameters, not about what the client wrote."""
        token = stage3.issue(scope=SCOPE)
        answer = stage3.run(
            token.token_hash,
            step("trial", "echo", **OUTPUT),
            step("text", "upper"),
            bindings=[binding("number", "text")],
        )
        assert (answer.kind, answer.reason) == ("denied", "PARAMETERS_INVALID")

    @pytest.mark.parametrize(
        "change",
        [
            {"source_step": 1},
            {"source_step": 1, "target_step": 0},
            {"target_step": 2},
            {"source_path": ""},
            {"target_path": "a..b"},
            {"source_path": "`open"},
            {"expected_type": "text"},
        ],
        ids=["self", "backward", "range", "empty", "empty-segment", "open-quote", "type"],
    )
    def test_a_malformed_binding_is_refused_with_the_plan(
        self, stage3: Stage3UnderTest, trial: Trial, change: dict[str, Any]
    ) -> None:
        """Stage-3 reads bindings again and trusts nothing that Stage-4 found."""
        token = stage3.issue(scope=SCOPE)
        answer = stage3.run(
            token.token_hash,
            step("trial", "echo", **OUTPUT),
            step("trial", "echo"),
            bindings=[{**binding("word", "w"), **change}],
        )
        assert answer.reason == "PLAN_INVALID"
        assert answer.error is not None
        assert answer.error.violations[0][0].startswith("data_bindings[0].")
        assert trial.domain.received == []

    def test_an_empty_list_of_bindings_is_not_an_absent_one(self, stage3: Stage3UnderTest) -> None:
        """The two plans have different digests, and both run."""
        token = stage3.issue(scope=SCOPE)
        with_list = stage3.request(token.token_hash, [step("trial", "echo")], bindings=[])
        without = stage3.request(token.token_hash, [step("trial", "echo")])
        assert with_list.plan_digest != without.plan_digest
        assert [stage3.send(r).kind for r in (with_list, without)] == ["completed"] * 2
