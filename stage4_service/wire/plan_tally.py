"""What arrived and how it ended, as callers were told: closed lists, counted where answers leave.

Deliberately absent: who called, and anything that a document holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from servicekit.tally import Counts, Durations
from stage4_service.errors import Effects, FailClosed, Reason
from stage4_service.stage3_port import Ending, Stage3Completion, Stage3Failure

COMPLETED: Final = "completed"
REPLAYED: Final = "replayed"
UNRECORDED: Final = "unrecorded"
VALID: Final = "valid"
INVALID: Final = "invalid"
SUPPRESSED: Final = "suppressed"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class PlanTally:
    """Count submissions and their ends, and measure how long callers waited."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        """Begin every verdict, outcome and reason at zero."""
        outcomes = (COMPLETED, REPLAYED, UNRECORDED, *(ending.value for ending in Ending))
        self.received = Counts((verdict,) for verdict in (VALID, INVALID, SUPPRESSED))
        self.plans = Counts((outcome,) for outcome in outcomes)
        self.failures = Counts((reason.value,) for reason in Reason)
        self.duration_s = Durations([()], _SECONDS)
        self._monotonic_s = monotonic_s

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measure one call, however it ends."""
        began_s = self._monotonic_s()
        try:
            yield
        finally:
            self.duration_s.observe(self._monotonic_s() - began_s)

    def completed(self, result: object) -> None:
        """Count a plan that completed, now or, as a replay, earlier."""
        replay = isinstance(result, Stage3Completion) and result.replay
        self.plans.add(REPLAYED if replay else COMPLETED)

    def failed(self, failed: FailClosed) -> None:
        """Count a plan that did not complete."""
        self.plans.add(_outcome(failed))
        self.failures.add(failed.reason.value)

    def refused(self, reason: Reason) -> None:
        """Count a submission that was refused before anything was sent."""
        self.plans.add(Ending.REFUSED.value)
        self.failures.add(reason.value)


def _outcome(failed: FailClosed) -> str:
    cause = failed.__cause__
    if failed.reason is Reason.OUTCOME_UNRECORDED:
        return UNRECORDED
    if isinstance(cause, Stage3Failure):
        return REPLAYED if cause.replay else cause.ending.value
    return Ending.REFUSED.value if failed.effects is Effects.NONE else Ending.UNKNOWN.value
