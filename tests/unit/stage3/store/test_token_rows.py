"""Decoded tokens are kept, a bounded number of them, for any number of threads."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest

from stage3_service.store import token_rows
from stage3_service.store.token_rows import TokenRows
from tests.unit.stage3 import grants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servicekit.store.ledger import SqlValue


class _Turn:
    """Take what would be inserted."""

    def __init__(self) -> None:
        self.inserted: tuple[SqlValue, ...] = ()

    def run(self, _sql: str, parameters: tuple[SqlValue, ...] = ()) -> None:
        self.inserted = parameters


def row(seed: int = 1) -> tuple[SqlValue, ...]:
    """Return the row of a lawful token as it is read: just issued, never used."""
    turn = _Turn()
    TokenRows().insert(turn, grants.token(seed=seed))  # type: ignore[arg-type]
    token_id, token_key, document, _ = turn.inserted
    return (token_id, token_key, document, 0, 0, None, 0, None)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Let threads change places as often as the interpreter can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_a_token_is_decoded_once() -> None:
    """It cannot change, so the same object serves every gate."""
    rows = TokenRows()

    assert rows.decode(row()).token is rows.decode(row()).token
    assert rows.decode(row()).token == grants.token()


@pytest.mark.usefixtures("hasty_threads")
def test_many_threads_keep_a_bounded_number_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread forgets a token while others do: none of them stumbles over the other."""
    granted = grants.token()
    monkeypatch.setattr(token_rows, "KEPT_TOKENS", 64)
    monkeypatch.setattr(token_rows, "_decode_document", lambda *_: granted)
    rows = TokenRows()
    raised: list[Exception] = []

    def read(reader: int) -> None:
        try:
            for number in range(20_000):
                rows.decode((f"tok_{reader}_{number}", b"", b"", 0, 0, None, 0, None))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must reach the test
            raised.append(error)

    threads = [threading.Thread(target=read, args=(reader,)) for reader in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert raised == []
    assert len(rows._kept) == 64
