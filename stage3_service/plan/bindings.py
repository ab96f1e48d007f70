"""Resolving a step's data bindings: the only way one step's result reaches another.

It guards that a step is handed either exactly the client's bytes or, where a binding was declared
into it, those parameters with the declared members filled. Deliberately absent: any binding into a
domain's or a method's name, implicit flows, defaults for what is missing, and conversion of types.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, assert_never

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonRefused, parse
from stage3_service.plan.binding_path import PathUnresolved, copy_json, read_path, write_path
from stage3_service.plan.plan import JsonType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from servicekit.ijson import JsonLimits, JsonValue
    from stage3_service.plan.plan import Binding, Step

# Beyond it a double no longer tells an integer from its neighbours (RFC 7493, section 2.2).
_MAX_SAFE_INTEGER: Final = 2**53 - 1


class BindingUnresolved(LookupError):
    """Say which binding could not fill its target, and why. Holds no value."""

    def __init__(self, index: int, description: str) -> None:
        super().__init__(f"data_bindings[{index}]: {description}")
        self.index = index
        self.description = description


@dataclass(frozen=True, slots=True)
class FilledMember:
    """Record which binding filled what, for the log: positions and paths, never the value."""

    binding: int
    source_step: int
    source_path: str
    target_path: str


@dataclass(frozen=True, slots=True)
class ResolvedParameters:
    """Hold what a domain will be handed: the value, its final bytes, and what bindings filled."""

    value: dict[str, JsonValue] = field(repr=False, compare=False)
    json_bytes: bytes = field(repr=False)
    filled: tuple[FilledMember, ...] = ()


def resolve_bindings(
    step: Step,
    bindings: Sequence[Binding],
    outputs: Mapping[int, JsonValue],
    limits: JsonLimits,
) -> ResolvedParameters:
    """Return a step's final parameters.

    `bindings` are those into this step, in declared order, which is the order in which they apply;
    `outputs` are the results of completed steps by index. `limits` bound the filled parameters.
    Nothing handed in is changed, and the result shares no container with it where a binding filled
    something. Without a binding the bytes are the client's own; with one they are RFC 8785.

    Raises:
        BindingUnresolved: a source is missing, has not the expected type, exceeds the limits by
            itself, cannot be put where the target path says, or makes the parameters exceed them.
    """
    if not bindings:
        return ResolvedParameters(step.parameters, step.parameters_json)
    parameters = {key: copy_json(member) for key, member in step.parameters.items()}
    for binding in bindings:
        _fill(parameters, step, binding, outputs, limits)
    return ResolvedParameters(
        parameters,
        _bounded_bytes(parameters, bindings[-1].index, limits),
        tuple(_filled(binding) for binding in bindings),
    )


def has_type(value: JsonValue, expected: JsonType) -> bool:
    """Return whether a value has a type. As in JSON Schema, 1.0 is an integer and true is not."""
    match expected:
        case JsonType.STRING:
            return isinstance(value, str)
        case JsonType.INTEGER:
            return _is_integer(value)
        case JsonType.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case JsonType.BOOLEAN:
            return isinstance(value, bool)
        case JsonType.OBJECT:
            return isinstance(value, dict)
        case JsonType.ARRAY:
            return isinstance(value, list)
        case JsonType.NULL:
            return value is None
        case _:
            assert_never(expected)


def _is_integer(value: JsonValue) -> bool:
    if isinstance(value, float):
        return value.is_integer() and abs(value) <= _MAX_SAFE_INTEGER
    return isinstance(value, int) and not isinstance(value, bool)


def _fill(
    parameters: dict[str, JsonValue],
    step: Step,
    binding: Binding,
    outputs: Mapping[int, JsonValue],
    limits: JsonLimits,
) -> None:
    if binding.target_step != step.index:
        raise BindingUnresolved(binding.index, f"fills step {binding.target_step}, not this one")
    if binding.source_step not in outputs:
        raise BindingUnresolved(binding.index, f"step {binding.source_step} has no output")
    try:
        value = read_path(outputs[binding.source_step], binding.source_path)
    except PathUnresolved as unresolved:
        raise BindingUnresolved(binding.index, f"source_path: {unresolved}") from None
    expected = binding.expected_type
    if expected is not None and not has_type(value, expected):
        raise BindingUnresolved(binding.index, f"the value is not of type {expected}")
    # Before it is copied: an output may be much larger than parameters, and many bindings may each
    # fill it in.
    if _outgrows(value, limits):
        raise BindingUnresolved(binding.index, "the value is larger than parameters may be")
    try:
        write_path(parameters, binding.target_path, value)
    except PathUnresolved as unresolved:
        raise BindingUnresolved(binding.index, f"target_path: {unresolved}") from None


def _outgrows(value: JsonValue, limits: JsonLimits) -> bool:
    """Return whether a value is too large by itself, looking no further than the limits."""
    seen, characters, pending = 0, 0, [value]
    while pending and seen + len(pending) <= limits.max_values and characters <= limits.max_bytes:
        item = pending.pop()
        seen += 1
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, str):
            characters += len(item)
    return bool(pending) or characters > limits.max_bytes


def _bounded_bytes(parameters: dict[str, JsonValue], last: int, limits: JsonLimits) -> bytes:
    """Return the canonical bytes, held to the limits that the client's own bytes were held to."""
    try:
        json_bytes = canonicalize(parameters)
        parse(json_bytes, limits)
    except JsonRefused as refused:
        raise BindingUnresolved(last, f"the filled parameters: {refused.description}") from None
    except ValueError:
        raise BindingUnresolved(last, "the filled parameters have no canonical form") from None
    return json_bytes


def _filled(binding: Binding) -> FilledMember:
    return FilledMember(
        binding.index, binding.source_step, binding.source_path.text, binding.target_path.text
    )
