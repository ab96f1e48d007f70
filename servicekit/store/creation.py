"""Guard the birth of a store: it appears under its name complete, synced and empty, or not at all.

The file is made under another name and linked into place, because a failing sync of a directory is
something SQLite does not report. Deliberately absent: replacing anything.
"""

import os
from pathlib import Path

import apsw

from servicekit.store.connection import open_writer
from servicekit.store.errors import StoreExists, StoreMissing
from servicekit.store.lock import StoreLock
from servicekit.store.schema import APPLICATION_ID, LEDGER_FORMAT, LEDGER_STATEMENTS, Schema
from servicekit.tlog.tree import Frontier

__all__ = ["create_store"]


def create_store(path: Path, schema: Schema, *, now_us: int) -> None:
    """Create an empty store at `path`, mode 0600, durable on return.

    Raises:
        StoreExists: something is there, be it the write-ahead log of a store that is gone.
        StoreMissing: the folder does not exist.
        StoreLocked: another process is at it.
    """
    if not path.parent.is_dir():
        raise StoreMissing(f"there is no folder {path.parent}", advice="Create it first.")
    lock = StoreLock.acquire(path)
    draft = path.with_name(path.name + ".draft")
    try:
        for leftover in (path, path.with_name(path.name + "-wal")):
            if os.path.lexists(leftover):
                advice = "Choose another path; nothing is ever replaced."
                if leftover != path:
                    advice = (
                        "It is what is left of a store that is gone, and may hold its last "
                        "entries. Move it away and keep it."
                    )
                raise StoreExists(f"{leftover} exists", advice=advice)
        for suffix in ("", "-wal", "-shm", "-journal"):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        _fill(draft, schema, now_us)
        _sync(draft)
        # A crash before the link leaves a draft that the next attempt removes; after it, a whole
        # store.
        os.link(draft, path)
        draft.unlink()
        _sync(path.parent)
    finally:
        lock.release()


def _fill(draft: Path, schema: Schema, now_us: int) -> None:
    connection = open_writer(draft)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={schema.version}")
        for statement in (*LEDGER_STATEMENTS, *schema.statements):
            connection.execute(statement)
        connection.executemany(
            "INSERT INTO ledger_about VALUES (?, ?)",
            [("format", LEDGER_FORMAT), ("schema", schema.name), ("created_us", now_us)],
        )
        empty = Frontier()
        connection.execute(
            "INSERT INTO ledger_head VALUES (1, 0, ?, ?, ?)", (empty.root(), empty.encode(), now_us)
        )
        connection.execute("COMMIT")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
