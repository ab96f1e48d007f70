"""Record which key outcomes are sealed with: before the first of them, and when another one is.

Deliberately absent: the keys. A name tells nothing about its key.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from stage3_service.audit.changes import OutcomeKeyAdopted
from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.journal import Writes

if TYPE_CHECKING:
    from stage3_service.audit.journal import Journal, Snapshot


def adopt_outcome_key(journal: Journal, key_id: str) -> bool:
    """Note the key in use, and record KEY_ROTATED where it is another than before; return whether.

    Raises:
        JournalUnavailable: the record could not be made durable.
    """
    return journal.record(partial(_adopt, key_id=key_id), urgent=True).answer


def _adopt(snapshot: Snapshot, key_id: str) -> Writes[bool]:
    before = snapshot.outcome_key()
    if before == key_id:
        return Writes(answer=False)
    change = OutcomeKeyAdopted(key_id, snapshot.now)
    if before is None:
        return Writes(answer=False, changes=(change,))
    event = NewEvent(
        EventType.KEY_ROTATED,
        Status.SUCCESS,
        additional_data={"key_id": key_id, "previous_key_id": before},
    )
    return Writes(answer=True, events=(event,), changes=(change,))
