"""Guard reading beside the writer: one consistent snapshot a query, and no way to write.

Connections are kept in a small pool because opening one costs more than most queries. Deliberately
absent: waiting for a free one, as readers never wait in WAL mode.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import apsw

from servicekit.store.connection import open_reader
from servicekit.store.errors import StoreClosed, StoreError
from servicekit.store.schema import SqlValue

__all__ = ["Reader", "ReaderPool"]

T = TypeVar("T")

_MAX_IDLE = 8
_LOOK = "If it happens again, stop the service and verify its log."


class Reader:
    """Query one snapshot. It is valid only until the query function returns."""

    __slots__ = ("_connection",)

    def __init__(self, connection: apsw.Connection) -> None:
        """Read on a connection that has begun a read transaction."""
        self._connection: apsw.Connection | None = connection

    def rows(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[tuple[SqlValue, ...]]:
        """Return all rows of a query, as of the moment the snapshot was taken."""
        if self._connection is None:
            raise RuntimeError("a reader ends with its query")
        return self._connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """End the reader."""
        self._connection = None


class ReaderPool:
    """Lend read-only connections to any number of threads."""

    __slots__ = ("_closed", "_idle", "_lock", "_path", "_vfs")

    def __init__(self, path: Path, *, vfs: str | None) -> None:
        """Serve reads of the store at `path`. No connection is opened until one is needed."""
        self._path = path
        self._vfs = vfs
        self._idle: list[apsw.Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def read(self, query: Callable[[Reader], T]) -> T:
        """Return what `query` returns, given a reader of one consistent snapshot.

        Raises:
            StoreClosed: the store was closed.
            StoreError: SQLite could not answer; a cause is chained.
        """
        try:
            connection = self._borrow()
            reader = Reader(connection)
            try:
                connection.execute("BEGIN")
                return query(reader)
            finally:
                reader.close()
                self._give_back(connection)
        except apsw.Error as error:
            raise StoreError(f"a read failed: {error}", advice=_LOOK) from error

    def close(self) -> None:
        """Close idle connections now, and each borrowed one when its query ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            # A reader has written nothing: what a dying disk says here loses nobody anything.
            with suppress(apsw.Error):
                connection.close()

    def _borrow(self) -> apsw.Connection:
        with self._lock:
            if self._closed:
                raise StoreClosed("the store is closed", advice="Start the service again.")
            if self._idle:
                return self._idle.pop()
        return open_reader(self._path, vfs=self._vfs)

    def _give_back(self, connection: apsw.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except apsw.Error:
            connection.close()
            return
        with self._lock:
            if not self._closed and len(self._idle) < _MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()
