"""How an operator looks at what a domain elsewhere shows, and accepts exactly that.

Guards the sentence "what is accepted is what was seen": the digest comes from the operator, and the
domain is asked again. Deliberately absent: acceptance at a start, by a default or by a file. What
changed is for a person to look at, and the log names that person.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from stage3_service.audit.changes import DefinitionAccepted
from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.journal import Journal, Snapshot, Writes
from stage3_service.audit.records import AcceptedDefinition
from stage3_service.domains.acceptance import Acceptance
from stage3_service.domains.declaration import Catalogue
from stage3_service.domains.definition import (
    Definition,
    DefinitionUnavailable,
    Describing,
    difference,
)
from stage3_service.errors import Reason, Refusal


@dataclass(frozen=True, slots=True)
class Shown:
    """Hold what a domain shows now, beside what was accepted of it.

    `difference` names each value that is another, in lines for people.
    """

    definition: Definition
    accepted: Definition | None
    difference: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """Answer an acceptance: the digest before it, and whether it was this one already."""

    definition: Definition
    previous_digest: str | None
    already: bool


class Definitions:
    """Show and accept the definitions of open domains. Any thread; no plan waits for it.

    `open_domain` returns the open domain of a name, if it has a definition to show.
    """

    def __init__(
        self,
        journal: Journal,
        acceptance: Acceptance,
        catalogue: Callable[[], Catalogue],
        open_domain: Callable[[str], Describing | None],
    ) -> None:
        self._journal = journal
        self._acceptance = acceptance
        self._catalogue = catalogue
        self._open_domain = open_domain

    def show(self, domain: str) -> Shown:
        """Ask a domain what it is now, and compare.

        Raises:
            Refusal: no such domain, it has no definition, or it shows none now.
        """
        definition = self._fetch(domain)
        accepted = self._acceptance.accepted(domain)
        return Shown(definition, accepted, difference(accepted, definition))

    def accept(self, domain: str, digest: str, *, by: str) -> Accepted:
        """Record that the domain may show what has this digest, and offer it from then on.

        Idempotent: what is accepted already leaves no event.

        Raises:
            Refusal: as `show`; or what the domain shows now has another digest.
            JournalUnavailable: the record could not be made durable.
        """
        definition = self._fetch(domain)
        if definition.digest != digest:
            raise Refusal(
                Reason.DIGEST_MISMATCH,
                f"domain {domain} shows {definition.digest} now and not what was to be accepted; "
                f"look at it again with `stage3 domain describe {domain}`",
            )
        work = partial(_accept, domain=domain, definition=definition, by=by)
        accepted = self._journal.record(work, urgent=True).answer
        self._acceptance.adopt(domain, definition)
        return accepted

    def observe(self, domain: str) -> bool:
        """Ask a domain what it is, so that gate 2 knows; return whether that is accepted.

        Raises:
            Refusal: as `show`.
        """
        digest = self._fetch(domain).digest
        return self._acceptance.is_accepted(domain, digest)

    def _fetch(self, domain: str) -> Definition:
        declared = self._catalogue().domain(domain)
        if declared is None:
            raise Refusal(
                Reason.DOMAIN_UNKNOWN,
                "no domain of this name is declared; list them with `stage3 domain list`",
            )
        describing = self._open_domain(domain)
        if describing is None:
            raise Refusal(
                Reason.REQUEST_INVALID,
                f"domain: {domain} is part of this service and has nothing to be accepted",
                (("domain", "is part of this service and has nothing to be accepted"),),
            )
        try:
            definition = describing.describe()
        except DefinitionUnavailable as unavailable:
            raise Refusal(
                Reason.DOMAIN_UNREACHABLE, f"domain {domain} shows no definition: {unavailable}"
            ) from unavailable
        # Whoever asks, gate 2 hears of it.
        self._acceptance.is_accepted(domain, definition.digest)
        return definition


def _accept(snapshot: Snapshot, domain: str, definition: Definition, by: str) -> Writes[Accepted]:
    previous = snapshot.accepted_digest(domain)
    if previous == definition.digest:
        return Writes(Accepted(definition, previous, already=True))
    event = NewEvent(
        EventType.DOMAIN_ACCEPTED,
        Status.SUCCESS,
        domain=domain,
        additional_data={"by": by, "digest": definition.digest, "previous_digest": previous},
    )
    return Writes(
        Accepted(definition, previous, already=False),
        (event,),
        (DefinitionAccepted(AcceptedDefinition(domain, definition, by, snapshot.now)),),
    )
