"""Which definitions are accepted, what was last seen of each domain, and what is thus withheld.

Guards the step before its start: a domain elsewhere that was never accepted, or that last showed
something else, is not offered. Deliberately absent: keeping it (the journal records what operators
accept, and the store holds it), and acceptance of what nobody has looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from stage3_service.domains.accepted_schemas import with_accepted_schemas
from stage3_service.domains.declaration import (
    Catalogue,
    DomainDeclaration,
    MethodDeclaration,
    ParametersValidator,
    SchemaRefused,
)
from stage3_service.domains.definition import Definition


class Acceptance:
    """What operators have accepted, and what domains show; see `definition.AcceptedDefinitions`.

    Concurrency: any thread. Each question reads one entry, and each answer replaces one whole.
    """

    __slots__ = ("_accepted", "_shown")

    def __init__(self, accepted: Mapping[str, Definition]) -> None:
        self._accepted = dict(accepted)
        self._shown: dict[str, str] = {}

    def is_accepted(self, domain: str, digest: str) -> bool:
        """Note what the domain shows now, and say whether that is what was accepted."""
        self._shown[domain] = digest
        accepted = self._accepted.get(domain)
        return accepted is not None and accepted.digest == digest

    def accepted(self, domain: str) -> Definition | None:
        """Return what was accepted for the domain, or None before anything was."""
        return self._accepted.get(domain)

    def shown(self, domain: str) -> str | None:
        """Return the digest that the domain showed last, or None before it showed anything."""
        return self._shown.get(domain)

    def adopt(self, domain: str, definition: Definition) -> None:
        """Take what an operator has accepted, once that is durable."""
        self._accepted[domain] = definition

    def withholds(self, domain: str) -> bool:
        """Say whether the domain may not be called: nothing accepted, or something else shown.

        A domain that has shown nothing yet is not withheld for that: it is asked, on the very
        connection that would carry the call, before one is sent.
        """
        accepted = self._accepted.get(domain)
        return accepted is None or self._shown.get(domain, accepted.digest) != accepted.digest


@dataclass(frozen=True, slots=True)
class Offered:
    """What is offered of one domain, as one moment shows it.

    `declaration` has what is enforced: with the accepted schemas in force where they can be. The
    digests are those of a domain elsewhere, None where nothing was accepted, or shown yet.
    """

    declaration: DomainDeclaration
    accepted_digest: str | None
    shown_digest: str | None
    offered: bool


class Offer:
    """A catalogue, less what is withheld at the moment of the question. Safe for any thread.

    `foreign` compiles a schema that a domain brought along: what was accepted of it is in force
    beside the file's own. `on_withheld` hears of a domain that is withheld because it last showed
    something else than was accepted, at each question, and may not wait.
    """

    __slots__ = ("_acceptance", "_enforced", "_foreign", "_on_withheld", "catalogue")

    def __init__(
        self,
        catalogue: Catalogue,
        acceptance: Acceptance,
        foreign: Callable[[bytes], ParametersValidator],
        on_withheld: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.catalogue = catalogue
        self._on_withheld = on_withheld
        self._acceptance = acceptance
        self._foreign = foreign
        self._enforced: dict[str, tuple[str, DomainDeclaration | None]] = {}

    @property
    def domains(self) -> Mapping[str, DomainDeclaration]:
        """Return the declared domains by name, withheld ones too."""
        return self.catalogue.domains

    def method(self, domain: str, method: str) -> MethodDeclaration | None:
        """Return the method of exactly these names, or None when either is not declared."""
        declared = self._declaration(domain)
        return None if declared is None else declared.methods.get(method)

    def withholds(self, domain: str) -> bool:
        """Say whether the domain is elsewhere and not what an operator has accepted.

        One whose accepted schemas cannot be enforced beside the file's is withheld too.
        """
        if not self.catalogue.withholds(domain):
            return False
        if self._acceptance.withholds(domain):
            if self._acceptance.accepted(domain) is not None:
                self._on_withheld(domain)
            return True
        return self._declaration(domain) is None

    def __iter__(self) -> Iterator[Offered]:
        """Yield what is offered of each declared domain, in declared order."""
        for declared in self.catalogue:
            yield self._offered(declared)

    def _offered(self, declared: DomainDeclaration) -> Offered:
        if not declared.is_elsewhere:
            return Offered(declared, None, None, offered=True)
        # Each is read once: an acceptance meanwhile belongs to the next moment.
        accepted, shown = (
            self._acceptance.accepted(declared.name),
            self._acceptance.shown(declared.name),
        )
        if accepted is None:
            return Offered(declared, None, shown, offered=False)
        enforced = self._enforced_by(declared, accepted)
        return Offered(
            enforced or declared,
            accepted.digest,
            shown,
            offered=enforced is not None and shown in {None, accepted.digest},
        )

    def _declaration(self, domain: str) -> DomainDeclaration | None:
        declared = self.catalogue.domain(domain)
        accepted = self._acceptance.accepted(domain)
        if declared is None or accepted is None or not declared.is_elsewhere:
            return declared
        return self._enforced_by(declared, accepted)

    def _enforced_by(
        self, declared: DomainDeclaration, accepted: Definition
    ) -> DomainDeclaration | None:
        # One entry a domain, replaced whole: two threads that compile the same make the same.
        enforced = self._enforced.get(declared.name)
        if enforced is None or enforced[0] != accepted.digest:
            enforced = (accepted.digest, self._enforce(declared, accepted))
            self._enforced[declared.name] = enforced
        return enforced[1]

    def _enforce(
        self, declared: DomainDeclaration, accepted: Definition
    ) -> DomainDeclaration | None:
        try:
            return with_accepted_schemas(declared, accepted, foreign=self._foreign)
        except SchemaRefused:
            return None  # whoever asks what the domain shows is told why
