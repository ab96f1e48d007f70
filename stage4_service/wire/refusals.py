"""Who is refused, how often that is written down, and that nothing of it is forgotten.

Deliberately absent: the reason for a refusal. Whoever refuses knows it; this door counts.
"""

from __future__ import annotations

from threading import Lock
from typing import Protocol

from servicekit.serving.identity import Identity
from stage4_service.audit import SecurityRecord, SecurityRecordType
from stage4_service.errors import Reason
from stage4_service.refusal_budget import OF_THE_CALLER, RefusalBudget


class SecurityLog(Protocol):
    """The part of the journal that keeps records of the service itself."""

    def record_security(self, record: SecurityRecord) -> None:
        """Append one record, durable on return."""
        ...


class Refusals:
    """The budget of every caller, shared by all threads, and the records it leads to."""

    def __init__(self, log: SecurityLog, budget: RefusalBudget) -> None:
        self._log = log
        self._budget = budget
        self._lock = Lock()
        self._suppressed = 0

    @property
    def suppressed_total(self) -> int:
        """Return how many refusals left no record of their own, of all callers, ever."""
        return self._suppressed

    def admits(self, caller: str) -> bool:
        """Say whether the caller has budget left; count the refusal if it has not.

        A caller that has is about to be recorded, so what was suppressed is recorded first.

        Raises: JournalUnavailable.
        """
        with self._lock:
            if not self._budget.has_left(caller):
                self._budget.suppress(caller)
                self._suppressed += 1
                return False
            count = self._budget.take_suppressed(caller)
        if count:
            self._record_suppressed(caller, count)
        return True

    def charge(self, caller: str, reason: Reason) -> None:
        """Charge one recorded refusal, if the caller brought it about."""
        if reason in OF_THE_CALLER:
            with self._lock:
                self._budget.spend(caller)

    def record_refused_call(self, identity: Identity | None, method: str, reason: str) -> None:
        """Record that a call was refused at the door, or count it where the budget is spent.

        Raises: JournalUnavailable.
        """
        caller = "" if identity is None else identity.uri
        if self.admits(caller):
            self.charge(caller, Reason(reason))
            self._log.record_security(
                SecurityRecord(
                    SecurityRecordType.CALLER_REFUSED, caller, {"method": method, "reason": reason}
                )
            )

    def settle(self) -> None:
        """Record everything that was counted and not recorded; the last act before the log closes.

        Raises: JournalUnavailable.
        """
        with self._lock:
            callers = self._budget.callers_with_suppressed()
            counts = [(caller, self._budget.take_suppressed(caller)) for caller in callers]
        for caller, count in counts:
            self._record_suppressed(caller, count)

    def _record_suppressed(self, caller: str, count: int) -> None:
        self._log.record_security(
            SecurityRecord(SecurityRecordType.DENIALS_SUPPRESSED, caller, {"count": count})
        )
