"""How many refusals of one caller are worth a record each.

A record costs a sync of the disk. A caller whose plans are refused again and again is answered
OVERLOADED beyond its budget, without a record, and one record says later how often that was.
Deliberately absent: a budget shared between callers. Nobody can spend another's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stage4_service.errors import Reason

# Refusals that the caller brought about; the others are this deployment's own trouble, or, like
# asking again for a request that still runs, what an answer advises.
OF_THE_CALLER: Final = frozenset(Reason) - {
    Reason.AUDIT_UNAVAILABLE,
    Reason.SERVICE_HALTED,
    Reason.STAGE3_UNREACHABLE,
    Reason.DEADLINE_EXCEEDED,
    Reason.CLIENT_CANCELLED,
    Reason.OVERLOADED,
    Reason.REQUEST_IN_PROGRESS,
}
_MAX_KEPT_CALLERS: Final = 1024


class _Account:
    __slots__ = ("at_s", "left", "suppressed")

    def __init__(self, left: float, at_s: float) -> None:
        self.left = left
        self.at_s = at_s
        self.suppressed = 0


class RefusalBudget:
    """A token bucket for each caller: `burst` refusals at once, `per_second` more as time passes.

    Not safe for concurrent use; whoever shares it guards it.
    """

    __slots__ = ("_accounts", "_burst", "_monotonic_s", "_per_second")

    def __init__(self, *, burst: int, per_second: float, monotonic_s: Callable[[], float]) -> None:
        self._burst = burst
        self._per_second = per_second
        self._monotonic_s = monotonic_s
        self._accounts: dict[str, _Account] = {}

    def has_left(self, caller: str) -> bool:
        """Return whether one more refusal of this caller would be recorded."""
        account = self._accounts.get(caller)
        return account is None or self._refilled(account).left >= 1

    def spend(self, caller: str) -> None:
        """Charge one recorded refusal."""
        account = self._accounts.get(caller)
        if account is None:
            self._forget_idle_callers()
            account = self._accounts[caller] = _Account(self._burst, self._monotonic_s())
        # Calls that were in flight together may all be refused; they are charged all the same.
        self._refilled(account).left -= 1

    def suppress(self, caller: str) -> None:
        """Count one refusal that leaves no record."""
        self._accounts[caller].suppressed += 1

    def take_suppressed(self, caller: str) -> int:
        """Return how many refusals left no record since this was last asked, and forget them."""
        account = self._accounts.get(caller)
        if account is None:
            return 0
        count, account.suppressed = account.suppressed, 0
        return count

    def callers_with_suppressed(self) -> list[str]:
        """Return every caller some of whose refusals left no record, in sorted order."""
        return sorted(name for name, account in self._accounts.items() if account.suppressed)

    def _refilled(self, account: _Account) -> _Account:
        now_s = self._monotonic_s()
        account.left = min(self._burst, account.left + (now_s - account.at_s) * self._per_second)
        account.at_s = now_s
        return account

    def _forget_idle_callers(self) -> None:
        if len(self._accounts) < _MAX_KEPT_CALLERS:
            return
        for caller, account in list(self._accounts.items()):
            if self._refilled(account).left >= self._burst and not account.suppressed:
                del self._accounts[caller]
