"""The story of a plan at Stage-4: received, started, executed once by Stage-3, recorded.

Read it top to bottom: received and started are durable before the plan leaves the house, its
outcome is durable before anybody is told. Deliberately absent: retries, fallbacks, a second attempt
under another name, any decision about what a plan may do, and a path that ends without a record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, assert_never

from servicekit.clock import Clock
from servicekit.ijson import JsonValue
from stage4_service.audit import (
    EventType,
    NewEvent,
    PlanEnded,
    PlanOpened,
    PlanState,
    ResultScope,
    Stage4AuditEvent,
    Stage4Journal,
)
from stage4_service.errors import Effects, FailClosed, Reason
from stage4_service.execution_plan import Stage4ExecutionPlan
from stage4_service.plan_digest import plan_digest
from stage4_service.plan_validator import PlanInvalid
from stage4_service.stage3_port import Ending, Stage3Completion, Stage3Failure, Stage3Port


@dataclass(frozen=True, slots=True)
class Submission:
    """What surrounds a plan document: its identifiers, its sender, and the bytes it came in."""

    plan_id: str
    request_id: str
    caller: str
    raw_digest: bytes | None = None
    raw_bytes: int | None = None
    # Where it was computed already.
    plan_digest: bytes | None = None


class Stage4Orchestrator:
    """Executes validated plans through one object that has `execute_multi_domain_plan`.

    Without `journal` the log is a SQLite store in a private temporary directory that lives as long
    as this object; `clock` is the clock of that store, and a journal that is handed in has its own.
    `ids` returns a fresh unique string at each call. Safe for concurrent use.
    """

    __slots__ = ("__weakref__", "_ids", "_journal", "_stage3")

    def __init__(
        self,
        stage3_orchestrator: Stage3Port,
        *,
        journal: Stage4Journal | None = None,
        clock: Clock | None = None,
        ids: Callable[[], str] | None = None,
    ) -> None:
        if journal is None or ids is None:
            # The parts of a service that nobody assembled. Imported here because
            # `import stage4_service` loads the standard library only.
            from stage4_service import standalone

            journal = journal or standalone.open_temporary_journal(self, clock)
            ids = ids or standalone.fresh_identifier
        self._stage3 = stage3_orchestrator
        self._journal = journal
        self._ids = ids

    def execute_plan(
        self,
        plan: Stage4ExecutionPlan | Mapping[str, object],
        *,
        submission: Submission | None = None,
    ) -> object:
        """Execute the plan once and return what Stage-3 returned, verbatim.

        Raises: FailClosed, a RuntimeError, for every plan that did not complete, the cause chained.
        """
        submission = submission or self._own_submission()
        try:
            accepted = _accepted(plan)
        except PlanInvalid as error:
            record_refused_document(self._journal, submission)
            raise FailClosed(error, reason=Reason.PLAN_INVALID, effects=Effects.NONE) from error
        asked_before = self._record_started(accepted, submission)
        try:
            result = self._stage3.execute_multi_domain_plan(
                user_id=accepted.user_id,
                token_hash=accepted.token_hash,
                trigger_type=accepted.trigger_type,
                steps=accepted.steps.copy(),
                data_bindings=None
                if accepted.data_bindings is None
                else accepted.data_bindings.copy(),
            )
        except BaseException as error:  # noqa: BLE001 - recorded, then raised
            self._fail(accepted, submission, error, asked_before=asked_before)
        self._record_completed(accepted, submission, result)
        return result

    def get_audit_log(self) -> list[Stage4AuditEvent]:
        """Return a copy of the log, oldest first."""
        return self._journal.events()

    def _own_submission(self) -> Submission:
        return Submission(plan_id=f"plan_{self._ids()}", request_id=self._ids(), caller="")

    def _record_started(self, plan: Stage4ExecutionPlan, submission: Submission) -> bool:
        """Record arrival and start; return whether an earlier submission may have executed."""
        digest = submission.plan_digest or plan_digest(plan)
        received: dict[str, JsonValue] = {
            **_arrival(submission),
            "valid": True,
            "plan_digest": digest.hex(),
            "trigger_type": plan.trigger_type,
            "steps": len(plan.steps),
            "data_bindings": len(plan.data_bindings or ()),
        }
        started: dict[str, JsonValue] = {"plan_digest": digest.hex()}
        user_id, plan_id = plan.user_id, submission.plan_id
        # A crash before this commit leaves nothing, and nothing has happened. A crash after it
        # leaves a started plan without an outcome, which recovery closes as unknown.
        try:
            recorded = self._journal.record(
                (
                    NewEvent(EventType.PLAN_RECEIVED, user_id, plan_id, received),
                    NewEvent(EventType.EXECUTION_STARTED, user_id, plan_id, started),
                ),
                opened=PlanOpened(
                    plan_id,
                    submission.request_id,
                    submission.caller,
                    user_id,
                    digest,
                    len(plan.steps),
                ),
            )
        except Exception as error:
            raise _unrecorded_before(error) from error
        return any(event.details.get("replay") is True for event in recorded)

    def _record_completed(
        self, plan: Stage4ExecutionPlan, submission: Submission, result: object
    ) -> None:
        details: dict[str, JsonValue] = {"outcome": "completed", "steps": len(plan.steps)}
        ended = PlanEnded(submission.plan_id, PlanState.COMPLETED)
        if isinstance(result, Stage3Completion):
            details["result_digest"] = hashlib.sha256(result.result_json).hexdigest()
            details["result_bytes"] = len(result.result_json)
            details |= _answered(replay=result.replay, executed_plan_id=result.executed_plan_id)
            ended = PlanEnded(
                submission.plan_id,
                PlanState.COMPLETED,
                result_json=result.result_json,
                scope=ResultScope(
                    submission.caller,
                    plan.user_id,
                    submission.request_id,
                    submission.plan_digest or plan_digest(plan),
                ),
                receipt=result.receipt,
                executed_plan_id=result.executed_plan_id,
            )
        event = NewEvent(EventType.EXECUTION_COMPLETED, plan.user_id, submission.plan_id, details)
        # Nobody is told of a success that the log does not hold.
        try:
            self._journal.record((event,), ended=ended)
        except Exception as error:
            raise _unrecorded_after(error, Effects.SOME) from error

    def _fail(
        self,
        plan: Stage4ExecutionPlan,
        submission: Submission,
        error: BaseException,
        *,
        asked_before: bool,
    ) -> NoReturn:
        failure = error if isinstance(error, Stage3Failure) else _nobody_knows(error)
        # Of another plan under the same identifier Stage-3 says itself that it did not run.
        of_this_plan = failure.reason is not Reason.REQUEST_ID_REUSED
        if asked_before and of_this_plan and failure.effects is Effects.NONE:
            failure = _of_a_resubmission(failure)
        details: dict[str, JsonValue] = {
            "reason": failure.reason.value,
            "outcome": failure.ending.value,
            "effects": failure.effects.value,
        }
        if failure.step is not None:
            details["step"] = failure.step
        if failure.replay is not None:
            details |= _answered(replay=failure.replay, executed_plan_id=failure.executed_plan_id)
        event = NewEvent(EventType.EXECUTION_FAILED, plan.user_id, submission.plan_id, details)
        ended = PlanEnded(
            submission.plan_id,
            _state_of(failure.ending),
            reason=failure.reason,
            message=failure.message,
            step=failure.step,
            effects=failure.effects,
            receipt=failure.receipt,
            executed_plan_id=failure.executed_plan_id,
        )
        try:
            self._journal.record((event,), ended=ended)
        except Exception as unavailable:  # noqa: BLE001 - whatever it is, nothing is recorded
            raise _unrecorded_after(unavailable, failure.effects) from error
        if not isinstance(error, Exception):
            # An interrupt is recorded, and then it goes on interrupting.
            raise error
        cause = failure if isinstance(error, Stage3Failure) else error
        raise FailClosed(cause, reason=failure.reason, effects=failure.effects) from cause


def record_refused_document(journal: Stage4Journal, submission: Submission) -> None:
    """Record in one commit that a document arrived that is not a plan.

    Raises: FailClosed, if that could not be recorded.
    """
    received: dict[str, JsonValue] = {**_arrival(submission), "valid": False}
    failed: dict[str, JsonValue] = {
        "reason": Reason.PLAN_INVALID.value,
        "outcome": Ending.REFUSED.value,
        "effects": Effects.NONE.value,
    }
    plan_id = submission.plan_id
    try:
        journal.record(
            (
                NewEvent(EventType.PLAN_RECEIVED, "", plan_id, received),
                NewEvent(EventType.EXECUTION_FAILED, "", plan_id, failed),
            ),
            opened=PlanOpened(plan_id, submission.request_id, submission.caller, "", b"", 0),
            ended=PlanEnded(
                plan_id,
                PlanState.REFUSED,
                reason=Reason.PLAN_INVALID,
                message="the document is not a valid plan",
                effects=Effects.NONE,
            ),
        )
    except Exception as error:
        raise _unrecorded_before(error) from error


def _accepted(plan: Stage4ExecutionPlan | Mapping[str, object]) -> Stage4ExecutionPlan:
    if isinstance(plan, Stage4ExecutionPlan):
        return plan
    # No type stops a caller from handing in something else; the validator says what it is not.
    document: object = plan
    return Stage4ExecutionPlan.from_document(
        dict(document) if isinstance(document, Mapping) else document
    )


def _arrival(submission: Submission) -> dict[str, JsonValue]:
    arrival: dict[str, JsonValue] = {
        "caller": submission.caller,
        "request_id": submission.request_id,
    }
    if submission.raw_digest is not None:
        arrival["raw_digest"] = submission.raw_digest.hex()
        arrival["raw_bytes"] = submission.raw_bytes
    return arrival


def _answered(*, replay: bool, executed_plan_id: str) -> dict[str, JsonValue]:
    if replay:
        return {"replay": True, "original_plan_id": executed_plan_id}
    return {"replay": False}


def _state_of(ending: Ending) -> PlanState:
    match ending:
        case Ending.REFUSED:
            return PlanState.REFUSED
        case Ending.UNKNOWN:
            return PlanState.UNKNOWN
        case Ending.FAILED | Ending.DENIED | Ending.IN_DOUBT | Ending.ABORTED:
            return PlanState.FAILED
        case _:
            assert_never(ending)


def _of_a_resubmission(failure: Stage3Failure) -> Stage3Failure:
    """Return the failure without the promise that nothing happened: an earlier call may have run.

    What is true of this call alone would be read as the fate of the request.
    """
    return Stage3Failure(
        failure.reason,
        f"{failure.message}, by this call; an earlier submission of the request_id may have run",
        ending=failure.ending,
        effects=Effects.UNKNOWN,
        step=failure.step,
        replay=failure.replay,
        executed_plan_id=failure.executed_plan_id,
        receipt=failure.receipt,
        violations=failure.violations,
    )


def _nobody_knows(error: BaseException) -> Stage3Failure:
    return Stage3Failure(
        Reason.OUTCOME_UNKNOWN,
        f"Stage-3 gave no answer ({type(error).__name__})",
        ending=Ending.UNKNOWN,
        effects=Effects.UNKNOWN,
    )


def _unrecorded_before(error: Exception) -> FailClosed:
    return FailClosed(error, reason=Reason.AUDIT_UNAVAILABLE, effects=Effects.NONE)


def _unrecorded_after(error: Exception, effects: Effects) -> FailClosed:
    return FailClosed(error, reason=Reason.OUTCOME_UNRECORDED, effects=effects)
