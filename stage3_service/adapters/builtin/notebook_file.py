"""The file behind a notebook: created once, opened only when it is what it says it is.

Guards durability before a note can be lost: the answers of the pragmas are checked, because SQLite
accepts a setting it does not apply. Deliberately absent: creation while serving. A file that
appears by itself would hide that the real one is missing.
"""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from servicekit.new_file import new_file

APPLICATION_ID = 0x5347_4E42
"""Marks the file as a notebook ("SGNB"), so that no other database is taken for one."""

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE note (
    note_id INTEGER PRIMARY KEY AUTOINCREMENT,
    idempotency_key TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
"""


class NotebookRefused(Exception):
    """A notebook file cannot be used; `advice` says what to do next."""

    def __init__(self, path: Path, description: str, advice: str) -> None:
        super().__init__(f"{path}: {description}; {advice}")
        self.path = path
        self.description = description
        self.advice = advice


class NotebookMissing(NotebookRefused):
    """There is no file where the notebook should be."""


class NotebookExists(NotebookRefused):
    """There is a file already where a notebook was to be created."""


def create_notebook(path: Path) -> None:
    """Create an empty notebook, readable by its owner only, whole and durable or not there.

    Raises:
        NotebookExists: the path is taken; nothing was changed.
        NotebookRefused: the file could not be created.

    """
    try:
        with new_file(path) as draft:
            for suffix in ("-wal", "-shm", "-journal"):
                draft.with_name(draft.name + suffix).unlink(missing_ok=True)
            _fill(draft)
    except FileExistsError:
        raise NotebookExists(path, "the file exists", "keep it, or move it away first") from None
    except OSError as error:
        raise NotebookRefused(
            path, f"cannot be created ({error.strerror})", "check the directory"
        ) from error


def _fill(draft: Path) -> None:
    connection = apsw.Connection(os.fspath(draft))
    try:
        _apply_durability(draft, connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute(_SCHEMA)
    finally:
        connection.close()


def open_notebook(path: Path) -> apsw.Connection:
    """Return a connection to an existing notebook, with every durability setting confirmed.

    Raises:
        NotebookMissing: there is no such file.
        NotebookRefused: it is no notebook, of another version, or does not take the settings.

    """
    if not path.is_file():
        raise NotebookMissing(
            path,
            "the notebook is missing",
            "create it with `stage3 init --config FILE`, or restore it if there was one",
        )
    connection: apsw.Connection | None = None
    try:
        connection = apsw.Connection(os.fspath(path), flags=apsw.SQLITE_OPEN_READWRITE)
        _require(path, connection, "application_id", APPLICATION_ID, "is not a notebook")
        _require(path, connection, "user_version", SCHEMA_VERSION, "has another version")
        _apply_durability(path, connection)
    except (apsw.Error, NotebookRefused) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, NotebookRefused):
            raise
        raise NotebookRefused(
            path, f"cannot be opened ({type(error).__name__})", "restore it from a copy"
        ) from error
    return connection


def _apply_durability(path: Path, connection: apsw.Connection) -> None:
    for pragma, value, answer in (("journal_mode", "wal", "wal"), ("synchronous", "FULL", 2)):
        connection.execute(f"PRAGMA {pragma} = {value}")
        _require(path, connection, pragma, answer, f"does not take {pragma} = {value}")


def _require(
    path: Path, connection: apsw.Connection, pragma: str, answer: int | str, description: str
) -> None:
    if connection.pragma(pragma) != answer:
        raise NotebookRefused(path, f"the file {description}", "name another file")
