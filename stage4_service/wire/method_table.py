"""Who may call which method of Stage-4. What is not written here is refused."""

from __future__ import annotations

from typing import Final

from servicekit.serving.health import HEALTH_METHODS
from servicekit.serving.identity import IdentityKind
from servicekit.serving.method_table import MethodTable, Rule
from servicekit.serving.reflection import reflection_rules

PLAN_SERVICE: Final = "stagegate.stage4.v1.PlanService"

_CLIENTS: Final = Rule(frozenset({IdentityKind.CLIENT}))
_READERS: Final = Rule(frozenset({IdentityKind.CLIENT, IdentityKind.AUDITOR}))


def plan_methods(*, reflection: bool) -> MethodTable:
    """Return the table of the client listener: clients submit and read, auditors read."""
    rules = {
        f"/{PLAN_SERVICE}/ExecutePlan": _CLIENTS,
        f"/{PLAN_SERVICE}/ValidatePlan": _CLIENTS,
        f"/{PLAN_SERVICE}/GetPlan": _READERS,
        f"/{PLAN_SERVICE}/ListPlans": _READERS,
        f"/{PLAN_SERVICE}/ListAuditEvents": _READERS,
    }
    rules |= dict.fromkeys(HEALTH_METHODS, _READERS)
    if reflection:
        rules |= reflection_rules(_READERS.kinds)
    return MethodTable(rules)
