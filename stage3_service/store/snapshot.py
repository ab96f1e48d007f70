"""What a decision sees: the state inside its own turn on the writer.

The file's rows, and above them what earlier decisions of the same batch kept back. A question that
the backlog cannot answer has it written first, and asks the file.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from servicekit.store.outcome_keys import KEY_IN_USE
from stage3_service.audit.records import (
    EndedPlan,
    HaltReason,
    HaltState,
    PlanRecord,
    RequestScope,
    TokenRecord,
)
from stage3_service.store.backlog import PlanBacklog, TokenState
from stage3_service.store.definition_rows import DIGEST_OF
from stage3_service.store.instants import from_us, to_us
from stage3_service.store.plan_rows import PLAN_COLUMNS, PlanRows
from stage3_service.store.token_rows import TOKEN_COLUMNS, TokenRows
from stage3_service.store.tombstones import IS_SPENT, request_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from servicekit.store.ledger import SqlValue, Turn

# One statement and one row, whatever was presented: a token, a tombstone, both or neither.
_TOKEN_BY_KEY = (
    f"SELECT (SELECT 1 FROM revocations WHERE token_key = presented), {TOKEN_COLUMNS} "  # noqa: S608 - a constant
    "FROM (SELECT ? AS presented) LEFT JOIN tokens t ON t.token_key = presented"
)
_TOKEN_BY_ID = f"SELECT {TOKEN_COLUMNS} FROM tokens t WHERE t.token_id = ?"  # noqa: S608 - a constant
# Two descents of an index and no count: a limit of a million plans costs as much as one of two.
_STARTS_SINCE = (
    "SELECT (SELECT coalesce(max(number), 0) FROM plan_starts WHERE token_id = ?1) - "
    "coalesce((SELECT number FROM plan_starts WHERE token_id = ?1 AND started_us <= ?2 "
    "ORDER BY started_us DESC, number DESC LIMIT 1), 0)"
)
_PLAN_BY_REQUEST = (
    f"SELECT {PLAN_COLUMNS} FROM plans WHERE caller = ? AND user_id = ? AND request_id = ?"  # noqa: S608 - a constant of this package
)
_CONSUMED = "SELECT 1 FROM plans WHERE caller = ? AND user_id = ? AND request_id = ?"
_PLAN_BY_ID = f"SELECT {PLAN_COLUMNS} FROM plans WHERE plan_id = ?"  # noqa: S608 - a constant
_RUNNING = f"SELECT {PLAN_COLUMNS} FROM plans WHERE kind IS NULL ORDER BY admitted_us, plan_id"  # noqa: S608 - a constant
_RUNNING_OF_TOKEN = f"SELECT {PLAN_COLUMNS} FROM plans WHERE kind IS NULL AND token_id = ? ORDER BY admitted_us, plan_id"  # noqa: E501, S608 - a constant
_ENDED_BEFORE = (
    "SELECT plan_id, caller, user_id, request_id FROM plans WHERE ended_us < ? "
    "ORDER BY ended_us LIMIT ?"
)

_OVERDUE_A_BATCH = 128
"""Asked for once in a batch; what is overdue beyond it waits for the next one."""


class SqliteSnapshot:
    """Answer a decision's questions from one turn; see `audit.journal.Snapshot`."""

    __slots__ = ("_plans", "_tokens", "_turn", "now")

    def __init__(self, turn: Turn, tokens: TokenRows, plans: PlanRows) -> None:
        self._turn = turn
        self._tokens = tokens
        self._plans = plans
        self.now = from_us(turn.now_us)

    @property
    def halt(self) -> HaltState | None:
        """Return why no step may start: the operator's word, the clock, the disk."""
        backlog = self._turn.backlog(PlanBacklog)
        if not backlog.halt:
            backlog.halt = (self._halt(),)
        (halt,) = backlog.halt
        if halt is None and self._turn.clock_problem is not None:
            return HaltState(HaltReason.CLOCK, self.now)
        if halt is None and self._turn.disk_problem is not None:
            return HaltState(HaltReason.DISK, self.now)
        return halt

    @property
    def disk_is_low(self) -> bool:
        """Return whether the room that is left is for what has begun already."""
        return self._turn.disk_problem is not None

    def _halt(self) -> HaltState | None:
        for reason, since_us in self._turn.rows("SELECT reason, since_us FROM halt"):
            return HaltState(HaltReason(str(reason)), from_us(int(since_us)))  # type: ignore[arg-type]
        return None

    def token(self, token_key: bytes) -> TokenRecord | None:
        """Return the token with this key."""
        return self._state(token_key).record

    def is_revoked(self, token_key: bytes) -> bool:
        """Return whether a tombstone exists."""
        return self._state(token_key).revoked

    def _state(self, token_key: bytes) -> TokenState:
        backlog = self._turn.backlog(PlanBacklog)
        state = backlog.token(token_key)
        if state is None:
            ((tombstone, *columns),) = self._turn.rows(_TOKEN_BY_KEY, (token_key,))
            record = None if columns[0] is None else self._tokens.decode(columns)
            backlog.remember_token(token_key, TokenState(tombstone is not None, record))
            # Asked again, and not returned as read: decisions before this one may have charged it.
            return self._state(token_key)
        return state

    def token_by_id(self, token_id: str) -> TokenRecord | None:
        """Return the token with this public reference."""
        for row in self._written(_TOKEN_BY_ID, token_id):
            return self._tokens.decode(row)
        return None

    def plan_starts_since(self, token_id: str, since: datetime) -> int:
        """Return how many plans of the token had their first start after `since`."""
        if self._turn.backlog(PlanBacklog).holds_start_of(token_id):
            self._turn.write_backlog()
        rows = self._turn.rows(_STARTS_SINCE, (token_id, to_us(since)))
        return int(rows[0][0])  # type: ignore[arg-type]

    def request(self, scope: RequestScope) -> PlanRecord | None:
        """Return the plan that consumed this request identifier."""
        key = (scope.caller, scope.user_id, scope.request_id)
        if self._turn.backlog(PlanBacklog).holds_request(scope) or self._turn.rows(_CONSUMED, key):
            return self._one_plan(_PLAN_BY_REQUEST, *key)
        return None

    def request_is_spent(self, scope: RequestScope) -> bool:
        """Return whether a plan consumed this request identifier whose outcome was erased."""
        key = (request_key(scope),)
        return self._turn.backlog(PlanBacklog).holds_erased(scope) or bool(
            self._turn.rows(IS_SPENT, key)
        )

    def ended_before(self, instant: datetime, most: int) -> Sequence[EndedPlan]:
        """Return the plans that ended before `instant`, oldest first, `most` of them at most."""
        backlog = self._turn.backlog(PlanBacklog)
        if backlog.overdue is None:
            rows: list[Any] = self._turn.rows(_ENDED_BEFORE, (to_us(instant), _OVERDUE_A_BATCH))
            backlog.overdue = [EndedPlan(row[0], RequestScope(*row[1:])) for row in rows]
        left = (plan for plan in backlog.overdue if not backlog.holds_erased(plan.scope))
        return list(islice(left, most))

    def plan(self, plan_id: str) -> PlanRecord | None:
        """Return the admitted plan with this identifier."""
        return self._one_plan(_PLAN_BY_ID, plan_id)

    def plan_is_known(self, plan_id: str) -> bool:
        """Return whether any event carries this plan identifier."""
        return self._turn.backlog(PlanBacklog).holds_plan(plan_id) or bool(
            self._turn.rows(
                "SELECT 1 FROM plans WHERE plan_id = ?1 "
                "UNION ALL SELECT 1 FROM spent_plans WHERE plan_id = ?1",
                (plan_id,),
            )
        )

    def running_plans(self, token_id: str | None = None) -> Sequence[PlanRecord]:
        """Return the plans without an outcome."""
        if token_id is None:
            return [self._plans.decode(row) for row in self._written(_RUNNING)]
        return [self._plans.decode(row) for row in self._written(_RUNNING_OF_TOKEN, token_id)]

    def outcome_key(self) -> str | None:
        """Return the name of the key that outcomes are sealed with, if one was noted."""
        for (key_id,) in self._turn.rows(KEY_IN_USE):
            return str(key_id)
        return None

    def accepted_digest(self, domain: str) -> str | None:
        """Return the digest of the definition that was accepted for the domain, if one was."""
        for (digest,) in self._turn.rows(DIGEST_OF, (domain,)):
            return str(digest)
        return None

    def _one_plan(self, sql: str, *key: str) -> PlanRecord | None:
        for row in self._written(sql, *key):
            return self._plans.decode(row)
        return None

    def _written(self, sql: str, *parameters: SqlValue) -> list[tuple[SqlValue, ...]]:
        """Return rows of tables that hold all that earlier decisions of this batch changed."""
        self._turn.write_backlog()
        return self._turn.rows(sql, parameters)
