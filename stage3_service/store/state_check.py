"""Hold the tables beside the log against the log: the log says what they must say.

The tree proves the events and nothing beside them. A hand that edits a token's scope, removes a
tombstone or gives charges back would otherwise be believed, because the gates read the tables.
Deliberately absent: repair. A table that contradicts the log is evidence.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stage3_service.execution.token_operations import CREDENTIAL_SALT, issue_facts
from stage3_service.store.token_rows import TOKEN_COLUMNS, TokenRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servicekit.store.ledger import Reader, SqlValue

_ISSUED = "SELECT seq, token_id, leaf FROM events WHERE event_type = 'TOKEN_ISSUED'"
_TOKENS = f"SELECT {TOKEN_COLUMNS} FROM tokens t"  # noqa: S608 - a constant of this package
_USES = "SELECT token_id, invocations, first_used_us IS NOT NULL, expiry_recorded FROM tokens"
_SALTS = "SELECT seq, salt FROM salts WHERE name = ?"
_TOMBSTONES = "SELECT token_id, token_key FROM revocations"
_STARTS = (
    "SELECT token_id, count(*) FROM events WHERE event_type = 'EXECUTION_STARTED' GROUP BY token_id"
)
_OF_TYPE = "SELECT token_id FROM events WHERE event_type = ?"
_KEYS = "SELECT key_id FROM outcome_keys ORDER BY number"
_ROTATIONS = "SELECT leaf FROM events WHERE event_type = 'KEY_ROTATED' ORDER BY seq"
_HALTS = (
    "SELECT event_type FROM events WHERE event_type IN ('SERVICE_HALTED', 'SERVICE_RESUMED') "
    "ORDER BY seq DESC LIMIT 1"
)


def state_problem(reader: Reader) -> str | None:
    """Return the first contradiction between the tables and the log, or None.

    Compared are what each token grants and to which credential, which tokens are revoked, used and
    seen to be expired, how many steps each was charged, which keys sealed outcomes, and whether the
    service is halted.
    """
    return next(_contradictions(reader), None)


def _contradictions(reader: Reader) -> Iterator[str]:
    rows: dict[str, Any] = {str(row[0]): row for row in _rows(reader, _TOKENS)}
    yield from _of_grants(reader, rows)
    yield from _of_tombstones(reader, rows)
    charged = dict(_rows(reader, _STARTS))
    first_used, expired = (_named(reader, t) for t in ("TOKEN_FIRST_USED", "TOKEN_EXPIRED"))
    for token_id, invocations, was_used, has_expired in _rows(reader, _USES):
        if invocations != charged.get(token_id, 0):
            yield f"the log and the table of tokens differ in how many steps {token_id} started"
        if bool(was_used) is not (token_id in first_used):
            yield f"the log and the table of tokens differ in whether {token_id} was used"
        if bool(has_expired) is not (token_id in expired):
            yield f"the log and the table of tokens differ in whether {token_id} has expired"
    # The first key was there before there was anything to say about it.
    adopted = [key_id for (key_id,) in _rows(reader, _KEYS)][1:]
    said = [json.loads(leaf)["additional_data"] for (leaf,) in _rows(reader, _ROTATIONS)]
    if adopted != [facts["key_id"] for facts in said]:
        yield "the log and the table of outcome keys differ in which keys sealed outcomes"
    last = _rows(reader, _HALTS)
    halted = bool(last) and last[0][0] == "SERVICE_HALTED"
    if bool(_rows(reader, "SELECT 1 FROM halt")) is not halted:
        yield "the log and the table of halts differ in whether the service is halted"


def _of_grants(reader: Reader, rows: dict[str, Any]) -> Iterator[str]:
    salts = dict(_rows(reader, _SALTS, (CREDENTIAL_SALT,)))
    tokens = TokenRows()
    issued = 0
    for seq, token_id, leaf in _rows(reader, _ISSUED):
        issued += 1
        row = rows.get(str(token_id))
        if row is None:
            yield f"{token_id} was issued in entry {seq} and is not in the table of tokens"
            continue
        said = json.loads(leaf)
        try:
            token = tokens.decode(row).token
            facts = issue_facts(token, salts.get(seq, b""))
        except (ValueError, KeyError, TypeError):
            yield f"the row of {token_id} is no token"
            continue
        if (token.user_id, facts) != (said["user_id"], said["additional_data"]):
            yield f"the row of {token_id} grants something else than entry {seq} says"
    if issued != len(rows):
        yield "the table of tokens holds a token that no entry says was issued"


def _of_tombstones(reader: Reader, rows: dict[str, Any]) -> Iterator[str]:
    revoked = _named(reader, "TOKEN_REVOKED")
    tombstones = _rows(reader, _TOMBSTONES)
    if {token_id for token_id, _ in tombstones} != revoked:
        yield "the log and the table of revocations differ in which tokens are revoked"
    for token_id, token_key in tombstones:
        if str(token_id) in rows and rows[str(token_id)][1] != token_key:
            yield f"the tombstone of {token_id} is not under its credential's key"


def _named(reader: Reader, event_type: str) -> set[Any]:
    return {row[0] for row in _rows(reader, _OF_TYPE, (event_type,))}


def _rows(reader: Reader, sql: str, parameters: tuple[SqlValue, ...] = ()) -> list[Any]:
    return list(reader.rows(sql, parameters))
