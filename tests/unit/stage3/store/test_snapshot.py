"""What a decision asks twice is looked up once, and what it did not ask is looked up then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servicekit.store.key_ring import KeyRing
from stage3_service.store.backlog import PlanBacklog
from stage3_service.store.plan_rows import PlanRows
from stage3_service.store.snapshot import SqliteSnapshot
from stage3_service.store.token_rows import TokenRows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from servicekit.store.ledger import SqlValue

KEY, OTHER_KEY = bytes(32), bytes([1]) * 32
RING = KeyRing([KEY], bytes)
NOTHING_FOUND = (None,) * 9


class _Turn:
    """Hold tombstones and no token; keep what it is asked."""

    now_us = 0

    def __init__(self, *tombstones: bytes) -> None:
        self._tombstones = tombstones
        self.asked = 0
        self._backlog: PlanBacklog | None = None

    def backlog(self, make: Callable[[], PlanBacklog]) -> PlanBacklog:
        self._backlog = self._backlog or make()
        return self._backlog

    def rows(self, sql: str, parameters: Sequence[SqlValue]) -> list[tuple[SqlValue, ...]]:
        self.asked += 1
        found = parameters[0] in self._tombstones
        if "tokens" in sql:
            return [(1 if found else None, *NOTHING_FOUND[1:])]
        return [(1,)] if found else []


def snapshot(*tombstones: bytes) -> tuple[SqliteSnapshot, _Turn]:
    """Return a snapshot of a store with these tombstones."""
    turn = _Turn(*tombstones)
    return SqliteSnapshot(turn, TokenRows(), PlanRows(RING)), turn  # type: ignore[arg-type]


def test_a_tombstone_is_found_with_the_token_or_without_it() -> None:
    """One statement answers both questions, also where there is no token."""
    seen, turn = snapshot(KEY)

    assert seen.token(KEY) is None
    assert seen.is_revoked(KEY)
    assert turn.asked == 1


def test_a_tombstone_of_another_key_is_looked_up() -> None:
    """What was found out about one key says nothing about another."""
    seen, turn = snapshot(OTHER_KEY)

    assert seen.token(KEY) is None
    assert not seen.is_revoked(KEY)
    assert seen.is_revoked(OTHER_KEY)
    assert turn.asked == 2


def test_a_tombstone_is_looked_up_where_no_token_was_asked_for() -> None:
    """The question stands on its own."""
    seen, turn = snapshot(KEY)

    assert seen.is_revoked(KEY)
    assert not seen.is_revoked(OTHER_KEY)
    assert turn.asked == 2
