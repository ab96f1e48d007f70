"""The toll gate: nothing has an effect before the intent to have it is durable.

A domain is invoked with a `DurableIntent`, and only `Journal.record` makes one, after the commit
that holds its EXECUTION_STARTED. Deliberately absent: a null journal, a switch that turns
recording off, and any method that appends without deciding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from servicekit.invariant import InvariantBroken
from stage3_service.audit.event import EventType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from stage3_service.audit.changes import Change
    from stage3_service.audit.event import NewEvent
    from stage3_service.audit.records import (
        EndedPlan,
        HaltState,
        PlanRecord,
        RequestScope,
        TokenRecord,
    )
    from stage3_service.authorization.authorized_step import AuthorizedStep

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Snapshot(Protocol):
    """Show the state as of one decision's turn: nothing changes until the turn's writes do."""

    @property
    def now(self) -> datetime:
        """Return the turn's instant: never earlier than any recorded event's."""

    @property
    def halt(self) -> HaltState | None:
        """Return why no step may start, if none may."""

    @property
    def disk_is_low(self) -> bool:
        """Return whether the room that is left is for what has begun already."""

    def token(self, token_key: bytes) -> TokenRecord | None:
        """Return the token with this key."""

    def token_by_id(self, token_id: str) -> TokenRecord | None:
        """Return the token with this public reference."""

    def is_revoked(self, token_key: bytes) -> bool:
        """Return whether a tombstone exists, also where the token does not."""

    def plan_starts_since(self, token_id: str, since: datetime) -> int:
        """Return how many plans of the token had their first start after `since`."""

    def request(self, scope: RequestScope) -> PlanRecord | None:
        """Return the plan that consumed this request identifier."""

    def request_is_spent(self, scope: RequestScope) -> bool:
        """Return whether a plan consumed this request identifier whose outcome was erased."""

    def ended_before(self, instant: datetime, most: int) -> Sequence[EndedPlan]:
        """Return the plans that ended before `instant`, oldest first, `most` of them at most."""

    def plan_is_known(self, plan_id: str) -> bool:
        """Return whether any event carries this plan identifier."""

    def plan(self, plan_id: str) -> PlanRecord | None:
        """Return the admitted plan with this identifier."""

    def outcome_key(self) -> str | None:
        """Return the name of the key that outcomes are sealed with, if one was noted."""

    def accepted_digest(self, domain: str) -> str | None:
        """Return the digest of the definition that was accepted for the domain, if one was."""

    def running_plans(self, token_id: str | None = None) -> Sequence[PlanRecord]:
        """Return the plans without an outcome, of one token where it is given."""


@dataclass(frozen=True, slots=True)
class Writes(Generic[T_co]):
    """Hold what a decision wants recorded, and the answer it gives once that is durable.

    `start` names the step whose EXECUTION_STARTED is the last of `events`.
    """

    answer: T_co
    events: tuple[NewEvent, ...] = ()
    changes: tuple[Change, ...] = ()
    start: AuthorizedStep | None = None


class DurableIntent:
    """Prove that a step's EXECUTION_STARTED is on disk. Made by `Journal.record` alone."""

    __slots__ = ("_step",)

    def __init__(self, step: AuthorizedStep, *, _mint: object) -> None:
        if _mint is not _MINT:
            message = "a DurableIntent is made by the journal, after its commit"
            raise TypeError(message)
        self._step = step

    @property
    def step(self) -> AuthorizedStep:
        """Return the step that may now be invoked, once."""
        return self._step


_MINT = object()


@dataclass(frozen=True, slots=True)
class Recorded(Generic[T_co]):
    """Hold a durable decision's answer, and the intent it made durable, if any."""

    answer: T_co
    intent: DurableIntent | None


class JournalUnavailable(Exception):
    """Say that a record could not be made durable; whether it is, is not known."""


class OutcomeDamaged(Exception):
    """Say that a stored outcome cannot be told: it was changed, or moved to another plan."""


class JournalStore(Protocol):
    """Keep the log and the state beside it.

    Durability: `commit` returns after fsync or raises. Concurrency: any thread; one decision at a
    time sees a snapshot, in the order of arrival, urgent ones first. Atomicity: events and changes
    of a decision are durable together or not at all.
    """

    def commit(self, work: Callable[[Snapshot], Writes[T]], *, urgent: bool) -> Writes[T]:
        """Run `work` in its turn and make its writes durable.

        Raises:
            JournalUnavailable: the store has failed, or overran its deadline. Nothing may go on.
        """


class Journal:
    """Record decisions, and hand out the proof that they are durable."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store

    def record(self, work: Callable[[Snapshot], Writes[T]], *, urgent: bool = False) -> Recorded[T]:
        """Decide in the log's turn, wait until it is durable, and return the answer.

        An exception of `work` leaves nothing behind and is raised here.

        Raises:
            JournalUnavailable: see `JournalStore.commit`.
        """
        writes = self._store.commit(work, urgent=urgent)
        if writes.start is None:
            return Recorded(writes.answer, None)
        _verify_start(writes.start, writes.events)
        return Recorded(writes.answer, DurableIntent(writes.start, _mint=_MINT))


def _verify_start(step: AuthorizedStep, events: tuple[NewEvent, ...]) -> None:
    """Refuse to prove what the commit did not record. The step stays in doubt, never invoked."""
    last = events[-1] if events else None
    if last is None or (last.event_type, last.plan_id, last.step) != (
        EventType.EXECUTION_STARTED,
        step.plan_id,
        step.index,
    ):
        raise InvariantBroken("a step was to start without its EXECUTION_STARTED")
