"""What every ledger test needs: a schema, a clock, and ledgers that close."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from servicekit.clock import Clock
from servicekit.store.errors import StoreError
from servicekit.store.ledger import Ledger, Schema, Turn
from tests.fakes.manual_clock import ManualClock

__all__ = ["SCHEMA", "append", "create_ledger", "in_one_batch", "leaves_of", "open_ledger"]

SCHEMA = Schema(
    "test",
    3,
    ("CREATE TABLE kept (name TEXT PRIMARY KEY, amount INTEGER NOT NULL) STRICT",),
)


def create_ledger(folder: Path) -> Path:
    """Create an empty ledger in a folder and return its path."""
    path = folder / "test.db"
    Ledger.create(path, SCHEMA, now_us=1_767_225_600_000_000)
    return path


def open_ledger(path: Path, *, clock: Clock | None = None, **options: Any) -> Ledger:
    """Open a ledger with a manual clock and a generous time limit."""
    options.setdefault("commit_timeout_s", 30.0)
    return Ledger.open(path, SCHEMA, clock=clock or ManualClock(), **options)


def append(*leaves: bytes, kept: str | None = None) -> Callable[[Turn], list[int]]:
    """Return a work that appends these leaves, and keeps a row beside them if told so."""

    def work(turn: Turn) -> list[int]:
        if kept is not None:
            turn.run("INSERT INTO kept VALUES (?, ?)", (kept, len(leaves)))
        return [
            turn.append(leaf, event_type="TESTED", plan_id="plan_1", token_id=None)
            for leaf in leaves
        ]

    return work


def leaves_of(ledger: Ledger) -> list[bytes]:
    """Return every leaf in order."""
    rows = ledger.read(lambda reader: reader.rows("SELECT leaf FROM events ORDER BY seq"))
    return [bytes(row[0]) for row in rows if isinstance(row[0], bytes)]


def in_one_batch(ledger: Ledger, works: Sequence[Callable[[Turn], Any]]) -> list[Any]:
    """Return what each work returned or raised, having run all of them in one batch, in order."""
    entered, gate = threading.Event(), threading.Event()
    results: list[Any] = [None] * len(works)

    def hold(_: Turn) -> None:
        entered.set()
        assert gate.wait(60)

    def first() -> None:
        with suppress(StoreError):  # the batch may fail, and the works say so themselves
            ledger.commit(hold)

    def call(number: int) -> None:
        try:
            results[number] = ledger.commit(works[number])
        except Exception as error:  # noqa: BLE001 - it is the result
            results[number] = error

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert entered.wait(60)
    for number in range(len(works)):
        threads.append(threading.Thread(target=call, args=(number,)))
        threads[-1].start()
        while ledger.queue_depth <= number:
            pass
    gate.set()
    for thread in threads:
        thread.join(60)
    return results
