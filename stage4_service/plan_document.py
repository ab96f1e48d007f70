"""From the client's bytes to a valid plan, or to the first thing that is wrong with them.

Bytes are bounded and parsed strictly first (I-JSON, RFC 7493), then the rules are asked.
Deliberately absent: re-spelling. What a step sends to Stage-3 is the very span of bytes that the
client wrote for its parameters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, cast

from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse
from stage4_service.execution_plan import Stage4ExecutionPlan
from stage4_service.limits import PlanLimits
from stage4_service.plan_digest import document_digest
from stage4_service.plan_validator import PlanInvalid, Violation

# What is written down as it is, in this log and in Stage-3's, must not be what nobody may read.
_WRITTEN_DOWN: Final = ("user_id", "trigger_type")
_CREDENTIAL: Final = re.compile(r"token_[A-Za-z0-9_-]{32,}", re.ASCII)
# The document is at depth 0, `steps` at 1, a step at 2, its `parameters` at 3.
_DEPTH_OF_PARAMETERS: Final = 3


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """A valid plan, the bytes its steps' parameters were written in, and its digest."""

    plan: Stage4ExecutionPlan
    parameters_json: tuple[bytes, ...]
    digest: bytes


def read_plan_document(plan_json: bytes, limits: PlanLimits) -> PlanDocument:
    """Return the plan that these bytes spell.

    Raises: PlanInvalid, with the path of the first error.
    """
    try:
        parsed = parse(plan_json, _json_limits(limits), span_depth=_DEPTH_OF_PARAMETERS)
    except JsonRefused as refused:
        raise PlanInvalid(Violation(refused.path, refused.description)) from None
    document = parsed.value
    plan = Stage4ExecutionPlan.from_parsed(document, limits)
    for field in _WRITTEN_DOWN:
        if holds_credential(getattr(plan, field)):
            raise PlanInvalid(Violation(field, "must not hold a credential"))
    spans = (parsed.spans["steps", index, "parameters"] for index in range(len(plan.steps)))
    return PlanDocument(
        plan,
        tuple(plan_json[start:end] for start, end in spans),
        document_digest(cast("dict[str, JsonValue]", document)),
    )


def holds_credential(text: str) -> bool:
    """Say whether there is something in the text that looks like a token's credential."""
    return _CREDENTIAL.search(text) is not None


def _json_limits(limits: PlanLimits) -> JsonLimits:
    return JsonLimits(
        max_bytes=limits.max_bytes,
        max_depth=limits.max_depth,
        max_values=limits.max_values,
        max_key_bytes=limits.max_key_bytes,
        max_string_bytes=limits.max_string_bytes,
    )
