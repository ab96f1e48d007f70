"""What the log says, counted as it becomes durable: denials by gate, steps by what became of them.

Labels come from closed lists and from declarations, never from a caller: a step that was started
has a declared method. Deliberately absent: users, plans and tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from servicekit.tally import Counts
from stage3_service.audit.event import EventType, Status
from stage3_service.authorization.gate import Denial, DenialReason, GateName
from stage3_service.authorization.violation import ViolationType
from stage3_service.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from servicekit.tally import Key
    from stage3_service.audit.event import NewEvent
    from stage3_service.domains.declaration import Catalogue

SUCCEEDED: Final = "success"
_RESULTS: Final = (
    SUCCEEDED,
    *(
        reason.value
        for reason in (
            Reason.DOMAIN_FAILED,
            Reason.DOMAIN_UNREACHABLE,
            Reason.ANSWER_INVALID,
            Reason.STEP_IN_DOUBT,
        )
    ),
)
_GATES: Final = {
    EventType.TOKEN_VALIDATION: GateName.TOKEN,
    EventType.AUTHORIZATION_SCOPE_CHECK: GateName.SCOPE,
    EventType.RESOURCE_LIMIT_CHECK: GateName.LIMITS,
    EventType.DATA_BOUNDARY_CHECK: GateName.DATA_BOUNDARY,
    EventType.BOUNDARY_VIOLATION: GateName.AUTHORITY_BOUNDARY,
}


class EventTally:
    """Count durable events."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Begin every reason, and every result of every declared method, at zero."""
        self.denials = Counts(_denials())
        self.steps = Counts(_steps(catalogue))
        self.in_doubt = Counts([()])

    def extend(self, catalogue: Catalogue) -> None:
        """Begin every result of each newly declared method at zero."""
        self.steps.extend(_steps(catalogue))

    def count(self, events: Iterable[NewEvent]) -> None:
        """Count the events of one commit, once it is durable."""
        for event in events:
            gate = _GATES.get(event.event_type)
            if gate is not None:
                if event.status is Status.DENIED:
                    self.denials.add(gate.value, event.reason or "")
            elif event.event_type is EventType.EXECUTION_COMPLETED:
                self._count_step(event, event.reason or SUCCEEDED)
            elif (
                event.event_type is EventType.OPERATION_ABORTED
                and event.reason == Reason.STEP_IN_DOUBT.value
            ):
                self.in_doubt.add()
                # Recovery names the step by its number alone.
                if event.domain is not None:
                    self._count_step(event, event.reason)

    def _count_step(self, event: NewEvent, result: str) -> None:
        self.steps.add(event.domain or "", event.method or "", result)


def _steps(catalogue: Catalogue) -> Iterable[Key]:
    return (
        (declaration.name, method, result)
        for declaration in catalogue
        for method in declaration.methods
        for result in _RESULTS
    )


def _denials() -> Iterable[Key]:
    reasons: tuple[DenialReason | ViolationType, ...] = (*DenialReason, *ViolationType)
    for reason in reasons:
        yield Denial(reason, None).gate.value, reason.value
