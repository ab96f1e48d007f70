"""The journal's store on SQLite: one turn a decision, one durable commit shared with others.

What plans change is kept back until the batch writes it (`backlog`); what operators decide is
written in the turn itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar, assert_never

from servicekit.store.errors import StoreError
from servicekit.store.ledger import Ledger, Urgency
from servicekit.store.outcome_keys import NOTE_KEY
from stage3_service.audit import changes
from stage3_service.audit.event import encode_event, format_timestamp
from stage3_service.audit.journal import JournalUnavailable
from stage3_service.store.backlog import PlanBacklog, PlanChange
from stage3_service.store.definition_rows import ACCEPT, accepted_row
from stage3_service.store.instants import to_us
from stage3_service.store.snapshot import SqliteSnapshot
from stage3_service.store.token_rows import TokenRows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from servicekit.store.ledger import Turn
    from stage3_service.audit.event import NewEvent
    from stage3_service.audit.journal import Snapshot, Writes
    from stage3_service.store.backlog import Salt
    from stage3_service.store.plan_rows import EndedRow, PlanRows

T = TypeVar("T")

OperatorChange = (
    changes.TokenIssued
    | changes.TokenRevoked
    | changes.TokenExpiryObserved
    | changes.OutcomeKeyAdopted
    | changes.DefinitionAccepted
    | changes.ServiceHalted
    | changes.ServiceResumed
)


def _tell_nobody(_events: Sequence[NewEvent]) -> None:
    """Leave what is durable to the log alone."""


class SqliteJournalStore:
    """Apply decisions to a ledger; see `audit.journal.JournalStore`."""

    def __init__(
        self,
        ledger: Ledger,
        tokens: TokenRows,
        plans: PlanRows,
        on_durable: Callable[[Sequence[NewEvent]], None] = _tell_nobody,
    ) -> None:
        """Commit to `ledger`; `on_durable` hears of the events of each commit, once it is."""
        self._ledger = ledger
        self._tokens = tokens
        self._plans = plans
        self._on_durable = on_durable

    def commit(self, work: Callable[[Snapshot], Writes[T]], *, urgent: bool) -> Writes[T]:
        """Run one decision in its turn and make what it wrote durable."""
        try:
            durable = self._ledger.commit(
                partial(self.take_turn, work),
                urgency=Urgency.OPERATOR if urgent else Urgency.PLAN,
                sees_clock=True,
            )
        except StoreError as error:
            raise JournalUnavailable(str(error)) from error
        self._on_durable(durable.events)
        return durable

    def take_turn(self, work: Callable[[Snapshot], Writes[T]], turn: Turn) -> Writes[T]:
        """Run one decision in the turn that the writer has given it."""
        snapshot = SqliteSnapshot(turn, self._tokens, self._plans)
        writes = work(snapshot)
        self._write(turn, writes, format_timestamp(snapshot.now))
        return writes

    def _write(self, turn: Turn, writes: Writes[T], timestamp: str) -> None:
        salts: list[Salt] = []
        for event in writes.events:
            seq = turn.append(
                encode_event(event, turn.next_seq, timestamp),
                event_type=event.event_type.value,
                plan_id=event.plan_id,
                token_id=event.token_id,
            )
            for name, salt in event.salts:
                salts.append((seq, name, salt))
        at_once: list[OperatorChange] = []
        kept: list[PlanChange] = []
        ended: list[EndedRow] = []
        for change in writes.changes:
            if isinstance(change, changes.PlanEnded):
                ended.append(self._plans.ended_row(change))
            elif isinstance(change, OperatorChange):
                at_once.append(change)
            else:
                kept.append(change)
        if at_once:
            # What plans of this batch have seen of this state is written and forgotten first.
            turn.write_backlog()
            for change in at_once:
                self._apply(turn, change)
        if kept or ended or salts:
            turn.keep_back(PlanBacklog, lambda backlog: backlog.keep(kept, ended, salts))

    def _apply(self, turn: Turn, change: OperatorChange) -> None:
        match change:
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
                turn.run(NOTE_KEY, (change.key_id, to_us(change.at)))
            case changes.DefinitionAccepted():
                turn.run(ACCEPT, accepted_row(change.accepted))
            case changes.ServiceHalted():
                turn.run("INSERT INTO halt VALUES (1, ?, ?)", (change.reason, to_us(change.at)))
            case changes.ServiceResumed():
                turn.run("DELETE FROM halt")
            case _:
                assert_never(change)
