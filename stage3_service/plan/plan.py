"""The plan as Stage-3 understands it: every step and every data flow named in advance.

Made by `parse_plan`. Deliberately absent: the credential, which only the token gate's question
needs, and any state of execution.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servicekit.ijson import JsonValue
    from stage3_service.plan.binding_path import Path


class JsonType(StrEnum):
    """Name a type that a binding may expect of its value."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    OBJECT = "object"
    ARRAY = "array"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class Step:
    """Name one operation. `parameters_json` is the client's own spelling of `parameters`.

    `parameters` is never handed out to be changed; whoever fills it works on a copy.
    """

    index: int
    domain: str
    method: str
    parameters: dict[str, JsonValue] = field(repr=False, compare=False)
    parameters_json: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Binding:
    """Name one flow of data from a step's output into the parameters of a later step."""

    index: int
    source_step: int
    source_path: Path
    target_step: int
    target_path: Path
    expected_type: JsonType | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold a parsed plan and its digest.

    `bindings` is None where the document has no `data_bindings`; an empty list is not an absent
    one, and the digest tells them apart.
    """

    user_id: str
    trigger_type: str
    steps: tuple[Step, ...]
    bindings: tuple[Binding, ...] | None
    digest: bytes

    def bindings_into(self, step_index: int) -> tuple[Binding, ...]:
        """Return the bindings that fill a step, in declared order."""
        return tuple(b for b in self.bindings or () if b.target_step == step_index)
