"""A disk that says "synced" before it has written: the failing control of tests that kill.

What SQLite writes to a file stays in this process's memory until the sync after the one that should
have written it; this process reads what it wrote. Where that file is a write-ahead log, every kill
loses the last commit, and the service believes that it is durable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import apsw

__all__ = ["LazyDisk"]


@dataclass(frozen=True, slots=True)
class _Change:
    """A write at an offset, or where there is no data, a truncation to it."""

    offset: int
    data: bytes | None = None


class LazyDisk(apsw.VFS):
    """Run one sync behind in files of names that end in `lags`, opened after `make_default`."""

    def __init__(self, lags: str) -> None:
        self.lags = lags
        self.owed: dict[str, list[_Change]] = {}

    def make_default(self) -> None:
        """Take the place of the real disk in this process, which ends with it."""
        super().__init__("lazy-disk", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> _LazyFile:
        """Open a file through this disk."""
        return _LazyFile(self, name, flags)


class _LazyFile(apsw.VFSFile):
    """One file. What is owed to it is shared by all who have it open; only a writer pays."""

    def __init__(self, disk: LazyDisk, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        path = str(name.filename() if isinstance(name, apsw.URIFilename) else name or "")
        self._lags = path.endswith(disk.lags)
        self._owed = disk.owed.setdefault(path, [])
        self._synced = 0

    def xWrite(self, data: bytes, offset: int) -> None:
        self._do(_Change(offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        self._do(_Change(newsize))

    def xSync(self, flags: int) -> None:
        for change in self._owed[: self._synced]:
            self._make(change)
        del self._owed[: self._synced]
        self._synced = len(self._owed)
        super().xSync(flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        found = bytearray(super().xRead(amount, offset))
        for change in self._owed:
            start = change.offset - offset
            if change.data is None:
                del found[max(0, start) :]
            elif start < amount and start + len(change.data) > 0:
                data = change.data[max(0, -start) : amount - start]
                start = max(0, start)
                found.extend(bytes(max(0, start - len(found))))
                found[start : start + len(data)] = data
        return bytes(found)

    def xFileSize(self) -> int:
        size = super().xFileSize()
        for change in self._owed:
            end = change.offset + len(change.data or b"")
            size = end if change.data is None else max(size, end)
        return size

    def _do(self, change: _Change) -> None:
        if self._lags:
            self._owed.append(change)
        else:
            self._make(change)

    def _make(self, change: _Change) -> None:
        if change.data is None:
            super().xTruncate(change.offset)
        else:
            super().xWrite(change.data, change.offset)
