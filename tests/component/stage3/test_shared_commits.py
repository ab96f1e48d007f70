"""Decisions that share a commit decide what they would decide alone."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from servicekit.store.key_ring import KEY_BYTES, KeyRing
from servicekit.store.ledger import Ledger
from stage3_service.audit import changes
from stage3_service.audit.event import EventType, NewEvent, Status
from stage3_service.audit.journal import Writes
from stage3_service.audit.outcome import Effects, OutcomeKind, PlanOutcome
from stage3_service.audit.records import EndedPlan, RequestScope
from stage3_service.store.plan_rows import PlanRows
from stage3_service.store.schema import SCHEMA
from stage3_service.store.snapshot import SqliteSnapshot
from stage3_service.store.sqlite_journal import SqliteJournalStore
from stage3_service.store.token_rows import TokenRows
from tests.component.servicekit.ledger_world import in_one_batch
from tests.fakes.manual_clock import ManualClock
from tests.unit.stage3 import grants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stage3_service.audit.changes import Change
    from stage3_service.audit.journal import Snapshot
    from stage3_service.tokens.token import CapabilityToken

TOKENS = tuple(grants.token(seed=seed) for seed in (1, 2))
PLANS = tuple(f"plan_{number}" for number in range(4))
# Before the clock of these histories, so that every start counts.
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
RING = KeyRing([bytes(KEY_BYTES)], bytes)
TABLES = (
    *("tokens", "revocations", "plan_starts", "plans", "spent_plans", "spent_requests"),
    *("salts", "halt"),
)


def scope(plan_id: str) -> RequestScope:
    """Return the scope of a plan's request."""
    return RequestScope("spiffe://example.org/client/cli", "alice", f"req_{plan_id}")


def seen(snapshot: Snapshot) -> tuple[object, ...]:
    """Return all that a decision can see."""
    return (
        snapshot.halt,
        *(snapshot.token(token.token_key) for token in TOKENS),
        *(snapshot.is_revoked(token.token_key) for token in TOKENS),
        *(snapshot.request(scope(plan_id)) for plan_id in PLANS),
        *(snapshot.request_is_spent(scope(plan_id)) for plan_id in PLANS),
        *(snapshot.plan_is_known(plan_id) for plan_id in PLANS),
        *(snapshot.plan(plan_id) for plan_id in PLANS),
        *(snapshot.plan_starts_since(token.token_id, LONG_AGO) for token in TOKENS),
        *(snapshot.token_by_id(token.token_id) for token in TOKENS),
        tuple(snapshot.running_plans()),
        tuple(snapshot.running_plans(TOKENS[0].token_id)),
    )


def hot(snapshot: Snapshot, plan_id: str, token: CapabilityToken) -> tuple[object, ...]:
    """Return what an admission sees, which is what the backlog answers without the file."""
    return (
        snapshot.request(scope(plan_id)),
        snapshot.request_is_spent(scope(plan_id)),
        snapshot.plan_is_known(plan_id),
        snapshot.halt,
        snapshot.token(token.token_key),
        snapshot.is_revoked(token.token_key),
        snapshot.plan_starts_since(token.token_id, LONG_AGO),
    )


def decide(
    snapshot: Snapshot, choose: Callable[[Snapshot], tuple[Change, ...]], look: Any
) -> Writes[object]:
    """Look, then change."""
    before = look(snapshot)
    decided = choose(snapshot)
    event = NewEvent(
        EventType.DATA_BOUNDARY_CHECK, Status.SUCCESS, salts=(("parameters", bytes(32)),)
    )
    return Writes(before, (event,) if decided else (), decided)


