"""Stage-4: the front desk. It validates explicit plans strictly and passes them on, once.

Four names are public; everything else may move. Importing them loads the standard library only, so
that a plan can be validated wherever Python runs. Deliberately absent: inference, planning,
defaults, retries, loops, branches and background work, anywhere between the client's bytes and the
one RPC.
"""

from stage4_service.audit import Stage4AuditEvent
from stage4_service.execution_plan import Stage4ExecutionPlan
from stage4_service.orchestrator import Stage4Orchestrator
from stage4_service.plan_validator import validate_strict_json_plan

__all__ = [
    "Stage4AuditEvent",
    "Stage4ExecutionPlan",
    "Stage4Orchestrator",
    "validate_strict_json_plan",
]
