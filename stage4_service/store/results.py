"""Results at rest: sealed before they reach the writer, told for their time, then erased.

A result is bound to the request, the plan that was executed, its digest and how it ended: a row
that was edited, or changed places, is not told. Deliberately absent: a timer. Whether a result may
still be told is a question of the time alone, and it is erased in the commit of a later plan.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from servicekit.invariant import invariant
from servicekit.store.key_ring import SealBroken
from servicekit.store.outcome_keys import KEY_IN_USE, NOTE_KEY, refuse_other_ring
from stage4_service.audit import ResultScope
from stage4_service.errors import ResultDamaged

if TYPE_CHECKING:
    from servicekit.store.key_ring import KeyRing
    from servicekit.store.ledger import Reader, Turn
    from stage4_service.audit import PlanEnded, PlanState
    from stage4_service.plan_record import PlanRecord

ERASE: Final = """UPDATE plans SET key_id = NULL, sealed = NULL WHERE number IN (
    SELECT number FROM plans WHERE key_id IS NOT NULL AND ended_us < ? ORDER BY ended_us LIMIT ?)"""
ERASED_FOR_EACH: Final = 2
"""Results that a submission erases: it makes one, so that what is overdue becomes less."""

_LABEL: Final = b"result of a plan at Stage-4, v1"
_US: Final = 1_000_000

Sealed = tuple[str | None, bytes]
"""The name of the key and the sealed result."""
NO_RESULT: Final[Sealed] = (None, b"")


class Results:
    """Seal, open and outdate results. Safe for any thread."""

    __slots__ = ("_file", "_retention_us", "_ring")

    def __init__(self, ring: KeyRing, *, retention_s: int, file: object = "the key ring") -> None:
        """Seal with `ring`, read from `file`; tell a result for `retention_s` after its end."""
        self._ring = ring
        self._retention_us = retention_s * _US
        self._file = file

    def refuse_other_store(self, reader: Reader) -> None:
        """Refuse a store whose results this ring cannot open.

        Raises:
            KeyRefused: the ring is of another store, or lacks a key.
        """
        refuse_other_ring(reader, self._ring, self._file)

    def adopt_key(self, turn: Turn) -> tuple[str, str] | None:
        """Note the key in use; return its name and that of the one before, if another was."""
        current = self._ring.current
        noted = turn.rows(KEY_IN_USE)
        if noted == [(current,)]:
            return None
        turn.run(NOTE_KEY, (current, turn.now_us))
        return (current, str(noted[0][0])) if noted else None

    def due_us(self, now_us: int) -> int:
        """Return the instant before which a plan has ended if its result is told no more."""
        return now_us - self._retention_us

    def seal(self, ended: PlanEnded) -> Sealed:
        """Return the result of a plan as it is stored."""
        if not ended.result_json:
            return NO_RESULT
        scope = invariant(ended.scope, "a result belongs to somebody")
        executed = ended.executed_plan_id or ended.plan_id
        return self._ring.seal(ended.result_json, _context(scope, executed, ended.state))

    def tell(self, plan: PlanRecord, key_id: str | None, sealed: bytes) -> PlanRecord:
        """Return the plan with its result, if it has one and it may still be told.

        Raises:
            ResultDamaged: what is stored is not the result of this very plan.
        """
        if key_id is None or plan.result_erased:
            return plan
        scope = ResultScope(plan.caller, plan.user_id, plan.request_id, plan.plan_digest)
        executed = plan.executed_plan_id or plan.plan_id
        try:
            result = self._ring.open(key_id, sealed, _context(scope, executed, plan.state))
        except SealBroken as broken:
            raise ResultDamaged(f"the stored result of {plan.plan_id}: {broken}") from None
        return replace(plan, result_json=result)


def _context(scope: ResultScope, executed: str, state: PlanState) -> tuple[bytes, ...]:
    # The plan is the one that was executed and not the row's own: submissions whose answer was lost
    # learn the outcome of their request by a copy of it, which the writer makes without opening it.
    texts = (executed, scope.caller, scope.user_id, scope.request_id, state.value)
    return (_LABEL, *(text.encode() for text in texts), scope.plan_digest)
