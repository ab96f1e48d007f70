"""What a plan must look like before anybody acts on it: eight rules, the first error wins.

The rules are asked in a fixed order and name the place of the first error, so that the same input
gets the same answer in every process. Deliberately absent: defaults, coercions, look-ups. Whether
a well-formed plan is allowed is not asked here; that is Stage-3's question.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from stage4_service.json_rule import first_json_fault
from stage4_service.limits import PlanLimits

IDENTIFIER_FIELDS: Final = ("user_id", "token_hash", "trigger_type")
REQUIRED_FIELDS: Final = (*IDENTIFIER_FIELDS, "steps")
OPTIONAL_FIELDS: Final = ("data_bindings",)
STEP_FIELDS: Final = ("domain", "method", "parameters")
REQUIRED_BINDING_FIELDS: Final = ("source_step", "source_path", "target_step", "target_path")
OPTIONAL_BINDING_FIELDS: Final = ("expected_type",)
EXPECTED_TYPES: Final = ("string", "integer", "number", "boolean", "object", "array", "null")

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
# A segment is an object key or an index; a key with a dot or a backtick stands in backticks, and a
# backtick between them is doubled.
_BINDING_PATH_SEGMENT: Final = re.compile(r"[^.`]+|`(?:[^`]|``)*`", re.DOTALL)
# C0, DEL, C1 and the line separators: each can forge a line of a log or a terminal.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN_SEGMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MAX_SHOWN_KEY_CHARACTERS: Final = 64
_DEFAULT_LIMITS: Final = PlanLimits()


class Violation(NamedTuple):
    """The first error of a plan: the path of the value at fault ("" is the plan) and what is wrong.

    A path may hold a key that the client chose: it is for the client's eyes, not for a log.
    """

    path: str
    description: str

    def __str__(self) -> str:
        """Say it in one line for people."""
        return f"{self.path}: {self.description}" if self.path else self.description


class PlanInvalid(ValueError):
    """Raised for a document that is not a plan; the text is that of the verdict."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(str(violation))
        self.violation = violation


def validate_strict_json_plan(plan_json: object) -> tuple[bool, str | None]:
    """Return (True, None) for a valid plan, else (False, the first error as "path: description").

    Takes a parsed value of any type and never raises. Uses the default limits.
    """
    violation = first_violation(plan_json)
    return violation is None, None if violation is None else str(violation)


def first_violation(
    plan: object, limits: PlanLimits = _DEFAULT_LIMITS, *, is_json: bool = False
) -> Violation | None:
    """Return the first violation of the eight rules, or None for a valid plan.

    Rule 1: required fields. 2: no others. 3: their types. 4: at least one step. 5: each step.
    6 and 7: each binding, its types and then its range. 8: nothing but JSON. Limits on counts last.
    `is_json` says that `servicekit.ijson.parse` made the value within these limits: it has asked
    the eighth rule of the bytes.
    """
    if type(plan) is not dict:
        return Violation("", "plan is not a JSON object")
    return (
        _fields_violation(plan, "", REQUIRED_FIELDS, OPTIONAL_FIELDS)
        or _types_violation(plan)
        or _steps_violation(plan["steps"])
        or _bindings_violation(plan.get("data_bindings", ()), len(plan["steps"]))
        or (None if is_json else _json_violation(plan, limits))
        or _counts_violation(plan, limits)
    )


def render_path(segments: Iterable[str | int]) -> str:
    """Spell the path of a value: `steps[1].parameters.x`; odd keys in backticks, long ones cut."""
    path = ""
    for segment in segments:
        if isinstance(segment, int):
            path += f"[{segment}]"
            continue
        name = segment
        if _PLAIN_SEGMENT.fullmatch(name) is None:
            shown = name[:_MAX_SHOWN_KEY_CHARACTERS].encode("ascii", "backslashreplace").decode()
            name = "`" + "".join(c if c.isprintable() else "?" for c in shown) + "`"
        path += f".{name}" if path else name
    return path


def _fields_violation(
    members: Mapping[object, object],
    path: str,
    required: Sequence[str],
    optional: Sequence[str],
) -> Violation | None:
    for field in required:
        if field not in members:
            return Violation(_member(path, field), "required field is missing")
    # Only strings are compared: what else a key does when asked is not a parser's doing.
    extra = [k for k in members if type(k) is not str or (k not in required and k not in optional)]
    if not extra:
        return None
    names = sorted(key for key in extra if type(key) is str)
    if not names:
        return Violation(path, "has a field name that is not a string")
    return Violation(_member(path, names[0]), "unexpected field")


def _types_violation(plan: Mapping[str, object]) -> Violation | None:
    for field in IDENTIFIER_FIELDS:
        if type(plan[field]) is not str:
            return Violation(field, "must be a string")
        if plan[field] == "":
            return Violation(field, "must not be empty")
    if type(plan["steps"]) is not list:
        return Violation("steps", "must be an array")
    if "data_bindings" in plan and type(plan["data_bindings"]) is not list:
        return Violation("data_bindings", "must be an array; leave it out to have none")
    return None


