"""A submission as the journal's table remembers it, for those who may read it.

Deliberately absent: the plan document. Its digest is kept, its content is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stage4_service.audit import PlanState
from stage4_service.errors import Effects


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """One row; `number` orders submissions by arrival, times are microseconds since the epoch.

    `result_erased` says that there was a result and its time is over. `result_json` and `receipt`
    are there where they were asked for.
    """

    number: int
    plan_id: str
    request_id: str
    caller: str
    user_id: str
    plan_digest: bytes
    steps: int
    state: PlanState
    created_us: int
    ended_us: int | None
    reason: str
    message: str
    step: int | None
    effects: Effects | None
    executed_plan_id: str
    result_json: bytes
    result_erased: bool
    receipt: bytes


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of the log as it is stored, security records included."""

    seq: int
    leaf: bytes
    event_type: str
    time_us: int


class PlanReader(Protocol):
    """The reads of the journal's table and log; each sees one consistent, durable state.

    `caller` may read what it submitted; None may read everything. Safe for concurrent use.
    Each read raises JournalUnavailable when the store cannot be read.
    """

    def plan(
        self, plan_id: str, *, caller: str | None, with_result: bool = False
    ) -> PlanRecord | None:
        """Return a plan, or None if there is none that `caller` may know of.

        Raises ResultDamaged when the result was asked for and was changed in the store.
        """
        ...

    def plans(self, *, caller: str | None, before: int | None, limit: int) -> list[PlanRecord]:
        """Return at most `limit` plans with a number below `before`, newest first."""
        ...

    def entries(
        self, *, caller: str | None, plan_id: str, after: int, limit: int
    ) -> list[LogEntry]:
        """Return at most `limit` log entries with a sequence number above `after`, oldest first."""
        ...
