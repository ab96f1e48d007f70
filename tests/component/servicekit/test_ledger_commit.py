"""What one caller is promised: results, isolation of failures, and turns that end."""

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from servicekit.store.errors import StoreClosed, StorePoisoned
from servicekit.store.ledger import Ledger, TreeHead, Turn
from servicekit.tlog.tree import EMPTY_ROOT, Frontier, leaf_hash
from tests.component.servicekit.ledger_world import append, create_ledger, leaves_of, open_ledger
from tests.fakes.manual_clock import ManualClock


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Hold an open, empty ledger."""
    opened = open_ledger(create_ledger(tmp_path))
    yield opened
    opened.close()


def test_a_new_ledger_has_the_head_of_the_empty_tree(ledger: Ledger) -> None:
    """Nothing committed: size 0 and the hash of nothing."""
    assert ledger.head == TreeHead(0, EMPTY_ROOT)
    assert ledger.commits == 0


def test_commit_returns_what_the_work_returns(ledger: Ledger) -> None:
    """The result of the work is the result of the commit."""
    assert ledger.commit(append(b"a", b"b")) == [0, 1]
    assert ledger.commit(append(b"c")) == [2]
    assert leaves_of(ledger) == [b"a", b"b", b"c"]


def test_the_head_is_the_root_over_the_leaves(ledger: Ledger) -> None:
    """After each commit the head is what RFC 9162 says of the leaves so far."""
    frontier = Frontier()
    for number in range(20):
        leaf = b"leaf %d" % number
        ledger.commit(append(leaf))
        frontier = frontier.append(leaf_hash(leaf))
        assert ledger.head == TreeHead(frontier.size, frontier.root())


def test_a_work_that_raises_leaves_nothing(ledger: Ledger) -> None:
    """Neither events nor rows; the exception arrives; the next work gets the same number."""

    def work(turn: Turn) -> None:
        append(b"lost", kept="lost")(turn)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        ledger.commit(work)
    assert ledger.commit(append(b"kept")) == [0]
    assert leaves_of(ledger) == [b"kept"]
    assert ledger.read(lambda reader: reader.rows("SELECT count(*) FROM kept")) == [(0,)]


def test_a_query_that_writes_is_undone_with_its_work(ledger: Ledger) -> None:
    """INSERT ... RETURNING is a write, whichever method it came by."""

    def work(turn: Turn) -> None:
        assert turn.rows("INSERT INTO kept VALUES ('lost', 1) RETURNING amount") == [(1,)]
        raise KeyError("mine")

    with pytest.raises(KeyError):
        ledger.commit(work)
    assert ledger.read(lambda reader: reader.rows("SELECT count(*) FROM kept")) == [(0,)]


def test_a_broken_constraint_is_the_works_own_affair(ledger: Ledger) -> None:
    """A duplicate key undoes the work and poisons nothing."""
    ledger.commit(append(b"a", kept="one"))
    with pytest.raises(Exception, match="UNIQUE"):
        ledger.commit(append(b"b", kept="one"))
    assert ledger.poisoned is None
    assert ledger.commit(append(b"c", kept="two")) == [1]


@pytest.mark.parametrize("leaf", ["text", bytearray(b"x"), None])
def test_a_leaf_that_is_not_bytes_fails_its_own_work(ledger: Ledger, leaf: object) -> None:
    """It is refused where it is appended, before it could fail the batch."""
    with pytest.raises(TypeError):
        ledger.commit(append(leaf))  # type: ignore[arg-type]
    assert ledger.poisoned is None


def test_a_name_without_an_encoding_fails_its_own_work(ledger: Ledger) -> None:
    """A lone surrogate is refused where it is appended."""
    with pytest.raises(UnicodeEncodeError):
        ledger.commit(
            lambda turn: turn.append(b"x", event_type="\ud800", plan_id=None, token_id=None)
        )
    assert ledger.poisoned is None


def test_batchmates_are_untouched_by_a_work_that_raises(ledger: Ledger) -> None:
    """Works of one batch, one of which fails after a flush in its savepoint: the others stand."""
    gate, entered = threading.Event(), threading.Event()
    outcomes: dict[str, object] = {}

    def hold(turn: Turn) -> None:
        entered.set()
        gate.wait(10)

    def fail(turn: Turn) -> None:
        append(b"lost", kept="lost")(turn)
        # The read inserts every pending event of the batch under this work's savepoint.
        outcomes["seen"] = turn.rows("SELECT count(*) FROM events")
        raise ValueError("only this one")

    def call(name: str, work: object) -> None:
        try:
            outcomes[name] = ledger.commit(work)  # type: ignore[arg-type]
        except ValueError as error:
            outcomes[name] = str(error)

    holder = threading.Thread(target=call, args=("hold", hold))
    holder.start()
    assert entered.wait(10)
    threads = []
    for depth, (name, work) in enumerate(
        [("a", append(b"a", kept="a")), ("bad", fail), ("b", append(b"b", kept="b"))], 1
    ):
        threads.append(threading.Thread(target=call, args=(name, work)))
        threads[-1].start()
        while ledger.queue_depth < depth:
            pass
    gate.set()
    for thread in (holder, *threads):
        thread.join(10)
    assert outcomes["seen"] == [(2,)]
    assert outcomes["bad"] == "only this one"
    assert (outcomes["a"], outcomes["b"]) == ([0], [1])
    assert leaves_of(ledger) == [b"a", b"b"]
    assert ledger.commits == 1


def test_a_turn_sees_what_it_appended(ledger: Ledger) -> None:
    """A query over the events finds those of this work, too."""

    def work(turn: Turn) -> list[tuple[object, ...]]:
        append(b"a", b"b")(turn)
        return list(turn.rows("SELECT seq, leaf FROM events ORDER BY seq"))

    assert ledger.commit(work) == [(0, b"a"), (1, b"b")]


def test_a_turn_ends_with_its_work(ledger: Ledger) -> None:
    """A turn that was carried away is of no use."""
    stolen = ledger.commit(lambda turn: turn)
    for use in (
        lambda: stolen.rows("SELECT 1"),
        lambda: stolen.run("DELETE FROM kept"),
        lambda: stolen.append(b"x", event_type="X", plan_id=None, token_id=None),
        lambda: stolen.next_seq,
    ):
        with pytest.raises(RuntimeError):
            use()


def test_a_reader_ends_with_its_query(ledger: Ledger) -> None:
    """A reader that was carried away is of no use."""
    stolen = ledger.read(lambda reader: reader)
    with pytest.raises(RuntimeError):
        stolen.rows("SELECT 1")


def test_a_work_cannot_wait_for_another_commit(ledger: Ledger) -> None:
    """It would wait for itself for ever; it is told so at once."""
    with pytest.raises(RuntimeError, match="on the writer"):
        ledger.commit(lambda turn: ledger.commit(append(b"x")))


def test_a_work_that_writes_nothing_costs_no_sync(ledger: Ledger) -> None:
    """Only commits that wrote are counted, and only they sync."""
    assert ledger.commit(lambda turn: turn.rows("SELECT count(*) FROM kept")) == [(0,)]
    assert ledger.commits == 0
    ledger.commit(append(b"x"))
    assert ledger.commits == 1


def test_events_cannot_be_changed_or_removed_by_a_work(ledger: Ledger) -> None:
    """The table is append-only, whatever statement is tried."""
    ledger.commit(append(b"x"))
    for sql in (
        "UPDATE events SET leaf = x'00'",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events VALUES (0, x'00', x'00', 'X', NULL, NULL, 0)",
    ):
        with pytest.raises(Exception, match="append-only"):
            ledger.commit(partial(Turn.run, sql=sql))
    assert leaves_of(ledger) == [b"x"]
    assert ledger.poisoned is None


def test_a_reader_cannot_write(ledger: Ledger) -> None:
    """Reading connections refuse every change."""
    with pytest.raises(Exception, match=r"readonly|query_only|read-only"):
        ledger.read(lambda reader: reader.rows("INSERT INTO kept VALUES ('a', 1)"))


def test_a_reader_sees_one_snapshot(ledger: Ledger) -> None:
    """A commit between two queries of one read is not seen by the second."""

    def query(reader: object) -> tuple[object, object]:
        first = reader.rows("SELECT count(*) FROM events")  # type: ignore[attr-defined]
        ledger.commit(append(b"meanwhile"))
        return first, reader.rows("SELECT count(*) FROM events")  # type: ignore[attr-defined]

    first, second = ledger.read(query)
    assert first == second == [(0,)]
    assert ledger.read(lambda reader: reader.rows("SELECT count(*) FROM events")) == [(1,)]


@pytest.mark.parametrize("statements", [("ROLLBACK",), ("COMMIT",), ("ROLLBACK", "SAVEPOINT work")])
def test_a_work_that_ends_the_transaction_poisons_the_ledger(
    ledger: Ledger, statements: tuple[str, ...]
) -> None:
    """The batch's atomicity is gone, so nobody in it is told that it is done."""

    def work(turn: Turn) -> None:
        for statement in statements:
            turn.run(statement)

    with pytest.raises(StorePoisoned):
        ledger.commit(work)
    assert ledger.poisoned is not None


