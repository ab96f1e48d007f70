"""Record what a domain answered, and in the same commit start the next step or end the plan.

B2 of a step joins B1 of the next, and B3 joins the last B2, so that n steps cost n + 1 commits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from servicekit.invariant import invariant
from stage3_service.audit.changes import TokenCharged
from stage3_service.audit.outcome import Effects, OutcomeKind, PlanOutcome
from stage3_service.errors import Reason
from stage3_service.execution.plan_run import Draft, Progress
from stage3_service.execution.prepare_step import NOTHING_COMMITTED, CommittedBytes
from stage3_service.execution.start_step import start_or_end
from stage3_service.tokens.usage import settle, settlement

if TYPE_CHECKING:
    from stage3_service.audit.journal import Snapshot, Writes
    from stage3_service.authorization.authorized_step import AuthorizedStep
    from stage3_service.execution.house import House
    from stage3_service.execution.plan_run import NextStep, PlanRun


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The domain answered with an output that was read and found in bounds."""

    output_bytes: int
    committed: CommittedBytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The domain answered, and the answer is a failure; or it provably was not reached."""

    reason: Reason
    effects_possible: bool
    message: str
    answer_bytes: int = 0
    committed: CommittedBytes = NOTHING_COMMITTED


@dataclass(frozen=True, slots=True)
class Silent:
    """The domain did not answer: whether the step had its effect is not known."""

    message: str


StepOutcome = Succeeded | Failed | Silent


@dataclass(frozen=True, slots=True)
class Following:
    """Hold what comes after a success: the next step, or the plan's result where it was the last.

    `draining` says that the service is ending and starts no further step.
    """

    step: NextStep | None
    result_json: bytes = field(default=b"", repr=False)
    draining: bool = False


def settle_step(
    snapshot: Snapshot,
    run: PlanRun,
    token_id: str,
    ended: AuthorizedStep,
    outcome: StepOutcome,
    progress: Progress,
    following: Following,
    house: House,
) -> Writes[PlanOutcome | None]:
    """Decide what the end of one step means for its plan. `progress` is without this step."""
    draft = Draft(run, snapshot.now, [], [])
    match outcome:
        case Succeeded():
            return _settle_success(
                snapshot, draft, token_id, ended, outcome, progress, following, house
            )
        case Failed():
            return _settle_failure(draft, token_id, ended, outcome, progress)
        case Silent():
            return _leave_in_doubt(draft, token_id, ended, outcome)
        case _:
            assert_never(outcome)


def _settle_success(
    snapshot: Snapshot,
    draft: Draft,
    token_id: str,
    ended: AuthorizedStep,
    outcome: Succeeded,
    before: Progress,
    following: Following,
    house: House,
) -> Writes[PlanOutcome | None]:
    run, step = draft.run, draft.run.plan.steps[ended.index]
    trail = run.trail(token_id)
    progress = before.after(outcome.output_bytes)
    difference = settlement(ended.reserved_bytes, outcome.output_bytes)
    last = following.step is None
    draft.events.append(
        trail.completed(step, output=outcome.committed, failure=None, terminal=last)
    )
    if following.step is None:
        draft.changes.append(TokenCharged(token_id, 0, difference))
        return draft.end(
            PlanOutcome(
                OutcomeKind.COMPLETED, progress.effects(), result_json=following.result_json
            )
        )
    time_left_s = run.call.time_left_s()
    stop = _reason_to_stop(snapshot, run, following, time_left_s)
    if stop is not None:
        draft.changes.append(TokenCharged(token_id, 0, difference))
        waiting = following.step.prepared.step
        draft.events.append(trail.aborted(waiting, stop))
        return draft.end(
            PlanOutcome(
                OutcomeKind.ABORTED,
                progress.effects(),
                reason=stop.value,
                step=waiting.index,
                message=_STOPPED[stop],
            )
        )
    record = invariant(
        snapshot.token(run.submission.token_key), "the token of an admitted plan is gone"
    )
    usage = settle(record.usage, ended.reserved_bytes, outcome.output_bytes)
    return start_or_end(
        snapshot,
        draft,
        record,
        usage,
        progress,
        following.step,
        house,
        time_left_s=time_left_s,
        settled_bytes=difference,
    )


def _reason_to_stop(
    snapshot: Snapshot, run: PlanRun, following: Following, time_left_s: float
) -> Reason | None:
    # The service first: when it ends it cancels calls itself, and their clients did not.
    if following.draining or snapshot.halt is not None:
        return Reason.PLAN_HALTED
    if run.call.cancelled():
        return Reason.CLIENT_CANCELLED
    return Reason.DEADLINE if time_left_s <= 0 else None


def _settle_failure(
    draft: Draft, token_id: str, ended: AuthorizedStep, outcome: Failed, progress: Progress
) -> Writes[PlanOutcome | None]:
    step = draft.run.plan.steps[ended.index]
    draft.events.append(
        draft.run.trail(token_id).completed(
            step, output=outcome.committed, failure=outcome.reason, terminal=True
        )
    )
    draft.changes.append(
        TokenCharged(token_id, 0, settlement(ended.reserved_bytes, outcome.answer_bytes))
    )
    return draft.end(
        PlanOutcome(
            OutcomeKind.FAILED,
            Effects.UNKNOWN if outcome.effects_possible else progress.effects(),
            reason=outcome.reason.value,
            step=ended.index,
            message=outcome.message,
        )
    )


def _leave_in_doubt(
    draft: Draft, token_id: str, ended: AuthorizedStep, outcome: Silent
) -> Writes[PlanOutcome | None]:
    """End the plan without knowing. The reservation stays: the effect may have happened."""
    step = draft.run.plan.steps[ended.index]
    draft.events.append(
        draft.run.trail(token_id).aborted(step, Reason.STEP_IN_DOUBT, {"in_doubt": True})
    )
    return draft.end(
        PlanOutcome(
            OutcomeKind.IN_DOUBT,
            Effects.UNKNOWN,
            reason=Reason.STEP_IN_DOUBT.value,
            step=ended.index,
            message=outcome.message,
        )
    )


_STOPPED = {
    Reason.CLIENT_CANCELLED: "the client gave up; no further step was started",
    Reason.DEADLINE: "the deadline passed; no further step was started",
    Reason.PLAN_HALTED: "the service was halted between two steps; no further step was started",
}
