"""What the decisions of one batch have read and changed, until the batch writes it in one go.

Thirty plans that share a commit would read the same token thirty times and write its row as often.
Here it is read once, each decision sees the charges of those before it, and one statement a table
writes the sums. Nothing outlives its batch: the file is asked anew by the next one, and it stays
the only memory of what was decided. Deliberately absent: changes of what operators decide, which
are written at once (`sqlite_journal`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from stage3_service.audit import changes
from stage3_service.audit.records import TokenRecord
from stage3_service.store.instants import to_us
from stage3_service.store.plan_rows import END
from stage3_service.store.tombstones import ERASE_PLAN, SPEND_PLAN, SPEND_REQUEST, request_key
from stage3_service.tokens.usage import TokenUsage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from servicekit.store.ledger import Rows, SqlValue
    from stage3_service.audit.records import EndedPlan, HaltState, RequestScope
    from stage3_service.store.plan_rows import EndedRow

PlanChange = (
    changes.PlanAdmitted
    | changes.PlanRefused
    | changes.PlanFirstStarted
    | changes.TokenFirstUsed
    | changes.TokenCharged
    | changes.StepStarted
    | changes.OutcomeErased
)
"""What plans change, their ends apart. What operators decide, and a token's expiry, are not kept
back."""

_ADMITTED = (
    "INSERT INTO plans (plan_id, caller, user_id, request_id, plan_digest, token_key, token_id, "
    "steps, admitted_us, running_step) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_FIRST_STARTED = (
    "INSERT INTO plan_starts SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3 "
    "FROM plan_starts WHERE token_id = ?1"
)
_STARTED = "UPDATE plans SET running_step = ? WHERE plan_id = ?"
_CHARGED = (
    "UPDATE tokens SET invocations = invocations + ?, response_bytes = response_bytes + ?, "
    "first_used_us = coalesce(first_used_us, ?) WHERE token_id = ?"
)
_SALTED = "INSERT INTO salts VALUES (?, ?, ?)"

Salt = tuple[int, str, bytes]


@dataclass(frozen=True, slots=True)
class TokenState:
    """Hold what the file says about a token's key: whether it has a tombstone, and the token."""

    revoked: bool
    record: TokenRecord | None


@dataclass(slots=True)
class _Use:
    """Sum up what the batch charged one token."""

    invocations: int = 0
    response_bytes: int = 0
    first_used: changes.TokenFirstUsed | None = None


