"""The one table from Stage-3's reasons to gRPC status codes."""

from __future__ import annotations

from grpc import StatusCode

from servicekit.serving.status import StatusTable, WireError
from stage3_service.errors import Reason, Refusal

ERROR_DOMAIN = "stagegate"

STATUSES = StatusTable(
    ERROR_DOMAIN,
    {
        Reason.PLAN_INVALID: StatusCode.INVALID_ARGUMENT,
        Reason.REQUEST_INVALID: StatusCode.INVALID_ARGUMENT,
        Reason.CLIENT_UNAUTHENTICATED: StatusCode.UNAUTHENTICATED,
        Reason.TOKEN_NOT_ACCEPTED: StatusCode.UNAUTHENTICATED,
        Reason.TOKEN_EXPIRED: StatusCode.UNAUTHENTICATED,
        Reason.TRIGGER_NOT_ALLOWED: StatusCode.PERMISSION_DENIED,
        Reason.DOMAIN_NOT_IN_SCOPE: StatusCode.PERMISSION_DENIED,
        Reason.METHOD_NOT_IN_SCOPE: StatusCode.PERMISSION_DENIED,
        Reason.PLAN_NOT_BOUND: StatusCode.PERMISSION_DENIED,
        Reason.METHOD_NOT_PERMITTED: StatusCode.PERMISSION_DENIED,
        Reason.LIMIT_EXCEEDED: StatusCode.RESOURCE_EXHAUSTED,
        Reason.OVERLOADED: StatusCode.RESOURCE_EXHAUSTED,
        Reason.TOKEN_NOT_FOUND: StatusCode.NOT_FOUND,
        Reason.REQUEST_ID_REUSED: StatusCode.FAILED_PRECONDITION,
        Reason.REQUEST_ID_EXPIRED: StatusCode.FAILED_PRECONDITION,
        Reason.DIGEST_MISMATCH: StatusCode.FAILED_PRECONDITION,
        Reason.DOMAIN_UNKNOWN: StatusCode.FAILED_PRECONDITION,
        Reason.METHOD_UNDECLARED: StatusCode.FAILED_PRECONDITION,
        Reason.PARAMETERS_INVALID: StatusCode.FAILED_PRECONDITION,
        Reason.BINDING_UNRESOLVED: StatusCode.FAILED_PRECONDITION,
        Reason.DOMAIN_FAILED: StatusCode.FAILED_PRECONDITION,
        Reason.DOMAIN_UNREACHABLE: StatusCode.FAILED_PRECONDITION,
        Reason.ANSWER_INVALID: StatusCode.FAILED_PRECONDITION,
        Reason.BOUNDARY_VIOLATION: StatusCode.FAILED_PRECONDITION,
        Reason.STEP_IN_DOUBT: StatusCode.FAILED_PRECONDITION,
        Reason.REQUEST_IN_PROGRESS: StatusCode.ABORTED,
        Reason.CLIENT_CANCELLED: StatusCode.CANCELLED,
        Reason.DEADLINE_EXCEEDED: StatusCode.DEADLINE_EXCEEDED,
        Reason.DEADLINE: StatusCode.DEADLINE_EXCEEDED,
        Reason.AUDIT_UNAVAILABLE: StatusCode.UNAVAILABLE,
        Reason.SERVICE_HALTED: StatusCode.UNAVAILABLE,
        # Never UNAVAILABLE: clients retry that, and earlier steps have had their effects.
        Reason.PLAN_HALTED: StatusCode.FAILED_PRECONDITION,
        Reason.OUTCOME_UNRECORDED: StatusCode.INTERNAL,
        Reason.INTERNAL: StatusCode.INTERNAL,
        Reason.LOG_CORRUPT: StatusCode.DATA_LOSS,
    },
)


def wire_error(refusal: Refusal) -> WireError:
    """Return a refusal as it leaves the service."""
    return WireError(refusal.reason.value, refusal.message, refusal.violations)
