"""Guard against taking one file for another before anything is said about what is in it.

A verdict about a log is an accusation. A mistyped path, a foreign store and a file that may not be
read are none, and are refused here. Deliberately absent: any judgement of the log itself.
"""

from pathlib import Path
from typing import Any

import apsw

from servicekit.store.errors import StoreMismatch, StoreMissing, StoreUnreadable
from servicekit.store.schema import APPLICATION_ID

__all__ = ["check_owner", "identify"]

# The SQLite file format: the first 16 bytes, and where the application's own number is.
_MAGIC = b"SQLite format 3\x00"
_APPLICATION_ID = slice(68, 72)
_HEADER_BYTES = 100
_NO_LEDGER = (
    "Check the path. If this was a store, its first bytes were overwritten: keep it as evidence."
)


def identify(path: Path) -> None:
    """Confirm by its header that the file at `path` is a ledger.

    Raises:
        StoreMissing: there is no file.
        StoreMismatch: it is something else, or not even a SQLite file.
        StoreUnreadable: it could not be read.
    """
    try:
        if not path.is_file():
            raise StoreMissing(f"there is no store at {path}", advice="Check the path.")
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise StoreUnreadable(
            f"{path}: {error.strerror}", advice="Check who may read the file and its directory."
        ) from None
    if not header.startswith(_MAGIC):
        raise StoreMismatch(f"{path} is no SQLite file", advice=_NO_LEDGER)
    if int.from_bytes(header[_APPLICATION_ID], "big") != APPLICATION_ID:
        raise StoreMismatch(f"{path} is a SQLite file, but not a ledger", advice=_NO_LEDGER)


def check_owner(connection: apsw.Connection, path: Path, schema_name: str) -> None:
    """Confirm that a ledger is the store of the service that `schema_name` names.

    Raises:
        StoreMismatch: it is another's.
        apsw.Error: SQLite could not read it.
    """
    rows: list[Any] = connection.execute(
        "SELECT value FROM ledger_about WHERE name = 'schema'"
    ).fetchall()
    if rows and rows[0][0] != schema_name:
        raise StoreMismatch(
            f"{path} is the store of {rows[0][0]!r}, not of {schema_name!r}",
            advice=f"Verify it with `{rows[0][0]} audit verify`, or name another file.",
        )
