"""The closed taxonomy of Stage-3's refusals.

Every way in which Stage-3 says no has a name here, and nothing else in the service invents one.
Deliberately absent: status codes. Errors know no transport; `wire/status.py` is the one table that
maps them.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Name a refusal; stable across versions, and equal on every wire that carries it."""

    PLAN_INVALID = "PLAN_INVALID"
    CLIENT_UNAUTHENTICATED = "CLIENT_UNAUTHENTICATED"
    TOKEN_NOT_ACCEPTED = "TOKEN_NOT_ACCEPTED"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    TRIGGER_NOT_ALLOWED = "TRIGGER_NOT_ALLOWED"
    DOMAIN_NOT_IN_SCOPE = "DOMAIN_NOT_IN_SCOPE"
    METHOD_NOT_IN_SCOPE = "METHOD_NOT_IN_SCOPE"
    PLAN_NOT_BOUND = "PLAN_NOT_BOUND"
    METHOD_NOT_PERMITTED = "METHOD_NOT_PERMITTED"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    OVERLOADED = "OVERLOADED"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    REQUEST_ID_EXPIRED = "REQUEST_ID_EXPIRED"
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    DOMAIN_UNKNOWN = "DOMAIN_UNKNOWN"
    METHOD_UNDECLARED = "METHOD_UNDECLARED"
    PARAMETERS_INVALID = "PARAMETERS_INVALID"
    BINDING_UNRESOLVED = "BINDING_UNRESOLVED"
    DOMAIN_FAILED = "DOMAIN_FAILED"
    DOMAIN_UNREACHABLE = "DOMAIN_UNREACHABLE"
    ANSWER_INVALID = "ANSWER_INVALID"
    BOUNDARY_VIOLATION = "BOUNDARY_VIOLATION"
    STEP_IN_DOUBT = "STEP_IN_DOUBT"
    REQUEST_IN_PROGRESS = "REQUEST_IN_PROGRESS"
    CLIENT_CANCELLED = "CLIENT_CANCELLED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    DEADLINE = "DEADLINE"
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    SERVICE_HALTED = "SERVICE_HALTED"
    PLAN_HALTED = "PLAN_HALTED"
    OUTCOME_UNRECORDED = "OUTCOME_UNRECORDED"
    INTERNAL = "INTERNAL"
    LOG_CORRUPT = "LOG_CORRUPT"
    TOKEN_NOT_FOUND = "TOKEN_NOT_FOUND"
    REQUEST_INVALID = "REQUEST_INVALID"


class Refusal(Exception):
    """Carry one reason, one sentence for people and the fields at fault out of the service.

    The sentence names what to do next and holds no secret. `violations` are pairs of a field path
    and a description, at most one for a plan.
    """

    def __init__(
        self, reason: Reason, message: str, violations: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = violations
