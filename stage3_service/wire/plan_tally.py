"""How plans ended, as their callers were told: two closed lists, counted where answers leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from servicekit.tally import Counts
from stage3_service.audit.outcome import OutcomeKind
from stage3_service.errors import Reason

if TYPE_CHECKING:
    from stage3_service.errors import Refusal
    from stage3_service.execution.submission import PlanAnswer

REFUSED: Final = "refused"
REPLAYED: Final = "replayed"
UNRECORDED: Final = "unrecorded"


class PlanTally:
    """Count answers to the one RPC."""

    def __init__(self) -> None:
        """Begin every outcome and every reason at zero."""
        outcomes = (*(kind.value for kind in OutcomeKind), REFUSED, REPLAYED, UNRECORDED)
        self.plans = Counts((outcome,) for outcome in outcomes)
        self.refusals = Counts((reason.value,) for reason in Reason)

    def answered(self, answer: PlanAnswer) -> None:
        """Count a plan that was admitted, now or earlier."""
        self.plans.add(REPLAYED if answer.replay else answer.outcome.kind.value)

    def refused(self, refusal: Refusal) -> None:
        """Count a plan that was not admitted, or whose outcome could not be recorded."""
        unrecorded = refusal.reason is Reason.OUTCOME_UNRECORDED
        self.plans.add(UNRECORDED if unrecorded else REFUSED)
        self.refusals.add(refusal.reason.value)
