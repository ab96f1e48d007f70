"""Reading a page costs what the page holds, however much there is beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import apsw
import pytest

from servicekit.clock import SystemClock
from stage4_service.store import reads
from stage4_service.store.sqlite_journal import SqliteJournal

if TYPE_CHECKING:
    from pathlib import Path

    from servicekit.store.ledger import SqlValue

CALLER = "spiffe://stagegate.test/client/cli"


class Explaining:
    """A reader that asks SQLite how it would answer, and finds nothing."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.plan: list[str] = []

    def rows(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[tuple[SqlValue, ...]]:
        """Note the plan of the query."""
        self.plan += [
            str(row[3]) for row in self._connection.execute("EXPLAIN QUERY PLAN " + sql, parameters)
        ]
        return []


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Explaining]:
    """Give a reader of an empty store."""
    path = tmp_path / "stage4.sqlite3"
    SqliteJournal.create(path, now_us=SystemClock().now_us())
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        yield Explaining(connection)


@pytest.mark.parametrize("caller", [CALLER, None])
def test_a_page_is_read_in_the_order_of_an_index(reader: Explaining, caller: str | None) -> None:
    """Expect no sort of what is beyond the page, and no walk over other callers' rows."""
    reads.entries(reader, caller, "", 5, 100)  # type: ignore[arg-type]
    reads.plans(reader, caller, 5, 100, 0)  # type: ignore[arg-type]
    assert not [step for step in reader.plan if "TEMP B-TREE" in step or "SCAN" in step]
    assert all("PRIMARY KEY" in step or "INDEX" in step for step in reader.plan)


def test_the_events_of_one_plan_are_found_by_the_plan(reader: Explaining) -> None:
    """Expect the index of plans, for a client as for an auditor."""
    for caller in (CALLER, None):
        reader.plan.clear()
        reads.entries(reader, caller, "plan_1", -1, 100)  # type: ignore[arg-type]
        assert "plan_id=?" in reader.plan[0], reader.plan
