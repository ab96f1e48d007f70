"""How many denials a caller may have recorded, so that nobody fills the log one fsync at a time.

Deliberately absent: any influence on what is allowed. A spent budget changes a denial's answer and
its record, never a permission.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

OTHER_CALLERS = "other callers"
"""Stands for callers that were forgotten to keep memory bounded; no identity is spelled so."""


@dataclass(frozen=True, slots=True)
class DenialAllowance:
    """State the budget: `burst` denials at once, `per_second` regained, for at most `callers` kept.

    `all_callers_factor` bounds what every caller together may spend, as a multiple of one caller's
    burst: a compromised Stage-4 can invent callers. Counts wait `due_after_s` seconds at most for a
    record, as long as anybody calls; `named_at_once` callers are then named, the others summed up.
    """

    burst: int = 40
    per_second: float = 0.5
    callers: int = 4096
    all_callers_factor: int = 16
    due_after_s: int = 60
    named_at_once: int = 16


@dataclass(slots=True)
class _Bucket:
    level: float
    at: datetime
    suppressed: int = 0
    suppressed_since: datetime | None = None

    def refill(self, now: datetime, *, burst: float, per_second: float) -> None:
        elapsed = max(0.0, (now - self.at).total_seconds())
        self.level = min(burst, self.level + elapsed * per_second)
        self.at = now


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Count the denials of one caller that were answered and not recorded one by one."""

    caller: str
    count: int
    since: datetime


class DenialBudget:
    """Keep the budgets in memory. Used on the journal's one writer, so it needs no lock."""

    def __init__(self, allowance: DenialAllowance) -> None:
        self._allowance = allowance
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._everybody: _Bucket | None = None
        self._forgotten: Suppressed | None = None
        self._suppressed = 0
        self._waiting_since: datetime | None = None

    @property
    def suppressed_total(self) -> int:
        """Return how many denials were not recorded one by one, of all callers, ever."""
        return self._suppressed

    def spend(self, caller: str, now: datetime) -> bool:
        """Return whether one more denial of this caller may be recorded, and count it if not."""
        allowance = self._allowance
        bucket = self._buckets.pop(caller, None) or _Bucket(allowance.burst, now)
        self._buckets[caller] = bucket
        if len(self._buckets) > allowance.callers:
            self._forget(self._buckets.popitem(last=False)[1])
        total = allowance.burst * allowance.all_callers_factor
        everybody = self._everybody = self._everybody or _Bucket(total, now)
        bucket.refill(now, burst=allowance.burst, per_second=allowance.per_second)
        everybody.refill(
            now, burst=total, per_second=allowance.per_second * allowance.all_callers_factor
        )
        if bucket.level >= 1 and everybody.level >= 1:
            bucket.level -= 1
            everybody.level -= 1
            return True
        bucket.suppressed += 1
        self._suppressed += 1
        bucket.suppressed_since = bucket.suppressed_since or now
        self._waiting_since = self._waiting_since or now
        return False

    def take_suppressed(self, caller: str | None = None) -> tuple[Suppressed, ...]:
        """Return what was suppressed since it was last taken: of one caller, or of everybody."""
        names = list(self._buckets) if caller is None else [caller]
        taken = [
            suppressed
            for name in names
            if (bucket := self._buckets.get(name)) is not None
            for suppressed in _suppressed(name, bucket)
        ]
        if self._forgotten is not None:
            taken.append(self._forgotten)
            self._forgotten = None
        return tuple(taken)

    def take_due(self, now: datetime) -> tuple[Suppressed, ...]:
        """Return all that was suppressed if some of it has waited too long, else nothing.

        A crash forgets counts. So they do not wait for their own caller alone, who may never be
        recorded again: the next call of anybody takes them along, one more denied call too.
        """
        since = self._waiting_since
        if since is None or now - since < timedelta(seconds=self._allowance.due_after_s):
            return ()
        self._waiting_since = None
        most_first = sorted(self.take_suppressed(), key=lambda each: each.count, reverse=True)
        named, rest = (
            most_first[: self._allowance.named_at_once],
            most_first[self._allowance.named_at_once :],
        )
        if not rest:
            return tuple(named)
        total = sum(each.count for each in rest)
        first = min(each.since for each in rest)
        return (*named, Suppressed(OTHER_CALLERS, total, first))

    def _forget(self, bucket: _Bucket) -> None:
        """Keep the count of a caller that is no longer kept itself, in one sum for all of them."""
        for lost in _suppressed(OTHER_CALLERS, bucket):
            before = self._forgotten
            self._forgotten = (
                lost
                if before is None
                else Suppressed(
                    OTHER_CALLERS, before.count + lost.count, min(before.since, lost.since)
                )
            )


def _suppressed(caller: str, bucket: _Bucket) -> tuple[Suppressed, ...]:
    if bucket.suppressed_since is None:
        return ()
    taken = Suppressed(caller, bucket.suppressed, bucket.suppressed_since)
    bucket.suppressed = 0
    bucket.suppressed_since = None
    return (taken,)
