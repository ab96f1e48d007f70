"""Record that an operator serves from a store that its checkpoint does not vouch for, and halt.

What the store does not know may have happened: plans ran, tokens were revoked. So it starts halted,
and lets an operator revoke again before any step does. Deliberately absent: finding out what was
lost, which only the other copy of the log can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from stage3_service.audit.changes import ServiceHalted
from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.journal import Writes
from stage3_service.audit.records import HaltReason

if TYPE_CHECKING:
    from stage3_service.audit.changes import Change
    from stage3_service.audit.journal import Journal, Snapshot

RESTORED = "accept-restored-backup"
"""In whose name the service halts itself: that of the option it was started with."""


@dataclass(frozen=True, slots=True)
class RestoredStore:
    """Say why nothing vouches for a store, and what head was lost, where that is known."""

    cause: str
    checkpoint_size: int | None
    checkpoint_root: str | None


def record_restored(journal: Journal, restored: RestoredStore, *, reason: str) -> None:
    """Record the acceptance with the operator's words, and halt the service in the same commit.

    Raises:
        JournalUnavailable: the record could not be made durable; nothing may be served.
    """
    journal.record(partial(_record, restored=restored, reason=reason), urgent=True)


def _record(snapshot: Snapshot, restored: RestoredStore, reason: str) -> Writes[None]:
    events = [
        NewEvent(
            EventType.STORE_RESTORED,
            Status.SUCCESS,
            reason=reason,
            additional_data={
                "cause": restored.cause,
                "checkpoint_root": restored.checkpoint_root,
                "checkpoint_size": restored.checkpoint_size,
            },
        )
    ]
    changes: list[Change] = []
    if snapshot.halt is None or snapshot.halt.reason is not HaltReason.OPERATOR:
        events.append(
            NewEvent(
                EventType.SERVICE_HALTED,
                Status.SUCCESS,
                reason="restored backup: revoke again what was revoked since, then resume",
                additional_data={"by": RESTORED},
            )
        )
        changes.append(ServiceHalted(HaltReason.OPERATOR, snapshot.now))
    return Writes(None, tuple(events), tuple(changes))
