"""The one clock of the commands."""

from __future__ import annotations

from datetime import UTC, datetime


def now_utc() -> datetime:
    """Return the wall time, for judging certificates and naming files by it."""
    return datetime.now(tz=UTC)
