"""The five plans that are killed, and how each of them ends when nobody is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.harness.stage3 import step

if TYPE_CHECKING:
    from collections.abc import Mapping

LOSES_ITS_ANSWER: Final = "status_unavailable"
"""The method of the domain elsewhere that has its effect and then says nothing of it."""

SCOPE: Final = {"trial": ("effect", "fail"), "remote": ("effect", LOSES_ITS_ANSWER)}


@dataclass(frozen=True, slots=True)
class Shape:
    """A plan and its ending: the outcome, its reason and step, and the steps that had an effect.

    `revoked_in` is the step during which its token is revoked.
    """

    name: str
    steps: tuple[Mapping[str, Any], ...]
    kind: str
    effects: frozenset[int]
    reason: str = ""
    last_step: int = 0
    bindings: tuple[Mapping[str, Any], ...] | None = None
    revoked_in: int | None = None


def _bound(source: int, target: int) -> dict[str, Any]:
    return {
        "source_step": source,
        "source_path": "effects",
        "target_step": target,
        "target_path": "before",
        "expected_type": "integer",
    }


ONE_STEP: Final = Shape("one step", (step("trial", "effect"),), "completed", frozenset({0}))
BOUND: Final = Shape(
    "three steps with bindings",
    (step("trial", "effect"),) * 3,
    "completed",
    frozenset({0, 1, 2}),
    bindings=(_bound(0, 1), _bound(1, 2)),
)
FAILS: Final = Shape(
    "a step that fails",
    (step("trial", "effect"), step("trial", "fail"), step("trial", "effect")),
    "failed",
    frozenset({0}),
    reason="DOMAIN_FAILED",
    last_step=1,
)
REVOKED: Final = Shape(
    "revoked between two steps",
    (step("remote", "effect"), step("trial", "effect")),
    "denied",
    frozenset({0}),
    reason="TOKEN_NOT_ACCEPTED",
    last_step=1,
    revoked_in=0,
)
LOST: Final = Shape(
    "a domain elsewhere whose answer is lost",
    (step("remote", "effect"), step("remote", LOSES_ITS_ANSWER), step("trial", "effect")),
    "in_doubt",
    frozenset({0, 1}),
    reason="STEP_IN_DOUBT",
    last_step=1,
)
SHAPES: Final = (ONE_STEP, BOUND, FAILS, REVOKED, LOST)
OTHERS: Final = tuple(shape for shape in SHAPES if shape is not BOUND)
"""Those of which not every call is tried outside the long run."""
