"""Hands a domain on from one set of declarations to the next, where the same is declared.

Guards a program from being started a second time beside itself, and its session from a reload that
has nothing to do with it. What the next set does not take over is closed with the last set that
used it. Deliberately absent: domains that cost nothing to open anew, and any notion of two
declarations that are nearly the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from stage3_service.adapters.registry import DescribingDomain
from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.definition import Definition
from stage3_service.domains.port import Answer, Invocation


@dataclass(slots=True)
class _Kept:
    declaration: DomainDeclaration
    domain: DescribingDomain
    users: int = 0


class KeptDomains:
    """The open domains that may be handed on, and how many sets of declarations use each."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: list[_Kept] = []

    def open(
        self,
        declaration: DomainDeclaration,
        open_domain: Callable[[DomainDeclaration], DescribingDomain],
    ) -> DescribingDomain:
        """Return the domain that is open for the same declaration, or a new one.

        Raises:
            DeclarationsRefused: it cannot be opened.

        """
        with self._lock:
            for kept in self._kept:
                if is_the_same(kept.declaration, declaration):
                    break
            else:
                kept = _Kept(declaration, open_domain(declaration))
                self._kept.append(kept)
            kept.users += 1
            return _Lease(self, kept)

    def give_back(self, kept: _Kept) -> None:
        """Close a domain once no set uses it."""
        with self._lock:
            kept.users -= 1
            if kept.users:
                return
            self._kept.remove(kept)
        # Outside the lock: a session may take seconds to end, and its successor is not waiting.
        kept.domain.close()


def is_the_same(one: DomainDeclaration, other: DomainDeclaration) -> bool:
    """Say whether two declarations are one to an adapter.

    What a method is for, promises and takes as parameters is asked at the gates, of the set that a
    plan began with; the adapter knows nothing of it.
    """
    return (one.name, one.adapter, one.mcp, _limits(one)) == (
        other.name,
        other.adapter,
        other.mcp,
        _limits(other),
    )


def _limits(declaration: DomainDeclaration) -> dict[str, tuple[float, int]]:
    return {
        name: (method.max_duration_s, method.max_response_bytes)
        for name, method in declaration.methods.items()
    }


class _Lease:
    """One set's use of a domain. Closing it twice is closing it once."""

    __slots__ = ("_domain", "_kept", "_owner")

    def __init__(self, owner: KeptDomains, kept: _Kept) -> None:
        self._owner = owner
        self._kept: _Kept | None = kept
        self._domain = kept.domain

    def invoke(self, invocation: Invocation) -> Answer:
        """Invoke a method; see `Domain`."""
        return self._domain.invoke(invocation)

    def describe(self) -> Definition:
        """Fetch what the domain shows; see `Describing`."""
        return self._domain.describe()

    def close(self) -> None:
        """End this use."""
        kept, self._kept = self._kept, None
        if kept is not None:
            self._owner.give_back(kept)
