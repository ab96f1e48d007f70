"""A disk that says "synced" before it has written: the failing control of tests that kill.

What SQLite writes to a write-ahead log stays in this process's memory until the sync after the one
that should have written it, so every kill loses the last commit, and the service believes that it
is durable.
"""

from __future__ import annotations

from typing import Any

import apsw

__all__ = ["LazyDisk"]


class LazyDisk(apsw.VFS):
    """Run one sync behind, for every store that is opened after `make_default`."""

    def __init__(self) -> None:
        self.writers: dict[str, _LazyFile] = {}

    def make_default(self) -> None:
        """Take the place of the real disk in this process, which ends with it."""
        super().__init__("lazy-disk", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> _LazyFile:
        """Open a file through this disk."""
        return _LazyFile(self, name, flags)


class _LazyFile(apsw.VFSFile):
    def __init__(self, disk: LazyDisk, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._path = str(name.filename() if isinstance(name, apsw.URIFilename) else name or "")
        self._is_log = self._path.endswith("-wal")
        self._synced: list[tuple[bytes, int]] = []
        self._written: list[tuple[bytes, int]] = []

    def xWrite(self, data: bytes, offset: int) -> None:
        if not self._is_log:
            super().xWrite(data, offset)
            return
        self._disk.writers[self._path] = self
        self._written.append((bytes(data), offset))

    def xSync(self, flags: int) -> None:
        if self._is_log:
            self._write_out(self._synced)
            self._synced, self._written = self._written, []
        super().xSync(flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._catch_up()
        return super().xRead(amount, offset)

    def xFileSize(self) -> int:
        self._catch_up()
        return super().xFileSize()

    def xTruncate(self, newsize: int) -> None:
        self._catch_up()
        super().xTruncate(newsize)

    def xClose(self) -> None:
        if self._disk.writers.get(self._path) is self:
            self._catch_up()
            del self._disk.writers[self._path]
        super().xClose()

    def _catch_up(self) -> None:
        """Write all of it, because somebody looks."""
        writer = self._disk.writers.get(self._path)
        if writer is not None:
            writer._write_out(writer._synced)
            writer._write_out(writer._written)

    def _write_out(self, writes: list[tuple[bytes, int]]) -> None:
        for data, offset in writes:
            super().xWrite(data, offset)
        writes.clear()
