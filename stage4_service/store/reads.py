"""The queries behind `GetPlan` and the lists: one consistent snapshot each.

A caller sees what that caller submitted; `None` as a caller is an auditor and sees everything.
Deliberately absent: who is which. That is decided before anybody gets here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from servicekit.store.ledger import Reader, SqlValue
from stage4_service.audit import PlanState
from stage4_service.errors import Effects
from stage4_service.plan_record import LogEntry, PlanRecord

_PLAN: Final = """SELECT number, plan_id, request_id, caller, user_id, plan_digest, steps, state,
    created_us, ended_us, reason, message, step, effects, executed_plan_id,
    sealed IS NULL OR (key_id IS NOT NULL AND ended_us < ?1), """
# A list tells what became of plans; a result can be a megabyte and is read one at a time.
_SHORT: Final = _PLAN + "x'' FROM plans "
_WHOLE: Final = _PLAN + "receipt, key_id, sealed FROM plans "
_ONE: Final = "WHERE plan_id = ?2 AND (?3 IS NULL OR caller = ?3)"
_NO_BOUND: Final = 2**63 - 1
_ENTRY: Final = "SELECT events.seq, leaf, event_type, time_us FROM events "


def plan(reader: Reader, plan_id: str, caller: str | None, due_us: int) -> PlanRecord | None:
    """Return the plan, without its result, if the caller may know of it.

    Here and below, results of plans that ended before `due_us` count as erased.
    """
    rows = reader.rows(_SHORT + _ONE, (due_us, plan_id, caller))
    return _plan_record(rows[0]) if rows else None


def plan_with_result(
    reader: Reader, plan_id: str, caller: str | None, due_us: int
) -> tuple[PlanRecord, str | None, bytes] | None:
    """Return the plan if the caller may know of it, and its result as it is stored."""
    for *record, key_id, sealed in reader.rows(_WHOLE + _ONE, (due_us, plan_id, caller)):
        return _plan_record(tuple(record)), cast("str | None", key_id), cast("bytes", sealed)
    return None


def plans(
    reader: Reader, caller: str | None, before: int | None, limit: int, due_us: int
) -> list[PlanRecord]:
    """Return a page of plans, newest first, without results."""
    where, parameters = (
        "WHERE number < ? ",
        list[SqlValue]((due_us, _NO_BOUND if before is None else before)),
    )
    if caller is not None:
        where, parameters = where + "AND caller = ? ", [*parameters, caller]
    rows = reader.rows(_SHORT + where + "ORDER BY number DESC LIMIT ?", (*parameters, limit))
    return [_plan_record(row) for row in rows]


def entries(
    reader: Reader, caller: str | None, plan_id: str, after: int, limit: int
) -> list[LogEntry]:
    """Return a page of the log, oldest first; of one plan unless `plan_id` is empty."""
    source, where, parameters = _ENTRY, "WHERE events.seq > ? ", list[SqlValue]((after,))
    order = "events.seq"
    if caller is not None:
        source += "JOIN caller_log ON caller_log.seq = events.seq "
        where += "AND caller_log.caller = ? AND caller_log.seq > ? "
        parameters += (caller, after)
        # The same number, but only by this name is it known to be in order already: by the other,
        # each page would sort all that the caller ever did.
        order = "caller_log.seq"
    if plan_id:
        where += "AND plan_id = ? "
        parameters.append(plan_id)
        # A plan has few entries: they are found by the plan and sorted.
        order = "events.seq"
    rows = reader.rows(source + where + f"ORDER BY {order} LIMIT ?", (*parameters, limit))
    return [LogEntry(*cast("tuple[int, bytes, str, int]", row)) for row in rows]


def leaves(reader: Reader, event_types: Sequence[str]) -> list[bytes]:
    """Return the stored bytes of every event of these types, oldest first."""
    marks = ", ".join("?" * len(event_types))
    rows = reader.rows(
        f"SELECT leaf FROM events WHERE event_type IN ({marks}) ORDER BY seq",  # noqa: S608 - marks
        tuple(event_types),
    )
    return [cast("bytes", row[0]) for row in rows]


def _plan_record(row: tuple[SqlValue, ...]) -> PlanRecord:
    (*head, state, created, ended, reason, message, step, effects, executed, erased, receipt) = row
    number, plan_id, request_id, caller, user_id, digest, steps = head
    return PlanRecord(
        number=cast("int", number),
        plan_id=cast("str", plan_id),
        request_id=cast("str", request_id),
        caller=cast("str", caller),
        user_id=cast("str", user_id),
        plan_digest=cast("bytes", digest),
        steps=cast("int", steps),
        state=PlanState(cast("str", state)),
        created_us=cast("int", created),
        ended_us=cast("int | None", ended),
        reason=cast("str", reason),
        message=cast("str", message),
        step=cast("int | None", step),
        effects=None if effects is None else Effects(cast("str", effects)),
        executed_plan_id=cast("str", executed),
        result_json=b"",
        result_erased=bool(erased),
        receipt=cast("bytes", receipt),
    )
