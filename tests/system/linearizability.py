"""Whether a concurrent history could have happened one operation at a time.

The search of Wing and Gong, with Lowe's memory of configurations seen: of the operations that
began before any other ended, one must have come first. Histories are checked key by key, because
what is made of linearizable objects is linearizable (Herlihy and Wing). `Token` is the object that
a token is to clients and operators. Deliberately absent: any knowledge of how the services do it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Operation:
    """One call: when it began and ended by one counter, what was asked, and what was answered."""

    key: str
    began: int
    ended: int
    name: str
    argument: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """One token as it should look: revoked or not, and which requests were admitted with it.

    `admitted` holds pairs of a request and the plan that executed it.
    """

    revoked: bool = False
    admitted: frozenset[tuple[str, str]] = frozenset()

    def after(self, operation: Operation) -> Token | None:
        """Return the token after an operation, or None if it cannot have answered so."""
        plans = dict(self.admitted)
        answer, request = operation.answer, operation.argument
        match operation.name:
            case "revoke":
                # Only the first one finds it as it was.
                return replace(self, revoked=True) if answer == str(self.revoked) else None
            case "get token":
                return self if answer == str(self.revoked) else None
            case "get plan":
                return self if answer == "completed" and request in plans else None
            case "submit" if answer == "refused":
                return self if self.revoked and request not in plans else None
            case "submit" if answer == "in progress":
                return self if request in plans else None
            case "submit" if request in plans:
                # A replay needs no authority to act, and names the plan that did.
                return self if answer == plans[request] else None
            case "submit" if not self.revoked:
                return replace(self, admitted=self.admitted | {(request, answer)})
            case _:
                return None


def first_wrong_key(history: Iterable[Operation]) -> str | None:
    """Return a key whose operations no order explains, or None if all of them can be explained."""
    by_key = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    return next((key for key, own in by_key.items() if not is_linearizable(own)), None)


def is_linearizable(history: list[Operation]) -> bool:
    """Return whether some order of these operations, all of one key, respects time and answers."""
    seen: set[tuple[frozenset[int], Token]] = set()
    stack = [(frozenset(range(len(history))), Token())]
    while stack:
        left, token = stack.pop()
        if not left:
            return True
        if (left, token) in seen:
            continue
        seen.add((left, token))
        first_end = min(history[number].ended for number in left)
        stack.extend(
            (left - {number}, after)
            for number in left
            if history[number].began < first_end and (after := token.after(history[number]))
        )
    return False
