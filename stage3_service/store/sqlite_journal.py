"""The journal's store on SQLite: one turn, one savepoint, one durable commit shared with others."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, assert_never

from servicekit.store.errors import StoreError
from servicekit.store.ledger import Ledger, Urgency
from stage3_service.audit import changes
from stage3_service.audit.event import encode_event, format_timestamp
from stage3_service.audit.journal import JournalUnavailable
from stage3_service.store.instants import to_us
from stage3_service.store.snapshot import SqliteSnapshot
from stage3_service.store.token_rows import TokenRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from servicekit.store.ledger import Turn
    from stage3_service.audit.changes import Change
    from stage3_service.audit.journal import Snapshot, Writes
    from stage3_service.store.plan_rows import PlanRows

T = TypeVar("T")


class SqliteJournalStore:
    """Apply decisions to a ledger; see `audit.journal.JournalStore`."""

    def __init__(self, ledger: Ledger, tokens: TokenRows, plans: PlanRows) -> None:
        self._ledger = ledger
        self._tokens = tokens
        self._plans = plans

    def commit(self, work: Callable[[Snapshot], Writes[T]], *, urgent: bool) -> Writes[T]:
        """Run one decision in its turn and make what it wrote durable."""

        def take_turn(turn: Turn) -> Writes[T]:
            snapshot = SqliteSnapshot(turn, self._tokens, self._plans)
            writes = work(snapshot)
            self._apply(turn, writes, format_timestamp(snapshot.now))
            return writes

        try:
            return self._ledger.commit(
                take_turn,
                urgency=Urgency.OPERATOR if urgent else Urgency.PLAN,
                sees_clock=True,
            )
        except StoreError as error:
            raise JournalUnavailable(str(error)) from error

    def _apply(self, turn: Turn, writes: Writes[T], timestamp: str) -> None:
        salts: list[tuple[int, str, bytes]] = []
        for event in writes.events:
            seq = turn.append(
                encode_event(event, turn.next_seq, timestamp),
                event_type=event.event_type.value,
                plan_id=event.plan_id,
                token_id=event.token_id,
            )
            salts.extend((seq, name, salt) for name, salt in event.salts)
        if salts:
            turn.run_many("INSERT INTO salts VALUES (?, ?, ?)", salts)
        for change in writes.changes:
            self._apply_change(turn, change)

    def _apply_change(self, turn: Turn, change: Change) -> None:  # noqa: C901 - one arm a change
        match change:
            case changes.TokenCharged():
                turn.run(
                    "UPDATE tokens SET invocations = invocations + ?, "
                    "response_bytes = response_bytes + ? WHERE token_id = ?",
                    (change.invocations, change.response_bytes, change.token_id),
                )
            case changes.StepStarted():
                turn.run(
                    "UPDATE plans SET running_step = ? WHERE plan_id = ?",
                    (change.step, change.plan_id),
                )
            case changes.PlanEnded():
                self._plans.end(turn, change)
            case changes.PlanAdmitted():
                turn.run(
                    "INSERT INTO plans (plan_id, caller, user_id, request_id, plan_digest, "
                    "token_key, token_id, steps, admitted_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        change.plan_id, change.scope.caller, change.scope.user_id,
                        change.scope.request_id, change.plan_digest, change.token_key,
                        change.token_id, change.steps, to_us(change.at),
                    ),
                )  # fmt: skip
            case changes.PlanRefused():
                turn.run("INSERT INTO refused_plans VALUES (?)", (change.plan_id,))
            case changes.PlanFirstStarted():
                turn.run(
                    "INSERT INTO plan_starts VALUES (?, ?, ?)",
                    (change.token_id, to_us(change.at), change.plan_id),
                )
            case changes.TokenFirstUsed():
                turn.run(
                    "UPDATE tokens SET first_used_us = ? WHERE token_id = ?",
                    (to_us(change.at), change.token_id),
                )
            case changes.TokenExpiryObserved():
                turn.run(
                    "UPDATE tokens SET expiry_recorded = 1 WHERE token_id = ?",
                    (change.token_id,),
                )
            case changes.TokenIssued():
                self._tokens.insert(turn, change.token)
            case changes.TokenRevoked():
                turn.run(
                    "INSERT INTO revocations VALUES (?, ?, ?)",
                    (change.token_key, change.token_id, to_us(change.at)),
                )
            case changes.OutcomeKeyAdopted():
                turn.run(
                    "INSERT INTO outcome_keys (key_id, since_us) VALUES (?, ?)",
                    (change.key_id, to_us(change.at)),
                )
            case changes.ServiceHalted():
                turn.run("INSERT INTO halt VALUES (1, ?, ?)", (change.reason, to_us(change.at)))
            case changes.ServiceResumed():
                turn.run("DELETE FROM halt")
            case _:
                assert_never(change)
