"""How many places of one server each caller holds, so that no caller can hold them all.

Deliberately absent: a claim of the caller's. What is counted is the identity in its certificate, so
a caller with many connections has one share.
"""

from threading import Lock


class CallerShares:
    """Count the calls that each caller has in flight, up to its share; safe to use from threads."""

    def __init__(self, share: int) -> None:
        self._share = share
        self._lock = Lock()
        self._held: dict[str, int] = {}

    def take(self, caller: str) -> bool:
        """Count one more call of this caller, or say that its share is in use."""
        with self._lock:
            held = self._held.get(caller, 0)
            if held >= self._share:
                return False
            self._held[caller] = held + 1
            return True

    def give_back(self, caller: str) -> None:
        """Count one call less; a caller without calls is forgotten."""
        with self._lock:
            held = self._held[caller] - 1
            if held:
                self._held[caller] = held
            else:
                del self._held[caller]

    def held(self, caller: str) -> int:
        """Return how many calls of this caller are in flight."""
        with self._lock:
            return self._held.get(caller, 0)
