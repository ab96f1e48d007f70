"""Record which domains run as Stage-3 itself, before one is started: at each start and reload.

Guards the reader of the log, who must not have to trust a file to know what could have touched it.
Deliberately absent: a decision. The operator has declared it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.journal import Writes
from stage3_service.domains.mcp_server import StdioServer

if TYPE_CHECKING:
    from stage3_service.audit.journal import Journal, Snapshot
    from stage3_service.domains.declaration import Catalogue


def record_unconfined(journal: Journal, catalogue: Catalogue) -> tuple[str, ...]:
    """Record DOMAIN_UNCONFINED for each domain declared with `unsafe_stdio`; return their names.

    Raises:
        JournalUnavailable: the record could not be made durable.
    """
    commands = {
        domain.name: domain.mcp.reached.command[0]
        for domain in catalogue
        if domain.mcp is not None
        and isinstance(domain.mcp.reached, StdioServer)
        and domain.mcp.reached.is_unconfined
    }
    if commands:
        events = tuple(
            NewEvent(
                EventType.DOMAIN_UNCONFINED,
                Status.SUCCESS,
                domain=name,
                additional_data={"program": program},
            )
            for name, program in commands.items()
        )

        def work(_: Snapshot) -> Writes[None]:
            return Writes(None, events=events)

        journal.record(work, urgent=True)
    return tuple(commands)
