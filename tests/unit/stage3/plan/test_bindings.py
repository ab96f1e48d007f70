"""A step is handed the client's own bytes, or those parameters with the declared members filled."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from servicekit.ijson import JsonLimits, parse
from stage3_service.plan.binding_path import parse_path
from stage3_service.plan.bindings import (
    BindingUnresolved,
    FilledMember,
    ResolvedParameters,
    has_type,
    resolve_bindings,
)
from stage3_service.plan.plan import Binding, JsonType, Step

LIMITS = JsonLimits()
SAMPLES: dict[str, list[Any]] = {
    "string": ["", "a", "1", "null"],
    "integer": [0, -1, 2**53 - 1, 2.0**53 - 1, 1.0, -3.0, 1e15],
    "number": [0, -1, 2**53 - 1, 2.0**53 - 1, 1.0, -3.0, 1e15, 0.5, 1e-7],
    "boolean": [True, False],
    "object": [{}, {"a": 1}],
    "array": [[], [1]],
    "null": [None],
}
EVERY_SAMPLE = [
    *(
        "",
        "a",
        "1",
        "null",
        0,
        -1,
        2**53 - 1,
        2.0**53 - 1,
        1.0,
        -3.0,
        1e15,
        0.5,
        1e-7,
        1e16,
        2.0**53,
    ),
    *(True, False, {}, {"a": 1}, [], [1], None),
]
KEYS = st.sampled_from(["a", "b", "0", "1"])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.just(1.5) | st.text("xé", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=8,
)
PATHS = st.lists(KEYS, min_size=1, max_size=3)


def target(parameters: dict[str, Any] | None = None, index: int = 3) -> Step:
    """Return the step that is filled, in a spelling of its own."""
    value: dict[str, Any] = {"keep": 1.0} if parameters is None else parameters
    return Step(index, "text", "upper", value, json.dumps(value, indent=1).encode())


def binding(
    source_path: str = "a",
    target_path: str = "x",
    *,
    index: int = 0,
    source_step: int = 0,
    target_step: int = 3,
    expected_type: JsonType | None = None,
) -> Binding:
    """Return one binding into the target."""
    return Binding(
        index,
        source_step,
        parse_path(source_path),
        target_step,
        parse_path(target_path),
        expected_type,
    )


def resolve(
    *bindings: Binding,
    outputs: dict[int, Any] | None = None,
    parameters: dict[str, Any] | None = None,
    limits: JsonLimits = LIMITS,
) -> ResolvedParameters:
    """Resolve bindings into the target."""
    results: dict[int, Any] = {0: {"a": "value"}} if outputs is None else outputs
    return resolve_bindings(target(parameters), bindings, results, limits)


def unresolved(*bindings: Binding, **changes: Any) -> BindingUnresolved:
    """Return how the bindings are refused; they must be."""
    with pytest.raises(BindingUnresolved) as caught:
        resolve(*bindings, **changes)
    return caught.value


class TestBytes:
    """Bytes are the client's own, or RFC 8785."""

    def test_without_a_binding_the_bytes_are_the_clients_own(self) -> None:
        """Not one byte is spelled anew."""
        resolved = resolve()
        assert resolved.json_bytes == target().parameters_json == b'{\n "keep": 1.0\n}'
        assert resolved.value == {"keep": 1.0}
        assert resolved.filled == ()

    def test_with_a_binding_the_bytes_are_canonical(self) -> None:
        """Also the members that no binding fills."""
        resolved = resolve(binding())
        assert resolved.json_bytes == b'{"keep":1,"x":"value"}'
        assert resolved.value == {"keep": 1.0, "x": "value"}

    def test_what_filled_what_is_recorded_without_the_value(self) -> None:
        """Positions and paths, in declared order."""
        resolved = resolve(binding(), binding("a", "y.`z.z`", index=4))
        assert resolved.filled == (
            FilledMember(0, 0, "a", "x"),
            FilledMember(4, 0, "a", "y.`z.z`"),
        )
        assert "value" not in repr(resolved)

    def test_equal_bytes_are_equal_parameters(self) -> None:
        """The bytes are what a domain is handed; the value is how they read."""
        assert resolve(binding()) == resolve(binding())
        assert hash(resolve(binding())) == hash(resolve(binding()))
        assert resolve(binding()) != resolve()

    def test_nothing_handed_in_is_changed(self) -> None:
        """Neither the step's parameters nor any output."""
        parameters: dict[str, Any] = {"x": {"y": [1]}}
        outputs = {0: {"a": {"deep": [1]}}}
        before = copy.deepcopy((parameters, outputs))
        resolved = resolve(
            binding("a", "x.y.0"),
            binding("a.deep", "x.y.0.deep", index=1),
            binding("a.deep.0", "x.y.0.deep.0", index=2),
            parameters=parameters,
            outputs=outputs,
        )
        assert (parameters, outputs) == before
        resolved.value["x"] = None
        assert (parameters, outputs) == before


