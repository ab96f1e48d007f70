"""What every ledger test needs: a schema, a clock, and ledgers that close."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from servicekit.clock import Clock
from servicekit.store.ledger import Ledger, Schema, Turn
from tests.fakes.manual_clock import ManualClock

__all__ = ["SCHEMA", "append", "create_ledger", "leaves_of", "open_ledger"]

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
