"""What an entry of the log says, held against the columns by which it is found.

The tree proves the leaves; the columns beside them are an index, and a changed index would hide an
entry from whoever asks for it by plan or token.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from servicekit.canonical_json import canonicalize
from servicekit.cli.failure import CommandFailed
from servicekit.ijson import JsonLimits, JsonRefused, parse
from servicekit.process import ExitCode
from servicekit.store.ledger import TreeHead

if TYPE_CHECKING:
    from servicekit.store.ledger import StoredEvent

_LIMITS = JsonLimits()
_HEAD = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


def leaf_problem(event: StoredEvent) -> str | None:
    """Return what is wrong with one entry, or None."""
    try:
        said = parse(event.leaf, _LIMITS).value
    except JsonRefused as refused:
        return f"its bytes are not strict JSON: {refused}"
    if not isinstance(said, dict) or canonicalize(said) != event.leaf:
        return "its bytes are not the RFC 8785 form of an object"
    columns = {
        "seq": event.seq,
        "event_type": event.event_type,
        "plan_id": event.plan_id,
        "token_id": event.token_id,
    }
    for name, value in columns.items():
        if said.get(name) != value:
            return f"its column {name} says something else than its bytes"
    if _microseconds(said.get("timestamp")) != event.time_us:
        return "its column time_us says something else than its bytes"
    return None


def parse_head(text: str | None) -> TreeHead | None:
    """Return a head written as `SIZE:ROOT`.

    Raises:
        CommandFailed: USAGE.
    """
    if text is None:
        return None
    match = _HEAD.fullmatch(text)
    if match is None:
        raise CommandFailed(
            ExitCode.USAGE,
            "USAGE",
            f"--head {text!r} is not SIZE:ROOT",
            "Copy the head that `stage3 audit verify` printed.",
        )
    return TreeHead(int(match[1]), bytes.fromhex(match[2]))


def _microseconds(timestamp: object) -> int | None:
    if not isinstance(timestamp, str):
        return None
    try:
        instant = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    if instant.tzinfo is None:
        return None
    whole = int(instant.replace(microsecond=0).timestamp())
    return whole * 1_000_000 + instant.microsecond
