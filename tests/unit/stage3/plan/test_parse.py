"""A raw plan is parsed as if nobody had looked at it before, and the first broken rule is named."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit.ijson import JsonLimits
from stage3_service.plan.digest import plan_digest
from stage3_service.plan.limits import PlanLimits
from stage3_service.plan.parse import PlanInvalid, RawPlan, parse_plan
from stage3_service.plan.plan import JsonType
from tests.unit.stage3.plan.raw_plans import raw_binding, raw_plan, raw_step

LIMITS = PlanLimits()


def refused(limits: PlanLimits = LIMITS, /, **changes: Any) -> tuple[str, str]:
    """Return where and why a raw plan with these changes is refused; it must be."""
    with pytest.raises(PlanInvalid) as caught:
        parse_plan(raw_plan(**changes), limits)
    return caught.value.path, caught.value.description


def is_accepted(limits: PlanLimits = LIMITS, /, **changes: Any) -> bool:
    """Parse a raw plan with these changes; a refusal is raised."""
    return len(parse_plan(raw_plan(**changes), limits).digest) == 32


def refused_parameters(parameters_json: bytes) -> tuple[str, str]:
    """Return where and why a plan is refused for the parameters of its second step."""
    return refused(steps=(raw_step(), raw_step(parameters_json)))


class TestAccepted:
    """A lawful plan keeps everything it says."""

    def test_every_part_is_kept(self) -> None:
        """Steps in order, their own bytes, their values, their bindings."""
        plan = parse_plan(raw_plan(), LIMITS)
        assert (plan.user_id, plan.trigger_type) == ("alice", "manual")
        assert [each.index for each in plan.steps] == [0, 1, 2]
        assert [each.parameters_json for each in plan.steps] == [b'{"a": 1}', b'{"b": 2}', b"{}"]
        assert [each.parameters for each in plan.steps] == [{"a": 1}, {"b": 2}, {}]
        assert plan.bindings is not None
        (binding,) = plan.bindings
        assert (binding.index, binding.source_step, binding.target_step) == (0, 0, 1)
        assert (binding.source_path.text, binding.target_path.text) == ("a", "b.c")
        assert binding.expected_type is None
        assert plan.digest == plan_digest("alice", "manual", plan.steps, plan.bindings)

    def test_the_plan_is_frozen_hashable_and_prints_no_parameters(self) -> None:
        """Parameters may be secrets."""
        plan = parse_plan(raw_plan(steps=(raw_step(b'{"password": "hunter2"}'),) * 2), LIMITS)
        with pytest.raises(FrozenInstanceError):
            plan.user_id = "bob"  # type: ignore[misc]
        assert hash(plan) == hash(plan)
        assert "hunter2" not in repr(plan)

    def test_the_raw_plan_prints_neither_credential_nor_parameters(self) -> None:
        """The credential is only looked at, and is no part of the plan."""
        raw = raw_plan(token_hash="token_secret", steps=(raw_step(b'{"p": "hunter2"}'),))
        assert "token_secret" not in repr(raw)
        assert "hunter2" not in repr(raw)
        assert not hasattr(parse_plan(raw_plan(), LIMITS), "token_hash")

    @pytest.mark.parametrize("expected_type", [None, *JsonType])
    def test_every_type_may_be_expected(self, expected_type: JsonType | None) -> None:
        """The seven of the contract, or none."""
        name = None if expected_type is None else expected_type.value
        plan = parse_plan(raw_plan(bindings=(raw_binding(expected_type=name),)), LIMITS)
        assert plan.bindings is not None
        assert plan.bindings[0].expected_type is expected_type

    def test_no_bindings_and_an_empty_list_are_different_plans(self) -> None:
        """An empty list is not absent, and the digest tells."""
        absent = parse_plan(raw_plan(bindings=None), LIMITS)
        empty = parse_plan(raw_plan(bindings=()), LIMITS)
        assert absent.bindings is None
        assert empty.bindings == ()
        assert absent.digest != empty.digest
        assert absent.bindings_into(1) == empty.bindings_into(1) == ()

    def test_bindings_into_a_step_are_its_own_in_declared_order(self) -> None:
        """Filtered by target, never reordered."""
        bindings = tuple(
            raw_binding(source_step=source, target_step=target)
            for source, target in ((0, 2), (0, 1), (1, 2), (0, 2))
        )
        plan = parse_plan(raw_plan(bindings=bindings), LIMITS)
        assert [each.index for each in plan.bindings_into(2)] == [0, 2, 3]
        assert [each.index for each in plan.bindings_into(1)] == [1]
        assert plan.bindings_into(0) == ()


class TestNames:
    """`user_id`, `token_hash` and `trigger_type` are bounded texts."""

    @pytest.mark.parametrize("name", ["user_id", "token_hash", "trigger_type"])
    @pytest.mark.parametrize(
        ("text", "description"),
        [
            ("", "must not be empty"),
            ("x" * 257, "must have at most 256 bytes"),
            ("é" * 129, "must have at most 256 bytes"),
            ("a\x00", "must not hold a control character"),
            ("a\n", "must not hold a control character"),
            ("\x7f", "must not hold a control character"),
            ("a\x9b", "must not hold a control character"),
            ("a\u2028b", "must not hold a control character"),
            ("\ud800", "must not hold a lone surrogate"),
        ],
    )
    def test_unlawful_texts_are_refused(self, name: str, text: str, description: str) -> None:
        """The field is named and the text is not repeated."""
        assert refused(**{name: text}) == (name, description)

    @pytest.mark.parametrize("name", ["user_id", "token_hash", "trigger_type"])
    def test_the_bound_is_inclusive(self, name: str) -> None:
        """256 bytes are a name."""
        assert is_accepted(**{name: "é" * 128})

    def test_empty_texts_are_refused_in_the_documents_order(self) -> None:
        """`user_id` before `token_hash` before `trigger_type`."""
        empty = {"user_id": "", "token_hash": "", "trigger_type": ""}
        order = []
        for name in ("user_id", "token_hash", "trigger_type"):
            order.append(refused(**empty)[0])
            del empty[name]
        assert order == ["user_id", "token_hash", "trigger_type"]


class TestSteps:
    """At least one step, each with exact names and an object of strict JSON."""

    def test_a_plan_without_steps_is_refused(self) -> None:
        """There is nothing to execute."""
        assert refused(steps=(), bindings=None) == ("steps", "must have at least one step")

    @pytest.mark.parametrize("member", ["domain", "method"])
    @pytest.mark.parametrize(
        "name",
        ["", "A", "1a", "_a", "a-b", "a.b", "a b", " a", "a\n", "a\x00", "é", "*", "a*", "a" * 65],
    )
    def test_unlawful_names_are_refused(self, member: str, name: str) -> None:
        """A name is `[a-z][a-z0-9_]{0,63}` from its first to its last character."""
        path, description = refused(steps=(raw_step(), raw_step(**{member: name})))
        assert (path, description) == (f"steps[1].{member}", "must match [a-z][a-z0-9_]{0,63}")

    @pytest.mark.parametrize("name", ["a", "a1_", "a" * 64])
    def test_lawful_names_are_accepted(self, name: str) -> None:
        """The bounds are inclusive."""
        step = raw_step(domain=name, method=name)
        assert parse_plan(raw_plan(steps=(step, step)), LIMITS).steps[1].method == name

    @pytest.mark.parametrize(
        ("parameters_json", "path"),
        [
            (b"", "steps[1].parameters"),
            (b"null", "steps[1].parameters"),
            (b"[]", "steps[1].parameters"),
            (b'"{}"', "steps[1].parameters"),
            (b"1", "steps[1].parameters"),
            (b"{", "steps[1].parameters"),
            (b"{} {}", "steps[1].parameters"),
            (b"{},", "steps[1].parameters"),
            (b'{"a": 1, "a": 1}', "steps[1].parameters"),
            (b"\xef\xbb\xbf{}", "steps[1].parameters"),
            (b'{"a": "\xff"}', "steps[1].parameters"),
            (b'{"a": {"b": -0}}', "steps[1].parameters.a.b"),
            (b'{"a": NaN}', "steps[1].parameters.a"),
            (b'{"a": [1, 1e400]}', "steps[1].parameters.a[1]"),
            (b'{"a": 9007199254740992}', "steps[1].parameters.a"),
            (b'{"a": 0.1000000000000000055511151231257827}', "steps[1].parameters.a"),
            (rb'{"a": "\ud800"}', "steps[1].parameters.a"),
            (rb'{"a": "\u0000"}', "steps[1].parameters.a"),
            ('{"a": 1}'.encode("utf-16"), "steps[1].parameters"),
        ],
    )
    def test_parameters_are_one_object_of_strict_json(
        self, parameters_json: bytes, path: str
    ) -> None:
        """Whatever two readers could take differently is refused where it stands."""
        named = refused_parameters(parameters_json)[0]
        assert named == path or path.startswith(named + ".") or named.startswith(path + ".")

    def test_the_place_of_a_fault_is_joined_to_the_step(self) -> None:
        """Keys are joined by a dot, indexes are not."""
        assert refused_parameters(b'{"a": [0, -0]}')[0] == "steps[1].parameters.a[1]"
        assert refused_parameters(b"[-0]")[0] == "steps[1].parameters[0]"

    def test_the_first_broken_step_is_named(self) -> None:
        """By index, and within it domain before method before parameters."""
        broken = raw_step(b"[]", domain="A", method="B")
        assert refused(steps=(raw_step(), broken, raw_step(b"")))[0] == "steps[1].domain"
        assert refused(steps=(raw_step(b""), broken))[0] == "steps[0].parameters"


class TestBindings:
    """A binding names two steps, in order, and two paths."""

    @pytest.mark.parametrize(
        ("changes", "path", "description"),
        [
            ({"source_step": 3}, "source_step", "names no step of this plan"),
            ({"source_step": -1}, "source_step", "names no step of this plan"),
            ({"target_step": 3}, "target_step", "names no step of this plan"),
            ({"target_step": 2**32 - 1}, "target_step", "names no step of this plan"),
            ({"source_step": 1}, "target_step", "must be after source_step"),
            ({"source_step": 2}, "target_step", "must be after source_step"),
            ({"source_step": True, "target_step": 2}, "source_step", "must be an integer"),
            ({"target_step": True}, "target_step", "must be an integer"),
            ({"source_step": 0.0}, "source_step", "must be an integer"),
            ({"source_path": ""}, "source_path", "must name at least one segment"),
            ({"target_path": "a..b"}, "target_path", "has an empty segment"),
            ({"target_path": "`a"}, "target_path", "has a backtick that is not closed"),
            ({"source_path": "a\x00"}, "source_path", "must not hold a control character"),
            ({"source_path": "a\ud800"}, "source_path", "must not hold a lone surrogate"),
            ({"source_path": "x" * 1_025}, "source_path", "must have at most 1024 bytes"),
            ({"target_path": ".".join("a" * 33)}, "target_path", "must have at most 32 segments"),
        ],
    )
    def test_unlawful_bindings_are_refused(
        self, changes: dict[str, Any], path: str, description: str
    ) -> None:
        """The member at fault is named."""
        bindings = (raw_binding(), raw_binding(**changes))
        assert refused(bindings=bindings) == (f"data_bindings[1].{path}", description)

    @pytest.mark.parametrize(
        "expected_type", ["", "String", "int", "float", "bool", "list", "dict", "any", "*", "null "]
    )
    def test_other_types_are_refused(self, expected_type: str) -> None:
        """Seven names, exactly spelled."""
        path, description = refused(bindings=(raw_binding(expected_type=expected_type),))
        assert path == "data_bindings[0].expected_type"
        assert description.startswith("must be one of string, integer")

    @pytest.mark.parametrize("path", [".".join("a" * 32), "x" * 1_024])
    def test_the_bounds_of_a_path_are_inclusive(self, path: str) -> None:
        """32 segments, 1,024 bytes."""
        assert is_accepted(bindings=(raw_binding(source_path=path),))


class TestLimits:
    """A plan is bounded as a whole, whatever its parts are."""

    @pytest.mark.parametrize("steps", [1, 64])
    def test_up_to_64_steps_are_accepted(self, steps: int) -> None:
        """The bound is inclusive."""
        raw = raw_plan(steps=(raw_step(),) * steps, bindings=None)
        assert len(parse_plan(raw, LIMITS).steps) == steps

    def test_65_steps_are_refused(self) -> None:
        """One more is one too many."""
        assert refused(steps=(raw_step(),) * 65) == ("steps", "must have at most 64 steps")

    def test_65_bindings_are_refused(self) -> None:
        """One more is one too many; 64 pass."""
        assert is_accepted(bindings=(raw_binding(),) * 64)
        assert refused(bindings=(raw_binding(),) * 65) == (
            "data_bindings",
            "must have at most 64 bindings",
        )

    def test_values_are_counted_over_all_steps(self) -> None:
        """No step exceeds the limit alone."""
        limits = PlanLimits(document=JsonLimits(max_values=6))
        step = raw_step(b'{"a": [1, 2]}')
        assert is_accepted(limits, steps=(step, raw_step()), bindings=None)
        path, description = refused(limits, steps=(step, step), bindings=None)
        assert (path, description) == ("", "must have at most 6 values")

    def test_bytes_are_counted_over_all_parts(self) -> None:
        """What cannot have come from a small enough document is refused unread."""
        big = b'{"a": "' + b"x" * 60_000 + b'"}'
        assert is_accepted(steps=(raw_step(big),) * 4)
        description = "must have at most 262144 bytes"
        assert refused(steps=(raw_step(big),) * 5) == ("", description)
        assert refused(steps=(raw_step(b"x" * 262_145),)) == ("", description)
        assert refused(bindings=(raw_binding(),) * 4_000) == ("", description)
        assert refused(bindings=(raw_binding(source_path="x" * 262_144),)) == ("", description)

    def test_the_size_is_that_of_the_shortest_document_with_these_parts(self) -> None:
        """To the byte: 41 around the parameters of a step, 67 around the paths of a binding."""
        filled = raw_step(b'{"a":"' + b"x" * 51 + b'"}')
        exact, less = (PlanLimits(document=JsonLimits(max_bytes=size)) for size in (100, 99))
        assert is_accepted(exact, steps=(filled,), bindings=None)
        assert refused(less, steps=(filled,), bindings=None) == ("", "must have at most 99 bytes")
        empty = (raw_step(b"{}"),) * 2
        exact, less = (PlanLimits(document=JsonLimits(max_bytes=size)) for size in (155, 154))
        assert is_accepted(exact, steps=empty, bindings=(raw_binding(target_path="b"),))
        assert refused(less, steps=empty, bindings=(raw_binding(target_path="b"),))[0] == ""

    def test_depth_is_the_documents(self) -> None:
        """The parameters are inside three brackets of the document already."""
        deepest = b'{"a":' + b"[" * 28 + b"]" * 28 + b"}"
        deeper = b'{"a":' + b"[" * 29 + b"]" * 29 + b"}"
        assert is_accepted(steps=(raw_step(deepest),) * 2)
        assert refused_parameters(deeper)[0].startswith("steps[1].parameters")

    def test_a_shallow_limit_still_lets_parameters_be_an_object(self) -> None:
        """A depth that has no room for parameters leaves them one bracket."""
        assert PlanLimits(document=JsonLimits(max_depth=2)).parameters.max_depth == 1

    def test_rules_come_before_counts(self) -> None:
        """A plan that breaks a rule is told the rule, however many steps it has."""
        steps = (*(raw_step(),) * 65, raw_step(domain="A"))
        assert refused(steps=steps)[0] == "steps[65].domain"


def test_a_refusal_reads_as_one_sentence() -> None:
    """The path in front where there is one."""
    assert str(PlanInvalid("steps[0].domain", "is wrong")) == "steps[0].domain: is wrong"
    assert str(PlanInvalid("", "is wrong")) == "is wrong"


@given(
    st.builds(
        RawPlan,
        user_id=st.text(max_size=3),
        token_hash=st.just("t"),
        trigger_type=st.text(min_size=1, max_size=3),
        steps=st.lists(
            st.builds(
                raw_step,
                st.binary(max_size=6) | st.sampled_from([b"{}", b'{"a":1}', b"[]"]),
                domain=st.sampled_from(["a", "A", ""]),
            ),
            max_size=3,
        ).map(tuple),
        bindings=st.none()
        | st.lists(
            st.builds(
                raw_binding,
                source_step=st.integers(-1, 3),
                target_step=st.integers(-1, 3),
                source_path=st.text("a.`", max_size=3),
            ),
            max_size=2,
        ).map(tuple),
    )
)
def test_any_raw_plan_is_parsed_or_refused(raw: RawPlan) -> None:
    """No input raises anything but PlanInvalid, and the text of it names the path."""
    try:
        plan = parse_plan(raw, LIMITS)
    except PlanInvalid as caught:
        invalid = caught
    else:
        assert len(plan.steps) == len(raw.steps)
        return
    where = f"{invalid.path}: " if invalid.path else ""
    assert str(invalid) == f"{where}{invalid.description}"
