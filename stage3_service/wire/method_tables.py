"""Who may call which method of which listener. What is not written here is refused."""

from __future__ import annotations

from servicekit.serving.health import HEALTH_METHODS
from servicekit.serving.identity import IdentityKind
from servicekit.serving.method_table import MethodTable, Rule
from servicekit.serving.reflection import reflection_rules
from stage3_service.settings import Role

_PACKAGE = "/stagegate.stage3.v1."
PLAN_SERVICE = "stagegate.stage3.v1.PlanExecutionService"
TOKEN_SERVICE = "stagegate.stage3.v1.TokenService"
AUDIT_SERVICE = "stagegate.stage3.v1.AuditService"
OPERATOR_SERVICE = "stagegate.stage3.v1.OperatorService"

_STAGE4 = Rule(frozenset({IdentityKind.STAGE4}))


def _operators(*roles: Role) -> Rule:
    return Rule(frozenset({IdentityKind.OPERATOR}), frozenset(role.value for role in roles))


def plan_methods(*, reflection: bool) -> MethodTable:
    """Return the table of the plan listener: one RPC, one caller, and health."""
    rules = {f"{_PACKAGE}PlanExecutionService/ExecuteMultiDomainPlan": _STAGE4}
    rules |= dict.fromkeys(HEALTH_METHODS, _STAGE4)
    if reflection:
        rules |= reflection_rules(frozenset({IdentityKind.STAGE4}))
    return MethodTable(rules)


def operator_methods(*, reflection: bool) -> MethodTable:
    """Return the table of the operator listener, by role."""
    any_role = tuple(Role)
    readers = (Role.ISSUER, Role.REVOKER, Role.AUDITOR)
    rules = {
        f"{_PACKAGE}TokenService/IssueToken": _operators(Role.ISSUER),
        f"{_PACKAGE}TokenService/GetToken": _operators(*readers),
        f"{_PACKAGE}TokenService/ListTokens": _operators(*readers),
        f"{_PACKAGE}TokenService/RevokeToken": _operators(Role.REVOKER),
        f"{_PACKAGE}AuditService/ListEvents": _operators(Role.AUDITOR),
        f"{_PACKAGE}AuditService/GetCheckpoint": _operators(Role.AUDITOR),
        f"{_PACKAGE}OperatorService/GetStatus": _operators(*any_role),
        f"{_PACKAGE}OperatorService/ListDomains": _operators(*any_role),
        f"{_PACKAGE}OperatorService/DescribeDomain": _operators(Role.CURATOR),
        f"{_PACKAGE}OperatorService/AcceptDomain": _operators(Role.CURATOR),
        f"{_PACKAGE}OperatorService/ReloadDomains": _operators(Role.CURATOR),
        f"{_PACKAGE}OperatorService/ExportDomains": _operators(Role.CURATOR),
        f"{_PACKAGE}OperatorService/Halt": _operators(Role.HALTER),
        f"{_PACKAGE}OperatorService/Resume": _operators(Role.HALTER),
    }
    rules |= dict.fromkeys(HEALTH_METHODS, _operators(*any_role))
    if reflection:
        rules |= reflection_rules(frozenset({IdentityKind.OPERATOR}))
    return MethodTable(rules)
