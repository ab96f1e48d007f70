"""Runs a method on its caller's own thread: only for methods that are shown to end.

Guards nothing by time, which is why it is not the rule. A second thread could not enforce a limit
on pure code anyway: a string operation holds the interpreter until it returns, so the waiting
caller would wake up no earlier. Which domains run here is decided in `registry`, with the reason.
Deliberately absent: everything else; see `bounded_call` for domains that wait for anything.
"""

from __future__ import annotations

from stage3_service.adapters.shielded_call import OnRaised, outcome_of
from stage3_service.adapters.time_allowed import allotted
from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.port import Answer, Domain, Invocation, MethodFailed, Output


class DirectCall:
    """A domain whose methods end by themselves, callable from any thread."""

    __slots__ = ("_declaration", "_domain", "_on_raised")

    def __init__(
        self, declaration: DomainDeclaration, domain: Domain, *, on_raised: OnRaised
    ) -> None:
        self._declaration = declaration
        self._domain = domain
        self._on_raised = on_raised

    def invoke(self, invocation: Invocation) -> Answer:
        """Run one method now.

        Raises:
            DomainUnreachable: the method is not declared or no time was left; nothing was started.
            DomainSilent: the domain itself says that the outcome is not known.

        """
        handed = allotted(self._declaration, invocation)
        outcome = outcome_of(self._declaration.name, self._domain, handed, self._on_raised)
        if isinstance(outcome, Output | MethodFailed):
            return outcome
        raise outcome

    def close(self) -> None:
        """Release nothing: there is no thread and no resource of its own."""
