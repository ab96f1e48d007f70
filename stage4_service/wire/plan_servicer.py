"""The door that clients knock at: decode, let the orchestrator tell the story, encode.

Deliberately absent: what a plan may do, and what an outcome means. A client reads only what its own
identity submitted; an auditor reads what happened, not what came of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NoReturn

import grpc
from stagegate.stage4.v1 import plan_service_pb2 as pb
from stagegate.stage4.v1.plan_service_pb2_grpc import (
    PlanServiceServicer,
    add_PlanServiceServicer_to_server,
)

from servicekit.serving.call_facts import CallFacts, call_facts
from servicekit.serving.identity import IdentityKind
from servicekit.serving.status import WireError
from stage4_service.audit import Stage4Journal
from stage4_service.errors import Effects, FailClosed, JournalUnavailable, Reason, ResultDamaged
from stage4_service.limits import PlanLimits
from stage4_service.orchestrator import Stage4Orchestrator, Submission, record_refused_document
from stage4_service.plan_document import PlanDocument, holds_credential, read_plan_document
from stage4_service.plan_record import PlanReader
from stage4_service.plan_validator import PlanInvalid, Violation
from stage4_service.stage3_port import Ending, Stage3Completion, Stage3Failure
from stage4_service.wire.codec import encode_entry, encode_plan, encode_plan_outcome
from stage4_service.wire.pages import (
    PageTokenInvalid,
    decode_page_token,
    encode_page_token,
    page_size,
)
from stage4_service.wire.plan_tally import INVALID, SUPPRESSED, VALID, PlanTally
from stage4_service.wire.refusals import Refusals
from stage4_service.wire.stage3_client import CallersPatience, Stage3Call, Stage3Client
from stage4_service.wire.status import STATUSES

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_PLANS: Final = "p"
_ENTRIES: Final = "e"


class PlanServicer(PlanServiceServicer):
    """`stagegate.stage4.v1.PlanService`."""

    def __init__(
        self,
        *,
        journal: Stage4Journal,
        records: PlanReader,
        stage3: Stage3Client,
        refusals: Refusals,
        limits: PlanLimits,
        ids: Callable[[], str],
        tally: PlanTally,
    ) -> None:
        self._tally = tally
        self._journal = journal
        self._records = records
        self._stage3 = stage3
        self._refusals = refusals
        self._limits = limits
        self._ids = ids

    def register(self, server: grpc.Server) -> None:
        """Answer on this server."""
        add_PlanServiceServicer_to_server(self, server)

    def ExecutePlan(
        self, request: pb.ExecutePlanRequest, context: grpc.ServicerContext
    ) -> pb.ExecutePlanResponse:
        """Execute one plan; see the service's definition."""
        with self._tally.timed():
            return self._execute(request, context)

    def _execute(
        self, request: pb.ExecutePlanRequest, context: grpc.ServicerContext
    ) -> pb.ExecutePlanResponse:
        facts = call_facts(context)
        self._admit(facts, context)
        submission = self._submission(request, facts)
        try:
            document = self._read(request)
        except PlanInvalid as invalid:
            self._tally.received.add(INVALID)
            self._refuse_document(submission, invalid.violation, context)
        self._tally.received.add(VALID)
        submission = replace(submission, plan_digest=document.digest)
        orchestrator = Stage4Orchestrator(
            self._call(submission, document, facts, context), journal=self._journal, ids=self._ids
        )
        try:
            result = orchestrator.execute_plan(document.plan, submission=submission)
        except FailClosed as failed:
            self._abort(failed, submission, context)
        self._tally.completed(result)
        return _response(result, submission, document)

    def ValidatePlan(
        self, request: pb.ValidatePlanRequest, context: grpc.ServicerContext
    ) -> pb.ValidatePlanResponse:
        """Say whether a plan is valid; execute and record nothing."""
        try:
            document = read_plan_document(request.plan_json, self._limits)
        except PlanInvalid as invalid:
            return pb.ValidatePlanResponse(
                valid=False,
                field=invalid.violation.path,
                description=invalid.violation.description,
            )
        return pb.ValidatePlanResponse(valid=True, plan_digest=document.digest)

    def GetPlan(
        self, request: pb.GetPlanRequest, context: grpc.ServicerContext
    ) -> pb.GetPlanResponse:
        """Return one plan that the caller may know of."""
        caller = _reads_as(call_facts(context))
        try:
            # An auditor reads what happened, not what came of it.
            record = self._records.plan(
                request.plan_id, caller=caller, with_result=caller is not None
            )
        except JournalUnavailable:
            _abort_unavailable(context)
        except ResultDamaged:
            message = "the stored result of this plan was changed in the store and cannot be told"
            STATUSES.abort(context, WireError(Reason.LOG_CORRUPT, message))
        if record is None:
            _abort_not_found(context)
        return pb.GetPlanResponse(plan=encode_plan(record))

    def ListPlans(
        self, request: pb.ListPlansRequest, context: grpc.ServicerContext
    ) -> pb.ListPlansResponse:
        """Return a page of the caller's plans, newest first."""
        caller = _reads_as(call_facts(context))
        before = _page_start(_PLANS, request.page_token, context)
        size = page_size(request.page_size, default=50, most=500)
        try:
            # One more than a page holds tells whether there is a next one.
            records = self._records.plans(caller=caller, before=before, limit=size + 1)
        except JournalUnavailable:
            _abort_unavailable(context)
        page, rest = records[:size], records[size:]
        return pb.ListPlansResponse(
            plans=[encode_plan(record) for record in page],
            next_page_token=encode_page_token(_PLANS, page[-1].number) if rest else "",
        )

    def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: grpc.ServicerContext
    ) -> pb.ListAuditEventsResponse:
        """Return a page of the log about the caller's plans, oldest first."""
        caller = _reads_as(call_facts(context))
        after = _page_start(_ENTRIES, request.page_token, context)
        size = page_size(request.page_size, default=100, most=1000)
        plan_id = request.plan_id
        try:
            if plan_id and self._records.plan(plan_id, caller=caller) is None:
                _abort_not_found(context)
            entries = self._records.entries(
                caller=caller, plan_id=plan_id, after=-1 if after is None else after, limit=size + 1
            )
        except JournalUnavailable:
            _abort_unavailable(context)
        page, rest = entries[:size], entries[size:]
        return pb.ListAuditEventsResponse(
            events=[encode_entry(entry) for entry in page],
            next_page_token=encode_page_token(_ENTRIES, page[-1].seq) if rest else "",
        )

    def _admit(self, facts: CallFacts, context: grpc.ServicerContext) -> None:
        try:
            admitted = self._refusals.admits(facts.identity.uri)
        except JournalUnavailable:
            self._tally.refused(Reason.AUDIT_UNAVAILABLE)
            _abort_unavailable(context)
        if not admitted:
            self._tally.received.add(SUPPRESSED)
            self._tally.refused(Reason.OVERLOADED)
            message = "too many of this caller's plans were refused; nothing was done"
            STATUSES.abort(context, WireError(Reason.OVERLOADED, message))

    def _submission(self, request: pb.ExecutePlanRequest, facts: CallFacts) -> Submission:
        # An identifier that is not one is refused with the document, and named by a fresh one.
        is_given = bool(request.request_id) and _request_id_violation(request.request_id) is None
        return Submission(
            plan_id=f"plan_{self._ids()}",
            request_id=request.request_id if is_given else f"req_{self._ids()}",
            caller=facts.identity.uri,
            raw_digest=hashlib.sha256(request.plan_json).digest(),
            raw_bytes=len(request.plan_json),
        )

    def _read(self, request: pb.ExecutePlanRequest) -> PlanDocument:
        if request.request_id:
            violation = _request_id_violation(request.request_id)
            if violation is not None:
                raise PlanInvalid(violation)
        return read_plan_document(request.plan_json, self._limits)

    def _call(
        self,
        submission: Submission,
        document: PlanDocument,
        facts: CallFacts,
        context: grpc.ServicerContext,
    ) -> Stage3Call:
        return Stage3Call(
            self._stage3,
            CallersPatience(facts.remaining_s, context.is_active, context.add_callback),
            plan_id=submission.plan_id,
            request_id=submission.request_id,
            caller=submission.caller,
            plan_digest=document.digest,
            parameters_json=document.parameters_json,
        )

    def _refuse_document(
        self, submission: Submission, violation: Violation, context: grpc.ServicerContext
    ) -> NoReturn:
        try:
            record_refused_document(self._journal, submission)
        except FailClosed as failed:
            self._abort(failed, submission, context)
        self._tally.refused(Reason.PLAN_INVALID)
        self._refusals.charge(submission.caller, Reason.PLAN_INVALID)
        outcome = encode_plan_outcome(
            plan_id=submission.plan_id,
            request_id=submission.request_id,
            step=None,
            effects=Effects.NONE,
        )
        STATUSES.abort(
            context, WireError(Reason.PLAN_INVALID, str(violation), (violation,), (outcome,))
        )

    def _abort(
        self, failed: FailClosed, submission: Submission, context: grpc.ServicerContext
    ) -> NoReturn:
        """End the call with the reason, what people may read of it, and the plan's outcome."""
        self._tally.failed(failed)
        message = _MESSAGES.get(failed.reason, "the plan was not executed")
        step: int | None = None
        original_plan_id = ""
        violations: tuple[tuple[str, str], ...] = ()
        cause = failed.__cause__
        if isinstance(cause, Stage3Failure):
            step, violations = cause.step, cause.violations
            original_plan_id = cause.executed_plan_id if cause.replay else ""
            if failed.reason is cause.reason:
                message = cause.message
            if cause.ending is Ending.REFUSED:
                self._refusals.charge(submission.caller, cause.reason)
        outcome = encode_plan_outcome(
            plan_id=submission.plan_id,
            request_id=submission.request_id,
            step=step,
            effects=failed.effects,
            original_plan_id=original_plan_id,
        )
        STATUSES.abort(
            context,
            WireError(failed.reason, message, violations=violations, details=(outcome,)),
        )


