"""Record that other declarations are served from here on: which file, and on whose word."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.journal import Journal, Snapshot, Writes


def record_reload(journal: Journal, by: str | None, digest: str, domains: Sequence[str]) -> None:
    """Record DOMAINS_RELOADED. `by` is None where a signal to the process asked for it.

    Raises:
        JournalUnavailable: the record could not be made durable.
    """
    work = partial(_reloaded, by=by, digest=digest, domains=domains)
    journal.record(work, urgent=True)


def _reloaded(
    _snapshot: Snapshot, by: str | None, digest: str, domains: Sequence[str]
) -> Writes[None]:
    event = NewEvent(
        EventType.DOMAINS_RELOADED,
        Status.SUCCESS,
        additional_data={"by": by, "declarations_digest": digest, "domains": list(domains)},
    )
    return Writes(None, (event,))
