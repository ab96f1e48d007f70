"""What is left of a request once its outcome was erased: that it was there, in 16 bytes.

They are kept for good, so they hold nothing of what they stand for: no caller, no user, no token,
no digest. Two requests share a tombstone with a chance of 2^-64 once there are 2^32 of them, and
the later one is then refused, never run twice.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stage3_service.audit.records import RequestScope

IS_SPENT: Final = "SELECT 1 FROM spent_requests WHERE request_key = ?"
SPEND_REQUEST: Final = "INSERT INTO spent_requests VALUES (?)"
SPEND_PLAN: Final = "INSERT INTO spent_plans VALUES (?)"
ERASE_PLAN: Final = "DELETE FROM plans WHERE plan_id = ?"
_KEY_BYTES = 16


def request_key(scope: RequestScope) -> bytes:
    """Return what is kept of a request."""
    parts = [part.encode() for part in (scope.caller, scope.user_id, scope.request_id)]
    spelled = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hashlib.sha256(spelled).digest()[:_KEY_BYTES]