class PlanBacklog:
    """Hold one batch's changes; see `servicekit.store.turn.Backlog`. Used on the writer alone."""

    __slots__ = (
        "_admitted",
        "_ended",
        "_erased",
        "_first_started",
        "_identifiers",
        "_refused",
        "_salts",
        "_scopes",
        "_started",
        "_tokens",
        "_uses",
        "halt",
        "overdue",
    )

    def __init__(self) -> None:
        # `halt` is empty until somebody asked the file; then it holds the one answer.
        self.halt: tuple[HaltState | None, ...] = ()
        # Likewise None, then the oldest outcomes whose time is over, some of them erased by now.
        self.overdue: list[EndedPlan] | None = None
        self._tokens: dict[bytes, TokenState] = {}
        self._uses: dict[str, _Use] = {}
        self._admitted: dict[str, changes.PlanAdmitted] = {}
        self._scopes: set[RequestScope] = set()
        self._identifiers: set[str] = set()
        self._refused: list[tuple[str]] = []
        self._first_started: list[tuple[str, int, str]] = []
        self._started: dict[str, int] = {}
        self._ended: list[EndedRow] = []
        self._erased: dict[RequestScope, str] = {}
        self._salts: list[Salt] = []

    # For decisions.

    def token(self, token_key: bytes) -> TokenState | None:
        """Return what is known of a key, with the batch's charges; None if it was not read yet."""
        state = self._tokens.get(token_key)
        if state is None or state.record is None:
            return state
        use = self._uses.get(state.record.token.token_id)
        return state if use is None else TokenState(state.revoked, _charged(state.record, use))

    def remember_token(self, token_key: bytes, state: TokenState) -> None:
        """Keep what the file says about a key."""
        self._tokens[token_key] = state

    def holds_request(self, scope: RequestScope) -> bool:
        """Return whether a plan of this batch consumed the request identifier."""
        return scope in self._scopes

    def holds_plan(self, plan_id: str) -> bool:
        """Return whether a plan of this batch spent the plan identifier."""
        return plan_id in self._identifiers

    def holds_erased(self, scope: RequestScope) -> bool:
        """Return whether this batch erases what this request was answered."""
        return scope in self._erased

    def holds_start_of(self, token_id: str) -> bool:
        """Return whether a plan of this batch had the first start that counts for the token."""
        return any(start[0] == token_id for start in self._first_started)

    # For what was decided.

    def keep(
        self, decided: Iterable[PlanChange], ended: Iterable[EndedRow], salts: Iterable[Salt]
    ) -> None:
        """Add the changes of one decision."""
        self._ended.extend(ended)
        self._salts.extend(salts)
        for change in decided:
            self._keep(change)

    def _keep(self, change: PlanChange) -> None:
        match change:
            case changes.TokenCharged():
                use = self._use(change.token_id)
                use.invocations += change.invocations
                use.response_bytes += change.response_bytes
            case changes.StepStarted():
                self._started[change.plan_id] = change.step
            case changes.PlanAdmitted():
                self._admitted[change.plan_id] = change
                self._scopes.add(change.scope)
                self._identifiers.add(change.plan_id)
            case changes.PlanRefused():
                self._refused.append((change.plan_id,))
                self._identifiers.add(change.plan_id)
            case changes.PlanFirstStarted():
                self._first_started.append((change.token_id, to_us(change.at), change.plan_id))
            case changes.OutcomeErased():
                self._erased[change.plan.scope] = change.plan.plan_id
            case changes.TokenFirstUsed():
                use = self._use(change.token_id)
                use.first_used = use.first_used or change
            case _:
                assert_never(change)

    def _use(self, token_id: str) -> _Use:
        use = self._uses.get(token_id)
        if use is None:
            use = self._uses[token_id] = _Use()
        return use

    def write(self, rows: Rows) -> None:
        """Write all of it: a plan before what became of it."""
        started = self._started
        admitted = [
            _admitted_row(change, started.pop(plan_id, None))
            for plan_id, change in self._admitted.items()
        ]
        used = [
            (
                use.invocations,
                use.response_bytes,
                None if use.first_used is None else to_us(use.first_used.at),
                token_id,
            )
            for token_id, use in self._uses.items()
        ]
        running = [(step, plan_id) for plan_id, step in started.items()]
        erased = [(plan_id,) for plan_id in self._erased.values()]
        for sql, kept in (
            (_ADMITTED, admitted),
            (SPEND_PLAN, self._refused),
            (_FIRST_STARTED, self._first_started),
            (_STARTED, running),
            (END, self._ended),
            (SPEND_REQUEST, [(request_key(scope),) for scope in self._erased]),
            (SPEND_PLAN, erased),
            (ERASE_PLAN, erased),
            (_CHARGED, used),
            (_SALTED, self._salts),
        ):
            if kept:
                rows.run_many(sql, kept)


def _charged(record: TokenRecord, use: _Use) -> TokenRecord:
    usage = record.usage
    first_used_at = usage.first_used_at
    if first_used_at is None and use.first_used is not None:
        first_used_at = use.first_used.at
    return TokenRecord(
        record.token,
        TokenUsage(
            usage.invocations_charged + use.invocations,
            usage.response_bytes_charged + use.response_bytes,
            first_used_at,
        ),
        record.revoked_at,
        record.expiry_recorded,
    )


def _admitted_row(change: changes.PlanAdmitted, running: int | None) -> tuple[SqlValue, ...]:
    return (
        change.plan_id, change.scope.caller, change.scope.user_id, change.scope.request_id,
        change.plan_digest, change.token_key, change.token_id, change.steps, to_us(change.at),
        running,
    )  # fmt: skip
