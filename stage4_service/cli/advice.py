"""What to do next, for each way in which a plan does not complete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stage4_service.errors import Reason

_RESUBMIT: Final = (
    "Run the same plan again with --request-id {request_id}: it never executes twice, and answers "
    "what became of it."
)
_SCOPE: Final = "The token does not grant this. Ask an operator for one that does."
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
    Reason.LIMIT_EXCEEDED: "A limit of the token is used up. Ask an operator for a new token.",
    Reason.OVERLOADED: "Nothing happened. Wait a little, and run it again.",
    Reason.REQUEST_ID_REUSED: "This --request-id belongs to another plan. Choose a new one.",
    Reason.REQUEST_ID_EXPIRED: "The outcome is no longer kept. Look for the plan in the audit log.",
    Reason.REQUEST_IN_PROGRESS: _RESUBMIT,
    Reason.OUTCOME_PENDING: _RESUBMIT,
    Reason.OUTCOME_UNKNOWN: _RESUBMIT,
    Reason.DEADLINE_EXCEEDED: "Give it more time with --timeout.",
    Reason.DEADLINE: "Earlier steps had their effects; `stage4 plan show` says at which step it "
    "ended. Submit what is left as a new plan, with more time.",
    Reason.PLAN_HALTED: "Earlier steps had their effects; once `stage3 status` says that it serves "
    "again, submit what is left as a new plan.",
    Reason.SERVICE_HALTED: "An operator halted Stage-3; `stage3 status` says why.",
    Reason.STAGE3_UNREACHABLE: "Nothing happened. Start Stage-3, and run it again.",
    Reason.AUDIT_UNAVAILABLE: "Look at the services' logs.",
    Reason.STEP_IN_DOUBT: (
        "Whether the step had its effect is not known. Look at the domain itself before you run "
        "anything again."
    ),
    Reason.OUTCOME_UNRECORDED: "The effect may have happened. Look at the domain itself.",
}
_WHAT_STAYS: Final[Mapping[str, str]] = {
    "some": "Effects of the steps before stay: `stage3 audit list --plan {plan_id}`.",
    "unknown": (
        "This step may have had its effect, and those before stay: "
        "`stage3 audit list --plan {plan_id}`."
    ),
}


def advice_for(reason: str, *, request_id: str, plan_id: str, effects: str) -> str:
    """Return what to do next, or nothing where the message says it all."""
    parts = [_ADVICE.get(reason, "")]
    if plan_id and _ADVICE.get(reason) is not _RESUBMIT:
        parts.append(_WHAT_STAYS.get(effects, ""))
    return " ".join(part for part in parts if part).format(request_id=request_id, plan_id=plan_id)