class TestOrder:
    """Bindings apply in declared order, each to what the last one left."""

    def test_a_later_binding_into_the_same_member_wins(self) -> None:
        """Declared last, applied last."""
        outputs = {0: {"a": 1, "b": 2}}
        first, second = binding("a"), binding("b", index=1)
        assert resolve(first, second, outputs=outputs).value["x"] == 2
        assert resolve(second, first, outputs=outputs).value["x"] == 1

    def test_a_later_binding_may_fill_what_an_earlier_one_made(self) -> None:
        """A created object is an object."""
        resolved = resolve(binding("a", "x.y"), binding("a", "x.z", index=1))
        assert resolved.value["x"] == {"y": "value", "z": "value"}

    def test_the_first_binding_that_fails_is_named(self) -> None:
        """By its position among the plan's bindings."""
        error = unresolved(binding(), binding("b", index=5), binding("c", index=6))
        assert error.index == 5
        assert str(error) == ("data_bindings[5]: source_path: segment 1 of 1: there is no such key")

    def test_outputs_of_several_steps_may_flow_into_one(self) -> None:
        """Each binding reads its own source."""
        outputs = {0: {"a": "zero"}, 1: {"a": "one"}, 2: {"a": "two"}}
        resolved = resolve(
            binding(source_step=2, target_path="x"),
            binding(source_step=0, target_path="y", index=1),
            outputs=outputs,
        )
        assert (resolved.value["x"], resolved.value["y"]) == ("two", "zero")


class TestRefused:
    """What cannot be filled exactly as declared is not filled at all."""

    @pytest.mark.parametrize(
        ("changed", "changes", "description"),
        [
            (binding("b"), {}, "source_path: .*no such key"),
            (binding("a.b"), {}, "source_path: .*neither an object nor an array"),
            (binding("0"), {"outputs": {0: []}}, "source_path: .*beyond the end"),
            (binding("a"), {"outputs": {0: None}}, "source_path: .*neither"),
            (binding("a", "keep.x"), {}, "target_path: .*neither an object nor an array"),
            (binding("a", "l.1"), {"parameters": {"l": [0]}}, "target_path: .*beyond the end"),
            (binding("a", "l.x"), {"parameters": {"l": [0]}}, "target_path: .*no index"),
            (binding(source_step=1), {}, "step 1 has no output"),
            (binding(), {"outputs": {}}, "step 0 has no output"),
            (binding(target_step=2), {}, "fills step 2, not this one"),
        ],
    )
    def test_the_reason_is_named_without_the_value(
        self, changed: Binding, changes: dict[str, Any], description: str
    ) -> None:
        """Which side, and why."""
        error = unresolved(changed, **changes)
        assert error.args[0].startswith("data_bindings[0]: ")
        assert re.search(description, error.description)
        assert "value" not in error.description.replace("the value", "")

    def test_filled_parameters_are_bounded_in_bytes(self) -> None:
        """256 KiB, whatever the source had."""
        outputs = {0: {"a": ["x" * 60_000] * 4}}
        assert len(resolve(binding(), outputs=outputs).json_bytes) > 240_000
        error = unresolved(binding(), binding("a", "y", index=1), outputs=outputs)
        assert error.index == 1
        assert error.description.startswith("the filled parameters: ")

    def test_filled_parameters_are_bounded_in_depth(self) -> None:
        """A deep source under a deep target is too deep, though each alone is not."""
        deep: Any = 1
        for _ in range(20):
            deep = [deep]
        outputs = {0: {"a": deep}}
        assert resolve(binding(target_path=".".join("x" * 12)), outputs=outputs).filled
        error = unresolved(binding(target_path=".".join("x" * 13)), outputs=outputs)
        assert "the filled parameters" in error.description

    @pytest.mark.parametrize(
        ("fits", "outgrows"),
        [
            ([0] * 7, [0] * 10),
            ({"a": [0] * 6}, {"a": [0] * 9}),
            ("x" * 90, "x" * 101),
            (["x" * 40] * 2, ["x" * 51] * 2),
        ],
        ids=["values", "nested values", "a string", "strings"],
    )
    def test_a_value_that_outgrows_the_limits_alone_is_not_copied(
        self, fits: Any, outgrows: Any
    ) -> None:
        """The binding is named that brought it: not the last one, after all have been copied."""
        limits = JsonLimits(max_values=10, max_bytes=100)
        assert resolve(binding(), outputs={0: {"a": fits}}, parameters={}, limits=limits).filled
        many = [binding(target_path=f"x{index}", index=index) for index in range(64)]
        error = unresolved(*many, outputs={0: {"a": outgrows}}, parameters={}, limits=limits)
        assert error.index == 0
        assert error.description == "the value is larger than parameters may be"

    def test_a_value_without_a_canonical_form_is_refused(self) -> None:
        """An output that slipped through unparsed does not reach a domain."""
        error = unresolved(binding(), outputs={0: {"a": float("nan")}})
        assert error.description == "the filled parameters have no canonical form"


