"""Parsing a plan from its raw wire form, as if nobody had looked at it before.

Stage-4 refuses the same plans earlier and more kindly; this room does not rely on it, because a
compromised Stage-4 is exactly the caller it must survive. The first broken rule is named, in the
contract's order. Deliberately absent: repair, defaults, and any reading of the credential beyond
that one was presented.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from servicekit.ijson import JsonRefused, parse
from stage3_service.plan.binding_path import Path, PathInvalid, parse_path
from stage3_service.plan.digest import plan_digest
from stage3_service.plan.plan import Binding, JsonType, Plan, Step

if TYPE_CHECKING:
    from servicekit.ijson import JsonLimits, JsonValue
    from stage3_service.plan.limits import PlanLimits

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
# C0, DEL and C1: none of them is part of a name, and each can forge a line of a log or a terminal.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# What the shortest spelling of a step costs a document without its parameters, and of a binding
# without its paths: {"domain":"a","method":"a","parameters":} and the like.
_STEP_BYTES: Final = 41
_BINDING_BYTES: Final = 67
_JSON_TYPES: Final = {member.value: member for member in JsonType}


class PlanInvalid(ValueError):
    """Say which part of a plan breaks a rule, and the rule. Holds no value of the plan."""

    def __init__(self, path: str, description: str) -> None:
        super().__init__(f"{path}: {description}" if path else description)
        self.path = path
        self.description = description


@dataclass(frozen=True, slots=True)
class RawStep:
    """Hold a step as it arrived."""

    domain: str
    method: str
    parameters_json: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RawBinding:
    """Hold a binding as it arrived."""

    source_step: int
    source_path: str
    target_step: int
    target_path: str
    expected_type: str | None = None


@dataclass(frozen=True, slots=True)
class RawPlan:
    """Hold a plan as it arrived. `bindings` is None where none were declared."""

    user_id: str
    token_hash: str = field(repr=False)
    trigger_type: str
    steps: tuple[RawStep, ...]
    bindings: tuple[RawBinding, ...] | None


def parse_plan(raw: RawPlan, limits: PlanLimits) -> Plan:
    """Return the plan, with its digest computed anew.

    Asked in order: the size, the eight rules that a raw plan can break, the limits on counts and
    names. The bounds of a path belong to its rule.

    Raises:
        PlanInvalid: a rule is broken; the first one in order is named.
    """
    _refuse_oversized(raw, limits)
    for member in _names(raw):
        _refuse_empty(*member)
    if not raw.steps:
        raise PlanInvalid("steps", "must have at least one step")
    of_parameters = limits.parameters
    steps = tuple(_parse_step(index, step, of_parameters) for index, step in enumerate(raw.steps))
    bindings = None
    if raw.bindings is not None:
        bindings = tuple(
            _parse_binding(index, binding, len(steps), limits)
            for index, binding in enumerate(raw.bindings)
        )
    _refuse_too_many(steps, bindings, limits)
    for path, text in _names(raw):
        _check_text(path, text, limits.max_name_bytes)
    digest = plan_digest(raw.user_id, raw.trigger_type, steps, bindings)
    return Plan(raw.user_id, raw.trigger_type, steps, bindings, digest)


def _names(raw: RawPlan) -> tuple[tuple[str, str], ...]:
    return (
        ("user_id", raw.user_id),
        ("token_hash", raw.token_hash),
        ("trigger_type", raw.trigger_type),
    )


def _refuse_oversized(raw: RawPlan, limits: PlanLimits) -> None:
    """Refuse what cannot have come from a document within the limit, before parsing any of it.

    The parts are never longer than the document that spelled them, so that a plan which Stage-4
    found small enough is small enough here.
    """
    bindings = raw.bindings or ()
    size = sum(_STEP_BYTES + len(step.parameters_json) for step in raw.steps) + sum(
        _BINDING_BYTES + len(b.source_path) + len(b.target_path) for b in bindings
    )
    if size > limits.document.max_bytes:
        raise PlanInvalid("", f"must have at most {limits.document.max_bytes} bytes")


def _refuse_empty(path: str, text: str) -> None:
    if not text:
        raise PlanInvalid(path, "must not be empty")


def _check_text(path: str, text: str, max_bytes: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise PlanInvalid(path, "must not hold a lone surrogate") from None
    if size > max_bytes:
        raise PlanInvalid(path, f"must have at most {max_bytes} bytes")
    if _CONTROL.search(text) is not None:
        raise PlanInvalid(path, "must not hold a control character")


def _refuse_too_many(
    steps: tuple[Step, ...], bindings: tuple[Binding, ...] | None, limits: PlanLimits
) -> None:
    # The limit is the document's; the parser, which sees one step at a time, holds each to it.
    max_values = limits.document.max_values
    if sum(_count_values(step.parameters) for step in steps) > max_values:
        raise PlanInvalid("", f"must have at most {max_values} values")
    if len(steps) > limits.max_steps:
        raise PlanInvalid("steps", f"must have at most {limits.max_steps} steps")
    if bindings is not None and len(bindings) > limits.max_bindings:
        raise PlanInvalid("data_bindings", f"must have at most {limits.max_bindings} bindings")


def _parse_step(index: int, raw: RawStep, limits: JsonLimits) -> Step:
    where = f"steps[{index}]"
    for member, name in (("domain", raw.domain), ("method", raw.method)):
        if _NAME.fullmatch(name) is None:
            raise PlanInvalid(f"{where}.{member}", f"must match {_NAME.pattern}")
    where += ".parameters"
    try:
        parameters = parse(raw.parameters_json, limits).value
    except JsonRefused as refused:
        joint = "." if refused.path and not refused.path.startswith("[") else ""
        raise PlanInvalid(where + joint + refused.path, refused.description) from None
    if not isinstance(parameters, dict):
        raise PlanInvalid(where, "must be an object")
    return Step(index, raw.domain, raw.method, parameters, raw.parameters_json)


def _parse_binding(index: int, raw: RawBinding, steps: int, limits: PlanLimits) -> Binding:
    where = f"data_bindings[{index}]"
    source_step = _integer(f"{where}.source_step", raw.source_step)
    target_step = _integer(f"{where}.target_step", raw.target_step)
    source_path = _parse_binding_path(f"{where}.source_path", raw.source_path, limits)
    target_path = _parse_binding_path(f"{where}.target_path", raw.target_path, limits)
    expected_type = None
    if raw.expected_type is not None:
        expected_type = _JSON_TYPES.get(raw.expected_type)
        if expected_type is None:
            names = ", ".join(_JSON_TYPES)
            raise PlanInvalid(f"{where}.expected_type", f"must be one of {names}")
    for member, step in (("source_step", source_step), ("target_step", target_step)):
        if not 0 <= step < steps:
            raise PlanInvalid(f"{where}.{member}", "names no step of this plan")
    if target_step <= source_step:
        raise PlanInvalid(f"{where}.target_step", "must be after source_step")
    return Binding(index, source_step, source_path, target_step, target_path, expected_type)


def _integer(path: str, value: int) -> int:
    # `True` is an int to Python and to nobody else.
    if type(value) is not int:
        raise PlanInvalid(path, "must be an integer")
    return value


def _parse_binding_path(where: str, text: str, limits: PlanLimits) -> Path:
    # Bytes are bounded before anything is made of them: a segment costs more than its two bytes.
    _check_text(where, text, limits.max_path_bytes)
    try:
        path = parse_path(text)
    except PathInvalid as invalid:
        raise PlanInvalid(where, str(invalid)) from None
    if len(path.segments) > limits.max_path_segments:
        raise PlanInvalid(where, f"must have at most {limits.max_path_segments} segments")
    return path


def _count_values(value: JsonValue) -> int:
    if isinstance(value, dict):
        return 1 + sum(_count_values(member) for member in value.values())
    if isinstance(value, list):
        return 1 + sum(_count_values(member) for member in value)
    return 1
