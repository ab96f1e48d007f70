"""Which definitions are accepted, what was last seen of each domain, and what is thus withheld.

Guards the step before its start: a domain elsewhere that was never accepted, or that last showed
something else, is not offered. Deliberately absent: keeping it (the journal records what operators
accept, and the store holds it), and acceptance of what nobody has looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

from stage3_service.domains.declaration import Catalogue, DomainDeclaration, MethodDeclaration
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


class Offer:
    """A catalogue, less what is withheld at the moment of the question. Safe for any thread."""

    __slots__ = ("_acceptance", "catalogue")

    def __init__(self, catalogue: Catalogue, acceptance: Acceptance) -> None:
        self.catalogue = catalogue
        self._acceptance = acceptance

    @property
    def domains(self) -> Mapping[str, DomainDeclaration]:
        """Return the declared domains by name, withheld ones too."""
        return self.catalogue.domains

    def method(self, domain: str, method: str) -> MethodDeclaration | None:
        """Return the method of exactly these names, or None when either is not declared."""
        return self.catalogue.method(domain, method)

    def withholds(self, domain: str) -> bool:
        """Say whether the domain is elsewhere and not what an operator has accepted."""
        return self.catalogue.withholds(domain) and self._acceptance.withholds(domain)
