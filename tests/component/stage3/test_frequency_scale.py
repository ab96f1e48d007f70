"""How many plans a token has started within its window, whatever the limit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servicekit.store.key_ring import KeyRing
from servicekit.store.ledger import Ledger, Turn
from stage3_service.audit import changes
from stage3_service.audit.journal import Writes
from stage3_service.store.backlog import _FIRST_STARTED
from stage3_service.store.instants import from_us
from stage3_service.store.plan_rows import PlanRows
from stage3_service.store.schema import SCHEMA
from stage3_service.store.snapshot import SqliteSnapshot
from stage3_service.store.sqlite_journal import SqliteJournalStore
from stage3_service.store.token_rows import TokenRows
from tests.fakes.manual_clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

RING = KeyRing([bytes(32)], bytes)
FEW, MANY = 10, 100_000
COUNTED = "SELECT count(*) FROM plan_starts WHERE token_id = ? AND started_us > ?"
FILL = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2) "
    "INSERT INTO plan_starts SELECT ?1, i, i * 10, 'plan-' || i FROM n"
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Return a store in which one token has started few plans and another many."""
    path = tmp_path / "stage3.sqlite3"
    clock = ManualClock()
    Ledger.create(path, SCHEMA, now_us=clock.now_us())
    opened = Ledger.open(path, SCHEMA, clock=clock, commit_timeout_s=60.0)

    def fill(turn: Turn) -> None:
        turn.run(FILL, ("few", FEW))
        turn.run(FILL, ("many", MANY))

    opened.commit(fill)
    yield opened
    opened.close()


def steps_of(ledger: Ledger, query: Callable[[Turn], object]) -> int:
    """Return how many steps SQLite's machine takes for a query."""

    def work(turn: Turn) -> int:
        connection = turn._opened().connection
        steps = 0

        def count() -> bool:
            nonlocal steps
            steps += 1
            return False

        connection.set_progress_handler(count, 1)
        query(turn)
        connection.set_progress_handler(None)
        return steps

    return ledger.commit(work)


def starts(token_id: str, since_us: int) -> Callable[[Turn], int]:
    """Return the question as gate 3 asks it."""
    return lambda turn: SqliteSnapshot(turn, TokenRows(), PlanRows(RING)).plan_starts_since(
        token_id, from_us(since_us)
    )


def start(token_id: str) -> Callable[[Turn], None]:
    """Return one more start, as the journal records it."""
    return lambda turn: turn.run(_FIRST_STARTED, (token_id, 10**9, "plan-x"))


def test_a_window_of_many_plans_costs_what_one_of_few_does(ledger: Ledger) -> None:
    """Ten thousand times the plans, not twice the steps; the control counts them one by one."""
    few, many = (steps_of(ledger, starts(token, 50)) for token in ("few", "many"))
    assert many < 2 * few
    few, many = (steps_of(ledger, start(token)) for token in ("few", "many"))
    assert many < 2 * few

    counted = (
        steps_of(ledger, lambda turn, token=token: turn.rows(COUNTED, (token, 50)))  # type: ignore[misc]
        for token in ("few", "many")
    )
    assert next(counted) * 1_000 < next(counted)


@pytest.mark.parametrize("since_us", [-1, 0, 9, 10, 11, 49, 50, 99, 100, 101, 10**9])
def test_the_answer_is_that_of_counting(ledger: Ledger, since_us: int) -> None:
    """At, before and after every edge of the window, and for a token that started nothing."""
    for token in ("few", "none"):
        counted = ledger.commit(
            lambda turn, token=token: turn.rows(COUNTED, (token, since_us))  # type: ignore[misc]
        )
        assert [(ledger.commit(starts(token, since_us)),)] == counted


def test_starts_in_one_microsecond_are_all_counted(ledger: Ledger) -> None:
    """The log's time may stand still; the numbers go on."""
    store = SqliteJournalStore(ledger, TokenRows(), PlanRows(RING))
    at = from_us(77)
    for number in range(3):
        change = changes.PlanFirstStarted("new", f"plan-{9 - number}", at)
        store.commit(lambda _, change=change: Writes(None, changes=(change,)), urgent=False)  # type: ignore[misc]

    assert ledger.commit(starts("new", 76)) == 3
    assert ledger.commit(starts("new", 77)) == 0
    later = changes.PlanFirstStarted("new", "plan-1", at + timedelta(microseconds=1))
    store.commit(lambda _: Writes(None, changes=(later,)), urgent=False)
    assert ledger.commit(starts("new", 77)) == 1
