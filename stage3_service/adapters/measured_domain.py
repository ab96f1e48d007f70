"""How long each declared method took, measured around its call and changing nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from servicekit.tally import Durations
from stage3_service.domains.declaration import Catalogue
from stage3_service.domains.port import Answer, Domain, Invocation

_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0)


class MeasuredDomain:
    """A domain that passes every call on, and what comes of it back."""

    __slots__ = ("_domain", "_durations", "_monotonic_s", "_name")

    def __init__(
        self, name: str, domain: Domain, durations: Durations, monotonic_s: Callable[[], float]
    ) -> None:
        self._name = name
        self._domain = domain
        self._durations = durations
        self._monotonic_s = monotonic_s

    def invoke(self, invocation: Invocation) -> Answer:
        """Run one method once; raises what the domain raises."""
        began_s = self._monotonic_s()
        try:
            return self._domain.invoke(invocation)
        finally:
            self._durations.observe(self._monotonic_s() - began_s, self._name, invocation.method)


def no_durations() -> Durations:
    """Return what measures are kept in, before any method is declared."""
    return Durations((), _SECONDS)


def measure_domains(
    domains: Mapping[str, Domain],
    catalogue: Catalogue,
    durations: Durations,
    monotonic_s: Callable[[], float],
) -> Mapping[str, Domain]:
    """Return the domains with a measure around each, kept in `durations` by domain and method."""
    durations.extend(
        (declared.name, method) for declared in catalogue for method in declared.methods
    )
    return {
        name: MeasuredDomain(name, domain, durations, monotonic_s)
        for name, domain in domains.items()
    }
