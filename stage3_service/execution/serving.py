"""What one plan is measured against and calls, the same from its admission to its end.

Guards a plan from a reload: whatever is declared meanwhile, its gates ask the declarations that it
was admitted with, and its steps go to the domains that these name. Deliberately absent: how it is
replaced (`adapters.served_domains`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol, Self

from stage3_service.domains.port import Domain
from stage3_service.execution.house import House


class Serving(Protocol):
    """Hand out what is served at the moment. Any thread, any number at once."""

    def using(self) -> AbstractContextManager[Served]:
        """Hand out what one plan keeps until the block ends; nothing of it is closed before."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """Hold the house and the open domains of its catalogue. By itself it is never replaced."""

    house: House
    domains: Mapping[str, Domain]

    @contextmanager
    def using(self) -> Iterator[Self]:
        """Hand out this very value."""
        yield self
