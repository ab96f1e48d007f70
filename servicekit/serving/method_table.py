"""Which caller may call which method: one table per server, and no for everything else.

Deliberately absent: patterns, prefixes, inheritance between methods, and a default rule. A method
that is not in the table is called by nobody.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from servicekit.serving.identity import Identity, IdentityKind

RolesOf = Callable[[Identity], frozenset[str]]


def no_roles(_identity: Identity) -> frozenset[str]:
    """Grant nobody a role: for a server whose rules ask for none."""
    return frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call one method.

    The caller's kind must be one of `kinds`. A kind in `role_bound` must also hold at least one
    of `roles`; when `role_bound` is empty and `roles` is not, every kind is bound.
    """

    kinds: frozenset[IdentityKind]
    roles: frozenset[str] = frozenset()
    role_bound: frozenset[IdentityKind] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a rule that could not mean what its author wrote."""
        if not self.kinds:
            message = "a rule that permits no kind is written by leaving the method out"
            raise ValueError(message)
        if not self.role_bound <= self.kinds:
            message = "a rule binds a kind to roles that it does not permit at all"
            raise ValueError(message)
        if self.role_bound and not self.roles:
            message = "a rule binds kinds to roles and names no role"
            raise ValueError(message)


class MethodTable:
    """An immutable map from full method (`/package.Service/Method`) to its rule, default deny."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        """Copy the rules; refuse a key that is not a full method name."""
        for full_method in rules:
            service, separator, method = full_method.removeprefix("/").rpartition("/")
            if not (full_method.startswith("/") and separator and service and method):
                message = f"{full_method!r} is not a full method name such as /package.Service/Get"
                raise ValueError(message)
        self._rules = MappingProxyType(dict(rules))

    @property
    def rules(self) -> Mapping[str, Rule]:
        """Show the rules, for the tests and documents that walk over every pair."""
        return self._rules

    def permits(self, identity: Identity, roles_of: RolesOf, full_method: str) -> bool:
        """Decide whether this caller may call this method; an unknown method is never permitted."""
        rule = self._rules.get(full_method)
        if rule is None or identity.kind not in rule.kinds:
            return False
        if not rule.roles:
            return True
        if rule.role_bound and identity.kind not in rule.role_bound:
            return True
        return not rule.roles.isdisjoint(roles_of(identity))
