"""The plan digest: the name by which approvals, plan-bound tokens and receipts know a plan.

SHA-256 of the RFC 8785 form of the plan without its credential. One changed value changes it;
white space, the order of keys and the spelling of numbers do not. Deliberately absent: anything
that is not in the client's document, such as identifiers of the submission.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from servicekit.canonical_json import canonicalize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servicekit.ijson import JsonValue
    from stage3_service.plan.plan import Binding, Step

DIGEST_BYTES: Final = 32


def plan_digest(
    user_id: str,
    trigger_type: str,
    steps: Sequence[Step],
    bindings: Sequence[Binding] | None,
) -> bytes:
    """Return the digest of a plan, 32 bytes.

    None for `bindings` says that the document has no `data_bindings`, which is not the same plan as
    one with an empty list.
    """
    document: dict[str, JsonValue] = {
        "user_id": user_id,
        "trigger_type": trigger_type,
        "steps": [
            {"domain": step.domain, "method": step.method, "parameters": step.parameters}
            for step in steps
        ],
    }
    if bindings is not None:
        document["data_bindings"] = [_binding_member(binding) for binding in bindings]
    return sha256(canonicalize(document)).digest()


def _binding_member(binding: Binding) -> JsonValue:
    member: dict[str, JsonValue] = {
        "source_step": binding.source_step,
        "source_path": binding.source_path.text,
        "target_step": binding.target_step,
        "target_path": binding.target_path.text,
    }
    if binding.expected_type is not None:
        member["expected_type"] = binding.expected_type.value
    return member
