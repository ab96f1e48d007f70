"""The closed list of reasons for which a plan may run.

Deliberately absent: whatever starts without somebody or something outside having asked this once:
cron, webhooks, polling, background work, `*`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from stage3_service.tokens.refusal import IssueRefused

if TYPE_CHECKING:
    from collections.abc import Sequence


class TriggerType(StrEnum):
    """Name why a plan runs."""

    MANUAL = "manual"
    DIRECT_COMMAND = "direct_command"
    ASYNC_REQUEST = "async_request"
    ACKNOWLEDGMENT = "acknowledgment"
    SCHEDULED = "scheduled"


def parse_trigger_types(names: Sequence[str]) -> tuple[TriggerType, ...]:
    """Return the named trigger types, in the order given.

    Raises:
        IssueRefused: the list is empty, names one twice, or names one that is not in the list,
            spelled exactly.
    """
    field = "allowed_trigger_types"
    if not names:
        raise IssueRefused(field, "must name at least one trigger type")
    known = {member.value: member for member in TriggerType}
    for name in names:
        if name not in known:
            raise IssueRefused(field, f"{name!r} is none of {', '.join(known)}")
    if len(set(names)) != len(names):
        raise IssueRefused(field, "must not name a trigger type twice")
    return tuple(known[name] for name in names)
