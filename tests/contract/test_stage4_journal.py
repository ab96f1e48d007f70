"""What any Stage-4 journal promises: the one on SQLite and the one in memory, alike."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pytest

from servicekit.clock import SystemClock
from stage4_service.audit import (
    EventType,
    NewEvent,
    PlanEnded,
    PlanOpened,
    PlanState,
    Stage4AuditEvent,
    Stage4Journal,
)
from stage4_service.errors import Effects, JournalUnavailable, Reason
from stage4_service.store.sqlite_journal import SqliteJournal
from tests.fakes.memory_journal import MemoryJournal
from tests.harness.results import some_results


class World(Protocol):
    """A journal, and a look at what it says of a plan."""

    @property
    def journal(self) -> Stage4Journal:
        """Return the journal."""
        ...

    def state(self, plan_id: str) -> str:
        """Return the state of a plan."""
        ...


class _Sqlite:
    def __init__(self, directory: Path) -> None:
        path = directory / "journal.sqlite3"
        clock = SystemClock()
        SqliteJournal.create(path, now_us=clock.now_us())
        self.journal = SqliteJournal.open(
            path, clock=clock, commit_timeout_s=10.0, results=some_results()
        )

    def state(self, plan_id: str) -> str:
        record = self.journal.plan(plan_id, caller=None)
        assert record is not None
        return record.state


class _Memory:
    def __init__(self) -> None:
        self.journal = MemoryJournal()

    def state(self, plan_id: str) -> str:
        return self.journal.plans[plan_id].state


@pytest.fixture(params=["sqlite", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Give each journal in turn."""
    if request.param == "memory":
        yield _Memory()
        return
    sqlite = _Sqlite(tmp_path)
    yield sqlite
    sqlite.journal.close()


def _open(
    world: World, plan_id: str, *, request_id: str = "r", caller: str = "c", digest: bytes = b"d"
) -> tuple[Stage4AuditEvent, ...]:
    return world.journal.record(
        [
            NewEvent(EventType.PLAN_RECEIVED, "ada", plan_id, {"steps": 1}),
            NewEvent(EventType.EXECUTION_STARTED, "ada", plan_id, {}),
        ],
        opened=PlanOpened(plan_id, request_id, caller, "ada", digest, 1),
    )


def _end(world: World, plan_id: str, state: PlanState, **more: Any) -> None:
    done = state is PlanState.COMPLETED
    event = EventType.EXECUTION_COMPLETED if done else EventType.EXECUTION_FAILED
    reason = None if done else Reason.OUTCOME_UNKNOWN
    world.journal.record(
        [NewEvent(event, "ada", plan_id, {})],
        ended=PlanEnded(plan_id, state, reason=reason, effects=Effects.UNKNOWN, **more),
    )


def _is_replay(events: tuple[Stage4AuditEvent, ...]) -> list[bool]:
    return [event.details.get("replay") is True for event in events]


def test_what_is_recorded_is_returned_and_kept_in_order(world: World) -> None:
    """Expect the same events from the record and from the log, with aware times that never fall."""
    recorded = _open(world, "p")
    _end(world, "p", PlanState.COMPLETED)
    events = world.journal.events()
    assert tuple(events[:2]) == recorded
    assert [event.event_type for event in events] == [
        "plan_received",
        "execution_started",
        "execution_completed",
    ]
    assert all(event.timestamp.tzinfo is not None for event in events)
    assert [e.timestamp for e in events] == sorted(e.timestamp for e in events)


def test_the_log_is_given_away_as_a_copy(world: World) -> None:
    """Expect a reader's changes to reach nobody."""
    _open(world, "p")
    world.journal.events().clear()
    assert len(world.journal.events()) == 2
    with pytest.raises(TypeError):
        world.journal.events()[0].details["steps"] = 2  # type: ignore[index]


@pytest.mark.parametrize(
    ("state", "replay"),
    [
        (None, True),
        (PlanState.UNKNOWN, True),
        (PlanState.COMPLETED, True),
        (PlanState.FAILED, True),
        (PlanState.REFUSED, False),
    ],
)
def test_a_request_that_may_have_been_admitted_before_is_marked(
    world: World, state: PlanState | None, replay: bool
) -> None:
    """Expect replay: true unless every earlier submission was certainly refused."""
    assert _is_replay(_open(world, "p")) == [False, False]
    if state is not None:
        _end(world, "p", state)
    assert _is_replay(_open(world, "q")) == [replay, replay]


def test_another_callers_request_is_another_request(world: World) -> None:
    """Expect the scope of the identifier to hold: caller and identifier, both."""
    _open(world, "p")
    assert _is_replay(_open(world, "q", caller="other")) == [False, False]
    assert _is_replay(_open(world, "s", request_id="other")) == [False, False]


def test_a_lost_outcome_is_learned_from_a_later_submission(world: World) -> None:
    """Expect it for the same request and digest, and only for what was unknown."""
    _open(world, "lost")
    _end(world, "lost", PlanState.UNKNOWN)
    _open(world, "other", digest=b"e")
    _end(world, "other", PlanState.UNKNOWN)
    _open(world, "refused")
    _end(world, "refused", PlanState.REFUSED)
    _open(world, "now")
    _end(world, "now", PlanState.COMPLETED, executed_plan_id="lost")
    states = [world.state(plan) for plan in ("lost", "other", "refused", "now")]
    assert states == ["completed", "unknown", "refused", "completed"]


def test_an_outcome_that_stage3_did_not_report_teaches_nothing(world: World) -> None:
    """Expect another lost answer to leave the first one lost."""
    _open(world, "lost")
    _end(world, "lost", PlanState.UNKNOWN)
    _open(world, "again")
    _end(world, "again", PlanState.UNKNOWN)
    assert [world.state(plan) for plan in ("lost", "again")] == ["unknown", "unknown"]


def test_many_threads_record_at_once_and_nothing_is_lost(world: World) -> None:
    """Expect every event once, those of one plan in their order."""

    def submit(number: int) -> None:
        _open(world, f"p{number}", request_id=f"r{number}")
        _end(world, f"p{number}", PlanState.COMPLETED)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(submit, range(40)))
    events = world.journal.events()
    assert len(events) == 120
    for number in range(40):
        own = [e.event_type for e in events if e.plan_id == f"p{number}"]
        assert own == ["plan_received", "execution_started", "execution_completed"]


def test_a_plan_id_is_used_once(world: World) -> None:
    """Expect the second submission under one identifier to leave nothing."""
    _open(world, "p")
    with pytest.raises(JournalUnavailable):
        _open(world, "p")
    assert len(world.journal.events()) == 2


def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    """Expect JournalUnavailable from writes and reads alike."""
    world = _Sqlite(tmp_path)
    world.journal.close()
    with pytest.raises(JournalUnavailable):
        _open(world, "p")
    with pytest.raises(JournalUnavailable):
        world.journal.events()
