"""What to do next, for each way in which a plan does not complete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stage4_service.errors import Reason

_RESUBMIT: Final = (
    "Run the same plan again with --request-id {request_id}: it never executes twice, and answers "
    "what became of it."
)
_SCOPE: Final = (
    "The token does not grant this. Correct the name, or ask an operator for a token that does."
)
_ADVICE: Final[Mapping[str, str]] = {
    Reason.PLAN_INVALID: "Correct the plan at the path named; `stage4 plan validate` asks again.",
    Reason.TOKEN_NOT_ACCEPTED: (
        "Ask an operator for a token for this user and this client. Stage-3's audit log says "
        "precisely why this one was refused."
    ),
    Reason.TOKEN_EXPIRED: "Ask an operator for a new token.",
    Reason.TRIGGER_NOT_ALLOWED: _SCOPE,
    Reason.DOMAIN_NOT_IN_SCOPE: _SCOPE,
    Reason.METHOD_NOT_IN_SCOPE: _SCOPE,
    Reason.PLAN_NOT_BOUND: "The token is for one other plan. Ask for one bound to this digest.",
    Reason.METHOD_NOT_PERMITTED: "Use the profile of a caller who may.",
    Reason.LIMIT_EXCEEDED: "A frequency regains by itself once its window has passed. Any other "
    "limit is used up for good: ask an operator for a new token.",
    Reason.DOMAIN_UNKNOWN: "Correct the name. `stage3 domain list` tells an operator which exist.",
    Reason.METHOD_UNDECLARED: (
        "Correct the name. `stage3 domain list` tells an operator which exist."
    ),
    Reason.PARAMETERS_INVALID: "Correct the step's parameters, or the binding that makes them.",
    Reason.BINDING_UNRESOLVED: (
        "Correct the binding's source_path: the earlier step's output does not have it."
    ),
    Reason.OVERLOADED: "Nothing happened. Wait a little, and run it again.",
    Reason.REQUEST_ID_REUSED: "This --request-id belongs to another plan. Choose a new one.",
    Reason.REQUEST_ID_EXPIRED: "The outcome is no longer kept. Look for the plan in the audit log.",
    Reason.REQUEST_IN_PROGRESS: _RESUBMIT,
    Reason.OUTCOME_PENDING: _RESUBMIT,
    Reason.OUTCOME_UNKNOWN: _RESUBMIT,
    Reason.DEADLINE_EXCEEDED: "Give it more time with --timeout.",
    Reason.DEADLINE: "Earlier steps had their effects; `stage4 plan show` says at which step it "
    "ended. Submit what is left as a new plan, with more time.",
    Reason.PLAN_HALTED: "Earlier steps had their effects; once an operator says that Stage-3 "
    "serves again, submit what is left as a new plan.",
    Reason.SERVICE_HALTED: "Stage-3 is halted. Ask an operator, whom `stage3 status` tells why; "
    "run it again once it serves.",
    Reason.STAGE3_UNREACHABLE: "Nothing happened. Start Stage-3, or see to Stage-4's certificate "
    "if that is what it does not accept, and run it again.",
    Reason.AUDIT_UNAVAILABLE: "Look at the services' logs.",
    Reason.STEP_IN_DOUBT: (
        "Whether the step had its effect is not known. Look at the domain itself before you run "
        "anything again."
    ),
    Reason.OUTCOME_UNRECORDED: "The effect may have happened. Look at the domain itself.",
}
_WHAT_STAYS: Final[Mapping[str, str]] = {
    "some": "Effects of the steps before stay: `stage4 plan show {plan_id}` says how far it came.",
    "unknown": "This step may have had its effect, and those before stay: "
    "`stage4 plan show {plan_id}` says how far it came.",
}
_FIRST_STEP: Final = "The step may have had its effect; it was the first."


def advice_for(
    reason: str, *, request_id: str, plan_id: str, effects: str, step: object = None
) -> str:
    """Return what to do next, or nothing where the message says it all."""
    parts = [_ADVICE.get(reason, "")]
    if plan_id and _ADVICE.get(reason) is not _RESUBMIT:
        first = step == 0 and effects == "unknown"
        parts.append(_FIRST_STEP if first else _WHAT_STAYS.get(effects, ""))
    return " ".join(part for part in parts if part).format(request_id=request_id, plan_id=plan_id)
