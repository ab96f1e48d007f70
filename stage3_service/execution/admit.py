"""Admission: once per plan, before any effect, gates 1 to 3 about every step.

The gates are asked in order, each about all steps, before the next one is: a plan with one
forbidden step has no effect at all. The commit of an admission is barrier B0, joined with B1 of
the first step. Deliberately absent: any way to admit a plan whose request identifier was consumed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from servicekit.invariant import invariant
from stage3_service.audit.changes import PlanAdmitted, PlanRefused, TokenFirstUsed
from stage3_service.audit.event import EventType, NewEvent, Status, format_timestamp
from stage3_service.audit.journal import Writes
from stage3_service.authorization.denial_budget import OTHER_CALLERS
from stage3_service.authorization.gate import Denial, DenialReason, GateName
from stage3_service.authorization.limit_gate import AdmissionFacts, decide_admission_limits
from stage3_service.authorization.scope_gate import decide_scope
from stage3_service.authorization.token_gate import decide_token
from stage3_service.errors import Reason, Refusal
from stage3_service.execution.plan_run import Draft, Progress
from stage3_service.execution.plan_trail import admission_facts
from stage3_service.execution.retention import erase, erase_some, is_over
from stage3_service.execution.start_step import (
    observe_expiry,
    plan_starts_in_window,
    reserve_bytes,
    start_or_end,
    token_facts,
)
from stage3_service.execution.submission import is_client, is_identifier
from stage3_service.tokens.credential import keys_match

if TYPE_CHECKING:
    from datetime import datetime

    from stage3_service.audit.journal import Snapshot
    from stage3_service.audit.outcome import PlanOutcome
    from stage3_service.audit.records import PlanRecord, StoredOutcome, TokenRecord
    from stage3_service.authorization.denial_budget import DenialBudget, Suppressed
    from stage3_service.execution.house import House
    from stage3_service.execution.plan_run import NextStep, PlanRun
    from stage3_service.execution.submission import Submission

_FIELD = re.compile(r"(?:[a-z_]+(?:\[[0-9]+\])?(?:\.[a-z_]+)?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Refused:
    """Answer a plan that was not admitted: nothing happened. `because_of` has to be intact."""

    refusal: Refusal
    because_of: StoredOutcome | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """Answer a request that was executed before: its stored outcome, and nothing happened now."""

    plan_id: str
    outcome: StoredOutcome


@dataclass(frozen=True, slots=True)
class Admitted:
    """Answer an admitted plan. `outcome` is set where its first step was already refused."""

    token_id: str
    outcome: PlanOutcome | None


Admission = Refused | Replayed | Admitted


def admit(
    snapshot: Snapshot, run: PlanRun, first: NextStep, house: House, budget: DenialBudget
) -> Writes[Admission]:
    """Decide whether a plan is admitted, and if so start its first step in the same commit."""
    submission = run.submission
    prior = snapshot.request(run.scope)
    over = prior is not None and is_over(prior, snapshot.now, house)
    if prior is not None and not over and (outcome := _outcome_for(run, prior)) is not None:
        return Writes(Replayed(prior.plan_id, outcome))
    if snapshot.disk_is_low:
        # Even a refusal would take room that steps under way need.
        return _halted()
    if snapshot.plan_is_known(submission.plan_id):
        return refuse_malformed(
            snapshot, submission, invalid("plan_id", "was used before; mint a new one"), budget
        )
    if over or (prior is None and snapshot.request_is_spent(run.scope)):
        return _refuse_expired(snapshot, run, prior, budget)
    if prior is not None:
        return _refuse_again(snapshot, run, prior, budget)
    if snapshot.halt is not None:
        return _halted()
    record = snapshot.token(submission.token_key)
    draft = Draft(run, snapshot.now, [], [])
    if denial := decide_token(token_facts(snapshot, run, record, house)):
        observe_expiry(draft, record, denial)
        return _deny(snapshot, draft, record, denial, budget)
    record = invariant(record, "the token gate let an unknown token pass")
    time_left_s = run.call.time_left_s()
    if denial := _forbidden_step(snapshot, run, record, house, time_left_s):
        return _deny(snapshot, draft, record, denial, budget)
    return _admit(snapshot, draft, record, first, house, budget, time_left_s)


def _halted() -> Writes[Admission]:
    message = "no step may start while the service is halted; nothing happened"
    return Writes(Refused(Refusal(Reason.SERVICE_HALTED, message)))


def _forbidden_step(
    snapshot: Snapshot, run: PlanRun, record: TokenRecord, house: House, time_left_s: float
) -> Denial | None:
    for step in run.plan.steps:
        if denial := decide_scope(record.token, step, house.catalogue):
            return denial
    token = record.token
    return decide_admission_limits(
        AdmissionFacts(
            limits=token.resource_limits,
            usage=record.usage,
            plan_starts_in_window=plan_starts_in_window(snapshot, token),
            reserve_bytes=tuple(reserve_bytes(token, step, house) for step in run.plan.steps),
            time_left_s=time_left_s,
        )
    )


def _admit(
    snapshot: Snapshot,
    draft: Draft,
    record: TokenRecord,
    first: NextStep,
    house: House,
    budget: DenialBudget,
    time_left_s: float,
) -> Writes[Admission]:
    run, submission, token = draft.run, draft.run.submission, record.token
    draft.events.append(
        run.trail(token.token_id).token_validated(
            admission_facts(run.plan, request_id=submission.request_id, caller=submission.caller)
        )
    )
    if record.usage.first_used_at is None:
        draft.events.append(
            NewEvent(
                EventType.TOKEN_FIRST_USED,
                Status.SUCCESS,
                user_id=token.user_id,
                token_id=token.token_id,
            )
        )
        draft.changes.append(TokenFirstUsed(token.token_id, snapshot.now))
    draft.changes.extend(erase_some(snapshot, house))
    draft.changes.append(
        PlanAdmitted(
            plan_id=submission.plan_id,
            scope=run.scope,
            plan_digest=run.plan.digest,
            token_key=submission.token_key,
            token_id=token.token_id,
            steps=len(run.plan.steps),
            at=snapshot.now,
        )
    )
    writes = start_or_end(
        snapshot,
        draft,
        record,
        record.usage,
        Progress(),
        first,
        house,
        time_left_s=time_left_s,
    )
    denied_at_once = writes.answer is not None
    # It charged the token nothing: without a budget it could be repeated for as long as it lives.
    if denied_at_once and not budget.spend(submission.caller, snapshot.now):
        return _overloaded(budget, snapshot.now)
    return Writes(
        Admitted(token.token_id, writes.answer),
        (*suppressed_events(budget, snapshot.now, submission.caller), *writes.events),
        writes.changes,
        writes.start,
    )


def _outcome_for(run: PlanRun, prior: PlanRecord) -> StoredOutcome | None:
    """Return the stored outcome, if this submission may be told it: same token, same plan.

    The token may have expired or been revoked since: reading what happened needs no authority to
    act.
    """
    if not keys_match(prior.token_key, run.submission.token_key):
        return None
    return prior.outcome if prior.plan_digest == run.plan.digest else None


def _refuse_again(
    snapshot: Snapshot, run: PlanRun, prior: PlanRecord, budget: DenialBudget
) -> Writes[Admission]:
    """Refuse a request identifier that was consumed.

    The token comes first: whoever does not hold the first submission's token learns nothing of it.
    """
    draft = Draft(run, snapshot.now, [], [])
    if not keys_match(prior.token_key, run.submission.token_key):
        return _deny(
            snapshot,
            draft,
            snapshot.token(run.submission.token_key),
            Denial(DenialReason.REQUEST_TOKEN_MISMATCH, None),
            budget,
        )
    if prior.plan_digest != run.plan.digest:
        return _refuse(
            draft,
            Refusal(
                Reason.REQUEST_ID_REUSED,
                "request_id was used with another plan; use a new one for a new plan",
            ),
            prior.token_id,
            budget,
            because_of=prior.outcome,
        )
    # Asking again is what the sentence advises: it costs the caller no budget and the log no entry.
    return Writes(
        Refused(
            Refusal(
                Reason.REQUEST_IN_PROGRESS,
                "the plan of this request_id is still running; ask again with the same request_id",
            )
        )
    )


def _refuse_expired(
    snapshot: Snapshot, run: PlanRun, prior: PlanRecord | None, budget: DenialBudget
) -> Writes[Admission]:
    """Refuse a request identifier whose outcome is told no more, and erase it if it is still there.

    No token is asked for: the first one has expired long since, and what is told is that this very
    caller used this identifier before.
    """
    draft = Draft(run, snapshot.now, [], [])
    if prior is not None:
        draft.changes.append(erase(prior))
    return _refuse(
        draft,
        Refusal(
            Reason.REQUEST_ID_EXPIRED,
            "request_id was executed, and its outcome is no longer kept; nothing happened now. "
            "What happened then is in the log; use a new one for a new plan",
        ),
        None,
        budget,
    )


def _deny(
    snapshot: Snapshot,
    draft: Draft,
    record: TokenRecord | None,
    denial: Denial,
    budget: DenialBudget,
) -> Writes[Admission]:
    """Refuse at a gate: its event, the plan's terminal event, one commit, no effect."""
    run = draft.run
    if not budget.spend(run.submission.caller, snapshot.now):
        return _overloaded(budget, snapshot.now)
    trail = run.trail(None if record is None else record.token.token_id)
    draft.events[:0] = suppressed_events(budget, snapshot.now, run.submission.caller)
    step = None if denial.step is None else run.plan.steps[denial.step]
    if denial.gate is not GateName.TOKEN:
        draft.events.append(
            trail.token_validated(
                admission_facts(
                    run.plan,
                    request_id=run.submission.request_id,
                    caller=run.submission.caller,
                )
            )
        )
    denied, terminal = trail.gate_denied(denial, step)
    facts = {"caller": run.submission.caller, "plan_digest": run.plan.digest.hex()}
    draft.events.append(replace(denied, additional_data={**denied.additional_data, **facts}))
    draft.events.append(terminal)
    draft.changes.append(PlanRefused(run.submission.plan_id))
    return Writes(
        Refused(Refusal(denial.public, denial.message)),
        tuple(draft.events),
        tuple(draft.changes),
    )


