"""What a gate answers: nothing, or one denial.

It guards the difference between what the log may know and what a caller may: a denial's reason is
precise, its public reason is derived from it by one table, and a caller can learn nothing about a
token it may not use. Deliberately absent: warnings, scores, and a denial without a gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from stage3_service.authorization.violation import ViolationType
from stage3_service.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping


class GateName(StrEnum):
    """Name a gate, in the order in which they are asked."""

    TOKEN = "token"
    SCOPE = "scope"
    LIMITS = "limits"
    DATA_BOUNDARY = "data_boundary"
    AUTHORITY_BOUNDARY = "authority_boundary"


class DenialReason(StrEnum):
    """Say precisely why a gate refused, for the log."""

    TOKEN_REVOKED = "token_revoked"
    TOKEN_UNKNOWN = "token_unknown"
    USER_MISMATCH = "user_mismatch"
    CALLER_MISMATCH = "caller_mismatch"
    REQUEST_TOKEN_MISMATCH = "request_token_mismatch"
    TOKEN_EXPIRED = "token_expired"
    TRIGGER_NOT_ALLOWED = "trigger_not_allowed"
    PLAN_NOT_BOUND = "plan_not_bound"
    DOMAIN_NOT_IN_SCOPE = "domain_not_in_scope"
    METHOD_NOT_IN_SCOPE = "method_not_in_scope"
    DOMAIN_UNKNOWN = "domain_unknown"
    METHOD_UNDECLARED = "method_undeclared"
    DOMAIN_NOT_ACCEPTED = "domain_not_accepted"
    INVOCATIONS_EXHAUSTED = "invocations_exhausted"
    FREQUENCY_EXHAUSTED = "frequency_exhausted"
    RESPONSE_BYTES_EXHAUSTED = "response_bytes_exhausted"
    PLAN_BYTES_EXHAUSTED = "plan_bytes_exhausted"
    NO_TIME_LEFT = "no_time_left"
    BINDING_UNRESOLVED = "binding_unresolved"
    PARAMETERS_INVALID = "parameters_invalid"


_NOT_ACCEPTED: Final = "the token is not accepted"
# The reason and the sentence a caller is told. Five reasons share one row on purpose.
_PUBLIC: Final[Mapping[DenialReason, tuple[GateName, Reason, str]]] = {
    DenialReason.TOKEN_REVOKED: (GateName.TOKEN, Reason.TOKEN_NOT_ACCEPTED, _NOT_ACCEPTED),
    DenialReason.TOKEN_UNKNOWN: (GateName.TOKEN, Reason.TOKEN_NOT_ACCEPTED, _NOT_ACCEPTED),
    DenialReason.USER_MISMATCH: (GateName.TOKEN, Reason.TOKEN_NOT_ACCEPTED, _NOT_ACCEPTED),
    DenialReason.CALLER_MISMATCH: (GateName.TOKEN, Reason.TOKEN_NOT_ACCEPTED, _NOT_ACCEPTED),
    DenialReason.REQUEST_TOKEN_MISMATCH: (
        GateName.TOKEN,
        Reason.TOKEN_NOT_ACCEPTED,
        _NOT_ACCEPTED,
    ),
    DenialReason.TOKEN_EXPIRED: (
        GateName.TOKEN,
        Reason.TOKEN_EXPIRED,
        "the token has expired; ask an operator for a new one",
    ),
    DenialReason.TRIGGER_NOT_ALLOWED: (
        GateName.TOKEN,
        Reason.TRIGGER_NOT_ALLOWED,
        "the token does not allow this trigger_type",
    ),
    DenialReason.PLAN_NOT_BOUND: (
        GateName.TOKEN,
        Reason.PLAN_NOT_BOUND,
        "the token is bound to another plan",
    ),
    DenialReason.DOMAIN_NOT_IN_SCOPE: (
        GateName.SCOPE,
        Reason.DOMAIN_NOT_IN_SCOPE,
        "the token's scope does not have the domain of this step",
    ),
    DenialReason.METHOD_NOT_IN_SCOPE: (
        GateName.SCOPE,
        Reason.METHOD_NOT_IN_SCOPE,
        "the token's scope does not have the method of this step",
    ),
    DenialReason.DOMAIN_UNKNOWN: (
        GateName.SCOPE,
        Reason.DOMAIN_UNKNOWN,
        "no domain with the name in this step is declared",
    ),
    DenialReason.METHOD_UNDECLARED: (
        GateName.SCOPE,
        Reason.METHOD_UNDECLARED,
        "the domain of this step declares no such method",
    ),
    # To a caller the method is not there: what an operator has to look at is no affair of his.
    DenialReason.DOMAIN_NOT_ACCEPTED: (
        GateName.SCOPE,
        Reason.METHOD_UNDECLARED,
        (
            "the definition of this step's domain is not the accepted one; an operator looks at it "
            "with `stage3 domain accept`"
        ),
    ),
    DenialReason.INVOCATIONS_EXHAUSTED: (
        GateName.LIMITS,
        Reason.LIMIT_EXCEEDED,
        "the token has too few invocations left",
    ),
    DenialReason.FREQUENCY_EXHAUSTED: (
        GateName.LIMITS,
        Reason.LIMIT_EXCEEDED,
        "the token has started as many plans as it may in its window of time",
    ),
    DenialReason.RESPONSE_BYTES_EXHAUSTED: (
        GateName.LIMITS,
        Reason.LIMIT_EXCEEDED,
        "the token has too few response bytes left for this step",
    ),
    DenialReason.PLAN_BYTES_EXHAUSTED: (
        GateName.LIMITS,
        Reason.LIMIT_EXCEEDED,
        "the responses of the plan would exceed its size limit",
    ),
    DenialReason.NO_TIME_LEFT: (
        GateName.LIMITS,
        Reason.DEADLINE_EXCEEDED,
        "the deadline of the plan has passed",
    ),
    DenialReason.BINDING_UNRESOLVED: (
        GateName.DATA_BOUNDARY,
        Reason.BINDING_UNRESOLVED,
        "a data binding of this step could not be resolved",
    ),
    DenialReason.PARAMETERS_INVALID: (
        GateName.DATA_BOUNDARY,
        Reason.PARAMETERS_INVALID,
        "the parameters of this step do not match the method's schema",
    ),
}


@dataclass(frozen=True, slots=True)
class Denial:
    """Hold one refusal of one gate. `step` is None where it concerns the plan as a whole.

    `reason` is for the log. A caller is told `public` and `message`, which say the same for every
    way in which a token is not accepted. `detail` is about the caller's own plan and never about
    the token.
    """

    reason: DenialReason | ViolationType
    step: int | None
    detail: str = ""

    @property
    def gate(self) -> GateName:
        """Return the gate that refused."""
        if isinstance(self.reason, ViolationType):
            return GateName.AUTHORITY_BOUNDARY
        return _PUBLIC[self.reason][0]

    @property
    def public(self) -> Reason:
        """Return the reason a caller is told."""
        if isinstance(self.reason, ViolationType):
            return Reason.BOUNDARY_VIOLATION
        return _PUBLIC[self.reason][1]

    @property
    def message(self) -> str:
        """Return one sentence for the caller."""
        if isinstance(self.reason, ViolationType):
            sentence = "the domain of this step crossed its authority boundary"
        else:
            sentence = _PUBLIC[self.reason][2]
        if self.step is not None:
            sentence = sentence.replace("this step", f"step {self.step}")
        return f"{sentence}: {self.detail}" if self.detail else sentence
