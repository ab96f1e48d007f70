"""Guard how SQLite is opened: every setting on which durability rests is asked back, not assumed.

Deliberately absent: automatic checkpoints. The writer makes them itself at a calm moment, so that
no commit pays for one unawares.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from servicekit.store.errors import (
    StoreCorrupt,
    StoreError,
    StoreMismatch,
    StoreTooNew,
    StoreTooOld,
)
from servicekit.store.schema import APPLICATION_ID, LEDGER_FORMAT, LEDGER_STATEMENTS, Schema

__all__ = ["check_identity", "check_shape", "is_at_rest", "open_reader", "open_writer"]

_FIXED_SQLITE = 3_051_003
_BUSY_TIMEOUT_MS = 2_000

_WRITER_PRAGMAS: tuple[tuple[str, str, object], ...] = (
    ("journal_mode", "wal", "wal"),
    ("synchronous", "FULL", 2),
    ("foreign_keys", "ON", 1),
    ("recursive_triggers", "ON", 1),  # else INSERT OR REPLACE would pass by the delete trigger
    ("trusted_schema", "OFF", 0),
    ("secure_delete", "ON", 1),  # an erased salt is gone from the file, too
    ("wal_autocheckpoint", "0", 0),
    ("temp_store", "MEMORY", 2),
    ("cache_size", "-16384", -16384),  # 16 MiB
)


def open_writer(path: Path, *, vfs: str | None = None) -> apsw.Connection:
    """Open an existing store for writing, with every durability setting confirmed by its answer.

    Raises:
        StoreError: SQLite did not take a setting, or is a version that loses commits.
    """
    if _sqlite_number() < _FIXED_SQLITE:
        raise StoreError(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a WAL that two connections use",
            advice="Install apsw 3.51.3 or newer.",
        )
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
        for name, value, expected in _WRITER_PRAGMAS:
            connection.execute(f"PRAGMA {name}={value}").fetchall()
            _expect(connection, name, expected)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path, *, vfs: str | None = None) -> apsw.Connection:
    """Open an existing store for reading only.

    A file that nobody has open, so that no log of SQLite's own lies beside it, is read as it is:
    nothing is created in its directory, which need not be writable. The caller sees to it that no
    service begins to write meanwhile.
    """
    flags = apsw.SQLITE_OPEN_READONLY
    if vfs is None and is_at_rest(path):
        name, flags = f"file:{quote(str(path))}?immutable=1", flags | apsw.SQLITE_OPEN_URI
    else:
        name = str(path)
    connection = apsw.Connection(name, flags=flags, vfs=vfs)
    try:
        connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
        connection.execute("PRAGMA query_only=ON").fetchall()
        _expect(connection, "query_only", 1)
    except BaseException:
        connection.close()
        raise
    return connection


def is_at_rest(path: Path) -> bool:
    """Return whether all of a store is in the file itself: it was closed, or copied when closed."""
    return not any(os.path.lexists(f"{path}{suffix}") for suffix in ("-wal", "-shm"))


def check_identity(connection: apsw.Connection, path: Path, schema: Schema) -> None:
    """Confirm that this file is a ledger of this service at this version.

    Raises:
        StoreMismatch: it is something else.
        StoreTooNew: a newer program wrote it; both versions are named.
        StoreTooOld: an older program wrote it; both versions are named.
    """
    if _answer(connection, "application_id") != APPLICATION_ID:
        raise StoreMismatch(
            f"{path} is a SQLite file, but not a ledger", advice="Check the path in the settings."
        )
    rows: list[Any] = connection.execute("SELECT name, value FROM ledger_about").fetchall()
    about = dict(rows)
    if about.get("schema") != schema.name:
        raise StoreMismatch(
            f"{path} is the store of {about.get('schema')!r}, not of {schema.name!r}",
            advice="Check the path in the settings: each service has a store of its own.",
        )
    found: tuple[Any, Any] = (about.get("format"), _answer(connection, "user_version"))
    expected = (LEDGER_FORMAT, schema.version)
    if found == expected:
        return
    versions = (
        f"{path} has format {found[0]}, {schema.name} version {found[1]}; "
        f"this program knows format {expected[0]}, {schema.name} version {expected[1]}"
    )
    if found[0] > expected[0] or found[1] > expected[1]:
        raise StoreTooNew(versions, advice="Run the program that wrote it, or a newer one.")
    raise StoreTooOld(versions, advice="Bring the store up to date before serving from it.")


def check_shape(connection: apsw.Connection) -> None:
    """Confirm that the ledger's tables, indexes and append-only triggers are exactly as created.

    Raises:
        StoreCorrupt: one is missing, changed or added.
    """
    found = connection.execute(
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL "
        "AND tbl_name IN ('events', 'ledger_head', 'ledger_about')"
    ).fetchall()
    difference = {str(sql) for (sql,) in found} ^ set(LEDGER_STATEMENTS)
    if difference:
        first = min(difference)
        raise StoreCorrupt(
            f"the ledger's tables are not as they were created: {first[:80]}",
            advice="Somebody changed the file by hand. Keep it as evidence and restore a backup.",
        )


def _expect(connection: apsw.Connection, name: str, expected: object) -> None:
    found = _answer(connection, name)
    if found != expected:
        raise StoreError(
            f"SQLite answers {name}={found!r} where {expected!r} is needed",
            advice="The store needs a local file system with locks and shared memory.",
        )


def _answer(connection: apsw.Connection, pragma: str) -> Any:  # noqa: ANN401 - a pragma answers with a number or a text
    (row,) = connection.execute(f"PRAGMA {pragma}").fetchall()
    return row[0]


def _sqlite_number() -> int:
    major, minor, patch, *_ = (int(part) for part in apsw.sqlite_lib_version().split("."))
    return major * 1_000_000 + minor * 1_000 + patch
