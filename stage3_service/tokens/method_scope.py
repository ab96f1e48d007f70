"""Which methods of which domains a token may call.

A mapping that is backed by tuples alone, so that no dict, and no view of one, can be reached
through it. Deliberately absent: inheritance from one domain to another, and a spelling for `all`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class MethodScope(Mapping[str, tuple[str, ...]]):
    """Map domains to their methods, in the order granted. Immutable and hashable.

    Equal to any mapping with the same items. Raises ValueError when a domain is granted twice.
    """

    grants: tuple[tuple[str, tuple[str, ...]], ...]

    def __post_init__(self) -> None:
        """Keep tuples only: what was handed in may be changed by whoever made it."""
        grants = tuple((domain, tuple(methods)) for domain, methods in self.grants)
        if len({domain for domain, _ in grants}) != len(grants):
            raise ValueError("a domain is granted twice")
        object.__setattr__(self, "grants", grants)

    def __getitem__(self, domain: str) -> tuple[str, ...]:
        for granted, methods in self.grants:
            if granted == domain:
                return methods
        raise KeyError(domain)

    def __iter__(self) -> Iterator[str]:
        return (domain for domain, _ in self.grants)

    def __len__(self) -> int:
        return len(self.grants)

    def __hash__(self) -> int:
        return hash(frozenset(self.grants))

    def permits(self, domain: str, method: str) -> bool:
        """Return whether the method is granted, comparing exact strings."""
        return method in self.get(domain, ())
