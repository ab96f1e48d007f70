"""Guard the shape of the file: the ledger's own tables, and how a service names its own.

The events table is append-only by trigger. That stops mistakes, not a hand with write access to the
file: such a hand is found by verification against the head and against checkpoints kept elsewhere.
"""

from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "APPLICATION_ID",
    "LEDGER_FORMAT",
    "LEDGER_STATEMENTS",
    "Schema",
    "SqlValue",
]

SqlValue: TypeAlias = int | float | str | bytes | None

APPLICATION_ID = 0x53474C31
"""'SGL1' in the file's header: this SQLite file is a ledger."""

LEDGER_FORMAT = 1
"""Version of the tables below, apart from the version of the service's own."""

LEDGER_STATEMENTS: tuple[str, ...] = (
    """CREATE TABLE ledger_about (
        name TEXT PRIMARY KEY,
        value ANY NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE ledger_head (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        size INTEGER NOT NULL,
        root BLOB NOT NULL,
        frontier BLOB NOT NULL,
        high_water_us INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        leaf BLOB NOT NULL,
        hashes BLOB NOT NULL,
        event_type TEXT NOT NULL,
        plan_id TEXT,
        token_id TEXT,
        time_us INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX events_by_type ON events (event_type)",
    "CREATE INDEX events_by_plan ON events (plan_id) WHERE plan_id IS NOT NULL",
    "CREATE INDEX events_by_token ON events (token_id) WHERE token_id IS NOT NULL",
    """CREATE TRIGGER events_never_change BEFORE UPDATE ON events
        BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
    """CREATE TRIGGER events_never_go BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
)
"""The statements whose text, as SQLite keeps it, is compared when a store is opened."""


@dataclass(frozen=True, slots=True)
class Schema:
    """Name a service's tables, their version from 1, and the statements that create them.

    A statement that refers to `events (seq)` by a foreign key declares it DEFERRABLE INITIALLY
    DEFERRED: events are inserted at the end of a batch.
    """

    name: str
    version: int
    statements: tuple[str, ...]