def test_a_closed_ledger_takes_no_work(tmp_path: Path) -> None:
    """Commit and read are refused, close may be repeated, and another process may open it."""
    path = create_ledger(tmp_path)
    ledger = open_ledger(path)
    ledger.commit(append(b"x"))
    ledger.close()
    ledger.close()
    with pytest.raises(StoreClosed):
        ledger.commit(append(b"y"))
    with pytest.raises(StoreClosed):
        ledger.read(lambda reader: reader.rows("SELECT 1"))
    again = open_ledger(path)
    assert leaves_of(again) == [b"x"]
    again.close()


def test_events_carry_the_time_of_their_turn(tmp_path: Path) -> None:
    """One time a turn, from the clock, and what was stored last is the floor after a restart."""
    path = create_ledger(tmp_path)
    clock = ManualClock()
    ledger = open_ledger(path, clock=clock)
    clock.advance(10)
    now_us = ledger.commit(lambda turn: (append(b"a", b"b")(turn), turn.now_us)[1])
    ledger.close()
    assert now_us == clock.wall_us
    clock.step(-1)
    again = open_ledger(path, clock=clock)
    assert again.commit(lambda turn: turn.now_us) == now_us
    times = again.read(lambda reader: reader.rows("SELECT time_us FROM events"))
    again.close()
    assert times == [(now_us,), (now_us,)]
