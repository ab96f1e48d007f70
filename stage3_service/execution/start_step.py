"""Ask every gate about one step inside its turn, and draft its start or the plan's end.

This runs inside the transaction that appends EXECUTION_STARTED: a token revoked between two steps
stops the second.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from stage3_service.audit.changes import (
    PlanFirstStarted,
    StepStarted,
    TokenCharged,
    TokenExpiryObserved,
)
from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.outcome import OutcomeKind, PlanOutcome
from stage3_service.authorization.authorized_step import authorize_step
from stage3_service.authorization.gate import Denial, DenialReason, GateName
from stage3_service.authorization.limit_gate import LimitFacts
from stage3_service.authorization.token_gate import TokenFacts
from stage3_service.tokens.usage import reservation

if TYPE_CHECKING:
    from stage3_service.audit.journal import Snapshot, Writes
    from stage3_service.audit.records import TokenRecord
    from stage3_service.execution.house import House
    from stage3_service.execution.plan_run import Draft, NextStep, PlanRun, Progress
    from stage3_service.plan.plan import Step
    from stage3_service.tokens.token import CapabilityToken
    from stage3_service.tokens.usage import TokenUsage


def token_facts(
    snapshot: Snapshot, run: PlanRun, record: TokenRecord | None, house: House
) -> TokenFacts:
    """Return what gate 1 is asked about: the state of this turn, not of an earlier one."""
    return TokenFacts(
        token=None if record is None else record.token,
        presented_key=run.submission.token_key,
        revoked=snapshot.is_revoked(run.submission.token_key),
        user_id=run.plan.user_id,
        caller=run.submission.caller,
        trigger_type=run.plan.trigger_type,
        plan_digest=run.plan.digest,
        steps=len(run.plan.steps),
        now=snapshot.now,
        ordinary_lifetime_s=house.ordinary_lifetime_s,
    )


def observe_expiry(draft: Draft, record: TokenRecord | None, denial: Denial) -> None:
    """Draft TOKEN_EXPIRED when this denial is the first to see it. There is no timer."""
    if record is None or record.expiry_recorded or denial.reason is not DenialReason.TOKEN_EXPIRED:
        return
    token = record.token
    draft.events.append(
        NewEvent(
            EventType.TOKEN_EXPIRED, Status.EXPIRED, user_id=token.user_id, token_id=token.token_id
        )
    )
    draft.changes.append(TokenExpiryObserved(token.token_id))


def plan_starts_in_window(snapshot: Snapshot, token: CapabilityToken) -> int:
    """Return how many plans the token has started within its window; 0 where none is set."""
    frequency = token.resource_limits.max_frequency
    if frequency is None:
        return 0
    since = snapshot.now - timedelta(seconds=frequency.per_seconds)
    return snapshot.plan_starts_since(token.token_id, since)


def reserve_bytes(token: CapabilityToken, step: Step, house: House) -> int:
    """Return what the step's response would be charged in advance."""
    method = house.catalogue.method(step.domain, step.method)
    return 0 if method is None else reservation(token.resource_limits, method.max_response_bytes)


def start_or_end(
    snapshot: Snapshot,
    draft: Draft,
    record: TokenRecord,
    usage: TokenUsage,
    progress: Progress,
    following: NextStep,
    house: House,
    *,
    time_left_s: float,
    settled_bytes: int = 0,
) -> Writes[PlanOutcome | None]:
    """Return the writes that start the next step, or that end the plan at the gate that refused.

    `usage` already holds what this turn settles; `settled_bytes` is the difference to the stored
    usage, written together with the step's own charge. `time_left_s` is read once a turn, so that
    two questions about it cannot differ.
    """
    run, step = draft.run, following.prepared.step
    token = record.token
    trail = run.trail(token.token_id)
    first_start = step.index == 0
    verdict = authorize_step(
        plan_id=run.submission.plan_id,
        prepared=following.prepared,
        token_facts=token_facts(snapshot, run, record, house),
        limit_facts=LimitFacts(
            limits=token.resource_limits,
            usage=usage,
            plan_starts_in_window=plan_starts_in_window(snapshot, token) if first_start else 0,
            is_first_start=first_start,
            reserve_bytes=reserve_bytes(token, step, house),
            plan_response_bytes=progress.response_bytes,
            time_left_s=time_left_s,
            max_plan_response_bytes=house.max_plan_response_bytes,
        ),
        catalogue=house.catalogue,
    )
    if isinstance(verdict, Denial):
        if settled_bytes:
            draft.changes.append(TokenCharged(token.token_id, 0, settled_bytes))
        observe_expiry(draft, record, verdict)
        draft.events.extend(trail.passed_until(verdict.gate, step, following.committed))
        draft.events.extend(trail.gate_denied(verdict, step))
        return draft.end(
            PlanOutcome(
                OutcomeKind.DENIED,
                progress.effects(),
                reason=verdict.public.value,
                step=step.index,
                message=verdict.message,
            )
        )
    draft.events.extend(trail.passed_until(GateName.AUTHORITY_BOUNDARY, step, following.committed))
    draft.events.append(trail.started(step))
    draft.changes.append(TokenCharged(token.token_id, 1, settled_bytes + verdict.reserved_bytes))
    if first_start and token.resource_limits.max_frequency is not None:
        draft.changes.append(PlanFirstStarted(token.token_id, run.submission.plan_id, snapshot.now))
    draft.changes.append(StepStarted(run.submission.plan_id, step.index))
    return draft.start(verdict)
