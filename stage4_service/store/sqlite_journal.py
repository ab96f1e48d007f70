"""The journal on SQLite: what the port promises, kept by the ledger's one writer.

A commit is durable when it returns (WAL with `synchronous=FULL`); concurrent plans share commits.
Deliberately absent: rules. What an entry says and which states matter is said by `audit.py` and
`recovery.py`; this door selects and inserts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar, cast

import apsw

from servicekit.clock import Clock
from servicekit.store.errors import ClockStepped, DiskLow, StoreError
from servicekit.store.ledger import Ledger, Reader, TreeHead, Turn, Urgency
from stage4_service.audit import (
    MAY_HAVE_BEEN_ADMITTED,
    EventType,
    NewEvent,
    PlanEnded,
    PlanOpened,
    PlanState,
    SecurityRecord,
    Stage4AuditEvent,
    decode_event,
    encode_event,
    encode_security_record,
    event_time,
    marked_as_replay,
)
from stage4_service.errors import JournalUnavailable
from stage4_service.plan_record import LogEntry, PlanRecord
from stage4_service.recovery import close_as_unknown, describe_recovery, describe_rotation
from stage4_service.store import reads
from stage4_service.store.backlog import PlanBacklog, request_key
from stage4_service.store.results import NO_RESULT, Results, Sealed
from stage4_service.store.schema import STAGE4_SCHEMA

T = TypeVar("T")

_EARLIER: Final = f"""SELECT 1 FROM plans WHERE caller = ? AND user_id = ? AND request_id = ?
    AND state IN ({", ".join(f"'{state.value}'" for state in MAY_HAVE_BEEN_ADMITTED)}) LIMIT 1"""  # noqa: S608 - a closed list of names
_REPORTED: Final = frozenset({PlanState.COMPLETED, PlanState.FAILED})
_RUNNING: Final = "SELECT plan_id, user_id FROM plans WHERE state = 'running' ORDER BY number"


class Vouching(Protocol):
    """Open the ledger that a checkpoint vouches for; see `store/vouching.py`."""

    def open(self, open_ledger: Callable[[TreeHead | None], Ledger], /) -> Ledger:
        """Return the open ledger, its checkpoint being copied."""


class SqliteJournal:
    """A `Stage4Journal` over one store, and the reads of `GetPlan` and the lists."""

    __slots__ = ("_clock", "_ledger", "_results", "recovered_plans")

    def __init__(
        self, ledger: Ledger, results: Results, clock: Clock, *, recovered_plans: int = 0
    ) -> None:
        """Hold an open ledger; use `SqliteJournal.open`."""
        self._ledger = ledger
        self._results = results
        self._clock = clock
        self.recovered_plans = recovered_plans

    @staticmethod
    def create(path: Path, *, now_us: int) -> None:
        """Create an empty store at `path`.

        Raises:
            StoreError: there is something already, or it cannot be made durable.
        """
        Ledger.create(path, STAGE4_SCHEMA, now_us=now_us)

    @staticmethod
    def open(
        path: Path,
        *,
        clock: Clock,
        commit_timeout_s: float,
        results: Results,
        reserve_bytes: int = 0,
        on_poison: Callable[[StoreError], None] | None = None,
        vouching: Vouching | None = None,
        vfs: str | None = None,
    ) -> SqliteJournal:
        """Open the store, verify its log, and close what an earlier process left running.

        Without `vouching` no checkpoint is kept: a store that lives as long as its process needs
        none. `vfs` names the SQLite VFS of the store, for a test that shows it a failing disk.

        Raises:
            StoreError: missing, locked, corrupt, too new, not vouched for, or of other keys than
                `results` has; its `advice` says what to do.
        """

        def open_ledger(at_least: TreeHead | None) -> Ledger:
            return Ledger.open(
                path,
                STAGE4_SCHEMA,
                clock=clock,
                commit_timeout_s=commit_timeout_s,
                reserve_bytes=reserve_bytes,
                on_poison=on_poison,
                at_least=at_least,
                vfs=vfs,
            )

        ledger = open_ledger(None) if vouching is None else vouching.open(open_ledger)
        # Before anything is served: a plan that is running now was running when a process died.
        try:
            ledger.read(results.refuse_other_store)
            recovered = ledger.commit(
                lambda turn: _recover(turn, results), urgency=Urgency.OPERATOR
            )
        except BaseException:
            ledger.close()
            raise
        return SqliteJournal(ledger, results, clock, recovered_plans=recovered)

    def record(
        self,
        events: Sequence[NewEvent],
        *,
        opened: PlanOpened | None = None,
        ended: PlanEnded | None = None,
    ) -> tuple[Stage4AuditEvent, ...]:
        """Append `events` and change the table in one commit, durable when this returns.

        Raises:
            JournalUnavailable: it is not, or it is not known whether it is.
        """
        # Encrypted here, by who brings it: a megabyte would hold up every plan at the writer.
        sealed = NO_RESULT if ended is None else self._results.seal(ended)

        def work(turn: Turn) -> tuple[Stage4AuditEvent, ...]:
            recorded = events
            if opened is not None:
                _refuse_to_begin(turn)
                if _may_have_been_admitted(turn, opened):
                    recorded = [marked_as_replay(event) for event in events]
            return _record(turn, recorded, opened, ended, sealed, self._results.due_us(turn.now_us))

        return self._commit(work)

    def record_security(self, record: SecurityRecord) -> None:
        """Append one record that concerns the service, durable when this returns.

        Raises:
            JournalUnavailable: it is not, or it is not known whether it is.
        """
        self._commit(lambda turn: append_security(turn, record))

    def events(self) -> list[Stage4AuditEvent]:
        """Return a copy of the log of plans, oldest first."""
        types = [member.value for member in EventType]
        return [decode_event(leaf) for leaf in self._read(lambda r: reads.leaves(r, types))]

    def plan(
        self, plan_id: str, *, caller: str | None, with_result: bool = False
    ) -> PlanRecord | None:
        """Return a plan that `caller` submitted; None as a caller may read every plan.

        Raises:
            ResultDamaged: its result was asked for, and was changed in the store.
        """
        due_us = self._results.due_us(self._clock.now_us())
        if not with_result:
            return self._read(lambda reader: reads.plan(reader, plan_id, caller, due_us))
        found = self._read(lambda reader: reads.plan_with_result(reader, plan_id, caller, due_us))
        return None if found is None else self._results.tell(*found)

    def plans(self, *, caller: str | None, before: int | None, limit: int) -> list[PlanRecord]:
        """Return at most `limit` plans with a number below `before`, newest first."""
        due_us = self._results.due_us(self._clock.now_us())
        return self._read(lambda reader: reads.plans(reader, caller, before, limit, due_us))

    def entries(
        self, *, caller: str | None, plan_id: str, after: int, limit: int
    ) -> list[LogEntry]:
        """Return at most `limit` log entries with a sequence number above `after`, oldest first."""
        return self._read(lambda reader: reads.entries(reader, caller, plan_id, after, limit))

    @property
    def ledger(self) -> Ledger:
        """Return the store below, for who measures it."""
        return self._ledger

    @property
    def head(self) -> TreeHead:
        """Return the head of the last durable commit."""
        return self._ledger.head

    @property
    def commits(self) -> int:
        """Return how many commits were synced since `open`."""
        return self._ledger.commits

    def close(self) -> None:
        """Finish queued work and let the next process in. Repeat at will."""
        self._ledger.close()

    def _commit(self, work: Callable[[Turn], T]) -> T:
        try:
            # What has happened is recorded at any hour; what has not does not start, see `_open`.
            return self._ledger.commit(work, sees_clock=True)
        except (StoreError, apsw.Error) as error:
            raise JournalUnavailable(str(error)) from error

    def _read(self, query: Callable[[Reader], T]) -> T:
        try:
            return self._ledger.read(query)
        except (StoreError, apsw.Error) as error:
            raise JournalUnavailable(str(error)) from error


def _refuse_to_begin(turn: Turn) -> None:
    if turn.clock_problem is not None:
        raise ClockStepped(
            turn.clock_problem, advice="Look at the machine's clock, then start the service again."
        )
    if turn.disk_problem is not None:
        raise DiskLow(
            turn.disk_problem, advice="Free some of that disk; the service goes on by itself."
        )


def _may_have_been_admitted(turn: Turn, opened: PlanOpened) -> bool:
    """Say whether an earlier submission of this request may be admitted."""
    key = request_key(opened)
    if turn.backlog(PlanBacklog).holds_request(key):
        turn.write_backlog()
    return bool(turn.rows(_EARLIER, key))


def _record(
    turn: Turn,
    events: Sequence[NewEvent],
    opened: PlanOpened | None,
    ended: PlanEnded | None,
    sealed: Sealed = NO_RESULT,
    due_us: int = 0,
) -> tuple[Stage4AuditEvent, ...]:
    now_us = turn.now_us
    numbers = [_append(turn, event) for event in events]

    def add(backlog: PlanBacklog) -> None:
        if opened is not None:
            backlog.open(opened, now_us, due_us)
        for seq, event in zip(numbers, events, strict=True):
            backlog.address(seq, event.plan_id)
        if ended is not None:
            reported = bool(ended.executed_plan_id)
            backlog.end(ended, sealed, now_us, learn=reported and ended.state in _REPORTED)

    turn.keep_back(PlanBacklog, add)
    now = event_time(now_us)
    return tuple(
        Stage4AuditEvent(now, event.user_id, event.event_type, event.plan_id, event.details)
        for event in events
    )


def _append(turn: Turn, event: NewEvent) -> int:
    return turn.append(
        encode_event(event, seq=turn.next_seq, time_us=turn.now_us),
        event_type=event.event_type.value,
        plan_id=event.plan_id,
        token_id=None,
    )


def append_security(turn: Turn, record: SecurityRecord) -> None:
    """Append a record about the service in a turn of its own journal."""
    turn.append(
        encode_security_record(record, seq=turn.next_seq, time_us=turn.now_us),
        event_type=record.record_type.value,
        plan_id=None,
        token_id=None,
    )


def _recover(turn: Turn, results: Results) -> int:
    running = cast("list[tuple[str, str]]", turn.rows(_RUNNING))
    for plan_id, user_id in running:
        event, ended = close_as_unknown(plan_id, user_id)
        _record(turn, (event,), None, ended)
    if running:
        append_security(turn, describe_recovery(len(running)))
    if (rotated := results.adopt_key(turn)) is not None:
        append_security(turn, describe_rotation(*rotated))
    return len(running)
