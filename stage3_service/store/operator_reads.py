"""What operators read: tokens and events, in pages, from a consistent snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stage3_service.audit.reads import EventRow, TokenCursor
from stage3_service.store.token_rows import TOKEN_COLUMNS

if TYPE_CHECKING:
    from servicekit.store.ledger import Ledger, Reader, SqlValue
    from stage3_service.audit.reads import EventFilter
    from stage3_service.audit.records import TokenRecord
    from stage3_service.store.token_rows import TokenRows

_TOKENS = f"SELECT {TOKEN_COLUMNS}, t.issued_us FROM tokens t "  # noqa: S608 - constants


class SqliteOperatorReads:
    """Read on connections of its own; see `audit.reads.OperatorReads`."""

    def __init__(self, ledger: Ledger, tokens: TokenRows) -> None:
        self._ledger = ledger
        self._tokens = tokens

    def token(self, token_id: str) -> TokenRecord | None:
        """Return one token."""
        rows = self._read(_TOKENS + "WHERE t.token_id = ?", (token_id,))
        return self._tokens.decode(rows[0][:-1]) if rows else None

    def token_page(
        self, size: int, after: TokenCursor | None
    ) -> tuple[list[TokenRecord], TokenCursor | None]:
        """Return up to `size` tokens, newest first, and where the next page starts."""
        sql, parameters = _TOKENS, list[Any]()
        if after is not None:
            sql += "WHERE (t.issued_us, t.token_id) < (?, ?) "
            parameters += [after.issued_us, after.token_id]
        sql += "ORDER BY t.issued_us DESC, t.token_id DESC LIMIT ?"
        rows = self._read(sql, (*parameters, size + 1))
        page = [self._tokens.decode(row[:-1]) for row in rows[:size]]
        if len(rows) <= size:
            return page, None
        last = rows[size - 1]
        return page, TokenCursor(int(last[-1]), str(last[0]))  # type: ignore[arg-type]

    def event_page(
        self, size: int, after_seq: int, only: EventFilter
    ) -> tuple[list[EventRow], int | None]:
        """Return up to `size` events after `after_seq`, oldest first, and the next cursor."""
        conditions, parameters = ["seq > ?"], list[Any]([after_seq])
        # The first of them is the rarest: a plan has few events, a token and a type any number. A
        # plus keeps SQLite, which knows no numbers, from the indexes of the others.
        plus = ""
        for column in ("plan_id", "token_id", "event_type"):
            if wanted := getattr(only, column):
                conditions.append(f"{plus}{column} = ?")
                parameters.append(wanted)
                plus = "+"
        rows = self._read(
            "SELECT seq, leaf, event_type, time_us FROM events "  # noqa: S608 - names of columns
            f"WHERE {' AND '.join(conditions)} ORDER BY seq LIMIT ?",
            (*parameters, size + 1),
        )
        page = [EventRow(*row) for row in rows[:size]]  # type: ignore[arg-type]
        return page, page[-1].seq if len(rows) > size else None

    def halt(self) -> tuple[str, int] | None:
        """Return why and since when (µs) an operator has halted the service, if one has."""
        rows = self._read("SELECT reason, since_us FROM halt")
        return (str(rows[0][0]), int(rows[0][1])) if rows else None  # type: ignore[arg-type]

    def plans_running(self) -> int:
        """Return how many plans have no outcome yet."""
        rows = self._read("SELECT count(*) FROM plans WHERE kind IS NULL")
        return int(rows[0][0])  # type: ignore[arg-type]

    def _read(self, sql: str, parameters: tuple[SqlValue, ...] = ()) -> list[tuple[SqlValue, ...]]:
        def query(reader: Reader) -> list[tuple[SqlValue, ...]]:
            return reader.rows(sql, parameters)

        return self._ledger.read(query)