def random_changes(random: Random, snapshot: Snapshot) -> tuple[Change, ...]:
    """Return changes that real decisions make, in the state as of now."""
    token, plan_id, now = random.choice(TOKENS), random.choice(PLANS), snapshot.now
    known, plan = snapshot.plan_is_known(plan_id), snapshot.plan(plan_id)
    admit = changes.PlanAdmitted(
        plan_id, scope(plan_id), bytes(32), token.token_key, token.token_id, 3, now
    )
    charge = changes.TokenCharged(token.token_id, 1, random.randrange(-5, 50))
    end = changes.PlanEnded(
        plan_id,
        scope(plan_id),
        bytes(32),
        token.token_key if plan is None else plan.token_key,
        PlanOutcome(OutcomeKind.COMPLETED, Effects.SOME, result_json=b"{}"),
        now,
    )
    start = (
        charge,
        changes.PlanFirstStarted(token.token_id, plan_id, now),
        changes.StepStarted(plan_id, 0),
    )
    match random.randrange(10):
        case 0 if not snapshot.is_revoked(token.token_key):
            return (changes.TokenRevoked(token.token_id, token.token_key, now),)
        case 1 if snapshot.halt is None:
            return (changes.ServiceHalted("operator", now),)
        case 1 | 2 if snapshot.halt is not None:
            return (changes.ServiceResumed(),)
        case 3:
            return (changes.TokenExpiryObserved(token.token_id),)
        case 4 if not known:
            return (changes.PlanRefused(plan_id),)
        case 5 if not known:
            return (admit, changes.TokenFirstUsed(token.token_id, now), *start, end)
        case 6 | 7 if plan is not None and plan.outcome is not None:
            return (changes.OutcomeErased(EndedPlan(plan_id, scope(plan_id))),)
        case _ if plan is not None and plan.outcome is None:
            step = random.randrange(3)
            return (charge, end) if step == 0 else (charge, changes.StepStarted(plan_id, step))
        case _ if not known:
            return (admit, changes.TokenFirstUsed(token.token_id, now), *start)
        case _:
            return (charge,)


def decisions(seed: int, *, thorough: bool) -> list[Callable[[Snapshot], Writes[object]]]:
    """Return a random history, the same for the same seed."""

    def decision(number: int) -> Callable[[Snapshot], Writes[object]]:
        def work(snapshot: Snapshot) -> Writes[object]:
            random = Random(seed * 1000 + number)  # noqa: S311 - not a secret
            token, plan_id = random.choice(TOKENS), random.choice(PLANS)
            look = seen if thorough else partial(hot, plan_id=plan_id, token=token)
            return decide(snapshot, partial(random_changes, random), look)

        return work

    return [decision(number) for number in range(25)]


def history(
    path: Path, works: list[Callable[[Snapshot], Writes[object]]], *, shared: bool
) -> tuple[list[Any], list[Any]]:
    """Return what each decision saw, and the tables after the last."""
    Ledger.create(path, SCHEMA, now_us=0)
    ledger = Ledger.open(path, SCHEMA, clock=ManualClock(), commit_timeout_s=60)
    try:
        store = SqliteJournalStore(ledger, TokenRows(), PlanRows(RING))
        for token in TOKENS:
            store.commit(
                lambda _, token=token: Writes(None, (), (changes.TokenIssued(token),)),  # type: ignore[misc]
                urgent=True,
            )
        if shared:
            answers = in_one_batch(ledger, [partial(store.take_turn, work) for work in works])
        else:
            answers = [ledger.commit(partial(store.take_turn, work)) for work in works]
        tables = [
            ledger.read(lambda reader, table=table: reader.rows(f"SELECT * FROM {table}"))  # type: ignore[misc]  # noqa: S608 - a constant
            for table in TABLES
        ]
        return [getattr(answer, "answer", answer) for answer in answers], tables
    finally:
        ledger.close()


@pytest.mark.parametrize("thorough", [True, False], ids=["everything", "admissions"])
def test_decisions_that_share_a_commit_see_what_they_would_see_alone(
    tmp_path: Path, *, thorough: bool
) -> None:
    """Twenty random histories, each in one batch and in a batch a decision: equal to the row."""
    for seed in range(20):
        works = decisions(seed, thorough=thorough)

        alone = history(tmp_path / f"alone-{seed}", works, shared=False)
        shared = history(tmp_path / f"shared-{seed}", works, shared=True)

        assert shared == alone


