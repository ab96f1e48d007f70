"""A disk that fills up in mid-plan stops the next plan, never the record of the one under way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from servicekit.clock import SystemClock
from stage4_service.audit import EventType, NewEvent, PlanEnded, PlanOpened, PlanState
from stage4_service.errors import JournalUnavailable
from stage4_service.metrics import halt_reasons
from stage4_service.store.sqlite_journal import SqliteJournal
from tests.fakes.manual_clock import ManualClock
from tests.harness.results import some_results

if TYPE_CHECKING:
    from pathlib import Path

RESERVE = 1_048_576


def open_plan(journal: SqliteJournal, plan_id: str) -> None:
    """Record that a plan was received and started."""
    journal.record(
        [
            NewEvent(EventType.PLAN_RECEIVED, "ada", plan_id, {}),
            NewEvent(EventType.EXECUTION_STARTED, "ada", plan_id, {}),
        ],
        opened=PlanOpened(plan_id, f"r-{plan_id}", "spiffe://x.test/client/cli", "ada", b"", 1),
    )


def test_a_low_disk_opens_no_plan_and_records_the_running_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The halt says `disk` while it lasts, and goes with it."""
    free = [100 * RESERVE]
    monkeypatch.setattr(
        "servicekit.store.disk_reserve.os.statvfs",
        lambda _: SimpleNamespace(f_bavail=free[0], f_frsize=1),
    )
    path, clock = tmp_path / "stage4.sqlite3", ManualClock(SystemClock().now_us())
    SqliteJournal.create(path, now_us=clock.now_us())
    journal = SqliteJournal.open(
        path,
        clock=clock,
        commit_timeout_s=5.0,
        results=some_results(),
        reserve_bytes=RESERVE,
    )
    open_plan(journal, "running")
    assert halt_reasons(journal.ledger) == frozenset()
    free[0] = 0
    with pytest.raises(JournalUnavailable, match="KiB left"):
        open_plan(journal, "next")
    assert halt_reasons(journal.ledger) == {"disk"}
    journal.record(
        [NewEvent(EventType.EXECUTION_COMPLETED, "ada", "running", {})],
        ended=PlanEnded("running", PlanState.COMPLETED),
    )
    assert [event.plan_id for event in journal.events()] == ["running"] * 3
    free[0] = 100 * RESERVE
    open_plan(journal, "after")
    assert halt_reasons(journal.ledger) == frozenset()
    journal.close()
