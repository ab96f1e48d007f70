"""The events of one plan, each made at one place.

A plan of n steps that succeeds leaves 1 + 5n of them. Deliberately absent: any decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.authorization.gate import GateName
from stage3_service.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servicekit.ijson import JsonValue
    from stage3_service.authorization.gate import Denial
    from stage3_service.execution.prepare_step import CommittedBytes
    from stage3_service.plan.plan import Plan, Step

_GATE_EVENT = {
    GateName.TOKEN: EventType.TOKEN_VALIDATION,
    GateName.SCOPE: EventType.AUTHORIZATION_SCOPE_CHECK,
    GateName.LIMITS: EventType.RESOURCE_LIMIT_CHECK,
    GateName.DATA_BOUNDARY: EventType.DATA_BOUNDARY_CHECK,
    GateName.AUTHORITY_BOUNDARY: EventType.BOUNDARY_VIOLATION,
}
_TERMINAL: Mapping[str, JsonValue] = {"terminal": True}


@dataclass(frozen=True, slots=True)
class PlanTrail:
    """Speak about one plan. `token_id` is None where the presented token is unknown."""

    plan_id: str
    user_id: str
    token_id: str | None

    def token_validated(self, facts: Mapping[str, JsonValue]) -> NewEvent:
        """Say that gate 1 let the plan pass; once per plan."""
        return self._event(EventType.TOKEN_VALIDATION, Status.SUCCESS, data=facts)

    def gate_denied(self, denial: Denial, step: Step | None) -> tuple[NewEvent, NewEvent]:
        """Say which gate refused, precisely, and that the plan ends there."""
        return (
            self._event(
                _GATE_EVENT[denial.gate], Status.DENIED, step=step, reason=denial.reason.value
            ),
            self.denied(denial.public, step),
        )

    def denied(self, reason: Reason, step: Step | None = None) -> NewEvent:
        """Say that the plan ends without another effect."""
        return self._event(
            EventType.EXECUTION_DENIED,
            Status.DENIED,
            step=step,
            reason=reason.value,
            data=_TERMINAL,
        )

    def passed_until(
        self, gate: GateName, step: Step, committed: CommittedBytes
    ) -> tuple[NewEvent, ...]:
        """Say that the step passed its gates before `gate`. Gate 1 says nothing at a re-check."""
        events: list[NewEvent] = []
        for passed in (GateName.SCOPE, GateName.LIMITS, GateName.DATA_BOUNDARY):
            if _ORDER[passed] >= _ORDER[gate]:
                break
            is_data = passed is GateName.DATA_BOUNDARY
            events.append(
                self._event(
                    _GATE_EVENT[passed],
                    Status.SUCCESS,
                    step=step,
                    data=committed.facts if is_data else None,
                    salts=committed.salts if is_data else (),
                )
            )
        return tuple(events)

    def started(self, step: Step) -> NewEvent:
        """Say that the step's effect may happen from now on."""
        return self._event(EventType.EXECUTION_STARTED, Status.STARTED, step=step)

    def completed(
        self,
        step: Step,
        *,
        output: CommittedBytes,
        failure: Reason | None,
        terminal: bool,
    ) -> NewEvent:
        """Say that the domain answered, and whether the answer was a success."""
        data = dict(output.facts)
        if terminal:
            data["terminal"] = True
        return self._event(
            EventType.EXECUTION_COMPLETED,
            Status.SUCCESS if failure is None else Status.FAILED,
            step=step,
            reason=None if failure is None else failure.value,
            data=data,
            salts=output.salts,
        )

    def aborted(
        self, step: Step, reason: Reason, facts: Mapping[str, JsonValue] | None = None
    ) -> NewEvent:
        """Say that the plan ends here: in doubt about this step, or before starting it."""
        return self._event(
            EventType.OPERATION_ABORTED,
            Status.ABORTED,
            step=step,
            reason=reason.value,
            data={**(facts or {}), "terminal": True},
        )

    def _event(
        self,
        event_type: EventType,
        status: Status,
        *,
        step: Step | None = None,
        reason: str | None = None,
        data: Mapping[str, JsonValue] | None = None,
        salts: tuple[tuple[str, bytes], ...] = (),
    ) -> NewEvent:
        return NewEvent(
            event_type=event_type,
            status=status,
            user_id=self.user_id,
            token_id=self.token_id,
            plan_id=self.plan_id,
            step=None if step is None else step.index,
            domain=None if step is None else step.domain,
            method=None if step is None else step.method,
            reason=reason,
            additional_data=data or {},
            salts=salts,
        )


_ORDER = {gate: position for position, gate in enumerate(_GATE_EVENT)}


def admission_facts(plan: Plan, *, request_id: str, caller: str) -> dict[str, JsonValue]:
    """Return what TOKEN_VALIDATION says about the plan it admits."""
    return {
        "caller": caller,
        "plan_digest": plan.digest.hex(),
        "request_id": request_id,
        "steps": len(plan.steps),
        "trigger_type": plan.trigger_type,
    }