def _refuse(
    draft: Draft,
    refusal: Refusal,
    token_id: str | None,
    budget: DenialBudget,
    *,
    because_of: StoredOutcome | None = None,
) -> Writes[Admission]:
    """Refuse before any gate was asked: the plan's terminal event alone."""
    caller = draft.run.submission.caller
    if not budget.spend(caller, draft.now):
        return _overloaded(budget, draft.now)
    events = (
        *suppressed_events(budget, draft.now, caller),
        draft.run.trail(token_id).denied(refusal.reason),
    )
    draft.changes.append(PlanRefused(draft.run.submission.plan_id))
    return Writes(Refused(refusal, because_of), events, tuple(draft.changes))


def invalid(path: str, description: str) -> Refusal:
    """Return the refusal of a submission whose first error is at `path`."""
    message = f"{path}: {description}" if path else description
    return Refusal(Reason.PLAN_INVALID, message, ((path, description),))


def refuse_malformed(
    snapshot: Snapshot, submission: Submission, refusal: Refusal, budget: DenialBudget
) -> Writes[Admission]:
    """Refuse a submission that no gate can be asked about.

    The event names the plan only where its identifier is well formed and fresh: a plan has one
    terminal event, and nothing a caller wrote reaches the log unread. Callers that are none share
    one budget, and the field is named down to `parameters` only, whose keys are the client's own.
    """
    if snapshot.disk_is_low:
        return Writes(Refused(refusal))
    payer = submission.caller if is_client(submission.caller) else OTHER_CALLERS
    if not budget.spend(payer, snapshot.now):
        return _overloaded(budget, snapshot.now)
    fresh = is_identifier(submission.plan_id) and not snapshot.plan_is_known(submission.plan_id)
    path = refusal.violations[0][0] if refusal.violations else "plan_digest"
    field = invariant(_FIELD.match(path), "a pattern that matches nothing too found no match")[0]
    event = NewEvent(
        EventType.EXECUTION_DENIED,
        Status.DENIED,
        plan_id=submission.plan_id if fresh else None,
        reason=refusal.reason.value,
        additional_data={"field": field, **({"terminal": True} if fresh else {})},
    )
    return Writes(
        Refused(refusal),
        (*suppressed_events(budget, snapshot.now, payer), event),
        (PlanRefused(submission.plan_id),) if fresh else (),
    )


