"""What a service keeps back in a batch: seen by later works, written once, lost with its work."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from servicekit.store.errors import StorePoisoned
from servicekit.store.ledger import Ledger, Rows, Turn
from tests.component.servicekit.ledger_world import (
    append,
    create_ledger,
    in_one_batch,
    open_ledger,
)

_INSERT = "INSERT INTO kept VALUES (?, ?)"


class Names:
    """Keep names back."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def write(self, rows: Rows) -> None:
        """Write them."""
        rows.run_many(_INSERT, [(name, 1) for name in self.names])


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Hold an open, empty ledger."""
    opened = open_ledger(create_ledger(tmp_path))
    yield opened
    opened.close()


def keep(turn: Turn, name: str) -> list[str]:
    """Keep a name back, and return the names that were kept before."""
    append(name.encode())(turn)
    before = list(turn.backlog(Names).names)
    turn.keep_back(Names, lambda backlog: backlog.names.append(name))
    return before


def kept_names(ledger: Ledger) -> list[str]:
    """Return what is durable."""
    return [str(name) for (name,) in ledger.read(lambda r: r.rows("SELECT name FROM kept"))]


def test_what_is_kept_back_is_durable_with_its_work(ledger: Ledger) -> None:
    """Whoever was answered finds the row."""
    ledger.commit(lambda turn: keep(turn, "a"))

    assert kept_names(ledger) == ["a"]


def test_a_work_sees_what_earlier_works_of_its_batch_keep_back(ledger: Ledger) -> None:
    """And the next batch starts with nothing."""
    seen = in_one_batch(ledger, [lambda turn: keep(turn, "a"), lambda turn: keep(turn, "b")])

    assert seen == [[], ["a"]]
    assert ledger.commit(lambda turn: keep(turn, "c")) == []
    assert kept_names(ledger) == ["a", "b", "c"]


def test_a_work_that_fails_keeps_nothing_back(ledger: Ledger) -> None:
    """Neither in the batch's memory nor in the file; what others keep back stays."""

    def failing(turn: Turn) -> None:
        keep(turn, "lost")
        raise KeyError("mine")

    _, failed, seen = in_one_batch(
        ledger, [lambda turn: keep(turn, "a"), failing, lambda turn: keep(turn, "b")]
    )

    assert isinstance(failed, KeyError)
    assert seen == ["a"]
    assert kept_names(ledger) == ["a", "b"]


def test_a_query_can_have_it_written_first_and_a_later_failure_takes_nothing_along(
    ledger: Ledger,
) -> None:
    """The rows belong to the works that kept them, not to the one that asked."""

    def asking(turn: Turn) -> None:
        turn.write_backlog()
        assert turn.rows("SELECT name FROM kept") == [("a",)]
        turn.run(_INSERT, ("lost", 1))
        raise KeyError("mine")

    _, failed, seen = in_one_batch(
        ledger, [lambda turn: keep(turn, "a"), asking, lambda turn: keep(turn, "b")]
    )

    assert isinstance(failed, KeyError)
    assert seen == []
    assert kept_names(ledger) == ["a", "b"]


def test_a_work_that_wrote_cannot_have_the_others_rows_written(ledger: Ledger) -> None:
    """They would stand under its savepoint and go with it."""

    def late(turn: Turn) -> None:
        turn.run(_INSERT, ("mine", 1))
        turn.write_backlog()

    _, failed = in_one_batch(ledger, [lambda turn: keep(turn, "a"), late])

    assert isinstance(failed, RuntimeError)
    assert kept_names(ledger) == ["a"]


def test_a_backlog_that_cannot_be_written_fails_its_whole_batch(ledger: Ledger) -> None:
    """What it holds was decided already: nobody is told that it was done."""
    results = in_one_batch(
        ledger, [lambda turn: keep(turn, "twice"), lambda turn: keep(turn, "twice")]
    )

    assert [type(result) for result in results] == [StorePoisoned, StorePoisoned]
    assert isinstance(results[0].__cause__.__cause__, apsw.ConstraintError)
    assert kept_names(ledger) == []