def _steps_violation(steps: list[object]) -> Violation | None:
    if not steps:
        return Violation("steps", "must hold at least one step")
    for index, step in enumerate(steps):
        violation = _step_violation(step, f"steps[{index}]")
        if violation is not None:
            return violation
    return None


def _step_violation(step: object, path: str) -> Violation | None:
    if type(step) is not dict:
        return Violation(path, "must be an object")
    violation = _fields_violation(step, path, STEP_FIELDS, ())
    if violation is not None:
        return violation
    for field in ("domain", "method"):
        if type(step[field]) is not str:
            return Violation(f"{path}.{field}", "must be a string")
    if type(step["parameters"]) is not dict:
        return Violation(f"{path}.parameters", "must be an object")
    for field in ("domain", "method"):
        if _NAME.fullmatch(step[field]) is None:
            return Violation(f"{path}.{field}", f"must match {_NAME.pattern}")
    return None


def _bindings_violation(bindings: Sequence[object], step_count: int) -> Violation | None:
    for index, binding in enumerate(bindings):
        path = f"data_bindings[{index}]"
        if type(binding) is not dict:
            return Violation(path, "must be an object")
        violation = (
            _fields_violation(binding, path, REQUIRED_BINDING_FIELDS, OPTIONAL_BINDING_FIELDS)
            or _binding_types_violation(binding, path)
            or _binding_range_violation(binding, path, step_count)
        )
        if violation is not None:
            return violation
    return None


def _binding_types_violation(binding: Mapping[str, object], path: str) -> Violation | None:
    for field in ("source_step", "target_step"):
        # A bool is an int to isinstance; it is never a step index.
        if type(binding[field]) is not int:
            return Violation(f"{path}.{field}", "must be an integer")
    for field in ("source_path", "target_path"):
        value = binding[field]
        if type(value) is not str:
            return Violation(f"{path}.{field}", "must be a string")
        if _binding_path_segments(value) is None:
            return Violation(f"{path}.{field}", "must be dot-separated segments")
    if "expected_type" in binding:
        expected = binding["expected_type"]
        if type(expected) is not str or expected not in EXPECTED_TYPES:
            return Violation(f"{path}.expected_type", f"must be one of {', '.join(EXPECTED_TYPES)}")
    return None


def _binding_range_violation(
    binding: Mapping[str, int], path: str, step_count: int
) -> Violation | None:
    for field in ("source_step", "target_step"):
        if not 0 <= binding[field] < step_count:
            return Violation(f"{path}.{field}", "names no step of this plan")
    if binding["target_step"] <= binding["source_step"]:
        return Violation(f"{path}.target_step", "must come after source_step")
    return None


def _json_violation(plan: object, limits: PlanLimits) -> Violation | None:
    fault = first_json_fault(plan, limits)
    if fault is None:
        return None
    return Violation(render_path(reversed(fault.segments)), fault.description)


def _counts_violation(plan: dict[str, Any], limits: PlanLimits) -> Violation | None:
    bindings = plan.get("data_bindings", ())
    if len(plan["steps"]) > limits.max_steps:
        return Violation("steps", f"must hold at most {limits.max_steps} steps")
    if len(bindings) > limits.max_bindings:
        return Violation("data_bindings", f"must hold at most {limits.max_bindings} bindings")
    for field in IDENTIFIER_FIELDS:
        violation = _text_violation(field, plan[field], limits.max_identifier_bytes)
        if violation is not None:
            return violation
    for index, binding in enumerate(bindings):
        for field in ("source_path", "target_path"):
            path, text = f"data_bindings[{index}].{field}", binding[field]
            violation = _text_violation(path, text, limits.max_path_bytes)
            if violation is not None:
                return violation
            if len(_binding_path_segments(text) or ()) > limits.max_path_segments:
                return Violation(path, f"must have at most {limits.max_path_segments} segments")
    return None


def _text_violation(path: str, text: str, max_bytes: int) -> Violation | None:
    if len(text.encode()) > max_bytes:
        return Violation(path, f"must have at most {max_bytes} bytes")
    if _CONTROL.search(text) is not None:
        return Violation(path, "must not hold a control character")
    return None


def _binding_path_segments(text: str) -> list[str] | None:
    """Return the segments as they are spelled, or None if the text is not a path."""
    segments: list[str] = []
    position = 0
    while True:
        segment = _BINDING_PATH_SEGMENT.match(text, position)
        if segment is None:
            return None
        segments.append(segment[0])
        position = segment.end()
        if position == len(text):
            return segments
        if text[position] != ".":
            return None
        position += 1


def _member(path: str, field: str) -> str:
    name = render_path((field,))
    return f"{path}.{name}" if path else name
