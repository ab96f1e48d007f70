"""Guard the columns beside a leaf: they are an index over what it says, and must say the same.

Only the leaf is covered by the tree. A row whose columns were edited would hide an event from a
filter while every hash still fits; this check finds it. Deliberately absent: what an event means.
"""

import json
from datetime import UTC, datetime, timedelta

from servicekit.canonical_json import canonicalize
from servicekit.store.verification import StoredEvent

__all__ = ["check_leaf"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def check_leaf(event: StoredEvent) -> str | None:
    """Return how a row and its leaf disagree, or None; for `verify_log`.

    The leaf is an RFC 8785 object with `seq`, `timestamp`, `event_type` (or `record_type`), and
    `plan_id` and `token_id` where it has them.
    """
    try:
        members = json.loads(event.leaf)
        canonical = canonicalize(members)
        said = {
            "seq": members["seq"],
            "event_type": members.get("event_type", members.get("record_type")),
            "plan_id": members.get("plan_id"),
            "token_id": members.get("token_id"),
            "time_us": (datetime.fromisoformat(members["timestamp"]) - _EPOCH) // _MICROSECOND,
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "the leaf is not an event"
    if canonical != event.leaf:
        return "the leaf is not in canonical form"
    stored = {
        "seq": event.seq,
        "event_type": event.event_type,
        "plan_id": event.plan_id,
        "token_id": event.token_id,
        "time_us": event.time_us,
    }
    for name, value in stored.items():
        if said[name] != value:
            return f"its column {name} says something else than its bytes"
    return None
