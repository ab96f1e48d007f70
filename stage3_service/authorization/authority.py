"""Gate 5: the authority boundary, and at which door each crossing of it would be seen.

A domain is handed a method, parameters, a deadline and an idempotency key. What it could do beyond
that is either a call with its own certificate to a door of Stage-3, refused and recorded there, or
it is impossible, because nothing it is handed reaches that far. Deliberately absent: a crossing
that is neither.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from stage3_service.authorization.violation import ViolationType

if TYPE_CHECKING:
    from collections.abc import Mapping


class Door(StrEnum):
    """Name where a crossing is seen."""

    STAGE3_PLANS = "stage3_plans"
    STAGE3_OPERATORS = "stage3_operators"
    STRUCTURALLY_ABSENT = "structurally_absent"


_PLANS: Final = "/stagegate.stage3.v1.PlanExecutionService/"
_TOKENS: Final = "/stagegate.stage3.v1.TokenService/"
_AUDIT: Final = "/stagegate.stage3.v1.AuditService/"
_OPERATOR: Final = "/stagegate.stage3.v1.OperatorService/"

_VIOLATION_OF: Final[Mapping[str, ViolationType]] = MappingProxyType(
    {
        f"{_PLANS}ExecuteMultiDomainPlan": ViolationType.STAGE3_RECURSIVE_INVOKE,
        f"{_TOKENS}IssueToken": ViolationType.TOKEN_GRANT,
        f"{_TOKENS}GetToken": ViolationType.TOKEN_REGISTRY_QUERY,
        f"{_TOKENS}ListTokens": ViolationType.TOKEN_ENUMERATION,
        f"{_TOKENS}RevokeToken": ViolationType.TOKEN_REVOKE,
        f"{_AUDIT}ListEvents": ViolationType.AUDIT_LOGS_READ,
        f"{_AUDIT}GetCheckpoint": ViolationType.AUDIT_LOGS_READ,
        f"{_OPERATOR}GetStatus": ViolationType.SYSTEM_STATE_ACCESS,
        f"{_OPERATOR}ListDomains": ViolationType.CONTEXT_INSPECTION,
        f"{_OPERATOR}DescribeDomain": ViolationType.CONTEXT_INSPECTION,
        f"{_OPERATOR}AcceptDomain": ViolationType.DOMAIN_CONFIG_MODIFY,
        f"{_OPERATOR}ReloadDomains": ViolationType.DOMAIN_CONFIG_MODIFY,
        f"{_OPERATOR}ExportDomains": ViolationType.CONTEXT_INSPECTION,
        f"{_OPERATOR}Halt": ViolationType.CONFIG_MODIFY,
        f"{_OPERATOR}Resume": ViolationType.SAFETY_CHECKS_DISABLE,
    }
)

_AT_OPERATORS: Final = frozenset(
    {
        ViolationType.TOKEN_GRANT,
        ViolationType.TOKEN_REVOKE,
        ViolationType.TOKEN_REGISTRY_QUERY,
        ViolationType.TOKEN_ENUMERATION,
        ViolationType.AUDIT_LOGS_READ,
        # A filter travels in a request that is refused unread: it is recorded as audit_logs_read.
        ViolationType.AUDIT_LOGS_FILTER,
        ViolationType.CONFIG_MODIFY,
        ViolationType.DOMAIN_CONFIG_MODIFY,
        ViolationType.SAFETY_CHECKS_DISABLE,
        ViolationType.CONTEXT_INSPECTION,
        ViolationType.SYSTEM_STATE_ACCESS,
    }
)


def _door_of(violation: ViolationType) -> Door:
    if violation is ViolationType.STAGE3_RECURSIVE_INVOKE:
        return Door.STAGE3_PLANS
    if violation in _AT_OPERATORS:
        return Door.STAGE3_OPERATORS
    return Door.STRUCTURALLY_ABSENT


OBSERVABLE_AT: Final[Mapping[ViolationType, Door]] = MappingProxyType(
    {violation: _door_of(violation) for violation in ViolationType}
)


def violation_for_method(full_method: str) -> ViolationType:
    """Return what it is when a domain calls a method of Stage-3 with its own certificate.

    `full_method` is as gRPC spells it, `/package.Service/Method`. Any other method of any other
    service, existing or not, is a look at the system.
    """
    return _VIOLATION_OF.get(full_method, ViolationType.SYSTEM_STATE_ACCESS)
