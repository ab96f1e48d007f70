"""What every plan of this service is measured against, fixed while the service runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stage3_service.authorization.limit_gate import MAX_PLAN_RESPONSE_BYTES
from stage3_service.plan.limits import PlanLimits

if TYPE_CHECKING:
    from stage3_service.authorization.declared import DeclaredDomains


@dataclass(frozen=True, slots=True)
class House:
    """Hold the declared domains and the service's own limits.

    `ordinary_lifetime_s` is the longest life in seconds of a token that is not held to the number
    of steps of its plan. `outcome_retention_s` is how long after its end a plan's outcome is told.
    """

    catalogue: DeclaredDomains
    ordinary_lifetime_s: int
    limits: PlanLimits = field(default_factory=PlanLimits)
    max_plan_response_bytes: int = MAX_PLAN_RESPONSE_BYTES
    outcome_retention_s: int = 172_800
