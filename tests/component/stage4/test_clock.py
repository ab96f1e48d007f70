"""A clock that steps in mid-plan stops the next plan, never the record of the one under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servicekit.clock import SystemClock
from stage4_service.audit import (
    EventType,
    NewEvent,
    PlanEnded,
    PlanOpened,
    PlanState,
)
from stage4_service.errors import JournalUnavailable
from stage4_service.store.sqlite_journal import SqliteJournal
from tests.fakes.manual_clock import ManualClock
from tests.harness.results import some_results

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that moves when the test moves it."""
    return ManualClock(SystemClock().now_us())


@pytest.fixture
def journal(tmp_path: Path, clock: ManualClock) -> Iterator[SqliteJournal]:
    """Return a journal on a new store."""
    path = tmp_path / "stage4.sqlite3"
    SqliteJournal.create(path, now_us=clock.now_us())
    opened = SqliteJournal.open(path, clock=clock, commit_timeout_s=5.0, results=some_results())
    yield opened
    opened.close()


def open_plan(journal: SqliteJournal, plan_id: str) -> None:
    """Record that a plan was received and started."""
    journal.record(
        [
            NewEvent(EventType.PLAN_RECEIVED, "ada", plan_id, {}),
            NewEvent(EventType.EXECUTION_STARTED, "ada", plan_id, {}),
        ],
        opened=PlanOpened(plan_id, f"r-{plan_id}", "spiffe://x.test/client/cli", "ada", b"", 1),
    )


@pytest.mark.parametrize("seconds", [-10.0, 1000.0], ids=["back", "ahead"])
def test_a_stepped_clock_opens_no_plan_and_records_the_running_one(
    journal: SqliteJournal, clock: ManualClock, seconds: float
) -> None:
    """What has happened is recorded at any hour; what has not does not start."""
    open_plan(journal, "running")
    clock.step(seconds)
    with pytest.raises(JournalUnavailable, match="clock"):
        open_plan(journal, "next")
    journal.record(
        [NewEvent(EventType.EXECUTION_COMPLETED, "ada", "running", {})],
        ended=PlanEnded("running", PlanState.COMPLETED),
    )
    events = journal.events()
    assert [event.event_type for event in events] == [
        EventType.PLAN_RECEIVED,
        EventType.EXECUTION_STARTED,
        EventType.EXECUTION_COMPLETED,
    ]
    assert [event.timestamp for event in events] == sorted(event.timestamp for event in events)
