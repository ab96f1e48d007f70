"""The closed taxonomy of what can go wrong, as Stage-4 says it.

Every refusal and failure that leaves this service carries one `Reason`. Stage-3's reasons are
members of the same list and are passed on unchanged. Deliberately absent: status codes. Which code
a reason becomes is said once, in `wire/status.py`.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a plan was not executed, or why its outcome is not a success."""

    PLAN_INVALID = "PLAN_INVALID"
    # A malformed request around a plan or for a list; no plan is concerned.
    REQUEST_INVALID = "REQUEST_INVALID"
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
    PLAN_NOT_FOUND = "PLAN_NOT_FOUND"
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
    GATE_PENDING = "GATE_PENDING"
    RUN_STATE_CONFLICT = "RUN_STATE_CONFLICT"
    REQUEST_IN_PROGRESS = "REQUEST_IN_PROGRESS"
    CLIENT_CANCELLED = "CLIENT_CANCELLED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    DEADLINE = "DEADLINE"
    OUTCOME_PENDING = "OUTCOME_PENDING"
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    SERVICE_HALTED = "SERVICE_HALTED"
    PLAN_HALTED = "PLAN_HALTED"
    STAGE3_UNREACHABLE = "STAGE3_UNREACHABLE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    OUTCOME_UNRECORDED = "OUTCOME_UNRECORDED"
    INTERNAL = "INTERNAL"
    LOG_CORRUPT = "LOG_CORRUPT"


class Effects(StrEnum):
    """What a plan may have changed in the world by the time its answer was given."""

    NONE = "none"
    SOME = "some"
    UNKNOWN = "unknown"


class JournalUnavailable(Exception):
    """Raised by a journal that could not make a record durable; nothing may go on without it."""


class ResultDamaged(Exception):
    """Raised for a stored result that cannot be told: it was changed, or belongs to another row."""


class FailClosed(RuntimeError):
    """Raised for every plan that did not complete; the cause is chained.

    `reason` and `effects` say it for programs, the text says it for people.
    """

    def __init__(self, cause: BaseException | str, *, reason: Reason, effects: Effects) -> None:
        """Say that the plan failed closed because of `cause`."""
        super().__init__(f"Stage-4 execution failed (fail-closed): {cause}")
        self.reason = reason
        self.effects = effects
