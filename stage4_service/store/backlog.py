"""What the plans of one batch change in the tables, until the batch writes it in one go.

A submission is seen by the next one of the same batch before it is in the file. Deliberately
absent: anything that outlives the batch.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from stage4_service.store.results import ERASE, ERASED_FOR_EACH

if TYPE_CHECKING:
    from servicekit.store.ledger import Rows, SqlValue
    from stage4_service.audit import PlanEnded, PlanOpened
    from stage4_service.store.results import Sealed

_OPEN: Final = """INSERT INTO plans
    (plan_id, request_id, caller, user_id, plan_digest, steps, state, created_us)
    VALUES (?, ?, ?, ?, ?, ?, 'running', ?)"""
_END: Final = """UPDATE plans SET state = ?2, reason = ?3, message = ?4, step = ?5, effects = ?6,
    key_id = ?7, sealed = ?8, receipt = ?9, executed_plan_id = ?10, ended_us = ?11
    WHERE plan_id = ?1"""
# Submissions of the same request whose answer was lost learn it, too.
_END_AND_LEARN: Final = f"""{_END} OR (
    state = 'unknown' AND (caller, user_id, request_id, plan_digest) =
    (SELECT caller, user_id, request_id, plan_digest FROM plans WHERE plan_id = ?1))"""  # noqa: S608 - a constant
_ADDRESS: Final = "INSERT INTO caller_log SELECT caller, ? FROM plans WHERE plan_id = ?"

RequestKey = tuple[str, str, str]
"""Caller, user and request identifier."""


def request_key(opened: PlanOpened) -> RequestKey:
    """Return what identifies the request of a submission."""
    return opened.caller, opened.user_id, opened.request_id


class PlanBacklog:
    """Hold one batch's changes; see `servicekit.store.turn.Backlog`. Used on the writer alone."""

    __slots__ = ("_addressed", "_due_us", "_ended", "_opened", "_requests")

    def __init__(self) -> None:
        """Begin with nothing."""
        self._opened: list[tuple[SqlValue, ...]] = []
        self._requests: set[RequestKey] = set()
        self._due_us = 0
        self._ended: list[tuple[str, tuple[SqlValue, ...]]] = []
        self._addressed: list[tuple[int, str]] = []

    def holds_request(self, key: RequestKey) -> bool:
        """Return whether a submission of this batch bears the request identifier."""
        return key in self._requests

    def open(self, opened: PlanOpened, now_us: int, due_us: int) -> None:
        """Add a submission that runs from `now_us` on; results from before `due_us` are overdue."""
        self._due_us = due_us
        self._requests.add(request_key(opened))
        self._opened.append(
            (
                opened.plan_id,
                opened.request_id,
                opened.caller,
                opened.user_id,
                opened.plan_digest,
                opened.steps,
                now_us,
            )
        )

    def address(self, seq: int, plan_id: str) -> None:
        """Add that an event may be read by whoever submitted the plan."""
        self._addressed.append((seq, plan_id))

    def end(self, ended: PlanEnded, sealed: Sealed, now_us: int, *, learn: bool) -> None:
        """Add an outcome; `learn` says that it answers lost submissions of the request, too."""
        outcome = (
            ended.plan_id,
            ended.state.value,
            "" if ended.reason is None else ended.reason.value,
            ended.message,
            ended.step,
            None if ended.effects is None else ended.effects.value,
            *sealed,
            ended.receipt,
            ended.executed_plan_id,
            now_us,
        )
        self._ended.append((_END_AND_LEARN if learn else _END, outcome))

    def write(self, rows: Rows) -> None:
        """Write all of it: a submission before what became of it."""
        if self._opened:
            rows.run_many(_OPEN, self._opened)
            rows.run_many(ERASE, [(self._due_us, ERASED_FOR_EACH * len(self._opened))])
        if self._addressed:
            rows.run_many(_ADDRESS, self._addressed)
        # In their order: what is learned depends on what was not known by then.
        for sql, ended in groupby(self._ended, key=itemgetter(0)):
            rows.run_many(sql, [outcome for _, outcome in ended])
