"""One admitted or refused plan on its way: what stays the same from its first gate to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stage3_service.audit.changes import PlanEnded
from stage3_service.audit.journal import Writes
from stage3_service.audit.outcome import Effects
from stage3_service.audit.records import RequestScope
from stage3_service.execution.plan_trail import PlanTrail

if TYPE_CHECKING:
    from datetime import datetime

    from stage3_service.audit.changes import Change
    from stage3_service.audit.event import NewEvent
    from stage3_service.audit.outcome import PlanOutcome
    from stage3_service.authorization.authorized_step import AuthorizedStep, PreparedStep
    from stage3_service.execution.prepare_step import CommittedBytes
    from stage3_service.execution.submission import Call, Submission
    from stage3_service.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class PlanRun:
    """Hold a verified plan, its submission and the client's call."""

    plan: Plan
    submission: Submission
    call: Call

    @property
    def scope(self) -> RequestScope:
        """Return the identity of the request."""
        return RequestScope(self.submission.caller, self.plan.user_id, self.submission.request_id)

    def trail(self, token_id: str | None) -> PlanTrail:
        """Return the plan's event maker."""
        return PlanTrail(self.submission.plan_id, self.plan.user_id, token_id)


@dataclass(frozen=True, slots=True)
class NextStep:
    """Hold the step that would start next, ready for its gates."""

    prepared: PreparedStep
    committed: CommittedBytes


@dataclass(frozen=True, slots=True)
class Progress:
    """Count what the plan has done so far: completed steps, and response bytes they returned."""

    completed: int = 0
    response_bytes: int = 0

    def after(self, output_bytes: int) -> Progress:
        """Return the progress once one more step has completed with so many bytes of output."""
        return Progress(self.completed + 1, self.response_bytes + output_bytes)

    def effects(self) -> Effects:
        """Return what certainly happened, where nothing is in doubt."""
        return Effects.SOME if self.completed else Effects.NONE


@dataclass(slots=True)
class Draft:
    """Collect the writes of one decision in the order in which they are recorded."""

    run: PlanRun
    now: datetime
    events: list[NewEvent]
    changes: list[Change]

    def end(self, outcome: PlanOutcome) -> Writes[PlanOutcome | None]:
        """Return the writes of a plan that ends here."""
        run = self.run
        self.changes.append(
            PlanEnded(
                plan_id=run.submission.plan_id,
                scope=run.scope,
                plan_digest=run.plan.digest,
                token_key=run.submission.token_key,
                outcome=outcome,
                at=self.now,
            )
        )
        return Writes(outcome, tuple(self.events), tuple(self.changes))

    def start(self, step: AuthorizedStep) -> Writes[PlanOutcome | None]:
        """Return the writes of a plan whose next step may be invoked once they are durable."""
        return Writes(None, tuple(self.events), tuple(self.changes), step)
