"""The name of a plan: one digest for everything that it asks, and for nothing else.

Approvals, plan-bound tokens and receipts name a plan by this digest. It covers what the plan means,
not how its bytes were spelled. Deliberately absent: `token_hash`. Who is allowed to run a plan does
not change which plan it is, and nothing derived from a credential leaves this service but the
credential itself. Stage-3 computes the same digest with code of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from servicekit.ijson import JsonValue
from stage4_service.execution_plan import Stage4ExecutionPlan


def plan_digest(plan: Stage4ExecutionPlan) -> bytes:
    """Return SHA-256 of the RFC 8785 form of the plan without `token_hash`, 32 bytes."""
    return document_digest(plan.copy())


def document_digest(document: Mapping[str, JsonValue]) -> bytes:
    """Return the digest of the valid plan that this document spells, as plain data."""
    # Imported here because `import stage4_service` loads the standard library only.
    from servicekit.canonical_json import canonicalize  # noqa: PLC0415 - see above

    asked = {field: value for field, value in document.items() if field != "token_hash"}
    return hashlib.sha256(canonicalize(asked)).digest()
