"""A denial is precise for the log, and says only what is public to a caller."""

from __future__ import annotations

import pytest

from stage3_service.authorization.gate import Denial, DenialReason, GateName
from stage3_service.authorization.violation import ViolationType
from stage3_service.errors import Reason

GATES = {
    GateName.TOKEN: [
        *("token_revoked", "token_unknown", "user_mismatch", "caller_mismatch"),
        *("request_token_mismatch", "token_expired", "trigger_not_allowed", "plan_not_bound"),
    ],
    GateName.SCOPE: [
        *("domain_not_in_scope", "method_not_in_scope", "domain_unknown", "method_undeclared"),
        "domain_not_accepted",
    ],
    GateName.LIMITS: [
        *("invocations_exhausted", "frequency_exhausted", "response_bytes_exhausted"),
        *("plan_bytes_exhausted", "no_time_left"),
    ],
    GateName.DATA_BOUNDARY: ["binding_unresolved", "parameters_invalid"],
}
NOT_ACCEPTED = GATES[GateName.TOKEN][:5]
LIMITS = GATES[GateName.LIMITS][:4]


def test_the_gates_are_asked_in_this_order() -> None:
    """The order of the names is the order of the gates."""
    assert list(GateName) == [*GATES, GateName.AUTHORITY_BOUNDARY]


def test_every_reason_belongs_to_exactly_one_gate() -> None:
    """And the table says which."""
    assert sorted(reason for reasons in GATES.values() for reason in reasons) == sorted(
        DenialReason
    )
    for gate, reasons in GATES.items():
        for reason in reasons:
            assert Denial(DenialReason(reason), 0).gate is gate


@pytest.mark.parametrize("reason", NOT_ACCEPTED)
def test_who_may_not_use_a_token_is_told_one_thing(reason: str) -> None:
    """Reason and sentence are equal for all of them."""
    denial = Denial(DenialReason(reason), None)
    assert denial.public is Reason.TOKEN_NOT_ACCEPTED
    assert denial.message == "the token is not accepted"


@pytest.mark.parametrize("reason", LIMITS)
def test_limits_are_one_reason_with_their_own_sentences(reason: str) -> None:
    """The caller may know which of its limits it met."""
    assert Denial(DenialReason(reason), 0).public is Reason.LIMIT_EXCEEDED
    assert len({Denial(DenialReason(each), 0).message for each in LIMITS}) == len(LIMITS)


@pytest.mark.parametrize(
    "reason",
    [
        reason
        for reason in DenialReason
        if reason not in {*NOT_ACCEPTED, *LIMITS, "no_time_left", "domain_not_accepted"}
    ],
)
def test_every_other_reason_is_public_under_its_own_name(reason: DenialReason) -> None:
    """The taxonomy's name is the precise one in capitals."""
    assert Denial(reason, 0).public is Reason(reason.value.upper())


def test_what_nobody_accepted_is_told_as_undeclared() -> None:
    """Whether an operator has looked at a domain is the operators' affair."""
    assert Denial(DenialReason.DOMAIN_NOT_ACCEPTED, 0).public is Reason.METHOD_UNDECLARED


def test_time_is_a_deadline() -> None:
    """No limit of the token was exceeded."""
    assert Denial(DenialReason.NO_TIME_LEFT, 0).public is Reason.DEADLINE_EXCEEDED


@pytest.mark.parametrize("violation", ViolationType)
def test_every_violation_is_gate_fives_and_one_public_reason(violation: ViolationType) -> None:
    """The log has the type, the caller the fact."""
    denial = Denial(violation, 1)
    assert denial.gate is GateName.AUTHORITY_BOUNDARY
    assert denial.public is Reason.BOUNDARY_VIOLATION
    assert denial.message == "the domain of step 1 crossed its authority boundary"


def test_a_detail_is_added_to_the_sentence() -> None:
    """Where the caller's own plan is at fault it is told where."""
    denial = Denial(DenialReason.PARAMETERS_INVALID, 0, detail="a.b: is missing")
    assert denial.message.endswith("schema: a.b: is missing")
