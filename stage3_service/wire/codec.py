"""Messages to values and back. No message leaves this package, and no thought happens in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from stagegate.error.v1 import plan_outcome_pb2
from stagegate.stage3.v1 import (
    audit_service_pb2,
    operator_service_pb2,
    plan_execution_service_pb2,
    token_service_pb2,
)

from stage3_service.audit.outcome import Effects, OutcomeKind
from stage3_service.execution.submission import Submission
from stage3_service.plan.parse import RawBinding, RawPlan, RawStep
from stage3_service.tokens.credential import credential_key
from stage3_service.tokens.issue import IssueRequest

if TYPE_CHECKING:
    from datetime import datetime

    from stage3_service.audit.reads import EventRow
    from stage3_service.audit.records import TokenRecord
    from stage3_service.domains.acceptance import Offered
    from stage3_service.domains.declaration import MethodDeclaration
    from stage3_service.execution.submission import PlanAnswer

_EFFECTS = {
    Effects.NONE: plan_outcome_pb2.EFFECTS_NONE,
    Effects.SOME: plan_outcome_pb2.EFFECTS_SOME,
    Effects.UNKNOWN: plan_outcome_pb2.EFFECTS_UNKNOWN,
}


def decode_submission(
    request: plan_execution_service_pb2.ExecuteMultiDomainPlanRequest,
) -> Submission:
    """Return the submission in a request, unread. The credential ends here as its hash."""
    bindings: tuple[RawBinding, ...] | None = tuple(
        RawBinding(
            source_step=binding.source_step,
            source_path=binding.source_path,
            target_step=binding.target_step,
            target_path=binding.target_path,
            expected_type=binding.expected_type if binding.HasField("expected_type") else None,
        )
        for binding in request.data_bindings
    )
    if not bindings and not request.data_bindings_declared:
        bindings = None
    return Submission(
        plan=RawPlan(
            user_id=request.user_id,
            token_hash=request.token_hash,
            trigger_type=request.trigger_type,
            steps=tuple(
                RawStep(step.domain, step.method, step.parameters_json) for step in request.steps
            ),
            bindings=bindings,
        ),
        token_key=credential_key(request.token_hash),
        plan_id=request.plan_id,
        request_id=request.request_id,
        caller=request.caller,
        claimed_digest=request.plan_digest,
    )


def encode_answer(
    answer: PlanAnswer,
) -> plan_execution_service_pb2.ExecuteMultiDomainPlanResponse:
    """Return the response of an admitted plan: the same bytes for the same stored outcome."""
    outcome = answer.outcome
    response = plan_execution_service_pb2.ExecuteMultiDomainPlanResponse(
        plan_id=answer.plan_id, request_id=answer.request_id, replay=answer.replay
    )
    if outcome.kind is OutcomeKind.COMPLETED:
        response.completed.result_json = outcome.result_json
        return response
    ending = plan_execution_service_pb2.Ending(
        reason=outcome.reason,
        step=outcome.step,
        effects=_EFFECTS[outcome.effects],
        message=outcome.message,
    )
    # The outcome's name is the field's, which a test holds for every kind.
    getattr(response, outcome.kind.value).CopyFrom(ending)
    return response


def decode_issue_request(request: token_service_pb2.IssueTokenRequest) -> IssueRequest:
    """Return what an operator asks for, as it arrived."""
    limits = request.resource_limits

    def limit(name: str) -> int | None:
        return int(getattr(limits, name)) if limits.HasField(name) else None  # type: ignore[arg-type]

    return IssueRequest(
        user_id=request.user_id,
        capability=request.capability,
        domain_scope=tuple(request.domain_scope),
        method_scope=tuple((scope.domain, tuple(scope.methods)) for scope in request.method_scope),
        allowed_trigger_types=tuple(request.allowed_trigger_types),
        lifetime_s=request.lifetime_seconds,
        max_invocations=limit("max_invocations"),
        max_frequency=limits.max_frequency if limits.HasField("max_frequency") else None,
        max_response_bytes=limit("max_response_bytes"),
        max_total_response_bytes=limit("max_total_response_bytes"),
        client_identities=tuple(request.client_identities),
        bearer=request.bearer,
        plan_digest=request.plan_digest or None,
    )


def encode_token(record: TokenRecord, now: datetime) -> token_service_pb2.Token:
    """Return a token as operators see it at `now`."""
    token, usage, limits = record.token, record.usage, record.token.resource_limits
    state = token_service_pb2.TOKEN_STATE_ACTIVE
    if record.revoked_at is not None:
        state = token_service_pb2.TOKEN_STATE_REVOKED
    elif now >= token.expires_at:
        state = token_service_pb2.TOKEN_STATE_EXPIRED
    return token_service_pb2.Token(
        token_id=token.token_id,
        user_id=token.user_id,
        capability=token.capability,
        domain_scope=token.domain_scope,
        method_scope=[
            token_service_pb2.MethodScope(domain=domain, methods=methods)
            for domain, methods in token.method_scope.items()
        ],
        resource_limits=token_service_pb2.ResourceLimits(
            max_invocations=limits.max_invocations,
            max_frequency=None if limits.max_frequency is None else str(limits.max_frequency),
            max_response_bytes=limits.max_response_bytes,
            max_total_response_bytes=limits.max_total_response_bytes,
        ),
        allowed_trigger_types=[str(trigger) for trigger in token.allowed_trigger_types],
        issued_by=token.issued_by,
        issue_time=_timestamp(token.issued_at),
        expire_time=_timestamp(token.expires_at),
        client_identities=token.client_identities,
        bearer=token.bearer,
        plan_digest=token.plan_digest or b"",
        state=state,
        invocations_charged=usage.invocations_charged,
        response_bytes_charged=usage.response_bytes_charged,
        revoke_time=None if record.revoked_at is None else _timestamp(record.revoked_at),
        first_use_time=None if usage.first_used_at is None else _timestamp(usage.first_used_at),
    )


def encode_event(row: EventRow) -> audit_service_pb2.AuditEvent:
    """Return a stored event."""
    return audit_service_pb2.AuditEvent(
        seq=row.seq,
        event_json=row.leaf,
        event_type=row.event_type,
        create_time=timestamp_of_us(row.time_us),
    )


def encode_domain(offered: Offered) -> operator_service_pb2.Domain:
    """Return a declared domain, with the schemas in force, and whether its steps may start."""
    domain = offered.declaration
    return operator_service_pb2.Domain(
        name=domain.name,
        adapter=domain.adapter,
        methods=[_encode_method(method) for method in domain.methods.values()],
        accepted_digest=offered.accepted_digest or "",
        shown_digest=offered.shown_digest or "",
        offered=offered.offered,
    )


def _encode_method(method: MethodDeclaration) -> operator_service_pb2.Method:
    message = operator_service_pb2.Method(
        name=method.name,
        description=method.description,
        max_duration_ms=round(method.max_duration_s * 1000),
        max_response_bytes=method.max_response_bytes,
        repetition=method.repetition.value,
        parameters_schema_json=(method.parameters_schema_json or b"").decode(),
    )
    if method.example is not None:
        message.example_parameters_json = method.example.parameters_json.decode()
        message.example_output_json = method.example.output_json.decode()
    return message


def timestamp_of_us(microseconds: int) -> Timestamp:
    """Return microseconds since the epoch as a message."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000)


def _timestamp(instant: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(instant)
    return message
