"""The one way from here to Stage-3, as the orchestrator sees it.

Stage-3 is a black box behind one method. Deliberately absent: everything a caller could do with
Stage-3 besides submitting one plan and waiting for its outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from servicekit.ijson import JsonValue
from stage4_service.errors import Effects, Reason


class Stage3Port(Protocol):
    """Whatever executes plans; in the service, made for one call around the gRPC stub."""

    def execute_multi_domain_plan(
        self,
        *,
        user_id: str,
        token_hash: str,
        trigger_type: str,
        steps: list[JsonValue],
        data_bindings: list[JsonValue] | None,
    ) -> object:
        """Submit the plan once and return its result; everything else is raised.

        Raises: Stage3Failure where it is known how the plan ended or that nobody knows. Any other
        exception is taken to mean that nobody knows.
        """
        ...


class Ending(StrEnum):
    """How a submission ended that did not complete."""

    # Not admitted: no effect, and the request identifier is not consumed.
    REFUSED = "refused"
    # Admitted, and ended at a step.
    FAILED = "failed"
    DENIED = "denied"
    IN_DOUBT = "in_doubt"
    ABORTED = "aborted"
    # Submitted, and this service does not know.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Stage3Completion:
    """The result of a plan whose every step completed, as Stage-3 stored it."""

    result_json: bytes
    receipt: bytes = b""
    # Whether this is the stored outcome of an earlier submission, and of which plan.
    replay: bool = False
    executed_plan_id: str = ""


class Stage3Failure(Exception):
    """Raised when a plan did not complete, or when it is not known whether it did.

    The message is one sentence for people and holds no secret.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        ending: Ending,
        effects: Effects,
        step: int | None = None,
        replay: bool | None = None,
        executed_plan_id: str = "",
        receipt: bytes = b"",
        violations: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.ending = ending
        self.effects = effects
        self.step = step
        # None where Stage-3 did not say.
        self.replay = replay
        self.executed_plan_id = executed_plan_id
        self.receipt = receipt
        # (path, description) of what Stage-3 found wrong with the plan itself.
        self.violations = violations