class TestExpectedType:
    """A value has the type that is expected of it, or the binding is refused."""

    @pytest.mark.parametrize("expected", list(JsonType))
    @pytest.mark.parametrize("value", EVERY_SAMPLE, ids=repr)
    def test_every_value_against_every_type(self, expected: JsonType, value: Any) -> None:
        """The table says it; True is not 1 and 1.0 is an integer."""
        lawful = any(
            type(sample) is type(value) and sample == value for sample in SAMPLES[expected.value]
        )
        if value in (1e16, 2.0**53):
            lawful = expected is JsonType.NUMBER
        assert has_type(value, expected) == lawful

    @pytest.mark.parametrize("expected", list(JsonType))
    def test_a_value_of_the_type_flows(self, expected: JsonType) -> None:
        """Each of its samples arrives as it is."""
        for value in SAMPLES[expected.value]:
            resolved = resolve(binding(expected_type=expected), outputs={0: {"a": value}})
            assert resolved.value["x"] == value

    @pytest.mark.parametrize("expected", list(JsonType))
    def test_a_value_of_another_type_is_refused(self, expected: JsonType) -> None:
        """The type is named, the value is not."""
        other = {"a": "value"} if expected is not JsonType.OBJECT else "value"
        error = unresolved(binding(expected_type=expected), outputs={0: {"a": other}})
        assert error.description == f"the value is not of type {expected.value}"

    def test_nothing_is_converted(self) -> None:
        """A number in a string stays a string."""
        error = unresolved(binding(expected_type=JsonType.INTEGER), outputs={0: {"a": "1"}})
        assert error.index == 0
        assert resolve(binding(), outputs={0: {"a": "1"}}).value["x"] == "1"


def naive_resolve(parameters: Any, bindings: Any, outputs: dict[int, Any]) -> Any:
    """Resolve the plainest way, on JSON texts; None is a refusal."""

    def get(value: Any, path: list[str]) -> Any:
        for key in path:
            if isinstance(value, list) and key in {str(i) for i in range(len(value))}:
                value = value[int(key)]
            elif isinstance(value, dict):
                value = value[key]
            else:
                raise KeyError(key)
        return value

    filled = json.loads(json.dumps(parameters))
    for source_step, source, destination in bindings:
        try:
            value = json.loads(json.dumps(get(outputs[source_step], source)))
            parent: Any = filled
            for key in destination[:-1]:
                if isinstance(parent, dict):
                    parent.setdefault(key, {})
                parent = get(parent, [key])
            if isinstance(parent, list):
                get(parent, destination[-1:])
                parent[int(destination[-1])] = value
            elif isinstance(parent, dict):
                parent[destination[-1]] = value
            else:
                return None
        except (KeyError, ValueError):
            return None
    return filled


@given(
    parameters=st.dictionaries(KEYS, JSON, max_size=3),
    outputs=st.fixed_dictionaries({0: JSON, 1: JSON}),
    flows=st.lists(st.tuples(st.integers(0, 1), PATHS, PATHS), min_size=1, max_size=3),
)
def test_resolving_agrees_with_the_plainest_resolving(
    parameters: dict[str, Any],
    outputs: dict[int, Any],
    flows: list[tuple[int, list[str], list[str]]],
) -> None:
    """Filled and refused alike; the bytes are the canonical form of the value."""
    bindings = [
        binding(".".join(source), ".".join(destination), index=index, source_step=source_step)
        for index, (source_step, source, destination) in enumerate(flows)
    ]
    expected = naive_resolve(parameters, flows, outputs)
    before = copy.deepcopy((parameters, outputs))
    try:
        resolved = resolve(*bindings, outputs=outputs, parameters=parameters)
    except BindingUnresolved:
        assert expected is None
    else:
        assert resolved.value == expected
        assert resolved.json_bytes == rfc8785.dumps(expected)
        assert parse(resolved.json_bytes, LIMITS).value == expected
    assert (parameters, outputs) == before


def test_of_two_reasons_not_to_fill_the_earlier_one_is_told() -> None:
    """Another step before a missing output; the wrong type before the wrong size."""
    step = Step(1, "text", "upper", {}, b"{}")
    elsewhere = Binding(0, 0, parse_path("a"), 2, parse_path("b"), None)
    with pytest.raises(BindingUnresolved, match="fills step 2"):
        resolve_bindings(step, [elsewhere], {}, LIMITS)
    large: list[Any] = ["x" * 70_000] * 5
    mistyped = Binding(0, 0, parse_path("a"), 1, parse_path("b"), JsonType.STRING)
    with pytest.raises(BindingUnresolved, match="not of type"):
        resolve_bindings(step, [mistyped], {0: {"a": large}}, LIMITS)
