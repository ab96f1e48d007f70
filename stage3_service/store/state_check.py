"""Hold the tables beside the log against the log: the log says what they must say.

The tree proves the events and nothing beside them. A hand that edits a token's scope, removes a
tombstone or gives charges back would otherwise be believed, because the gates read the tables.
Deliberately absent: repair. A table that contradicts the log is evidence.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from servicekit.tlog.commitment import commitment
from stage3_service.audit.event import format_timestamp
from stage3_service.domains.definition import DefinitionUnavailable
from stage3_service.execution.token_operations import CREDENTIAL_SALT
from stage3_service.store.definition_rows import read_accepted
from stage3_service.store.instants import from_us

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servicekit.store.ledger import Reader, SqlValue

_CHUNK_ROWS: Final = 2_048
# A start reads two texts a token: `json.loads` would ask each for its encoding first.
_read: Final = json.JSONDecoder().decode
# By the type's index alone: asked also by `seq`, SQLite would rather walk the whole log.
_ISSUED: Final = """
    SELECT e.seq, e.token_id, e.leaf, t.token_key, t.document,
        (SELECT s.salt FROM salts s WHERE s.seq = e.seq AND s.name = ?)
    FROM events e INDEXED BY events_by_type LEFT JOIN tokens t ON t.token_id = e.token_id
    WHERE e.event_type = 'TOKEN_ISSUED' AND e.seq > ? ORDER BY e.seq LIMIT ?"""
_TOKENS: Final = "SELECT count(*) FROM tokens"
_TOMBSTONES: Final = (
    "SELECT r.token_id, r.token_key, t.token_key FROM revocations r "
    "LEFT JOIN tokens t ON t.token_id = r.token_id"
)
_REVOKED: Final = "SELECT token_id FROM events WHERE event_type = 'TOKEN_REVOKED'"
# What each token was charged, and what was seen of it, compared where the rows are.
_OTHERWISE_CHARGED: Final = """
    SELECT t.token_id FROM tokens t LEFT JOIN (
        SELECT token_id, count(*) AS steps FROM events
        WHERE event_type = 'EXECUTION_STARTED' GROUP BY token_id
    ) s ON s.token_id = t.token_id
    WHERE t.invocations <> coalesce(s.steps, 0) LIMIT 1"""
_OTHERWISE_SEEN: Final = """
    SELECT token_id FROM tokens WHERE {column} <>
        (token_id IN (SELECT token_id FROM events WHERE event_type = '{event_type}')) LIMIT 1"""
_OTHERWISE_USED: Final = _OTHERWISE_SEEN.format(
    column="(first_used_us IS NOT NULL)", event_type="TOKEN_FIRST_USED"
)
_OTHERWISE_EXPIRED: Final = _OTHERWISE_SEEN.format(
    column="(expiry_recorded <> 0)", event_type="TOKEN_EXPIRED"
)
_KEYS = "SELECT key_id FROM outcome_keys ORDER BY number"
_ROTATIONS = "SELECT leaf FROM events WHERE event_type = 'KEY_ROTATED' ORDER BY seq"
_ACCEPTED = "SELECT leaf FROM events WHERE event_type = 'DOMAIN_ACCEPTED' ORDER BY seq"
_HALTS = (
    "SELECT event_type FROM events WHERE event_type IN ('SERVICE_HALTED', 'SERVICE_RESUMED') "
    "ORDER BY seq DESC LIMIT 1"
)


def state_problem(reader: Reader) -> str | None:
    """Return the first contradiction between the tables and the log, or None.

    Compared are what each token grants and to which credential, which tokens are revoked, used and
    seen to be expired, how many steps each was charged, which keys sealed outcomes, what was
    accepted of which domain, and whether the service is halted.
    """
    return next(_contradictions(reader), None)


def _contradictions(reader: Reader) -> Iterator[str]:
    yield from _of_grants(reader)
    yield from _of_tombstones(reader)
    for (token_id,) in _rows(reader, _OTHERWISE_CHARGED):
        yield f"the log and the table of tokens differ in how many steps {token_id} started"
    for (token_id,) in _rows(reader, _OTHERWISE_USED):
        yield f"the log and the table of tokens differ in whether {token_id} was used"
    for (token_id,) in _rows(reader, _OTHERWISE_EXPIRED):
        yield f"the log and the table of tokens differ in whether {token_id} has expired"
    # The first key was there before there was anything to say about it.
    adopted = [key_id for (key_id,) in _rows(reader, _KEYS)][1:]
    said = [json.loads(leaf)["additional_data"] for (leaf,) in _rows(reader, _ROTATIONS)]
    if adopted != [facts["key_id"] for facts in said]:
        yield "the log and the table of outcome keys differ in which keys sealed outcomes"
    yield from _of_definitions(reader)
    last = _rows(reader, _HALTS)
    halted = bool(last) and last[0][0] == "SERVICE_HALTED"
    if bool(_rows(reader, "SELECT 1 FROM halt")) is not halted:
        yield "the log and the table of halts differ in whether the service is halted"


def _of_definitions(reader: Reader) -> Iterator[str]:
    accepted: dict[str, tuple[str, str]] = {}
    for (leaf,) in _rows(reader, _ACCEPTED):
        said = json.loads(leaf)
        facts = said["additional_data"]
        accepted[said["domain"]] = (facts["digest"], facts["by"])
    try:
        kept = read_accepted(reader)
    except DefinitionUnavailable as damaged:
        yield f"the table of accepted definitions is damaged: {damaged}"
        return
    if {name: (row.definition.digest, row.by) for name, row in kept.items()} != accepted:
        yield "the log and the table of accepted definitions differ in what was accepted"


def _of_grants(reader: Reader) -> Iterator[str]:
    issued, last = 0, -1
    while rows := _rows(reader, _ISSUED, (CREDENTIAL_SALT, last, _CHUNK_ROWS)):
        for seq, token_id, leaf, token_key, document, salt in rows:
            if document is None:
                yield f"{token_id} was issued in entry {seq} and is not in the table of tokens"
            elif (facts := granted(document, token_key, salt or b"")) is None:
                yield f"the row of {token_id} is no token"
            elif facts != _said(leaf):
                yield f"the row of {token_id} grants something else than entry {seq} says"
        issued += len(rows)
        last = rows[-1][0]
    ((held,),) = _rows(reader, _TOKENS)
    if issued != held:
        yield "the table of tokens holds a token that no entry says was issued"


def _said(leaf: bytes) -> tuple[object, object]:
    members = _read(leaf.decode())
    return members["user_id"], members["additional_data"]


def granted(document: bytes, token_key: bytes, salt: bytes) -> tuple[object, object] | None:
    """Return whose token a row holds and what TOKEN_ISSUED says of it; None for no token.

    The same as `issue_facts` of the decoded token, which a test holds, without making the token: at
    a start there may be a hundred thousand of them. That each is lawful the log says already.
    """
    try:
        held = _read(document.decode())
        facts = {
            "allowed_trigger_types": sorted(held["allowed_trigger_types"]),
            "bearer": held["bearer"],
            "capability": held["capability"],
            "client_identities": held["client_identities"],
            "credential_commitment": commitment(salt, token_key).hex(),
            "domain_scope": held["domain_scope"],
            "expires_at": format_timestamp(from_us(held["expires_us"])),
            "issued_by": held["issued_by"],
            "method_scope": dict(held["method_scope"]),
            "plan_digest": held["plan_digest"],
            "resource_limits": {
                "max_frequency": held["max_frequency"],
                "max_invocations": held["max_invocations"],
                "max_response_bytes": held["max_response_bytes"],
                "max_total_response_bytes": held["max_total_response_bytes"],
            },
        }
        return held["user_id"], facts
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _of_tombstones(reader: Reader) -> Iterator[str]:
    tombstones = _rows(reader, _TOMBSTONES)
    if {row[0] for row in tombstones} != {row[0] for row in _rows(reader, _REVOKED)}:
        yield "the log and the table of revocations differ in which tokens are revoked"
    for token_id, token_key, key_of_token in tombstones:
        if key_of_token is not None and key_of_token != token_key:
            yield f"the tombstone of {token_id} is not under its credential's key"


def _rows(reader: Reader, sql: str, parameters: tuple[SqlValue, ...] = ()) -> list[Any]:
    return list(reader.rows(sql, parameters))
