"""Record an answer that came after its step was given up as in doubt.

An answer may come before the giving up is on disk: it then waits here for whoever records that.
Deliberately absent: any change of the outcome. What the client was told stays.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from servicekit.invariant import InvariantBroken
from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.journal import Writes
from stage3_service.domains.answer import AnswerInvalid, read_answer
from stage3_service.domains.port import MethodFailed
from stage3_service.errors import Reason
from stage3_service.execution.prepare_step import commit_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from stage3_service.audit.journal import Journal, Snapshot
    from stage3_service.audit.records import PlanRecord
    from stage3_service.domains.port import Answer


class LateAnswers:
    """Append LATE_OUTCOME, the only event that may follow a plan's terminal one."""

    def __init__(self, journal: Journal, entropy: Callable[[int], bytes]) -> None:
        self._journal = journal
        self._entropy = entropy
        # Put and taken by single dict operations, each atomic: exactly one thread gets an answer.
        self._waiting: dict[str, Answer] = {}

    def deliver(self, idempotency_key: str, answer: Answer) -> None:
        """Take an answer from whoever received it, and record it if its plan has ended.

        Raises:
            JournalUnavailable: the record could not be made durable.
        """
        self._waiting[idempotency_key] = answer
        if self._journal.record(partial(_has_ended, idempotency_key=idempotency_key)).answer:
            self.record(idempotency_key)

    def record(self, idempotency_key: str) -> None:
        """Record the waiting answer of a plan that has ended, if there is one. Once.

        Raises:
            JournalUnavailable: the record could not be made durable.
        """
        answer = self._waiting.pop(idempotency_key, None)
        if answer is not None:
            self._journal.record(
                partial(
                    _late_outcome,
                    idempotency_key=idempotency_key,
                    answer=answer,
                    entropy=self._entropy,
                )
            )


def _plan_of(snapshot: Snapshot, idempotency_key: str) -> tuple[str, PlanRecord | None, int]:
    """Return the plan's identifier, what is stored of it unless that was erased, and the step."""
    plan_id, _, step = idempotency_key.rpartition("/")
    plan = snapshot.plan(plan_id)
    if plan is None and not snapshot.plan_is_known(plan_id):
        raise InvariantBroken("an answer to a plan that was not admitted")
    return plan_id, plan, int(step)


def _has_ended(snapshot: Snapshot, idempotency_key: str) -> Writes[bool]:
    _, plan, _ = _plan_of(snapshot, idempotency_key)
    return Writes(plan is None or plan.outcome is not None)


def _late_outcome(
    snapshot: Snapshot,
    idempotency_key: str,
    answer: Answer,
    entropy: Callable[[int], bytes],
) -> Writes[None]:
    plan_id, plan, step = _plan_of(snapshot, idempotency_key)
    if isinstance(answer, MethodFailed):
        reason: Reason | None = Reason.DOMAIN_FAILED
        committed = commit_to("failure", answer.message.encode(), entropy)
    else:
        reason = None if _is_readable(answer.json_bytes) else Reason.ANSWER_INVALID
        committed = commit_to("output", answer.json_bytes, entropy)
    event = NewEvent(
        EventType.LATE_OUTCOME,
        Status.SUCCESS if reason is None else Status.FAILED,
        user_id=None if plan is None else plan.scope.user_id,
        token_id=None if plan is None else plan.token_id,
        plan_id=plan_id,
        step=step,
        reason=None if reason is None else reason.value,
        additional_data=committed.facts,
        salts=committed.salts,
    )
    return Writes(None, (event,))


def _is_readable(output: bytes) -> bool:
    """Return whether an answer in time would have been read, its declared size left aside."""
    try:
        read_answer(output, len(output))
    except AnswerInvalid:
        return False
    return True
