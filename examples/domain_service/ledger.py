"""A ledger as a domain: accounts in whole cents, every entry on disk before it is answered.

`python ledger.py serve --config ledger.toml` serves it, `python ledger.py declare HOST:PORT NAME`
prints its declaration. `docs/write-a-domain-service.md` explains it line by line.
"""

import os
import sqlite3
from functools import cache
from threading import Lock

from servicekit.ijson import JsonValue
from stagegate_domain import Call, DomainService, MethodFailed, run

ledger = DomainService("ledger")

ACCOUNT: JsonValue = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,31}$"}
CENTS: JsonValue = {"type": "integer", "minimum": 1, "maximum": 1_000_000_000}


class Book:
    """One SQLite file, one connection, one writer at a time."""

    def __init__(self, path: str) -> None:
        """Open the file, and make its one table where it is missing."""
        self._lock = Lock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS entry (idempotency_key TEXT PRIMARY KEY,"
            " debit TEXT NOT NULL, credit TEXT NOT NULL, cents INTEGER NOT NULL)"
        )

    def transfer(self, key: str, debit: str, credit: str, cents: int) -> None:
        """Write one entry. The key is the table's own: a second try finds the first one's row.

        Raises:
            MethodFailed: the key has written another entry.
        """
        row = (key, debit, credit, cents)
        with self._lock:
            try:
                self._database.execute("INSERT INTO entry VALUES (?, ?, ?, ?)", row)
            except sqlite3.IntegrityError:
                query = "SELECT * FROM entry WHERE idempotency_key = ?"
                if self._database.execute(query, (key,)).fetchone() != row:
                    raise MethodFailed("the idempotency key has written another entry") from None

    def balance(self, account: str) -> int:
        """Return what was credited to an account less what was debited from it, in cents."""
        with self._lock:
            (cents,) = self._database.execute(
                "SELECT coalesce(sum(CASE WHEN credit = ?1 THEN cents ELSE 0 END), 0)"
                " - coalesce(sum(CASE WHEN debit = ?1 THEN cents ELSE 0 END), 0) FROM entry",
                (account,),
            ).fetchone()
        return int(cents)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


@cache
def book() -> Book:
    """Return the book in the file that LEDGER_FILE names."""
    return Book(os.environ.get("LEDGER_FILE", "ledger.sqlite3"))


@ledger.method(
    description="Moves cents from one account to another.",
    max_duration_s=5,
    max_response_bytes=128,
    repetition="fencing",
    parameters_schema={
        "type": "object",
        "properties": {"debit": ACCOUNT, "credit": ACCOUNT, "cents": CENTS},
        "required": ["debit", "credit", "cents"],
        "additionalProperties": False,
    },
)
def transfer(call: Call) -> JsonValue:
    """Answer with the key under which the entry stands in the book."""
    debit, credit = call.parameters["debit"], call.parameters["credit"]
    if debit == credit:
        raise MethodFailed("debit and credit are the same account")
    # To JSON Schema 120.0 is an integer; to the table it shall be one too.
    book().transfer(call.idempotency_key, debit, credit, int(call.parameters["cents"]))
    return {"entry": call.idempotency_key}


@ledger.method(
    description="Says what an account holds.",
    max_duration_s=5,
    max_response_bytes=128,
    repetition="idempotent",
    parameters_schema={
        "type": "object",
        "properties": {"account": ACCOUNT},
        "required": ["account"],
        "additionalProperties": False,
    },
)
def balance(call: Call) -> JsonValue:
    """Answer with the balance in cents, zero for an account without entries."""
    return {"cents": book().balance(call.parameters["account"])}


if __name__ == "__main__":
    run(ledger)
