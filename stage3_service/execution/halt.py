"""How an operator stops every step that has not started, and lets them start again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from stage3_service.audit.changes import ServiceHalted, ServiceResumed
from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.journal import Writes
from stage3_service.audit.records import HaltReason
from stage3_service.errors import Reason, Refusal

if TYPE_CHECKING:
    from stage3_service.audit.journal import Journal, Snapshot


def halt(journal: Journal, *, halted_by: str, reason: str) -> bool:
    """Start no further step, ahead of every waiting plan; return whether an operator had said so.

    Raises:
        JournalUnavailable: the record could not be made durable.
    """
    return journal.record(partial(_halt, by=halted_by, reason=reason), urgent=True).answer


def resume(journal: Journal, *, resumed_by: str, reason: str) -> bool:
    """Let steps start again; return whether they could before.

    Raises:
        Refusal: SERVICE_HALTED, for want of room on a disk, which no word of an operator makes.
        JournalUnavailable: the record could not be made durable.
    """
    return journal.record(partial(_resume, by=resumed_by, reason=reason), urgent=True).answer


def _halt(snapshot: Snapshot, by: str, reason: str) -> Writes[bool]:
    # A clock that is not believed halts the service too, but only this process, and only until it
    # is believed again. An operator's word holds until an operator takes it back.
    if snapshot.halt is not None and snapshot.halt.reason is HaltReason.OPERATOR:
        return Writes(answer=True)
    event = NewEvent(
        EventType.SERVICE_HALTED, Status.SUCCESS, reason=reason, additional_data={"by": by}
    )
    return Writes(
        answer=False, events=(event,), changes=(ServiceHalted(HaltReason.OPERATOR, snapshot.now),)
    )


def _resume(snapshot: Snapshot, by: str, reason: str) -> Writes[bool]:
    if snapshot.halt is None:
        return Writes(answer=True)
    if snapshot.halt.reason is HaltReason.DISK:
        raise Refusal(
            Reason.SERVICE_HALTED,
            "the disk is nearly full; free some of it, and the service goes on by itself",
        )
    event = NewEvent(
        EventType.SERVICE_RESUMED, Status.SUCCESS, reason=reason, additional_data={"by": by}
    )
    return Writes(answer=False, events=(event,), changes=(ServiceResumed(),))