def test_what_is_overdue_is_erased_once_and_two_for_each_decision(tmp_path: Path) -> None:
    """Decisions of one batch share what is overdue between them: none is erased twice or left."""
    Ledger.create(tmp_path / "log", SCHEMA, now_us=0)
    clock = ManualClock()
    ledger = Ledger.open(tmp_path / "log", SCHEMA, clock=clock, commit_timeout_s=60)
    store = SqliteJournalStore(ledger, TokenRows(), PlanRows(RING))
    names = [f"plan_{number}" for number in range(7)]

    def end(snapshot: Snapshot) -> Writes[None]:
        token = TOKENS[0]
        kept: list[Change] = []
        for name in names:
            binding = (scope(name), bytes(32), token.token_key)
            outcome = PlanOutcome(OutcomeKind.COMPLETED, Effects.SOME, result_json=b"{}")
            kept += [
                changes.PlanAdmitted(name, *binding, token.token_id, 1, snapshot.now),
                changes.PlanEnded(name, *binding, outcome, snapshot.now),
            ]
        return Writes(None, (), tuple(kept))

    def erase(snapshot: Snapshot) -> Writes[list[str]]:
        overdue = snapshot.ended_before(snapshot.now, 2)
        answer = [plan.plan_id for plan in overdue]
        return Writes(answer, (), tuple(changes.OutcomeErased(plan) for plan in overdue))

    try:
        store.commit(end, urgent=False)
        clock.advance(1)
        answers = in_one_batch(ledger, [partial(store.take_turn, erase)] * 5)

        assert [len(answer.answer) for answer in answers] == [2, 2, 2, 1, 0]
        assert sorted(name for answer in answers for name in answer.answer) == names
        for table, rows in (("plans", 0), ("spent_plans", 7), ("spent_requests", 7)):
            sql = f"SELECT * FROM {table}"  # noqa: S608 - a constant
            assert len(ledger.read(lambda reader, sql=sql: reader.rows(sql))) == rows  # type: ignore[misc]
    finally:
        ledger.close()


def test_what_is_urgent_is_decided_before_the_plans_that_wait(tmp_path: Path) -> None:
    """A revocation waits for one commit, and for no plan that came before it."""
    Ledger.create(tmp_path / "log", SCHEMA, now_us=0)
    ledger = Ledger.open(tmp_path / "log", SCHEMA, clock=ManualClock(), commit_timeout_s=60)
    store = SqliteJournalStore(ledger, TokenRows(), PlanRows(RING))
    entered, gate = threading.Event(), threading.Event()
    order: list[str] = []

    def hold(_turn: object) -> None:
        entered.set()
        assert gate.wait(60)

    def decide_as(name: str) -> Callable[[Snapshot], Writes[None]]:
        def work(_snapshot: Snapshot) -> Writes[None]:
            order.append(name)
            return Writes(None)

        return work

    try:
        callers = [threading.Thread(target=ledger.commit, args=(hold,))]
        callers[0].start()
        assert entered.wait(60)
        for number, name in enumerate(("plan", "revocation")):
            urgent = {"urgent": name == "revocation"}
            callers.append(
                threading.Thread(target=store.commit, args=(decide_as(name),), kwargs=urgent)
            )
            callers[-1].start()
            while ledger.queue_depth <= number:
                pass
        gate.set()
        for caller in callers:
            caller.join(60)
    finally:
        ledger.close()

    assert order == ["revocation", "plan"]


def test_a_backlog_that_forgot_a_charge_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with a token read from the file alone, the histories differ."""

    def from_the_file(self: SqliteSnapshot, token_key: bytes) -> object:
        for token in TOKENS:
            if token.token_key == token_key:
                rows = self._turn.rows("SELECT invocations FROM tokens", ())
                return rows[0]
        return None

    monkeypatch.setattr(SqliteSnapshot, "token", from_the_file)
    works = decisions(1, thorough=False)

    alone = history(tmp_path / "alone", works, shared=False)
    shared = history(tmp_path / "shared", works, shared=True)

    assert shared != alone