_MESSAGES: Final = {
    Reason.AUDIT_UNAVAILABLE: "the audit log takes no records; nothing was done",
    Reason.OUTCOME_UNRECORDED: "the outcome could not be recorded; the service seals itself",
    Reason.OUTCOME_UNKNOWN: "the outcome of the plan is not known",
}


def _response(
    result: object, submission: Submission, document: PlanDocument
) -> pb.ExecutePlanResponse:
    if not isinstance(result, Stage3Completion):
        raise TypeError("a Stage3Call returns a Stage3Completion")
    return pb.ExecutePlanResponse(
        plan_id=submission.plan_id,
        request_id=submission.request_id,
        result_json=result.result_json,
        replay=result.replay,
        plan_digest=document.digest,
        receipt=result.receipt,
        original_plan_id=result.executed_plan_id if result.replay else "",
    )


def _request_id_violation(text: str) -> Violation | None:
    if _REQUEST_ID.fullmatch(text) is None:
        return Violation("request_id", f"must match {_REQUEST_ID.pattern}")
    # It is written down and shown wherever the plan is.
    if holds_credential(text):
        return Violation("request_id", "must not hold a credential")
    return None


def _reads_as(facts: CallFacts) -> str | None:
    """Return whose submissions the caller may read: its own, or for an auditor everybody's."""
    return None if facts.identity.kind is IdentityKind.AUDITOR else facts.identity.uri


def _page_start(kind: str, token: str, context: grpc.ServicerContext) -> int | None:
    try:
        return decode_page_token(kind, token)
    except PageTokenInvalid as invalid:
        violation = ("page_token", str(invalid))
        message = ": ".join(violation)
        STATUSES.abort(context, WireError(Reason.REQUEST_INVALID, message, violations=(violation,)))


def _abort_not_found(context: grpc.ServicerContext) -> NoReturn:
    STATUSES.abort(context, WireError(Reason.PLAN_NOT_FOUND, "this caller submitted no such plan"))


def _abort_unavailable(context: grpc.ServicerContext) -> NoReturn:
    message = _MESSAGES[Reason.AUDIT_UNAVAILABLE]
    STATUSES.abort(context, WireError(Reason.AUDIT_UNAVAILABLE, message))
