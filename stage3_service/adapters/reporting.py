"""What a domain's thread has to say when no caller waits for it: to the log, without its data."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from stage3_service.audit.journal import JournalUnavailable
from stage3_service.domains.declarations_reading import DeclarationsRefused
from stage3_service.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from stage3_service.adapters.served_domains import ServedDomains
    from stage3_service.adapters.shielded_call import RaisedError
    from stage3_service.domains.declaration import Catalogue
    from stage3_service.domains.port import Answer
    from stage3_service.execution.definitions import Definitions
    from stage3_service.execution.late_answers import LateAnswers


def recording_late(late: LateAnswers, log: FilteringBoundLogger) -> Callable[[str, Answer], None]:
    """Return what records a late answer, and logs that it could not be recorded."""

    def deliver(idempotency_key: str, answer: Answer) -> None:
        try:
            late.deliver(idempotency_key, answer)
        except JournalUnavailable as unavailable:
            log.error(  # noqa: TRY400 - the sentence says it all; a trace adds nothing
                "a late answer was not recorded", key=idempotency_key, error=str(unavailable)
            )

    return deliver


def logging_raised(log: FilteringBoundLogger) -> Callable[[RaisedError], None]:
    """Return what logs the type and the place of an error that a domain's method raised."""

    def report(raised: RaisedError) -> None:
        # Its text may quote parameters: the type and the place are enough to find it.
        place = traceback.extract_tb(raised.error.__traceback__)[-1:]
        log.error(
            "a domain method raised",
            domain=raised.domain,
            method=raised.method,
            key=raised.idempotency_key,
            error_type=type(raised.error).__name__,
            place=[f"{frame.filename}:{frame.lineno}" for frame in place],
        )

    return report


def observe_definitions(
    definitions: Definitions, catalogue: Catalogue, log: FilteringBoundLogger
) -> None:
    """Ask every domain elsewhere what it is, so that gate 2 knows, and log what is withheld."""
    for declared in catalogue:
        if not declared.is_elsewhere:
            continue
        try:
            accepted = definitions.observe(declared.name)
        except Refusal as refused:
            log.warning("a domain shows no definition", domain=declared.name, why=refused.message)
            continue
        if not accepted:
            log.warning(
                "a domain is withheld: what it shows is not what was accepted",
                domain=declared.name,
                advice=f"look at it with `stage3 domain describe {declared.name}`",
            )


def reload_by_signal(serving: ServedDomains, log: FilteringBoundLogger) -> None:
    """Read the domains file again for nobody who could be told: what comes of it is logged."""
    try:
        reloaded = serving.reload(None)
    except DeclarationsRefused as refused:
        log.error("the domains file cannot be used", problems=refused.problems)  # noqa: TRY400 - as above
    except JournalUnavailable as unavailable:
        log.error("a reload was not recorded", error=str(unavailable))  # noqa: TRY400 - as above
    else:
        log.info("domains reloaded", declarations_digest=reloaded.digest)
