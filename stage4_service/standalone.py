"""The parts of an orchestrator that nobody assembled: a real store, a real clock, fresh names.

The log of a library user is kept like that of a service, for as long as the orchestrator lives.
Deliberately absent: a journal that only pretends. This is a second, smaller `bootstrap`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Final

from uuid_utils.compat import uuid7  # noqa: TID251 - a bootstrap hands in the source of identifiers

from servicekit.clock import Clock, SystemClock
from servicekit.store.key_ring import KEY_BYTES, KeyRing
from stage4_service.store.results import Results
from stage4_service.store.sqlite_journal import SqliteJournal

_COMMIT_TIMEOUT_S: Final = 10.0
_RETENTION_S: Final = 172_800


def open_temporary_journal(owner: object, clock: Clock | None) -> SqliteJournal:
    """Open an empty store in a private directory that is removed when `owner` is gone."""
    clock = clock or SystemClock()
    directory = Path(tempfile.mkdtemp(prefix="stage4-"))
    path = directory / "stage4.db"
    try:
        SqliteJournal.create(path, now_us=clock.now_us())
        # The key lives as long as the store does.
        ring = KeyRing([os.urandom(KEY_BYTES)], os.urandom)  # noqa: TID251 - a bootstrap hands it in
        journal = SqliteJournal.open(
            path,
            clock=clock,
            commit_timeout_s=_COMMIT_TIMEOUT_S,
            results=Results(ring, retention_s=_RETENTION_S),
        )
    except BaseException:
        shutil.rmtree(directory)
        raise
    weakref.finalize(owner, _discard, journal, directory)
    return journal


def fresh_identifier() -> str:
    """Return a string that was never returned before: a UUIDv7 in hexadecimal digits."""
    return uuid7().hex


def _discard(journal: SqliteJournal, directory: Path) -> None:
    journal.close()
    shutil.rmtree(directory, ignore_errors=True)