def _overloaded(budget: DenialBudget, now: datetime) -> Writes[Admission]:
    return Writes(
        Refused(
            Refusal(
                Reason.OVERLOADED,
                "this caller was denied too often; nothing happened, wait before the next call",
            )
        ),
        tuple(_events_of(budget.take_due(now))),
    )


def suppressed_events(budget: DenialBudget, now: datetime, caller: str) -> list[NewEvent]:
    """Return what goes with a record of this caller: its own counts, and all that is due."""
    return _events_of((*budget.take_suppressed(caller), *budget.take_due(now)))


def all_suppressed_events(budget: DenialBudget) -> list[NewEvent]:
    """Return every count that was not recorded yet."""
    return _events_of(budget.take_suppressed())


def due_suppressed_events(budget: DenialBudget, now: datetime) -> list[NewEvent]:
    """Return the counts that have waited too long, if some have."""
    return _events_of(budget.take_due(now))


def _events_of(counts: tuple[Suppressed, ...]) -> list[NewEvent]:
    """Return one aggregated event for each caller whose denials were not recorded one by one."""
    return [
        NewEvent(
            EventType.DENIALS_SUPPRESSED,
            Status.DENIED,
            reason="denial_budget_spent",
            additional_data={
                "caller": suppressed.caller,
                "count": suppressed.count,
                "since": format_timestamp(suppressed.since),
            },
        )
        for suppressed in counts
    ]
